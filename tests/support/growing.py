"""A log of three days, and a reader of datasets that knows nothing of our code's ids.

Day 1 is the first; on day 2 the oldest lines are gone, with some users and items, and
others are new; on day 3 who was gone is back.
"""

import pathlib
import random

import prepared

from ncf_tfdata import dataset as dataset_lib

# Gone on day 2, and back on day 3.
GONE_USERS, GONE_ITEMS = ('early', '8'), ('old', '3')
# A user and an item of all days.
FORGOTTEN = USER, ITEM = 'ключ', 'i\\4'
FLAGS = (
  '--min_item_count=2',
  '--eval_negatives=3',
  '--num_shards=3',
  '--successors=5',
)

Row = tuple[str, str, int, int]


def days(seed: int = 0) -> list[list[Row]]:
  """The log of each day."""
  draw = random.Random(seed)
  rows: list[Row] = []
  for user in range(36):
    begin = draw.randrange(2) * 1000 if user > 12 else 0
    name = 'ключ' if user == 5 else f'{user + 10}' if user % 3 else f'u{user}'
    for item in draw.sample(range(30 if begin else 22), draw.randint(5, 11)):
      key = f'i\\{item}' if item == 4 else f'{item + 10}' if item % 2 else f'i{item}'
      rows.append((name, key, 1, begin + 100 + draw.randrange(900)))
  gone = [
    (user, item, 1, time)
    for time, user in enumerate(GONE_USERS)
    for item in (*GONE_ITEMS, 'i0', '11')
  ]
  draw.shuffle(rows)
  first = gone + [row for row in rows if row[3] < 1100]
  back = [(user, item, 1, time + 3000) for user, item, _, time in gone]
  return [first, rows, [*rows, *back]]


def write(directory: pathlib.Path, day: int, parts: int = 1) -> pathlib.Path:
  """Writes the log of a day, 1 to 3, as a folder of some files."""
  log = directory / f'log{day}'
  log.mkdir()
  rows = days()[day - 1]
  size = -(-len(rows) // parts)
  for part in range(parts):
    prepared.write_log(log / f'{part}.dat', rows[part * size : (part + 1) * size])
  return log


def forget(directory: pathlib.Path) -> tuple[str, str]:
  """Flags that forget `FORGOTTEN`, and a user who is nowhere."""
  users, items = directory / 'forget-users', directory / 'forget-items'
  users.write_bytes(f'\ufeff{USER}\r\nnobody\r\n\r\n'.encode())
  items.write_text(ITEM.replace('\\', '\\\\'))
  return f'--forget={users}', f'--forget_items={items}'


def keys(dataset: dataset_lib.Dataset, name: str) -> list[str]:
  """Keys by dense id."""
  return list(dataset.vocabulary(name).keys)


def unused(dataset: dataset_lib.Dataset, name: str) -> set[int]:
  """Dense ids without rows."""
  rows = dataset.vocabulary(name).rows
  return {number for number, count in enumerate(rows) if not count}


def ids(dataset: dataset_lib.Dataset) -> tuple[set[int], set[int]]:
  """All dense ids of users and of items in any record, as TensorFlow reads them."""
  users, items = set(), set()
  for file in dataset.manifest.files:
    if file.split is None:
      continue
    for block in prepared.blocks(str(dataset.directory / file.name)):
      users.update(block.get('user', ()))
      for name in ('pos', 'negs', 'history', 'item', 'successor'):
        items.update(block.get(name, ()))
  return users, items
