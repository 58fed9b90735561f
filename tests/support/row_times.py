"""Whether the times that a dataset holds are those of its log."""

import collections
from collections.abc import Mapping

import prepared

from ncf_tfdata import dataset as dataset_lib
from ncf_tfdata.dataset import ITEMS, TRAIN, USERS


def when(rows) -> dict[tuple[str, str], int]:
  """The time of each (user, item) of a log that repeats none."""
  found = {(user, item): time for user, item, _, time in rows}
  assert len(found) == len(rows)
  return found


def check(dataset: dataset_lib.Dataset, when: Mapping[tuple[str, str], int]) -> None:
  """Compares all times with those of the kept rows, by original keys.

  Args:
    dataset: With times.
    when: Of every row that is kept, whichever split it is in.
  """
  cuts = dataset.manifest.cuts
  assert (cuts.first, cuts.last) == (min(when.values()), max(when.values()))
  users, items = (dataset.vocabulary(name) for name in (USERS, ITEMS))

  def times(user: int, of: list[int]) -> list[int]:
    return [when[users.keys[user], items.keys[item]] - cuts.first for item in of]

  for split in dataset_lib.SPLITS:
    for path in dataset.shards(split):
      for block in prepared.blocks(path):
        pairs = zip(block['user'], block['pos'], strict=True)
        assert block['time'] == [time for u, i in pairs for time in times(u, [i])]
        if split != TRAIN:
          _check_histories(block, times)
  earliest = collections.defaultdict(lambda: cuts.last + 1)
  for (_, item), time in when.items():
    earliest[item] = min(time, earliest[item])
  expected = [earliest[item] - cuts.first for item in items.keys]
  assert items.first_times.tolist() == expected


def _check_histories(block, times) -> None:
  """A user's history is stored once, before the last of their rows."""
  start = 0
  for row, user in enumerate(block['user']):
    if block['user'][row + 1 : row + 2] != [user]:
      end = start + block['history_length'][row]
      past = times(user, block['history'][start:end])
      assert block['history_time'][start:end] == past == sorted(past)
      assert block['gap'][row] == block['time'][row] - past[-1]
      start = end
  assert start == len(block['history']) == len(block['history_time'])
