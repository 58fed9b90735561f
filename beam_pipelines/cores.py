"""The k-core of a log: the most rows in which every user and every item has k or more.

It is what is left when items and users with fewer than k rows are taken out until
there are none; the order does not matter. The items taken out tell all: a user is
out whose rows of other items are too few. So a round finds, from those of the rounds
before, which more items go, and no round moves a row.
"""

from collections.abc import Sequence

import numpy as np

from beam_pipelines.histories import Users


def rows_left(users: Users, removed: np.ndarray, core: int) -> np.ndarray:
  """Which rows of some users are left: bool [rows].

  Args:
    users: Whose rows.
    removed: bool [num_items], the items that were taken out so far.
    core: Least number of rows of a user.
  """
  left = ~removed[users.item]
  owner = users.owner()
  active = np.bincount(owner[left], minlength=len(users.length)) >= core
  return left & active[owner]


def item_counts(users: Users, left: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """The items among some rows, ascending, and how many rows each has: int64 each."""
  return np.unique(users.item[left], return_counts=True)


def mask(removed: Sequence[np.ndarray], num_items: int) -> np.ndarray:
  """The items of some arrays of ids as bool [num_items]."""
  result = np.zeros(num_items, bool)
  for ids in removed:
    result[ids] = True
  return result
