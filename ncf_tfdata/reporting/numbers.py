"""What a report's figures show, as tables: their text alternatives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ncf_tfdata.reporting import markup, plots
from ncf_tfdata.reporting.markup import bounds, escape, number

_KS = (1, 2, 5, 10, 20, 50, 100)
# Shares of the catalogue, from the most popular item on.
_POPULAR = (0.01, 0.05, 0.2, 0.5)


def learning_curves(history: Sequence[Mapping[str, float]]) -> str:
  """Loss and metrics by epoch, of lines of epochs.csv."""
  names = ['loss'] + [name for name in history[0] if name.endswith('@10')]
  rows = [
    [f'{line["epoch"]:.0f}', *(number(line[name]) for name in names)]
    for line in history
  ]
  titles = [name.replace('full_', 'full ') for name in names]
  return markup.table(['epoch', *titles], rows)


def lags(weights: np.ndarray) -> str:
  """Share of the lags in each head, of float [heads, lags]."""
  header = [
    f'lag {a}' if a == b else f'{a:,}–{b:,}'
    for a, b in plots.lag_bins(weights.shape[1])
  ]
  rows = [
    [f'head {head}', *(f'{share:.0%}' for share in shares)]
    for head, shares in enumerate(plots.lag_shares(weights), 1)
  ]
  return markup.table(['', *header], rows)


def hit_rate_by_k(
  ranks: Mapping[str, Mapping[str, np.ndarray]], candidates: Mapping[str, int]
) -> str:
  """HR@K of each system, of ranks float [n] by ranking and system."""
  rows = [
    [f'{escape(system)}, {ranking}']
    + [
      number(float(np.mean(rank < k))) if k <= candidates[ranking] else '' for k in _KS
    ]
    for ranking, systems in ranks.items()
    for system, rank in systems.items()
  ]
  return markup.table(['system', *(f'HR@{k}' for k in _KS)], rows)


def segments(
  systems: Mapping[str, Mapping[str, Any]], rankings: Sequence[str], metric: str
) -> str:
  """A metric in each segment, of what `plots.segments` takes."""
  rows = []
  for group, title in plots.segment_groups(systems).items():
    for name, summary in systems.items():
      found = summary['segments'][group]
      shown = [ranking for ranking in rankings if ranking in found]
      for parts in zip(*(found[ranking] for ranking in shown), strict=True):
        cells = {
          ranking: f'{number(part["metrics"][metric])}'
          f'<small>{bounds(part["intervals"][metric])}</small>'
          for ranking, part in zip(shown, parts, strict=True)
        }
        rows.append(
          [f'{escape(parts[0]["segment"])}<small>{title}</small>', escape(name)]
          + [cells.get(ranking, '') for ranking in rankings]
        )
  header = ['segment', 'system', *(f'{metric.upper()}, {each}' for each in rankings)]
  return markup.table(header, rows)


def popularity(
  count: np.ndarray, positive: np.ndarray, recommended: Mapping[str, np.ndarray]
) -> str:
  """What share of the lists the most popular items hold, as `plots.popularity`."""
  order = np.argsort(-count, kind='stable')
  ends = [max(1, round(share * len(count))) for share in _POPULAR]
  rows = []
  for label, lists, _ in plots.popularity_lines(
    count, positive, recommended, dict.fromkeys(recommended, '')
  ):
    share = np.cumsum(lists[order]) / max(lists.sum(), 1)
    rows.append([escape(label), *(f'{share[end - 1]:.1%}' for end in ends)])
  header = [f'top {share:.0%} of the items' for share in _POPULAR]
  return markup.table(['share of', *header], rows)
