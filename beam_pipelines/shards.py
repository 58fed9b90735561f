"""A shard of each split: the rows of a group of users with their negatives."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from beam_pipelines import blocks, negatives, splits, user_parts
from beam_pipelines.histories import Users
from beam_pipelines.seen_items import SeenItems
from beam_pipelines.splits import Recipe, Split
from ncf_tfdata import dataset
from ncf_tfdata.dataset import TRAIN
from ncf_tfdata.manifest import Cuts

# Of the users that are worked on at once.
_PART_ROWS = 1 << 16


@dataclasses.dataclass(frozen=True)
class Rows:
  """The rows of one split in one shard.

  Attributes:
    user: int64 [n] dense ids, contiguous by user.
    positive: int64 [n].
    negatives: int64 [n, k].
    history: int64 [sum over users], what each user had before their last row here;
      None in train.
    history_length: int64 [n], how much of their history comes before each row.
    gap: Unsigned [n], time since the user's row before; None without times.
    time: int64 [n], since the log's first row; None where it is not written.
    history_time: int64, of the length of `history`, the same.
  """

  user: np.ndarray
  positive: np.ndarray
  negatives: np.ndarray
  history: np.ndarray | None = None
  history_length: np.ndarray | None = None
  gap: np.ndarray | None = None
  time: np.ndarray | None = None
  history_time: np.ndarray | None = None

  def __len__(self) -> int:
    return len(self.user)

  @classmethod
  def joined(cls, parts: Sequence['Rows']) -> 'Rows':
    """The rows of some users, and of those after them."""
    columns: dict[str, Any] = {}
    for field in dataclasses.fields(cls):
      found = [getattr(part, field.name) for part in parts]
      columns[field.name] = None if found[0] is None else np.concatenate(found)
    return cls(**columns)


@dataclasses.dataclass(frozen=True)
class Shard:
  """One shard of every split.

  Attributes:
    rows: By split.
    split: Where the users' rows went.
    train_count: int64 [users], train rows of each user.
    redrawn: Draws of train negatives that were made again.
  """

  rows: dict[str, Rows]
  split: Split
  train_count: np.ndarray
  redrawn: int

  def with_items(self, at: Callable[[np.ndarray], np.ndarray]) -> 'Shard':
    """The same with dense ids, which `at` gives, in place of items' places."""
    rows = {
      name: dataclasses.replace(
        part,
        positive=at(part.positive),
        negatives=at(part.negatives),
        history=None if part.history is None else at(part.history),
      )
      for name, part in self.rows.items()
    }
    return dataclasses.replace(self, rows=rows)


class _Group(NamedTuple):
  """A group of m users with dense ids.

  Attributes:
    users: Their keys and lengths.
    user_id: int64 [m].
    owner: int64 [rows], the place of each row's user.
    item: int64 [rows], dense ids.
    num_items: Size of the catalogue.
    time: int64 [rows], since the log's first row; None where it is not written.
  """

  users: Users
  user_id: np.ndarray
  owner: np.ndarray
  item: np.ndarray
  num_items: int
  time: np.ndarray | None

  def seen(self, rows: np.ndarray | slice = slice(None)) -> SeenItems:
    """The items that each user has among some rows, or all."""
    num_users = len(self.user_id)
    return SeenItems(self.owner[rows], self.item[rows], num_users, self.num_items)


def make(
  users: Users,
  first_user: int,
  item: np.ndarray,
  num_items: int,
  recipe: Recipe,
  cuts: Cuts | None = None,
  held_out: np.ndarray | None = None,
) -> Shard:
  """Splits the rows of a group of users, and draws their negatives.

  It does so for some users after the other, so that what it looks things up in stays
  near the processor, and memory stays small.

  Args:
    users: Whose rows to split.
    first_user: Dense id of the first of them who has none yet.
    item: int64 [rows], places of items in the catalogue, in place of the provisional
      `users.item`.
    num_items: Size of the catalogue.
    recipe: How to.
    cuts: The moments at which the log is cut; None where no times are written.
    held_out: bool [num_items], which places are of items that no training may see;
      None where none are.
  """
  made = []
  for part in user_parts.parts(users, _PART_ROWS):
    first, places = first_user + part.new_before, item[part.rows]
    made.append(_make(part.users, first, places, num_items, recipe, cuts, held_out))
  return Shard(
    {name: Rows.joined([part.rows[name] for part in made]) for name in made[0].rows},
    Split.joined([part.split for part in made]),
    np.concatenate([part.train_count for part in made]),
    sum(part.redrawn for part in made),
  )


def _make(
  users: Users,
  first_user: int,
  item: np.ndarray,
  num_items: int,
  recipe: Recipe,
  cuts: Cuts | None,
  held_out: np.ndarray | None,
) -> Shard:
  """Does the same for a part of the users."""
  num_users, owner = len(users.length), users.owner()
  time = None
  if cuts is not None and users.time is not None:
    time = users.time.astype(np.int64) + (users.epoch - cuts.first)
  user_id = users.dense_ids(first_user)
  group = _Group(users, user_id, owner, item, num_items, time)
  seen = group.seen()
  num_unseen = num_items - seen.count
  items = None if held_out is None else _held_out_items(group, held_out)
  split = splits.split(users, num_unseen, recipe, cuts, items)
  train, redrawn = _train_rows(group, split.train_rows, recipe, held_out)
  rows = {TRAIN: train}
  for name, target in split.targets.items():
    rows[name] = _evaluation_rows(group, seen, name, target, recipe)
  train_count = np.bincount(owner[split.train_rows], minlength=num_users)
  return Shard(rows, split, train_count, redrawn)


def _held_out_items(group: _Group, held_out: np.ndarray) -> splits.HeldOutItems:
  rows = held_out[group.item]
  others = group.num_items - int(held_out.sum())
  return splits.HeldOutItems(rows, others - group.seen(~rows).count)


def _train_rows(
  group: _Group, train_rows: np.ndarray, recipe: Recipe, held_out: np.ndarray | None
) -> tuple[Rows, int]:
  """The train rows, and how many draws of their negatives were made again."""
  owner = group.owner[train_rows]
  drawable = group
  if held_out is not None:
    # Negatives are drawn among the others, by their rank.
    others = np.flatnonzero(~held_out)
    rank = np.cumsum(~held_out) - 1
    drawable = group._replace(item=rank[group.item], num_items=len(others))
  drawn, redrawn = negatives.training(
    drawable.seen(train_rows),
    owner,
    group.user_id,
    recipe.train_negatives,
    recipe.seed,
  )
  if held_out is not None:
    drawn = others[drawn]
  time = None if group.time is None else group.time[train_rows]
  return Rows(group.user_id[owner], group.item[train_rows], drawn, time=time), redrawn


def _evaluation_rows(
  group: _Group, seen: SeenItems, name: str, target: np.ndarray, recipe: Recipe
) -> Rows:
  """Held-out rows, by their places int64 [n], each with all that came before it.

  A user's rows share their negatives, none of which the user has seen in any row.
  """
  owner = group.owner[target]
  user, first = np.unique(owner, return_index=True)
  count = np.diff(first, append=len(target))
  drawn = negatives.evaluation(
    seen, user, group.user_id, recipe.eval_negatives, recipe.seed, name
  )
  # A user's rows up to their last target are the histories of all their targets.
  start = group.users.starts()
  stop = start.copy()
  stop[user] = target[first + count - 1]
  earlier = np.arange(len(group.item)) < stop[group.owner]
  time = group.time
  return Rows(
    user=group.user_id[owner],
    positive=group.item[target],
    negatives=np.repeat(drawn, count, axis=0),
    history=group.item[earlier],
    history_length=target - start[owner],
    gap=_gap(group, target),
    time=None if time is None else time[target],
    history_time=None if time is None else time[earlier],
  )


def _gap(group: _Group, target: np.ndarray) -> np.ndarray | None:
  """Time since the row before each target, each of which has one: unsigned [n]."""
  users = group.users
  if users.time is not None:
    gap = users.time[target] - users.time[target - 1]
    # A record holds no more.
    return np.minimum(gap.astype(np.uint64), np.iinfo(np.int64).max)
  if users.gap is None:
    return None
  # Kept of the last two rows alone.
  owner, last = group.owner[target], users.starts() + users.length - 1
  return users.gap[owner, last[owner] - target]


def encode(rows: Rows) -> tuple[bytes, int]:
  """Encodes rows as the bytes of a TFRecord file.

  Returns:
    The bytes, and the number of records.
  """
  bounds = np.append(np.flatnonzero(np.diff(rows.user, prepend=-1)), len(rows))
  entries = _history_bounds(rows, bounds)
  block = blocks.cut(bounds, entries)
  cuts, history_cuts = bounds[block], entries[block]
  k = rows.negatives.shape[1]
  columns: dict[str, tuple[np.ndarray, np.ndarray]] = {
    dataset.USER: (rows.user, cuts),
    dataset.POSITIVE: (rows.positive, cuts),
    dataset.NEGATIVES: (rows.negatives.ravel(), cuts * k),
  }
  if rows.time is not None:
    columns[dataset.TIME] = (rows.time, cuts)
  if rows.history is not None and rows.history_length is not None:
    columns[dataset.HISTORY] = (rows.history, history_cuts)
    columns[dataset.HISTORY_LENGTH] = (rows.history_length, cuts)
    gap = np.zeros(0, np.int64) if rows.gap is None else rows.gap
    columns[dataset.GAP] = (gap, cuts if len(gap) else np.zeros_like(cuts))
    if rows.history_time is not None:
      columns[dataset.HISTORY_TIME] = (rows.history_time, history_cuts)
  return blocks.encode(columns)


def _history_bounds(rows: Rows, bounds: np.ndarray) -> np.ndarray:
  """Entries of `history` before each user, and of all: int64 [users + 1].

  Args:
    rows: Of some users.
    bounds: int64 [users + 1], the first row of each user, and the number of rows.
  """
  if rows.history_length is None:
    return np.zeros(len(bounds), np.int64)
  # The last row's history holds those of all rows before it.
  return np.concatenate([[0], np.cumsum(rows.history_length[bounds[1:] - 1])])
