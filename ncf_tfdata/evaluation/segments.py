"""Metrics of parts of the users: by what they took and when, and by what came next."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from ncf_tfdata.evaluation import metrics, statistics
from ncf_tfdata.evaluation.ranking import Ranks


@dataclasses.dataclass(frozen=True)
class Segment:
  """A part of the held-out rows.

  Attributes:
    name: Such as `36–79 rows`, or `tail, 2,310 items, 1–212 rows each`.
    member: bool [n], which rows of the ranks are in it.
  """

  name: str
  member: np.ndarray


def by_activity(ranks: Ranks) -> list[Segment]:
  """Quarters of the rows by the length of their history."""
  return quarters(ranks.history_length, ' rows')


def by_gap(ranks: Ranks) -> list[Segment]:
  """Quarters of the rows by the time since their user's row before; none without it."""
  return [] if ranks.gap is None else quarters(ranks.gap, '')


def quarters(values: np.ndarray, unit: str) -> list[Segment]:
  """Four parts of about as many rows, or fewer, by the size of a value of each.

  Args:
    values: [n], whole numbers, or others of which no one is NaN; n is at least 1.
    unit: What stands behind a number, such as ` rows`.
  """
  bounds = np.unique(np.quantile(values, [0.25, 0.5, 0.75], method='lower'))
  quarter = np.searchsorted(bounds, values, side='left')
  members = [quarter == part for part in np.unique(quarter)]
  return [
    Segment(_range(values[member].min(), values[member].max(), unit), member)
    for member in members
  ]


def by_popularity(
  ranks: Ranks, count: np.ndarray, unused: np.ndarray | None = None
) -> list[Segment]:
  """Rows whose held-out item is of the head, the middle or the tail.

  Items in order of train rows are cut where a third and two thirds of all rows are
  reached: a few items make the head, most the tail.

  Args:
    ranks: Rows to part.
    count: int64 [num_items], train rows of each item.
    unused: bool [num_items], ids that are no items; None where all are.
  """
  return by_popularity_of(ranks.positive, count, unused)


def by_popularity_of(
  item: np.ndarray, count: np.ndarray, unused: np.ndarray | None = None
) -> list[Segment]:
  """As `by_popularity`, of an item for each row: int64 [n], -1 for none."""
  order = np.argsort(-count, kind='stable')
  before = np.cumsum(count[order]) - count[order]
  third = np.empty(len(count), np.int64)
  # Items without rows come after all rows, and are of the tail.
  third[order] = np.minimum(3 * before // max(count.sum(), 1), 2)
  segments = []
  for part, name in enumerate(('head', 'middle', 'tail')):
    items = third == part if unused is None else (third == part) & ~unused
    if items.any():
      rows = _range(count[items].min(), count[items].max(), ' rows')
      name = f'{name}, {np.count_nonzero(items):,} items, {rows} each'
      segments.append(Segment(name, (item >= 0) & (third[item] == part)))
  return segments


# Where the train rows of a held-out item are cut: 0, 1–5, 6–20, …
_TRAIN_ROWS = (0, 5, 20, 100)


def by_train_rows(ranks: Ranks, count: np.ndarray) -> list[Segment]:
  """Rows by how often their held-out item was trained on; cold items are the first.

  Args:
    ranks: Rows to part.
    count: int64 [num_items], train rows of each item.
  """
  seen = count[ranks.positive]
  part = np.searchsorted(_TRAIN_ROWS, seen, side='left')
  segments = []
  for number in np.unique(part).tolist():
    low = _TRAIN_ROWS[number - 1] + 1 if number else 0
    if number == len(_TRAIN_ROWS):
      name = f'over {_TRAIN_ROWS[-1]:,} train rows'
    else:
      name = _range(low, _TRAIN_ROWS[number], ' train rows')
    segments.append(Segment(name, part == number))
  return segments


def _range(low: int, high: int, unit: str) -> str:
  return f'{low:,}{unit}' if low == high else f'{low:,}–{high:,}{unit}'


def summarize(
  parts: list[Segment],
  rank: np.ndarray,
  user: np.ndarray,
  k: int,
  seed: int,
  samples: int,
) -> list[dict[str, Any]]:
  """HR and NDCG at k of each segment that has rows, with 95 % intervals.

  Args:
    parts: Of n rows.
    rank: float64 [n].
    user: int64 [n].
    k: Cut-off.
    seed: Of the bootstrap.
    samples: Resamples of the bootstrap.

  Returns:
    `segment`, `users`, `rows`, `metrics` {name: value} and `intervals` {name: [lower,
    upper]} of each.
  """
  names = (f'hr@{k}', f'ndcg@{k}')

  def shown(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: values[name] for name in names}

  return [
    {
      'segment': part.name,
      'users': len(np.unique(user[part.member])),
      'rows': int(part.member.sum()),
      'metrics': shown(metrics.means(rank[part.member], (k,))),
      'intervals': shown(
        statistics.intervals(
          rank[part.member], (k,), seed, samples, user=user[part.member]
        )
      ),
    }
    for part in parts
    if part.member.any()
  ]
