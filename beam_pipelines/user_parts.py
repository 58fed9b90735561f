"""Groups of users in parts, so that work on them stays near the processor."""

import dataclasses
import itertools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from beam_pipelines.histories import Users


class Part(NamedTuple):
  """Some users of a group, one after the other.

  Attributes:
    users: They, with all their rows.
    first_row: The place of their first row among the group's.
    new_before: How many users of the group without a dense id come before.
  """

  users: Users
  first_row: int
  new_before: int

  @property
  def rows(self) -> slice:
    """The place of their rows among the group's."""
    return slice(self.first_row, self.first_row + len(self.users.item))


def parts(users: Users, num_rows: int) -> Iterator[Part]:
  """Cuts a group into parts of about `num_rows` rows: one part at least."""
  ends, new = np.cumsum(users.length), users.new()
  # The users in whose rows a part's worth of rows ends.
  full = np.searchsorted(ends, np.arange(num_rows, len(users.item), num_rows)) + 1
  cuts = np.unique([0, *full.tolist(), len(ends)])
  if len(cuts) == 1:
    yield Part(users, 0, 0)
  for start, stop in itertools.pairwise(cuts.tolist()):
    mine = slice(start, stop)
    first, last = int(ends[start] - users.length[start]), int(ends[stop - 1])
    some = dataclasses.replace(
      users,
      keys=users.keys.slice(start, stop - start),
      length=users.length[mine],
      item=users.item[first:last],
      gap=None if users.gap is None else users.gap[mine],
      time=None if users.time is None else users.time[first:last],
      kept=None if users.kept is None else users.kept[mine],
    )
    yield Part(some, first, int(new[:start].sum()))
