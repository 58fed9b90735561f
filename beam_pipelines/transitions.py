"""What followed what in train rows: pairs of items counted, ranked, and cut.

For two train rows of a user at distance l <= 10, C[earlier, later] += l^-0.7. Of
each item the successors with the largest C / sqrt(count of the later + 1) are kept.

    user groups ─▶ by range of the later item: sum, look its count up, cut
                ─▶ by range of the earlier item: rank, cut, write a shard

An item's count is known only when all user groups are through. It meets the pairs
where they are summed by the later item, so no step needs a table of all items. The
first cut is not the last word, but what it drops could not have stayed: a range of
later items passes on no more of an item's successors than are kept of it.
"""

import dataclasses
import itertools
from collections.abc import Iterable, Iterator

import numpy as np

from beam_pipelines import blocks
from ncf_tfdata import dataset

DISTANCE = dataset.TRANSITION_DISTANCE
# Whole numbers, so that a sum is the same in any order of its terms.
_WEIGHTS = np.rint(
  np.arange(1, DISTANCE + 1) ** -dataset.TRANSITION_DECAY / dataset.WEIGHT_UNIT
).astype(np.int64)  # fmt: skip
_UNKNOWN = np.zeros(0, np.int64)
# Columns of no pairs, in the types that sums are made in, whatever narrower ones
# were sent.
_NONE = (np.zeros(0, np.int32), np.zeros(0, np.int32), _UNKNOWN, _UNKNOWN)


@dataclasses.dataclass(frozen=True)
class Plan:
  """How successors are kept.

  Attributes:
    keep: Successors of an item; 0 to count none.
    num_shards: Ranges of dense item ids to spread the work over, each one shard.
    staging: Directory to write to.
    scratch: A directory that all workers see on one disk; None where there is none.
  """

  keep: int
  num_shards: int
  staging: str
  scratch: str | None = None

  def starts(self, num_items: int) -> np.ndarray:
    """The first dense id of each range, and the number of items."""
    return np.arange(self.num_shards + 1) * num_items // self.num_shards


@dataclasses.dataclass(frozen=True)
class TrainRows:
  """Train rows of some users.

  Attributes:
    user: int64 [n]; a user's rows are contiguous.
    item: int64 [n], dense ids in time order within a user.
  """

  user: np.ndarray
  item: np.ndarray


@dataclasses.dataclass(frozen=True)
class Pairs:
  """Distinct pairs of items of which one came after the other.

  Attributes:
    earlier: int32 [n], dense ids.
    later: int32 [n].
    weight: int [n], in units of `dataset.WEIGHT_UNIT`.
    later_count: int [n], train rows of the later item; empty where not yet known.
  """

  earlier: np.ndarray
  later: np.ndarray
  weight: np.ndarray
  later_count: np.ndarray = dataclasses.field(default_factory=lambda: _UNKNOWN)

  def __len__(self) -> int:
    return len(self.earlier)

  def take(self, rows: np.ndarray) -> 'Pairs':
    """The pairs at some rows, in their order."""
    return Pairs(
      *(column[rows] if len(column) else column for column in _columns(self))
    )

  def narrow(self) -> 'Pairs':
    """The same numbers in fewer bytes, to be sent."""
    return dataclasses.replace(
      self, weight=_narrow(self.weight), later_count=_narrow(self.later_count)
    )

  def deal(self, item: np.ndarray, starts: np.ndarray) -> Iterator[tuple[int, 'Pairs']]:
    """Yields (range, its pairs) by the range that each pair's `item` [n] is in."""
    number = np.searchsorted(starts, item, side='right') - 1
    # In few bytes, which numpy sorts by radix.
    order = np.argsort(_narrow(number), kind='stable')
    numbers, sizes = np.unique(number, return_counts=True)
    parts = np.split(order, np.cumsum(sizes)[:-1])
    for one, rows in zip(numbers.tolist(), parts, strict=False):
      yield one, self.take(rows).narrow()


def _narrow(values: np.ndarray) -> np.ndarray:
  kind = np.min_scalar_type(values.max(initial=0))
  # Not to uint64, which together with int64 makes floats.
  return values if kind.itemsize == values.itemsize else values.astype(kind)


def _firsts(ordered: np.ndarray) -> np.ndarray:
  """Where each distinct value of a sorted array stands first: int64."""
  return np.flatnonzero(
    np.concatenate([[True], ordered[1:] != ordered[:-1]])[: len(ordered)]
  )


def _columns(pairs: Pairs) -> tuple[np.ndarray, ...]:
  return pairs.earlier, pairs.later, pairs.weight, pairs.later_count


def count(rows: TrainRows) -> Pairs:
  """Counts the pairs of a group of users, in order of (earlier, later)."""
  user, item = rows.user, rows.item
  # Places among the group's own items: small numbers, which leave room for the
  # distance in one sortable key, whatever the size of the catalogue.
  ids, place = np.unique(item, return_inverse=True)
  place = place.astype(np.min_scalar_type(DISTANCE * len(ids) ** 2))
  lags = [
    ((place[:-lag] * len(ids) + place[lag:]) * DISTANCE + lag - 1)[
      user[:-lag] == user[lag:]
    ]
    for lag in range(1, DISTANCE + 1)
  ]
  key = np.concatenate(lags)
  key.sort()
  pair = key // DISTANCE
  first = _firsts(pair)
  weight = np.add.reduceat(_WEIGHTS[key - pair * DISTANCE], first)
  earlier, later = np.divmod(pair[first], max(1, len(ids)))
  ids = ids.astype(np.int32)
  return Pairs(ids[earlier], ids[later], weight)


def join(parts: Iterable[Pairs]) -> Pairs:
  """Lays pairs end to end."""
  columns = zip(_NONE, *map(_columns, parts), strict=True)
  return Pairs(*map(np.concatenate, columns))


def merge(parts: Iterable[Pairs]) -> Pairs:
  """Sums the weights of equal pairs; the result is in order of (earlier, later)."""
  pairs = join(parts)
  key = pairs.earlier.astype(np.int64) << 32 | pairs.later
  order = np.argsort(key, kind='stable')  # merges the sorted parts
  first = _firsts(key[order])
  total = np.add.reduceat(pairs.weight[order], first)
  return dataclasses.replace(pairs.take(order[first]), weight=total)


def best(pairs: Pairs, keep: int) -> Pairs:
  """Keeps the best successors of each item, in order of (earlier, rank).

  Args:
    pairs: Distinct pairs with their counts.
    keep: Successors of an item; among equally good ones the lower id comes first.
  """
  # Squared, which orders them alike, and equal scores are equal numbers: there is no
  # root to round, and squares are exact up to a C of 2**10. Above that, what IEEE
  # arithmetic rounds, it rounds alike on every machine.
  weight = pairs.weight.astype(np.float64)
  score = weight * weight / (pairs.later_count + np.float64(1))
  order = np.lexsort((pairs.later, -score, pairs.earlier))
  earlier = pairs.earlier[order]
  rank = np.arange(len(pairs)) - np.searchsorted(earlier, earlier)
  return pairs.take(order[rank < keep])


def encode(pairs: Pairs) -> tuple[bytes, int]:
  """Encodes pairs in order of (earlier, rank) as the bytes of a TFRecord file.

  Returns:
    The bytes, and the number of records.
  """
  item, length = np.unique(pairs.earlier, return_counts=True)
  entries = np.concatenate([[0], np.cumsum(length)])
  cuts = blocks.cut(np.arange(len(item) + 1), entries)
  return blocks.encode(
    {
      dataset.ITEM: (item, cuts),
      dataset.LENGTH: (length, cuts),
      dataset.SUCCESSOR: (pairs.later, entries[cuts]),
      dataset.WEIGHT: (pairs.weight, entries[cuts]),
    }
  )


def deal_counts(
  first: int, item_count: np.ndarray, starts: np.ndarray
) -> Iterator[tuple[int, tuple[int, np.ndarray]]]:
  """Yields (range, (first id, counts)) for the counts of consecutive items."""
  cuts = np.clip(starts - first, 0, len(item_count))
  for number, (start, end) in enumerate(itertools.pairwise(cuts.tolist())):
    if start < end:
      yield number, (first + start, item_count[start:end])
