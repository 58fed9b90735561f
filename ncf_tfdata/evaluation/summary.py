"""What is reported and kept of a ranking: numbers for metrics.json, and the ranks.

The ranks of a system are kept in the run directory, `ranks/SPLIT/SYSTEM.npz`, so that
comparisons and reports need no model.
"""

import dataclasses
import pathlib
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ncf_tfdata import atomic
from ncf_tfdata.errors import UserError
from ncf_tfdata.evaluation import metrics, segments, statistics
from ncf_tfdata.evaluation.ranking import ROW_FIELDS, Ranks
from ncf_tfdata.run import RANKS

MODEL = 'model'
SAMPLED, FULL = RANKINGS = ('sampled', 'full')


def headline(ks: Sequence[int]) -> int:
  """The cut-off of segments and comparisons: 10, as in the literature, or the last."""
  return 10 if 10 in ks else max(ks)


def rankings(ranks: Ranks) -> dict[str, np.ndarray]:
  """The ranks float64 [n] by `SAMPLED` and, where it was computed, `FULL`."""
  found = {SAMPLED: ranks.sampled, FULL: ranks.full}
  return {name: rank for name, rank in found.items() if rank is not None}


def summarize(
  ranks: Ranks,
  ks: Sequence[int],
  count: np.ndarray,
  num_users: int,
  seed: int = 0,
  samples: int = 1000,
  unused: np.ndarray | None = None,
) -> dict[str, Any]:
  """All numbers of one system on one split, as metrics.json holds them.

  Args:
    ranks: Of the system; its `ks` are those of the lists.
    ks: Cut-offs.
    count: int64 [num_items], train rows of each item.
    num_users: Users of the dataset who have rows.
    seed: Of the bootstrap.
    samples: Resamples of the bootstrap.
    unused: bool [num_items], ids that are no items; None where all are.

  Returns:
    `users`, and `targets` where they have several each; `sampled` and `full` {metric:
    value}, the latter with coverage, Gini and novelty of the top lists; `intervals`,
    95 %, {ranking: {metric: [lower, upper]}};
    `segments` {`activity`, `popularity`, `train_rows` or `gap`: {ranking: [segment,
    …]}}, the last where the log has times.
  """
  summary: dict[str, Any] = {'users': len(np.unique(ranks.user)), 'intervals': {}}
  if summary['users'] < len(ranks.user):
    summary['targets'] = len(ranks.user)
  parts = {
    'activity': segments.by_activity(ranks),
    'popularity': segments.by_popularity(ranks, count, unused),
    'train_rows': segments.by_train_rows(ranks, count),
    'gap': segments.by_gap(ranks),
  }
  summary['segments'] = {name: {} for name, found in parts.items() if found}
  for ranking, rank in rankings(ranks).items():
    summary[ranking] = metrics.means(rank, ks)
    summary['intervals'][ranking] = statistics.intervals(
      rank, ks, seed, samples, user=ranks.user
    )
    for name in summary['segments']:
      summary['segments'][name][ranking] = segments.summarize(
        parts[name], rank, ranks.user, headline(ks), seed, samples
      )
  if ranks.recommended is not None:
    lists = ranks.recommended
    if unused is not None:
      lists, count = lists[:, ~unused], count[~unused]
    summary[FULL] |= metrics.of_lists(lists, count, num_users, ranks.ks)
  return summary


def compare(
  first: Ranks, second: Ranks, k: int, seed: int = 0
) -> dict[str, dict[str, Any]]:
  """Paired comparison of two systems by NDCG@k, on the same users and candidates.

  Returns:
    The fields of `statistics.Comparison`, and `metric`, for each ranking of both.

  Raises:
    UserError: Users, held-out items or negatives differ.
  """
  first, second = _by_user(first), _by_user(second)
  for name in ('user', 'positive', 'candidates'):
    if not np.array_equal(getattr(first, name), getattr(second, name)):
      raise UserError(
        'the two runs were not evaluated on the same users, held-out items and '
        'negatives. Evaluate both on datasets of the same settings and seed.'
      )
  compared = {}
  others = rankings(second)
  for ranking, rank in rankings(first).items():
    if ranking in others:
      result = statistics.compare(
        metrics.ndcg(rank, k), metrics.ndcg(others[ranking], k), seed, user=first.user
      )
      compared[ranking] = {'metric': f'ndcg@{k}', **dataclasses.asdict(result)}
  return compared


def with_holm(
  comparisons: Mapping[str, Mapping[str, Mapping[str, Any]]],
) -> dict[str, dict[str, dict[str, Any]]]:
  """Adjusts the p-values of comparisons as one family of tests.

  Args:
    comparisons: What `compare` gives, by name of the other system.

  Returns:
    The same, each with `p_holm`, its adjusted p-value, and `family`, how many there
    are.
  """
  results = [result for each in comparisons.values() for result in each.values()]
  adjusted = iter(statistics.holm([result['p_value'] for result in results]))
  return {
    other: {
      ranking: {**result, 'p_holm': next(adjusted), 'family': len(results)}
      for ranking, result in by_ranking.items()
    }
    for other, by_ranking in comparisons.items()
  }


def family(comparisons: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> int:
  """How many comparisons the p-values are adjusted for."""
  results = (result for each in comparisons.values() for result in each.values())
  return max((result['family'] for result in results), default=0)


def _by_user(ranks: Ranks) -> Ranks:
  order = np.lexsort((ranks.history_length, ranks.positive, ranks.user))
  columns = {name: getattr(ranks, name) for name in ROW_FIELDS}
  return dataclasses.replace(
    ranks,
    **{name: values[order] for name, values in columns.items() if values is not None},
  )


def ranks_path(run_dir: pathlib.Path, split: str, system: str) -> pathlib.Path:
  """Where the ranks of a system, `MODEL` or a baseline, are kept."""
  return run_dir / RANKS / split / f'{system.replace(":", ",")}.npz'


def save_ranks(path: pathlib.Path, ranks: Ranks) -> None:
  """Keeps ranks; the same ranks make the same bytes."""
  path.parent.mkdir(parents=True, exist_ok=True)
  columns = dataclasses.asdict(ranks)
  columns = {name: value for name, value in columns.items() if value is not None}
  with atomic.replaced(path) as temporary, temporary.open('wb') as stream:
    np.savez_compressed(stream, **columns)


def load_ranks(path: pathlib.Path) -> Ranks:
  """Reads what `save_ranks` kept.

  Raises:
    UserError: There is no such file, or it is not of ranks.
  """
  try:
    with np.load(path) as content:
      columns = dict(content)
    return Ranks(**columns | {'ks': tuple(columns['ks'].tolist())})
  except FileNotFoundError as error:
    run_dir = path.parent.parent.parent
    raise UserError(
      f'no ranks at {path}. Run '
      f'`python -m ncf_tfdata.evaluate --run_dir={run_dir} --split={path.parent.name}` '
      'first.'
    ) from error
  except (KeyError, TypeError, ValueError, OSError, zipfile.BadZipFile) as error:
    raise UserError(f'{path} does not hold ranks: evaluate that run again.') from error
