"""Which rows train, validate and test: each user's last ones are held out."""

import dataclasses

import numpy as np
import pyarrow as pa

from beam_pipelines import counter_rng, keys
from beam_pipelines.histories import Users
from ncf_tfdata.dataset import TEST, TRAIN, VALIDATION
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

  @property
  def splits(self) -> tuple[str, ...]:
    return (TRAIN, VALIDATION, TEST) if self.holdout == 2 else (TRAIN, TEST)


@dataclasses.dataclass(frozen=True)
class Split:
  """Where the rows of a group of m users go.

  Attributes:
    train_rows: bool [rows].
    validation_users: bool [m], whose last row but one is a validation row, where the
      recipe has any.
    test_users: bool [m], whose last row is a test row.
    users_without_negatives: bool [m], who are in no split: they have seen the whole
      catalogue, so that no negative can be drawn for a train row of theirs.
    counts: By the manifest's names: users that stay in train whole, for each reason;
      users without negatives and their rows, where there are any; where users are held
      out, how many, and kept rows that no split holds.
  """

  train_rows: np.ndarray
  validation_users: np.ndarray
  test_users: np.ndarray
  users_without_negatives: np.ndarray
  counts: dict[str, int]


def split(users: Users, num_unseen: np.ndarray, recipe: Recipe) -> Split:
  """Splits the rows of a group of users by leaving the last out.

  Args:
    users: m users.
    num_unseen: int [m], items of the catalogue that a user has no row of.
    recipe: How to.
  """
  held_out = rows_held_out(users.length, recipe.holdout)
  long_enough = held_out > 0
  # Without enough unseen items there is nothing fair to rank against.
  evaluated = long_enough & (num_unseen >= recipe.eval_negatives)
  no_negatives = ~evaluated & (num_unseen == 0) & (recipe.train_negatives > 0)
  only_train = ~evaluated & ~no_negatives
  counts = {
    'users_too_short': int((only_train & ~long_enough).sum()),
    'users_too_crowded': int((only_train & long_enough).sum()),
  }
  if no_negatives.any():
    counts['users_without_negatives'] = int(no_negatives.sum())
    counts['rows_without_negatives'] = int(users.length[no_negatives].sum())
  owner = np.repeat(np.arange(len(users.length)), users.length)
  rows_left = np.repeat(np.cumsum(users.length), users.length) - np.arange(len(owner))
  train_rows = rows_left > np.where(evaluated, held_out, 0)[owner]
  train_rows &= ~no_negatives[owner]
  if not recipe.held_out_users:
    return Split(train_rows, evaluated, evaluated, no_negatives, counts)

  unknown = users_held_out(users.keys, recipe.held_out_users, recipe.seed)
  test_users, validation_users = evaluated & unknown, evaluated & ~unknown
  train_rows &= ~test_users[owner]
  counts['users_held_out'] = int(test_users.sum())
  counts['history_only'] = int(users.length[test_users].sum() - test_users.sum())
  counts['untested'] = int(validation_users.sum())
  return Split(train_rows, validation_users, test_users, no_negatives, counts)


def rows_held_out(length: np.ndarray, holdout: int) -> np.ndarray:
  """Rows that each user gives to validation and test together.

  Args:
    length: int64 [m], kept rows a user.
    holdout: 2 for a validation and a test row, 1 for a test row.

  Returns:
    int64 [m]: `holdout`, or 0 for a user with too few rows to split.
  """
  return np.where(length >= MIN_SPLIT_ROWS, holdout, 0)


def users_held_out(names: pa.Array, share: float, seed: int) -> np.ndarray:
  """Draws the users who are kept out of train: bool [m], by their keys and the seed."""
  draw = counter_rng.bits(seed, Prepare.HELD_OUT_USERS, keys.hashes(names))
  return (draw >> np.uint64(11)) * 2.0**-53 < share
