"""Which rows train, and which validation and test ask for."""

import collections
import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from beam_pipelines import counter_rng, holdout, keys
from beam_pipelines.histories import Users
from beam_pipelines.holdout import ZONES
from ncf_tfdata.dataset import (
  BY_SHARE,
  LAST,
  LEAVE_LAST_OUT,
  TEST,
  TRAIN,
  VALIDATION,
)
from ncf_tfdata.manifest import Cuts
from ncf_tfdata.rng_streams import Prepare

# Held-out rows and one to train on. It does not depend on the holdout, so that
# the twins with and without validation rows are tested on the same rows.
MIN_SPLIT_ROWS = 3


@dataclasses.dataclass(frozen=True)
class Recipe:
  """How rows are held out and negatives drawn; see prepare's flags."""

  holdout: int
  train_negatives: int
  eval_negatives: int
  seed: int
  held_out_users: float = 0.0
  rule: str = LEAVE_LAST_OUT
  targets: str = LAST
  test_share: float = 0.0
  held_out_items: float = 0.0

  @property
  def splits(self) -> tuple[str, ...]:
    return (TRAIN, VALIDATION, TEST) if self.holdout == 2 else (TRAIN, TEST)

  @property
  def held_out(self) -> tuple[str, ...]:
    """The splits that ask for held-out rows."""
    return self.splits[1:]


@dataclasses.dataclass(frozen=True)
class Split:
  """Where the rows of a group of m users go.

  Attributes:
    train_rows: bool [rows].
    targets: The rows that each held-out split asks for, int64, ascending.
    users_without_negatives: bool [m], who are in no split: they have seen the whole
      catalogue, so that no negative can be drawn for a train row of theirs.
    counts: By the manifest's names: users that stay in train whole, for each reason;
      users without negatives and their rows, where there are any; where users are held
      out, how many; where items are, their rows that do not train, and their held-out
      ones; and kept rows that no split holds.
  """

  train_rows: np.ndarray
  targets: dict[str, np.ndarray]
  users_without_negatives: np.ndarray
  counts: dict[str, int]

  @classmethod
  def joined(cls, parts: Sequence['Split']) -> 'Split':
    """That of a group whose users were split part by part."""
    first = np.cumsum([0] + [len(part.train_rows) for part in parts])
    counts: collections.Counter[str] = collections.Counter()
    targets: dict[str, list[np.ndarray]] = collections.defaultdict(list)
    for start, part in zip(first, parts, strict=False):
      counts.update(part.counts)
      for name, rows in part.targets.items():
        targets[name].append(start + rows)
    return cls(
      np.concatenate([part.train_rows for part in parts]),
      {name: np.concatenate(rows) for name, rows in targets.items()},
      np.concatenate([part.users_without_negatives for part in parts]),
      dict(counts),
    )


class _Zoned(NamedTuple):
  """Rows by what they are for.

  Attributes:
    zone: int8 [rows].
    evaluated: bool [m], the users whose held-out rows may be asked for.
    counts: Of users who are not evaluated, for each reason.
  """

  zone: np.ndarray
  evaluated: np.ndarray
  counts: dict[str, int]


class HeldOutItems(NamedTuple):
  """What of a group of m users is of items that no training may see.

  Attributes:
    rows: bool [rows], which are of them.
    num_unseen: int [m], other items of the catalogue that a user has no row of.
  """

  rows: np.ndarray
  num_unseen: np.ndarray


def split(
  users: Users,
  num_unseen: np.ndarray,
  recipe: Recipe,
  cuts: Cuts | None = None,
  held_out: HeldOutItems | None = None,
) -> Split:
  """Splits the rows of a group of users.

  Args:
    users: m users.
    num_unseen: int [m], items of the catalogue that a user has no row of.
    recipe: How to.
    cuts: The moments at which the log is cut, for a split by time.
    held_out: What is of items held out; None where none are.
  """
  # Without enough unseen items there is nothing fair to rank against.
  enough = num_unseen >= recipe.eval_negatives
  drawable = num_unseen if held_out is None else held_out.num_unseen
  no_negatives = (drawable == 0) & (recipe.train_negatives > 0)
  if held_out is not None:
    enough &= ~no_negatives
  if recipe.rule == LEAVE_LAST_OUT:
    zoned = _leave_last_out(users, enough, no_negatives, recipe, held_out)
    no_negatives &= ~zoned.evaluated
  else:
    no_negatives &= ~enough
    zoned = _by_cut(users, enough, no_negatives, recipe, cuts)
  counts = dict(zoned.counts)
  if no_negatives.any():
    counts['users_without_negatives'] = int(no_negatives.sum())
    counts['rows_without_negatives'] = int(users.length[no_negatives].sum())
  owner = users.owner()
  train_rows = (zoned.zone == holdout.TRAIN_ZONE) & ~no_negatives[owner]
  targets = {
    name: _targets(users, owner, zoned, name, recipe) for name in recipe.held_out
  }
  if recipe.held_out_users:
    unknown = users_held_out(users.keys, recipe.held_out_users, recipe.seed)
    targets[TEST] = targets[TEST][unknown[owner[targets[TEST]]]]
    tested = np.bincount(owner[targets[TEST]], minlength=len(users.length)) > 0
    train_rows &= ~tested[owner]
    if VALIDATION in targets:
      targets[VALIDATION] = targets[VALIDATION][~tested[owner[targets[VALIDATION]]]]
    others = (zoned.evaluated & ~tested)[owner]
    counts['users_held_out'] = int(tested.sum())
    counts['untested'] = int(((zoned.zone == holdout.TEST_ZONE) & others).sum())
  not_trained = 0
  if held_out is not None:
    not_trained = int((train_rows & held_out.rows).sum())
    counts['held_out_item_rows'] = not_trained
    train_rows &= ~held_out.rows
    for name, rows in targets.items():
      counts[f'{name}_held_out_items'] = int(held_out.rows[rows].sum())
  in_split = train_rows | no_negatives[owner]
  for rows in targets.values():
    in_split[rows] = True
  rest = int((~in_split).sum()) - counts.get('untested', 0) - not_trained
  if recipe.held_out_users or rest:
    counts['history_only'] = rest
  return Split(train_rows, targets, no_negatives, counts)


def _targets(
  users: Users, owner: np.ndarray, zoned: _Zoned, name: str, recipe: Recipe
) -> np.ndarray:
  """The rows of a held-out split that evaluated users are asked for."""
  rows = holdout.targets(users, owner, zoned.zone, name, recipe.targets, recipe.seed)
  return rows[zoned.evaluated[owner[rows]]]


def _leave_last_out(
  users: Users,
  enough: np.ndarray,
  no_negatives: np.ndarray,
  recipe: Recipe,
  items: HeldOutItems | None = None,
) -> _Zoned:
  """Holds each user's last rows out; who cannot be split stays in train whole."""
  held_out = rows_held_out(users.length, recipe.holdout)
  long_enough = held_out > 0
  if items is not None:
    # One row to train on must be of an item that may train, whatever the holdout.
    earlier = users.position() < (users.length - MIN_SPLIT_ROWS + 1)[users.owner()]
    long_enough &= _users_with(users, earlier & ~items.rows)
  evaluated = long_enough & enough
  only_train = ~evaluated & ~no_negatives
  last = (users.starts() + users.length - 1)[evaluated]
  zone = np.full(len(users.item), holdout.TRAIN_ZONE, np.int8)
  zone[last] = holdout.TEST_ZONE
  if recipe.holdout == 2:
    zone[last - 1] = holdout.VALIDATION_ZONE
  counts = {
    'users_too_short': int((only_train & ~long_enough).sum()),
    'users_too_crowded': int((only_train & long_enough).sum()),
  }
  return _Zoned(zone, evaluated, counts)


def _by_cut(
  users: Users,
  enough: np.ndarray,
  no_negatives: np.ndarray,
  recipe: Recipe,
  cuts: Cuts | None,
) -> _Zoned:
  """Cuts each user's rows at a moment or share; nothing after it may train."""
  if recipe.rule == BY_SHARE:
    zone = holdout.zones_by_share(users, recipe.test_share, recipe.holdout)
  elif cuts is None:
    zone = np.zeros(len(users.item), np.int8)  # of an empty log
  else:
    zone = holdout.zones_by_time(users, cuts, recipe.holdout)
  counts = {
    'users_too_crowded': _users_in(
      users, zone > holdout.TRAIN_ZONE, ~enough & ~no_negatives
    )
  }
  first = zone[users.starts()]
  for name in recipe.held_out:
    counts[f'{name}_new_users'] = int(((first == ZONES[name]) & enough).sum())
  return _Zoned(zone, enough, counts)


def _users_in(users: Users, rows: np.ndarray, who: np.ndarray) -> int:
  """How many of some users, bool [m], have one of some rows, bool [rows]."""
  return int((_users_with(users, rows) & who).sum())


def _users_with(users: Users, rows: np.ndarray) -> np.ndarray:
  """Which users have one of some rows, bool [rows]: bool [m]."""
  return np.bincount(users.owner()[rows], minlength=len(users.length)) > 0


def rows_held_out(length: np.ndarray, count: int) -> np.ndarray:
  """Rows that each user gives to validation and test together.

  Args:
    length: int64 [m], kept rows a user.
    count: 2 for a validation and a test row, 1 for a test row.

  Returns:
    int64 [m]: `count`, or 0 for a user with too few rows to split.
  """
  return np.where(length >= MIN_SPLIT_ROWS, count, 0)


def users_held_out(names: pa.Array, share: float, seed: int) -> np.ndarray:
  """Draws the users who are kept out of train: bool [m], by their keys and the seed."""
  return _drawn(names, share, seed, Prepare.HELD_OUT_USERS)


def items_held_out(names: pa.Array, share: float, seed: int) -> np.ndarray:
  """Draws the items that no training may see: bool [m], by their keys and the seed."""
  return _drawn(names, share, seed, Prepare.HELD_OUT_ITEMS)


def _drawn(names: pa.Array, share: float, seed: int, stream: Prepare) -> np.ndarray:
  draw = counter_rng.bits(seed, stream, keys.hashes(names))
  return (draw >> np.uint64(11)) * 2.0**-53 < share
