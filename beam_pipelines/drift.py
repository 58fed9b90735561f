"""How a log differs from that of the dataset whose ids it keeps: counted, and judged.

Groups of users and of items count what is theirs. Shares of train rows need the totals,
so two numbers an item of the earlier dataset meet in one place.
"""

import dataclasses
from collections.abc import Iterable, Iterator

import numpy as np

from beam_pipelines.gate import Question, line, percent
from beam_pipelines.histories import Users
from beam_pipelines.narrow import narrow
from ncf_tfdata.drift import Drift
from ncf_tfdata.manifest import Base

_COUNTS = (
  *('users', 'new_users', 'new_user_rows'),
  *('items', 'new_items', 'new_item_rows'),
  'rows',
)
_NONE = np.zeros(0, np.uint8)


@dataclasses.dataclass(frozen=True)
class Changes:
  """What a group of users or items says of a log.

  Attributes:
    counts: Of `Drift`.
    train: Unsigned [n], train rows of some items; those of new ones may be summed.
    before: Unsigned [n], their train rows in the earlier dataset.
  """

  counts: dict[str, int]
  train: np.ndarray = dataclasses.field(default_factory=lambda: _NONE)
  before: np.ndarray = dataclasses.field(default_factory=lambda: _NONE)


def of_users(users: Users) -> Changes:
  """Counts the users of a group, and those of them who are new."""
  new = users.new()
  return Changes(
    {
      'users': len(new),
      'new_users': int(new.sum()),
      'new_user_rows': int(users.length[new].sum()),
    }
  )


def of_items(rows: np.ndarray, train: np.ndarray, before: np.ndarray | None) -> Changes:
  """Counts the items of a group.

  Args:
    rows: int64 [n], rows of each item in any split.
    train: int64 [n], train rows.
    before: int64 [n], train rows in the earlier dataset; None of new items.
  """
  used, total = int(np.count_nonzero(rows)), int(rows.sum())
  counts = {'items': used, 'rows': total}
  if before is None:
    counts |= {'new_items': used, 'new_item_rows': total}
    return Changes(counts, narrow(train.sum(keepdims=True)), np.zeros(1, np.uint8))
  return Changes(counts, narrow(train), narrow(before))


def total(parts: Iterable[Changes], base: Base) -> Drift:
  """Adds up what the groups say.

  Args:
    parts: Of all groups of users and of items, in any order.
    base: The earlier dataset.
  """
  found = list(parts)
  counts = {name: sum(part.counts.get(name, 0) for part in found) for name in _COUNTS}
  counts['unused_users'] = base.users - counts['users'] + counts['new_users']
  counts['unused_items'] = base.items - counts['items'] + counts['new_items']
  counts['train_rows'] = sum(int(part.train.sum()) for part in found)
  counts['base_train_rows'] = sum(int(part.before.sum()) for part in found)
  risen, risen_before = 0, 0
  for part in found:
    # Two products of two numbers, rounded alike on every machine.
    now = part.train * np.float64(counts['base_train_rows'])
    rises = now > part.before * np.float64(counts['train_rows'])
    risen += int(part.train[rises].sum())
    risen_before += int(part.before[rises].sum())
  return Drift(counts | {'risen_rows': risen, 'risen_base_rows': risen_before})


def questions(found: Drift) -> Iterator[Question]:
  """What may be asked of a log that keeps ids."""
  yield Question(
    'max_new_item_rows',
    found.new_item_rows,
    False,
    'of the rows are of items that the earlier dataset does not hold',
    'there are no rows',
    'Train on what is new, or allow more',
  )
  yield Question(
    'max_new_user_rows',
    found.new_user_rows,
    False,
    'of the rows are of users whom the earlier dataset does not hold',
    'there are no rows',
    'Look at how users are named, or allow more',
  )
  yield Question(
    'max_popularity_shift',
    found.popularity_shift,
    False,
    'of the train rows lie on other items than in the earlier dataset',
    'one of the two has no train rows',
    'Look at what the log lacks, or allow more',
  )


def lines(found: Drift) -> list[str]:
  """What the summary says of how a log has changed."""
  counts = found.counts
  result = [
    line('users not in the earlier dataset', f'{counts["new_users"]:,}'),
    line('  share of all rows', percent(found.new_user_rows or 0)),
    line('items not in the earlier dataset', f'{counts["new_items"]:,}'),
    line('  share of all rows', percent(found.new_item_rows or 0)),
    line('ids of users without interactions', f'{counts["unused_users"]:,}'),
    line('ids of items without interactions', f'{counts["unused_items"]:,}'),
  ]
  if found.popularity_shift is not None:
    shift = percent(found.popularity_shift)
    result.append(line('popularity shift since the earlier dataset', shift))
  return result
