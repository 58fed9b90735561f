"""Each user's interactions: dealt to groups of users, put in order, and thinned."""

import dataclasses
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from beam_pipelines import counter_rng, kept_ids, keys
from beam_pipelines.narrow import narrow
from beam_pipelines.ratings import Ratings
from ncf_tfdata.rng_streams import Prepare

FIRST, LAST, KEEP = 'first', 'last', 'keep'
INPUT, RANDOM = 'input', 'random'
REPEATS = 'repeats'


@dataclasses.dataclass(frozen=True)
class Rules:
  """How a user's rows are thinned and ordered; see prepare's flags."""

  duplicates: str
  tie_order: str
  min_user_count: int
  max_user_history: int
  seed: int
  drop_repeats: bool = False
  keep_times: bool = False
  count_repeats: bool = False


@dataclasses.dataclass(frozen=True)
class Chunk:
  """Some rows of one group of users, from one block of a source file.

  Attributes:
    order: (file index, offset) of the block, which orders chunks as in the input.
    users: String array of the users that occur.
    user: Unsigned [n], index into `users`.
    item: int32 [n], provisional item ids.
    timestamp: Unsigned [n], since `epoch`, or None where the log has none.
    epoch: The earliest timestamp.
  """

  order: tuple[int, int]
  users: pa.Array
  user: np.ndarray
  item: np.ndarray
  timestamp: np.ndarray | None
  epoch: int = 0


def deal(
  block: Ratings, file_index: int, item: np.ndarray, keep: np.ndarray, num_groups: int
) -> Iterator[tuple[int, Chunk]]:
  """Deals the kept rows of a block out to the groups of their users.

  Args:
    block: n rows.
    file_index: Of the source that the block is from.
    item: int32 [n], provisional ids.
    keep: int [m], the rows to deal out, ascending.
    num_groups: Of users.

  Yields:
    (group, its rows), for each group that has any.
  """
  user = block.user.indices.to_numpy()[keep]
  group = keys.groups(block.user.dictionary, num_groups)
  # Users in order of group, so that those of one group are one slice.
  by_group = np.argsort(group, kind='stable')
  names = block.user.dictionary.take(pa.array(by_group))
  rank = np.empty(len(by_group), np.int32)
  rank[by_group] = np.arange(len(by_group), dtype=np.int32)
  first = np.searchsorted(group[by_group], np.arange(num_groups + 1))
  row_group = narrow(group)[user]
  rows = np.argsort(row_group, kind='stable')  # by radix, where it has two bytes
  bounds = np.searchsorted(row_group[rows], np.arange(num_groups + 1))
  user, item = rank[user[rows]], item[keep[rows]]
  stamp = None if block.timestamp is None else block.timestamp[keep[rows]]
  for number in np.flatnonzero(np.diff(bounds)):
    mine = slice(bounds[number], bounds[number + 1])
    users = pa.array(np.arange(first[number], first[number + 1]))
    mine_stamp = None if stamp is None else stamp[mine]
    epoch = 0 if mine_stamp is None else int(mine_stamp.min())
    yield (
      int(number),
      Chunk(
        order=(file_index, block.offset),
        users=names.take(users),
        user=narrow(user[mine] - np.int32(first[number])),
        item=item[mine],
        timestamp=None if mine_stamp is None else _since(mine_stamp, epoch),
        epoch=epoch,
      ),
    )


def _since(timestamp: np.ndarray, epoch: int) -> np.ndarray:
  # Unsigned, for the span may be beyond int64.
  return narrow(timestamp.astype(np.uint64) - np.uint64(epoch % 2**64))


class Repeats(NamedTuple):
  """Repeats among the rows of a group of users, before any rule applies.

  Attributes:
    log_rows: All rows.
    repeated_rows: Those of an item that their user had in an earlier row.
    consecutive_repeats: Those of the item of the user's row before.
  """

  log_rows: int
  repeated_rows: int
  consecutive_repeats: int


@dataclasses.dataclass(frozen=True)
class Users:
  """All kept rows of a group of users, user by user, each in time order.

  Attributes:
    keys: String array [m], in natural order.
    length: int64 [m], kept rows a user, each at least 1.
    item: int32 [sum of lengths].
    counts: Rows left out by each rule, by the manifest's name for it.
    gap: Unsigned [m, 2], the times between a user's last row and the one before, and
      between that and the one before it, 0 where there is none; None without times,
      or where they are kept.
    time: Unsigned [sum of lengths], timestamps since `epoch`; None where the rules
      keep none.
    epoch: The earliest timestamp of the group.
    repeats: Where they are counted.
    kept: int64 [m], the dense id of each user in an earlier dataset, `kept_ids.NEW` of
      others; None where no ids are kept.
  """

  keys: pa.Array
  length: np.ndarray
  item: np.ndarray
  counts: dict[str, int]
  gap: np.ndarray | None = None
  time: np.ndarray | None = None
  epoch: int = 0
  repeats: Repeats | None = None
  kept: np.ndarray | None = None

  def dense_ids(self, first_new: int) -> np.ndarray:
    """The dense id of each user: int64 [m].

    Args:
      first_new: That of the first user who has none yet.
    """
    new = self.new()
    ids = np.full(len(new), first_new) if self.kept is None else self.kept.copy()
    ids[new] = first_new + np.arange(int(new.sum()))
    return ids

  def new(self) -> np.ndarray:
    """Who has no id of an earlier dataset: bool [m]."""
    if self.kept is None:
      return np.ones(len(self.length), bool)
    return self.kept == kept_ids.NEW

  def owner(self) -> np.ndarray:
    """The place of each row's user: int64 [rows]."""
    return np.repeat(np.arange(len(self.length)), self.length)

  def starts(self) -> np.ndarray:
    """The first row of each user: int64 [m]."""
    return np.cumsum(self.length) - self.length

  def position(self) -> np.ndarray:
    """How many rows of its user come before each row: int64 [rows]."""
    return np.arange(len(self.item)) - np.repeat(self.starts(), self.length)


def keep_rows(users: Users, kept: np.ndarray) -> Users:
  """Some rows of users, bool [rows]; who has none left is gone.

  Raises:
    ValueError: `gap` speaks of rows that may be gone.
  """
  if users.gap is not None:
    raise ValueError('`users.gap` must be None. Received: gaps between rows.')
  length = np.bincount(users.owner()[kept], minlength=len(users.length))
  present = np.flatnonzero(length)
  return dataclasses.replace(
    users,
    keys=users.keys.take(pa.array(present)),
    length=length[present],
    item=users.item[kept],
    time=None if users.time is None else users.time[kept],
    kept=None if users.kept is None else users.kept[present],
  )


class _Rows(NamedTuple):
  """Rows of a group of users.

  Attributes:
    names: String array [m] of the users, in natural order.
    user: int64 [n], index into `names`.
    item: int32 [n].
    timestamp: int64 [n], or None where the log has none.
  """

  names: pa.Array
  user: np.ndarray
  item: np.ndarray
  timestamp: np.ndarray | None

  def take(self, rows: np.ndarray) -> '_Rows':
    """The rows at some places, in their order, or under a mask."""
    timestamp = None if self.timestamp is None else self.timestamp[rows]
    return _Rows(self.names, self.user[rows], self.item[rows], timestamp)

  def lengths(self) -> np.ndarray:
    """Rows of each user: int64 [m]."""
    return np.bincount(self.user, minlength=len(self.names))


def gather(chunks: list[Chunk], rules: Rules) -> Users:
  """Brings a group's rows together, in each user's order, and applies the rules."""
  if not chunks:
    return Users(pa.array([], pa.string()), np.zeros(0, int), np.zeros(0, np.int32), {})
  rows = _joined(sorted(chunks, key=lambda chunk: chunk.order))
  rows = rows.take(_order(rows.user, rows.timestamp, _ties(rows, rules)))
  repeats = _repeats(rows, rules) if rules.count_repeats else None
  counts = {}
  for name, rule in _RULES.items():
    if name == REPEATS and not rules.drop_repeats:
      continue
    kept = rule(rows, rules)
    counts[name] = len(kept) - int(kept.sum())
    rows = rows.take(kept)
  length = rows.lengths()
  present = np.flatnonzero(length)
  length, names = length[present], rows.names.take(pa.array(present))
  if rows.timestamp is None:
    return Users(names, length, rows.item, counts, repeats=repeats)
  if rules.keep_times:
    epoch = int(rows.timestamp.min()) if len(length) else 0
    time = _since(rows.timestamp, epoch)
    return Users(
      names, length, rows.item, counts, time=time, epoch=epoch, repeats=repeats
    )
  gaps = _gaps(rows.timestamp, length)
  return Users(names, length, rows.item, counts, gaps, repeats=repeats)


def _joined(chunks: list[Chunk]) -> _Rows:
  """The rows of chunks, in their order."""
  encoded = pa.concat_arrays([chunk.users for chunk in chunks]).dictionary_encode()
  order = keys.natural_order(encoded.dictionary)
  rank = np.empty(len(order), np.int64)
  rank[order] = np.arange(len(order))
  codes = rank[encoded.indices.to_numpy()]
  first = np.cumsum([0] + [len(chunk.users) for chunk in chunks])
  user = np.concatenate(
    [codes[start + chunk.user] for start, chunk in zip(first, chunks, strict=False)]
  )
  stamps = [
    chunk.epoch + chunk.timestamp.astype(np.int64)
    for chunk in chunks
    if chunk.timestamp is not None
  ]
  return _Rows(
    encoded.dictionary.take(pa.array(order)),
    user,
    np.concatenate([chunk.item for chunk in chunks]),
    np.concatenate(stamps) if stamps else None,
  )


def _ties(rows: _Rows, rules: Rules) -> np.ndarray | None:
  """A draw a row that orders those of one time, uint64 [n]; None for input order."""
  if rules.tie_order != RANDOM or rows.timestamp is None:
    return None
  name = keys.hashes(rows.names)
  return counter_rng.bits(rules.seed, Prepare.TIE_ORDER, name[rows.user], rows.item)


def _gaps(timestamp: np.ndarray, length: np.ndarray) -> np.ndarray:
  """`Users.gap` of timestamps int64 [n], user by user, `length` [m] of each."""
  last = np.cumsum(length) - 1
  gap = np.zeros((len(length), 2), np.uint64)
  for column in range(2):
    row = last[length > column + 1] - column
    # Unsigned, for the span may be beyond int64; a record holds no more than that.
    time = timestamp[row].astype(np.uint64) - timestamp[row - 1].astype(np.uint64)
    gap[length > column + 1, column] = np.minimum(time, np.iinfo(np.int64).max)
  return narrow(gap)


def _order(
  user: np.ndarray, timestamp: np.ndarray | None, tie: np.ndarray | None
) -> np.ndarray:
  """Sorts rows by user, then time, then the draw; what is left, in input order."""
  by_user = np.argsort(narrow(user), kind='stable')  # by radix, where it has two bytes
  if timestamp is None:
    return by_user
  if tie is None:
    early = int(timestamp.min())
    bits = (int(timestamp.max()) - early).bit_length()
    if bits + int(user.max()).bit_length() <= 63:
      # A stable sort takes what is in order already as it is: user after user.
      key = ((user << bits) | (timestamp - early))[by_user]
      return by_user[np.argsort(key, kind='stable')]
  return np.lexsort([c for c in (tie, timestamp, user) if c is not None])


def _distinct(rows: _Rows, rules: Rules) -> np.ndarray:
  """Which rows stay when each (user, item) may occur once: bool [n]."""
  kept = np.ones(len(rows.user), bool)
  if rules.duplicates == KEEP or not len(rows.user):
    return kept
  pairs = rows.user * (int(rows.item.max()) + 1) + rows.item
  order = np.argsort(pairs, kind='stable')  # quick, for users are in order
  same = pairs[order[1:]] == pairs[order[:-1]]
  repeated = order[1:][same] if rules.duplicates == FIRST else order[:-1][same]
  kept[repeated] = False
  return kept


def _changing(rows: _Rows, rules: Rules) -> np.ndarray:
  """Which rows are of another item than the user's row before: bool [n]."""
  same = np.zeros(len(rows.user), bool)
  same[1:] = (rows.user[1:] == rows.user[:-1]) & (rows.item[1:] == rows.item[:-1])
  return ~same


def _repeats(rows: _Rows, rules: Rules) -> Repeats:
  """Counts repeats, whatever the rules do with them."""
  distinct = _distinct(rows, dataclasses.replace(rules, duplicates=FIRST))
  changing = _changing(rows, rules)
  return Repeats(len(rows.user), int((~distinct).sum()), int((~changing).sum()))


def _of_active_users(rows: _Rows, rules: Rules) -> np.ndarray:
  """Which rows are of users who have as many as asked for: bool [n]."""
  return (rows.lengths() >= rules.min_user_count)[rows.user]


def _latest(rows: _Rows, rules: Rules) -> np.ndarray:
  """Which rows are among the user's last ones that may be kept: bool [n]."""
  length = rows.lengths()
  to_end = np.repeat(np.cumsum(length), length) - np.arange(len(rows.user))
  return to_end <= rules.max_user_history


# In the order in which they apply, by the manifest's name for what each leaves out.
_RULES = {
  'duplicates': _distinct,
  REPEATS: _changing,
  'filtered_users': _of_active_users,
  'dropped_history': _latest,
}
