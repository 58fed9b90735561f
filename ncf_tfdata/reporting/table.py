"""Aligned tables of metrics for the screen."""

from collections.abc import Mapping, Sequence
from typing import Any

from ncf_tfdata.evaluation.summary import FULL

# Column by metric; with one held-out item two names share one number.
_COLUMNS = {'hr': 'HR = Recall', 'ndcg': 'NDCG', 'mrr': 'MRR = MAP'}
_LISTS = {'coverage': 'coverage', 'gini': 'Gini', 'novelty': 'novelty, bits'}


def align(rows: Sequence[Sequence[str]]) -> str:
  """Lays rows out in columns: the first to the left, the others to the right.

  An empty row stays an empty line.
  """
  filled = [row for row in rows if row]
  widths = [max(map(len, column)) for column in zip(*filled, strict=True)]
  lines = []
  for row in rows:
    if not row:
      lines.append('')
      continue
    first, *others = row
    cells = [first.ljust(widths[0])]
    cells += [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
    lines.append('  '.join(cells).rstrip())
  return '\n'.join(lines)


def number(value: float, digits: int = 4) -> str:
  """`.7105`: a share without its leading zero."""
  text = f'{value:.{digits}f}'
  return text.replace('0.', '.', 1) if abs(value) < 1 else text


def p_value(value: float) -> str:
  """`p = .031`, or `p < .001`."""
  return 'p < .001' if value < 0.001 else f'p = {number(value, 3)}'


def with_interval(summary: Mapping[str, Any], ranking: str, name: str) -> str:
  """`.7105 ±.0113`: a mean and half the width of its 95 % interval."""
  lower, upper = summary['intervals'][ranking][name]
  return f'{number(summary[ranking][name])} ±{number((upper - lower) / 2)}'


def metrics_table(
  systems: Mapping[str, Mapping[str, Any]], ranking: str, ks: Sequence[int]
) -> str:
  """HR, NDCG and MRR of every system of a ranking at every K, with intervals."""
  systems = {name: found for name, found in systems.items() if ranking in found}
  rows = [['system', 'K', *_COLUMNS.values()]]
  for k in ks:
    rows.append([])
    for system, summary in systems.items():
      cells = [with_interval(summary, ranking, f'{name}@{k}') for name in _COLUMNS]
      rows.append([system, str(k), *cells])
  return align(rows)


def lists_table(systems: Mapping[str, Mapping[str, Any]], k: int) -> str:
  """Coverage, Gini and novelty of the top K of every system of the full ranking."""
  rows = [['system', 'K', *_LISTS.values()]]
  for system, summary in systems.items():
    if FULL not in summary:
      continue
    full = summary[FULL]
    rows.append(
      [
        system,
        str(k),
        number(full[f'coverage@{k}'], 3),
        number(full[f'gini@{k}'], 3),
        f'{full[f"novelty@{k}"]:.2f}',
      ]
    )
  return align(rows)


def comparison_table(
  system: str, comparisons: Mapping[str, Mapping[str, Mapping[str, Any]]]
) -> str:
  """Differences of a system to each other one, with intervals and p-values.

  The last column holds p-values that are adjusted for the number of comparisons.
  """
  rows = [
    ['difference', 'ranking', 'metric', 'mean', '95 % interval', 'p, alone', 'p, Holm']
  ]
  for other, by_ranking in comparisons.items():
    for ranking, result in by_ranking.items():
      bounds = (number(result[bound]) for bound in ('lower', 'upper'))
      rows.append(
        [
          f'{system} - {other}',
          ranking,
          result['metric'],
          number(result['difference']),
          ' … '.join(bounds),
          p_value(result['p_value']),
          p_value(result['p_holm']),
        ]
      )
  return align(rows)
