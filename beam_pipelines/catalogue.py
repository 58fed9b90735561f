"""Items: counted, filtered, and given dense ids, with no table of them all.

Items are spread over groups by the hash of their keys. Each range of the input
numbers its own items; each group of items decides which stay and gives them
provisional ids, in natural order after those of the groups before it. What a
later rule empties of ratings is then taken out, which closes the gaps.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from beam_pipelines import kept_ids, keys
from beam_pipelines.kept_ids import KeptKeys
from beam_pipelines.narrow import narrow
from beam_pipelines.ratings import Ratings

GroupSize = tuple[int, int]  # a group, and how many things it keeps
# Provisional ids of some items of one group, the train rows of each, and all its rows,
# where ids are kept.
ItemCounts = tuple[np.ndarray, np.ndarray, np.ndarray | None]

# A table of so many times the ids costs more than to sort them.
MANY_TIMES = 4
# In place of an id: too few ratings, or none that is high enough.
RARE, UNRATED = -1, -2


class ItemTimes(NamedTuple):
  """When some users have had each of some items of one group first.

  Attributes:
    ids: Unsigned [m], provisional ids.
    since: Unsigned [m], the earliest time of each, since `epoch`.
    epoch: The earliest time of all.
  """

  ids: np.ndarray
  since: np.ndarray
  epoch: int

  def times(self) -> np.ndarray:
    """The earliest time of each: int64 [m]."""
    return self.epoch + self.since.astype(np.int64)


class RangeItems:
  """Numbers the distinct items of a range of the input, in order of appearance.

  Reading the range again gives the same numbers, so what was decided about its
  items comes back to it as plain arrays, without their keys.

  Attributes:
    keys: String array [m] of the items seen so far.
    group: int64 [m], the group of each.
    place: int64 [m], the number of each among those of its group.
  """

  def __init__(self, num_groups: int):
    self._num_groups = num_groups
    self._sizes = np.zeros(num_groups, np.int64)
    self.keys = pa.array([], pa.string())
    self.group = np.zeros(0, np.int64)
    self.place = np.zeros(0, np.int64)

  def number(self, items: pa.DictionaryArray) -> np.ndarray:
    """The number of each row's item: int64 [n]."""
    found = pc.index_in(items.dictionary, value_set=self.keys)
    new = items.dictionary.filter(pc.is_null(found))
    numbers = found.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    numbers[numbers < 0] = len(self.keys) + np.arange(len(new))
    self._add(new)
    return numbers[items.indices.to_numpy()]

  def by_group(self) -> Iterator[tuple[int, np.ndarray]]:
    """Yields each group that has any, and the numbers of its items, ascending."""
    order = np.argsort(self.group, kind='stable')
    groups, starts = np.unique(self.group[order], return_index=True)
    mine = np.split(order, starts[1:])
    yield from zip(groups.tolist(), mine if len(order) else [], strict=True)

  def _add(self, new: pa.Array) -> None:
    group = keys.groups(new, self._num_groups)
    order = np.argsort(group, kind='stable')
    rank = np.arange(len(new)) - np.searchsorted(group[order], group[order])
    place = np.empty(len(new), np.int64)
    place[order] = rank + self._sizes[group[order]]
    self._sizes += np.bincount(group, minlength=self._num_groups)
    self.keys = pa.concat_arrays([self.keys, new])
    self.group = np.concatenate([self.group, group])
    self.place = np.concatenate([self.place, place])


@dataclasses.dataclass(frozen=True)
class Tally:
  """The items of one group that occur in one range.

  Attributes:
    keys: String array [m].
    read: Unsigned [m], ratings read.
    rated: Unsigned [m], those of at least the least rating asked for.
  """

  keys: pa.Array
  read: np.ndarray
  rated: np.ndarray


def high_enough(block: Ratings, min_rating: float) -> np.ndarray:
  """Which ratings are at least `min_rating`: bool [n]. All, in a log without them."""
  if block.rating is None:
    return np.ones(len(block), bool)
  return block.rating >= min_rating


class RangeTally:
  """Counts the ratings of each item of a range."""

  def __init__(self, num_groups: int, min_rating: float):
    self._items = RangeItems(num_groups)
    self._min_rating = min_rating
    self._read = np.zeros(0, np.int64)
    self._rated = np.zeros(0, np.int64)

  def add(self, block: Ratings) -> None:
    number = self._items.number(block.item)
    rated = number[high_enough(block, self._min_rating)]
    size = len(self._items.keys)
    self._read = np.bincount(number, minlength=size) + _padded(self._read, size)
    self._rated = np.bincount(rated, minlength=size) + _padded(self._rated, size)

  def groups(self) -> Iterator[tuple[int, Tally]]:
    """Yields (group, `Tally`) for each group with an item in the range."""
    for group, mine in self._items.by_group():
      names = self._items.keys.take(pa.array(mine))
      yield group, Tally(names, narrow(self._read[mine]), narrow(self._rated[mine]))


def _padded(counts: np.ndarray, size: int) -> np.ndarray:
  return np.concatenate([counts, np.zeros(size - len(counts), np.int64)])


@dataclasses.dataclass(frozen=True)
class Selection:
  """What one group of items keeps.

  Attributes:
    keys: String array [m] of the kept items that are new, in natural order; an item's
      index is its id within the group.
    ids: For each tally int32: below `num_kept` ids of an earlier dataset, from there on
      ids within the group; or `RARE` or `UNRATED`.
  """

  keys: pa.Array
  ids: list[np.ndarray]


def select(
  tallies: list[Tally],
  min_item_count: int,
  kept_keys: Sequence[KeptKeys] = (),
  num_kept: int = 0,
) -> Selection:
  """Decides which of a group's items stay in the catalogue.

  Args:
    tallies: Of all ranges.
    min_item_count: Least number of ratings of an item.
    kept_keys: Items of the group that have an id already.
    num_kept: How many ids an earlier dataset has given, to items of any group.
  """
  encoded = pa.concat_arrays([tally.keys for tally in tallies]).dictionary_encode()
  codes = encoded.indices.to_numpy()
  read = np.zeros(len(encoded.dictionary), np.int64)
  rated = np.zeros(len(encoded.dictionary), np.int64)
  np.add.at(read, codes, np.concatenate([tally.read for tally in tallies]))
  np.add.at(rated, codes, np.concatenate([tally.rated for tally in tallies]))
  ids = np.where(read < min_item_count, RARE, UNRATED).astype(np.int32)
  kept = np.flatnonzero((read >= min_item_count) & (rated > 0))
  names = encoded.dictionary.take(pa.array(kept))
  ids[kept] = earlier = kept_ids.look_up(names, kept_keys)
  new = np.flatnonzero(earlier == kept_ids.NEW)
  kept, names = kept[new], names.take(pa.array(new))
  order = keys.natural_order(names)
  ids[kept[order]] = num_kept + np.arange(len(kept), dtype=np.int32)
  ends = np.cumsum([len(tally.keys) for tally in tallies])[:-1]
  return Selection(names.take(pa.array(order)), np.split(ids[codes], ends))


class Numbering:
  """Dense ids of things kept in groups: those of group 0 first, then group 1, …

  Things of an earlier dataset come before, in groups below zero.

  Attributes:
    size: How many things there are.
    num_kept: How many of them are of an earlier dataset.
  """

  def __init__(self, sizes: list[GroupSize]):
    """Takes (group, how many things the group keeps) in any order."""
    self._groups = np.array(sorted(sizes), np.int64).reshape(-1, 2)
    self._ends = np.cumsum(self._groups[:, 1])
    self.size = int(self._ends[-1]) if len(self._ends) else 0
    self.num_kept = self.start(0)

  def start(self, group: int) -> int:
    """The id of a group's first thing."""
    before = np.searchsorted(self._groups[:, 0], group)
    return int(self._ends[before - 1]) if before else 0

  def group(self, ids: np.ndarray) -> np.ndarray:
    """The group of each id: int64, of the shape of `ids`."""
    return self._groups[np.searchsorted(self._ends, ids, side='right'), 0]

  def deal(self, ids: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Yields each group that some ids, int [n], are of, and their places, int64."""
    owner = self.group(ids)
    order = np.argsort(owner, kind='stable')
    first = np.flatnonzero(np.diff(owner[order], prepend=np.iinfo(np.int64).min))
    for mine in np.split(order, first[1:]) if len(order) else ():
      yield int(owner[mine[0]]), mine


def occurring(ids: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
  """The distinct ones of ids in [0, size), ascending, and how often each occurs.

  Returns:
    int64 [m] and int64 [m].
  """
  if size > MANY_TIMES * len(ids):
    return np.unique(ids, return_counts=True)
  count = np.bincount(ids, minlength=size)
  found = np.flatnonzero(count)
  return found, count[found]


class Catalogue:
  """The final dense ids: provisional ids less the items that lost all their rows.

  Ids of an earlier dataset stay, with rows or without. So there are places as well: the
  items with rows in the order of their ids, without gaps. Where no ids were kept, an
  item's place is its id.

  Attributes:
    size: Number of items with rows.
    num_ids: Number of dense ids.
  """

  def __init__(self, numbering: Numbering, vanished: list[np.ndarray]):
    """Takes the provisional numbering and the vanished ids, in any order."""
    self.numbering = numbering
    self._vanished = np.sort(np.concatenate([np.zeros(0, np.int64), *vanished]))
    # Kept ids are their own provisional ids.
    unused, self._gone = np.split(
      self._vanished, [np.searchsorted(self._vanished, numbering.num_kept)]
    )
    self._unused_before = unused - np.arange(len(unused))
    self.num_ids = numbering.size - len(self._gone)
    self.size = self.num_ids - len(unused)

  def place(self, provisional: np.ndarray) -> np.ndarray:
    """Places of items that are still there: int64, of the shape given."""
    gaps = np.searchsorted(self._vanished, provisional)
    return provisional.astype(np.int64) - gaps

  def final(self, provisional: np.ndarray) -> np.ndarray:
    """Dense ids of items that are still there: int64, of the shape given."""
    return provisional.astype(np.int64) - np.searchsorted(self._gone, provisional)

  def at(self, place: np.ndarray) -> np.ndarray:
    """Dense ids of the items at some places: int64, of the shape given."""
    if not len(self._unused_before):
      return place
    return place + np.searchsorted(self._unused_before, place, side='right')

  def present(self, provisional: np.ndarray) -> np.ndarray:
    """Which provisional ids have a dense id: bool, of the shape given."""
    return ~np.isin(provisional, self._gone)

  def used(self, provisional: np.ndarray) -> np.ndarray:
    """Which provisional ids have rows: bool, of the shape given."""
    return ~np.isin(provisional, self._vanished)
