"""The same preparation without Beam: polars for rows, numpy for negatives, tf.io.

    python benchmarks/polars_preparation.py RATINGS OUTPUT

Holds everything in memory, on one machine; same rules, splits, blocks and columns as
`beam_pipelines.prepare` with its default flags on a `::` log with whole-number keys.
Prints counts, and for each split a digest of its (user, item) pairs, in JSON.
"""

import concurrent.futures
import itertools
import json
import os
import sys

import numpy as np
import pairs
import polars as pl

_MIN_ITEM_COUNT, _MIN_RATING, _MIN_ROWS = 5, 1, 3
_TRAIN_NEGATIVES, _EVAL_NEGATIVES = 4, 100
_BLOCK_ROWS, _BLOCK_HISTORY = 1024, 65_536
_SHARD_ROWS = 300_000


def _read(path: str) -> pl.DataFrame:
  # Between two colons lies an empty column, so that no text need be replaced.
  names = ['user', '_1', 'item', '_2', 'rating', '_3', 'timestamp']
  return (
    pl.scan_csv(
      path,
      separator=':',
      has_header=False,
      schema=dict.fromkeys(names, pl.Int64),
    )
    .select(names[::2])
    .collect()
  )


def _in_order(rows: pl.DataFrame) -> pl.DataFrame:
  counts = rows.group_by('item').len()
  kept = counts.filter(pl.col('len') >= _MIN_ITEM_COUNT).select('item')
  rows = rows.join(kept, on='item', how='semi', maintain_order='left')
  rows = rows.filter(pl.col('rating') >= _MIN_RATING)
  rows = rows.sort('user', 'timestamp', maintain_order=True)
  repeated = rows.select(pl.struct('user', 'item').is_duplicated().any()).item()
  if repeated:
    rows = rows.unique(['user', 'item'], keep='first', maintain_order=True)
  return rows.select('user', 'item')


def _untaken(
  taken: np.ndarray, user: np.ndarray, count: int, draw: np.random.Generator
) -> np.ndarray:
  """Items that are not taken, with replacement: int64 [n, count]."""
  items = draw.integers(taken.shape[1], size=(len(user), count))
  again = np.nonzero(taken[user[:, None], items])
  while len(again[0]):
    items[again] = draw.integers(taken.shape[1], size=len(again[0]))
    still = taken[user[again[0]], items[again]]
    again = again[0][still], again[1][still]
  return items


def _distinct(
  taken: np.ndarray, user: np.ndarray, count: int, draw: np.random.Generator
) -> np.ndarray:
  """Distinct items that are not taken: int64 [n, count]."""
  items = _untaken(taken, user, count, draw)
  while True:
    order = np.argsort(items, axis=1)
    ordered = np.take_along_axis(items, order, 1)
    row, place = np.nonzero(ordered[:, 1:] == ordered[:, :-1])
    if not len(row):
      return items
    items[row, order[row, place + 1]] = _untaken(taken, user[row], 1, draw)[:, 0]


def _blocks(bounds: np.ndarray, entries: np.ndarray) -> list[int]:
  """Where to cut users into blocks: as many whole users as fit."""
  cuts = [0]
  while cuts[-1] < len(bounds) - 1:
    start = cuts[-1]
    rows = np.searchsorted(bounds, bounds[start] + _BLOCK_ROWS, side='right')
    more = np.searchsorted(entries, entries[start] + _BLOCK_HISTORY, side='right')
    cuts.append(max(int(min(rows, more)) - 1, start + 1))
  return cuts


class _Shard:
  """Some users in a row: their rows, split, with negatives, as records."""

  def __init__(self, number, first, length, item, num_items):
    self._number, self._first = number, first
    self._length, self._item, self._num_items = length, item, num_items

  def write(self, output: str, shards: int) -> dict[str, np.ndarray]:
    """Writes three files; returns for each split its rows, int64 [n, 2]."""
    length, item = self._length, self._item
    users = len(length)
    owner = np.repeat(np.arange(users), length)
    end = np.cumsum(length)
    to_end = np.repeat(end, length) - np.arange(len(item))
    taken = np.zeros((users, self._num_items), bool)
    taken[owner, item] = True
    room = self._num_items - taken.sum(axis=1) >= _EVAL_NEGATIVES
    judged = (length >= _MIN_ROWS) & room
    train = ~judged[owner] | (to_end > 2)
    draw = np.random.default_rng(self._number)
    rows = {}
    who = np.flatnonzero(judged)
    for split, last in (('validation', 2), ('test', 1)):
      lengths = length[who] - last
      negatives = _distinct(taken, who, _EVAL_NEGATIVES, draw)
      history = item[(to_end > last) & judged[owner]]
      self._save(
        output, shards, split, who, item[end[who] - last], negatives, history, lengths
      )
      rows[split] = np.stack([who + self._first, item[end[who] - last]], 1)
    taken[owner[~train], item[~train]] = False
    user, item = owner[train], item[train]
    negatives = _untaken(taken, user, _TRAIN_NEGATIVES, draw)
    self._save(output, shards, 'train', user, item, negatives)
    rows['train'] = np.stack([user + self._first, item], 1)
    return rows

  def _save(
    self, output, shards, split, user, item, negatives, history=None, lengths=None
  ):
    import tensorflow as tf

    starts = np.append(np.flatnonzero(np.diff(user, prepend=-1)), len(user))
    entries = np.zeros(len(user) + 1, np.int64)
    if lengths is not None:
      entries[1:] = np.cumsum(lengths)
    cuts = _blocks(starts, entries[starts])
    name = f'ncf-{split}.tfrecord-{self._number:05d}-of-{shards:05d}'
    with tf.io.TFRecordWriter(os.path.join(output, name)) as writer:
      for begin, end in itertools.pairwise(cuts):
        here = slice(starts[begin], starts[end])
        columns = {
          'user': user[here] + self._first,
          'pos': item[here],
          'negs': negatives[here].ravel(),
        }
        if history is not None:
          columns['history'] = history[entries[here.start] : entries[here.stop]]
          columns['history_length'] = lengths[here]
        features = {
          key: tf.train.Feature(int64_list=tf.train.Int64List(value=values))
          for key, values in columns.items()
        }
        example = tf.train.Example(features=tf.train.Features(feature=features))
        writer.write(example.SerializeToString())


def main() -> None:
  path, output = sys.argv[1:]
  os.makedirs(output)
  os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
  rows = _in_order(_read(path))
  user_keys, user = np.unique(rows['user'].to_numpy(), return_inverse=True)
  item_keys, item = np.unique(rows['item'].to_numpy(), return_inverse=True)
  length = np.bincount(user)
  ends = np.cumsum(length)
  shards = -(-len(item) // _SHARD_ROWS)
  cuts = np.searchsorted(ends, np.arange(shards + 1) * len(item) // shards)
  cuts[-1] = len(length)
  row_cuts = np.append(0, ends)[cuts]
  parts = [
    _Shard(
      number,
      int(cuts[number]),
      length[cuts[number] : cuts[number + 1]],
      item[row_cuts[number] : row_cuts[number + 1]],
      len(item_keys),
    )
    for number in range(shards)
  ]
  with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
    written = list(pool.map(lambda part: part.write(output, shards), parts))
  for name, keys in (('users', user_keys), ('items', item_keys)):
    pl.DataFrame({'key': keys}).write_csv(
      os.path.join(output, f'{name}.tsv'), include_header=False
    )
  splits = {}
  for split in ('train', 'validation', 'test'):
    both = np.concatenate([rows[split] for rows in written])
    key = pairs.digest(user_keys[both[:, 0]], item_keys[both[:, 1]])
    splits[split] = [len(both), key]
  counts = {'users': len(user_keys), 'items': len(item_keys), **splits}
  print(json.dumps(counts))


if __name__ == '__main__':
  main()
