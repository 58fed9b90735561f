"""A shard of each split: the rows of a group of users with their negatives."""

import dataclasses
from typing import NamedTuple

import numpy as np

from beam_pipelines import blocks, negatives, splits
from beam_pipelines.histories import Users
from beam_pipelines.seen_items import SeenItems
from beam_pipelines.splits import Recipe, Split
from ncf_tfdata import dataset
from ncf_tfdata.dataset import TEST, TRAIN, VALIDATION

# The place of the row that a split holds out, from the end of its user's.
_FROM_END = {VALIDATION: 2, TEST: 1}


@dataclasses.dataclass(frozen=True)
class Rows:
  """The rows of one split in one shard.

  Attributes:
    user: int64 [n] dense ids, contiguous by user.
    positive: int64 [n].
    negatives: int64 [n, k].
    history: int64 [sum of lengths] and history_length int64 [n]; None in train.
    gap: Unsigned [n], time since the user's row before; None without times.
  """

  user: np.ndarray
  positive: np.ndarray
  negatives: np.ndarray
  history: np.ndarray | None = None
  history_length: np.ndarray | None = None
  gap: np.ndarray | None = None

  def __len__(self) -> int:
    return len(self.user)


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


class _Group(NamedTuple):
  """A group of m users with dense ids: int64 [m] `user_id`, [rows] `owner`, `item`."""

  users: Users
  user_id: np.ndarray
  owner: np.ndarray
  item: np.ndarray
  num_items: int

  def seen(self, rows: np.ndarray | slice = slice(None)) -> SeenItems:
    """The items that each user has among some rows, or all."""
    num_users = len(self.user_id)
    return SeenItems(self.owner[rows], self.item[rows], num_users, self.num_items)


def make(
  users: Users, first_user: int, item: np.ndarray, num_items: int, recipe: Recipe
) -> Shard:
  """Splits the rows of a group of users, and draws their negatives.

  Args:
    users: Whose rows to split.
    first_user: Dense id of the first of them.
    item: int64 [rows], dense ids in place of the provisional `users.item`.
    num_items: Size of the catalogue.
    recipe: How to.
  """
  num_users = len(users.length)
  owner = np.repeat(np.arange(num_users), users.length)
  group = _Group(users, first_user + np.arange(num_users), owner, item, num_items)
  seen = group.seen()
  split = splits.split(users, num_items - seen.count, recipe)
  train, redrawn = _train_rows(group, split.train_rows, recipe)
  rows = {TRAIN: train}
  for name, chosen in ((VALIDATION, split.validation_users), (TEST, split.test_users)):
    if name in recipe.splits:
      rows[name] = _evaluation_rows(group, seen, name, np.flatnonzero(chosen), recipe)
  train_count = np.bincount(owner[split.train_rows], minlength=num_users)
  return Shard(rows, split, train_count, redrawn)


def _train_rows(
  group: _Group, train_rows: np.ndarray, recipe: Recipe
) -> tuple[Rows, int]:
  """The train rows, and how many draws of their negatives were made again."""
  owner = group.owner[train_rows]
  seen = group.seen(train_rows)
  drawn, redrawn = negatives.training(
    seen, owner, group.user_id, recipe.train_negatives, recipe.seed
  )
  return Rows(group.user_id[owner], group.item[train_rows], drawn), redrawn


def _evaluation_rows(
  group: _Group, seen: SeenItems, name: str, user: np.ndarray, recipe: Recipe
) -> Rows:
  """The held-out rows of some users, each with all that came before it."""
  from_end = _FROM_END[name]
  length = group.users.length
  rows_left = np.repeat(np.cumsum(length), length) - np.arange(len(group.item))
  chosen = np.zeros(len(length), bool)
  chosen[user] = True
  earlier = (rows_left > from_end) & chosen[group.owner]
  gap = group.users.gap
  return Rows(
    user=group.user_id[user],
    positive=group.item[np.cumsum(length)[user] - from_end],
    negatives=negatives.evaluation(
      seen, user, group.user_id, recipe.eval_negatives, recipe.seed, name
    ),
    history=group.item[earlier],
    history_length=length[user] - from_end,
    gap=None if gap is None else gap[user, from_end - 1],
  )


def encode(rows: Rows) -> tuple[bytes, int]:
  """Encodes rows as the bytes of a TFRecord file.

  Returns:
    The bytes, and the number of records.
  """
  bounds = np.append(np.flatnonzero(np.diff(rows.user, prepend=-1)), len(rows))
  length = rows.history_length
  length = np.zeros(len(rows), np.int64) if length is None else length
  entries = np.concatenate([[0], np.cumsum(length)])
  cuts = bounds[blocks.cut(bounds, entries[bounds])]
  k = rows.negatives.shape[1]
  columns: dict[str, tuple[np.ndarray, np.ndarray]] = {
    dataset.USER: (rows.user, cuts),
    dataset.POSITIVE: (rows.positive, cuts),
    dataset.NEGATIVES: (rows.negatives.ravel(), cuts * k),
  }
  if rows.history is not None and rows.history_length is not None:
    columns[dataset.HISTORY] = (rows.history, entries[cuts])
    columns[dataset.HISTORY_LENGTH] = (rows.history_length, cuts)
    gap = np.zeros(0, np.int64) if rows.gap is None else rows.gap
    columns[dataset.GAP] = (gap, cuts if len(gap) else np.zeros_like(cuts))
  return blocks.encode(columns)
