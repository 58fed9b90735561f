"""Measures of a log that decide whether results on it can be trusted.

Each is a sum over groups of users, or over ranges of pairs or items. So a group makes
`Findings`, which add up to the same numbers in any order and number of groups.

The order of a log is measured as in Klenitskiy, Volodkevich, Pembek and Vasilev, "Does
It Look Sequential?" (RecSys 2024): two adjacent items of a user are a 2-gram, one that
comes up often enough is a rule, and an order that means something makes more rules than
the same rows shuffled within each user. Their tables also ask for a confidence of .1;
here support alone decides, which sums up over ranges of pairs.

Times between rows are counted in bins, 512 to an octave, so that quantiles need no
second pass and little memory: exact below 1,024, above low by at most 1/512.
"""

import collections
import dataclasses
import heapq
from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from beam_pipelines import counter_rng, cuts, holdout, keys
from beam_pipelines.catalogue import ItemTimes
from beam_pipelines.histories import Users
from beam_pipelines.narrow import narrow
from ncf_tfdata.dataset import TEST, VALIDATION
from ncf_tfdata.inspection import BOT_FACTOR, MIN_SUPPORT, Inspection
from ncf_tfdata.manifest import Cuts
from ncf_tfdata.rng_streams import Prepare

# Suspected bots that are named.
NAMED = 5
_BITS = 10  # leading bits of a distance that its bin tells
_QUARTILES = (0.25, 0.5, 0.75)


@dataclasses.dataclass(frozen=True)
class Findings:
  """What was measured of a part of a log; see `Inspection` for names.

  Attributes:
    counts: By name.
    distances: Distances in each bin that holds any, by name.
    bots: (rows, user) of those with most rows, at most `NAMED`.
  """

  counts: dict[str, int] = dataclasses.field(default_factory=dict)
  distances: dict[str, dict[int, int]] = dataclasses.field(default_factory=dict)
  bots: tuple[tuple[int, str], ...] = ()

  def add(self, other: 'Findings') -> 'Findings':
    """The findings of both parts."""
    counts = collections.Counter(self.counts)
    counts.update(other.counts)
    distances = {
      name: collections.Counter(bins) for name, bins in self.distances.items()
    }
    for name, bins in other.distances.items():
      distances.setdefault(name, collections.Counter()).update(bins)
    bots = heapq.nsmallest(NAMED, (*self.bots, *other.bots), key=_most_rows)
    return Findings(dict(counts), dict(distances), tuple(bots))

  def inspection(self) -> Inspection:
    """What the findings of all parts say."""
    return Inspection(
      dict(sorted(self.counts.items())),
      {name: _quartiles(bins) for name, bins in sorted(self.distances.items())},
      {user: rows for rows, user in self.bots},
    )


def _most_rows(bot: tuple[int, str]) -> tuple[int, str]:
  rows, user = bot
  return -rows, user


def of_users(users: Users, rows: int, num_users: int, cut: Cuts | None) -> Findings:
  """Measures ties, repeats, bots, and what comes after the cuts.

  Args:
    users: A group of them.
    rows: That all users have together.
    num_users: How many all users are.
    cut: The moments of a split by time; None for another.
  """
  counts = {'rows': len(users.item), 'users': len(users.length)}
  if users.repeats is not None:
    counts |= users.repeats._asdict()
  many = users.length * num_users > BOT_FACTOR * rows
  counts['bots'] = int(many.sum())
  counts['bot_rows'] = int(users.length[many].sum())
  named = zip(
    users.length[many].tolist(),
    users.keys.filter(pa.array(many)).to_pylist(),
    strict=True,
  )
  bots = heapq.nsmallest(NAMED, named, key=_most_rows)
  if users.time is not None:
    last = np.cumsum(users.length) - 1
    tied = _tied(users, users.time)
    counts['tied_rows'], counts['tied_users'] = int(tied.sum()), int(tied[last].sum())
    if cut is not None:
      counts |= _after_cuts(users, users.time, cut)
  return Findings(counts, bots=tuple(bots))


def _tied(users: Users, time: np.ndarray) -> np.ndarray:
  """Which rows share their time with another row of their user: bool [rows]."""
  owner = users.owner()
  before = np.zeros(len(time), bool)
  before[1:] = (owner[1:] == owner[:-1]) & (time[1:] == time[:-1])
  return before | np.append(before[1:], False)[: len(time)]


def moments(cut: Cuts) -> dict[str, int]:
  """The cut before each held-out split of a log that is split by time."""
  found = {VALIDATION: cut.validation, TEST: cut.test}
  return {name: moment for name, moment in found.items() if moment is not None}


def _after_cuts(users: Users, time: np.ndarray, cut: Cuts) -> dict[str, int]:
  counts = {}
  first = users.starts()
  for name, moment in moments(cut).items():
    after = holdout.later(time, moment - users.epoch)
    counts[f'rows_after_{name}_cut'] = int(after.sum())
    counts[f'users_after_{name}_cut'] = int(after[first].sum())
  return counts


@dataclasses.dataclass(frozen=True)
class HeldOut:
  """The held-out rows of a group of users.

  Attributes:
    items: Provisional ids of the targets, int32, by split.
    distances: Times from earlier rows to them, uint64, by name; none without times.
  """

  items: dict[str, np.ndarray]
  distances: dict[str, np.ndarray]


def held_out(
  users: Users, train_rows: np.ndarray, targets: dict[str, np.ndarray]
) -> HeldOut:
  """Looks at the held-out rows of a group of users.

  Args:
    users: Whose rows.
    train_rows: bool [rows].
    targets: The rows that each held-out split asks for, int64, ascending.
  """
  items = {name: users.item[row] for name, row in targets.items()}
  distances: dict[str, np.ndarray] = {}
  if users.time is not None:
    time, owner = users.time.astype(np.uint64), users.owner()
    last_train = np.full(len(users.length), -1)
    rows = np.flatnonzero(train_rows)
    last_train[owner[rows]] = rows  # ascending, so that the last one stays
    for name, row in targets.items():
      distances[f'{name}_since_row_before'] = time[row] - time[row - 1]
      train = last_train[owner[row]]
      known = train >= 0
      distances[f'{name}_since_train'] = time[row[known]] - time[train[known]]
  return HeldOut(items, distances)


def of_held_out(rows: HeldOut) -> Findings:
  """Counts targets, and distances in time by their bins."""
  counts = {f'{name}_targets': len(items) for name, items in rows.items.items()}
  distances = {}
  for name, distance in rows.distances.items():
    bins, number = np.unique(_bin(distance), return_counts=True)
    distances[name] = dict(zip(bins.tolist(), number.tolist(), strict=True))
  return Findings(counts, distances)


def _bin(distance: np.ndarray) -> np.ndarray:
  """The bin of each distance, uint64 to int64: by leading bits, and how many follow."""
  # Without its second bit a number is not rounded up to the next power of two.
  clear = distance & ~(distance >> np.uint64(1))
  length = np.frexp(clear.astype(np.float64))[1]
  rest = np.maximum(length - _BITS, 0)
  lead = (distance >> rest.astype(np.uint64)).astype(np.int64)
  return (rest.astype(np.int64) << (_BITS - 1)) + lead


def _least(number: int) -> int:
  """The least distance of a bin."""
  rest = max(0, (number >> (_BITS - 1)) - 1)
  return (number - (rest << (_BITS - 1))) << rest


def _quartiles(bins: dict[int, int]) -> tuple[int, ...]:
  """The distances at rank ceil(q n), for each quartile; none of none."""
  numbers = sorted(bins)
  ends = np.cumsum([bins[number] for number in numbers])
  if not len(ends):
    return ()
  ranks = [cuts.rank_of(quantile, int(ends[-1])) for quantile in _QUARTILES]
  return tuple(_least(numbers[place]) for place in np.searchsorted(ends, ranks))


@dataclasses.dataclass(frozen=True)
class Grams:
  """Pairs of adjacent items, some of those of a group of users.

  Attributes:
    pair: Unsigned [n], distinct: the earlier's provisional id times the number of ids,
      and the later's.
    count: Unsigned [n], how often each comes up.
    shuffled: Whether each user's rows were shuffled before.
  """

  pair: np.ndarray
  count: np.ndarray
  shuffled: bool


def grams(
  users: Users, num_ids: int, num_ranges: int, seed: int
) -> Iterator[tuple[int, Grams]]:
  """Counts 2-grams as the log is and as it is shuffled, and deals them to ranges.

  Args:
    users: A group of them.
    num_ids: Provisional ids that items have.
    num_ranges: To deal pairs to, by hash.
    seed: Of the dataset.

  Yields:
    (range, `Grams`).
  """
  owner = users.owner()
  for shuffled in (False, True):
    item = users.item.astype(np.int64)
    if shuffled:
      item = item[_shuffle(users, owner, seed)]
    pair = (item[:-1] * num_ids + item[1:])[owner[:-1] == owner[1:]]
    distinct, count = np.unique(pair, return_counts=True)
    spread = counter_rng.mix(distinct.astype(np.uint64)) % np.uint64(num_ranges)
    for number in np.unique(spread).tolist():
      mine = spread == number
      yield number, Grams(narrow(distinct[mine]), narrow(count[mine]), shuffled)


def _shuffle(users: Users, owner: np.ndarray, seed: int) -> np.ndarray:
  """Rows in an order that is drawn within each user, by seed, key and place."""
  who = keys.hashes(users.keys)[owner]
  draw = counter_rng.bits(seed, Prepare.INSPECTION_ORDER, who, users.position())
  return np.lexsort((draw, owner))


def of_grams(parts: list[Grams]) -> Findings:
  """Counts the rules among all pairs of a range."""
  counts = {}
  for name, shuffled in (('rules', False), ('shuffled_rules', True)):
    mine = [part for part in parts if part.shuffled == shuffled]
    counts[name] = 0
    if mine:
      pair = np.concatenate([part.pair.astype(np.int64) for part in mine])
      number = np.concatenate([part.count.astype(np.int64) for part in mine])
      order = np.argsort(pair, kind='stable')
      first = np.flatnonzero(np.diff(pair[order], prepend=-1))
      total = np.add.reduceat(number[order], first)
      counts[name] = int((total >= MIN_SUPPORT).sum())
  return Findings(counts)


def of_items(
  first_seen: list[ItemTimes], targets: list[tuple[str, np.ndarray]], cut: Cuts
) -> Findings:
  """Counts the items of a group that are seen only after a cut, and their targets.

  Args:
    first_seen: When some users have had each item first.
    targets: (split, provisional ids of its targets), all of ids in `first_seen`.
    cut: The moments of a split by time.
  """
  ids, place = np.unique(
    np.concatenate([part.ids for part in first_seen]), return_inverse=True
  )
  first = np.full(len(ids), np.iinfo(np.int64).max)
  np.minimum.at(first, place, np.concatenate([part.times() for part in first_seen]))
  counts = {}
  for name, moment in moments(cut).items():
    late = first > moment
    counts[f'items_after_{name}_cut'] = int(late.sum())
    asked = [items for split, items in targets if split == name]
    counts[f'{name}_cold_targets'] = sum(
      int(late[np.searchsorted(ids, items)].sum()) for items in asked
    )
  return Findings(counts)
