"""The k-core of a log: the most rows in which every user and every item has k or more.

It is what is left when items and users with fewer than k rows are taken out until
there are none; the order does not matter. The items taken out tell all: a user is
out whose rows of other items are too few. So a round finds, from those of the rounds
before, which more items go, and no round moves a row.
"""

from collections.abc import Sequence

import numpy as np

from beam_pipelines.histories import Users


def rows_left(
  users: Users, removed: Sequence[np.ndarray], num_items: int, core: int
) -> np.ndarray:
  """Which rows of some users are left: bool [rows].

  Args:
    users: Whose rows.
    removed: Ids of the items that were taken out so far, an array a round.
    num_items: Ids that items have.
    core: Least number of rows of a user.
  """
  gone = np.zeros(num_items, bool)
  for ids in removed:
    gone[ids] = True
  left = ~gone[users.item]
  owner = users.owner()
  active = np.bincount(owner[left], minlength=len(users.length)) >= core
  return left & active[owner]
