"""Small dataset directories by the contract, without Beam."""

import hashlib
import pathlib
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from ncf_tfdata import dataset as dataset_lib
from ncf_tfdata.manifest import File, Manifest


def tastes(
  num_users: int = 60, num_items: int = 40, rows: int = 20, seed: int = 0
) -> list[np.ndarray]:
  """Items of each user, in order; even users like low ids, odd users high ones."""
  generator = np.random.default_rng(seed)
  popularity = 1 / np.arange(1, num_items + 1) ** 0.5
  items = []
  for user in range(num_users):
    half = np.arange(num_items) % 2 == user % 2
    weight = popularity * np.where(half, 20.0, 1.0)
    items.append(
      generator.choice(num_items, rows, replace=False, p=weight / weight.sum())
    )
  return items


def _blocks(users: Sequence[int], rows: dict[int, int], limit: int) -> list[list[int]]:
  """Groups users into blocks that close at `limit` rows."""
  blocks, size = [[]], 0
  for user in users:
    if size >= limit:
      blocks.append([])
      size = 0
    blocks[-1].append(user)
    size += rows[user]
  return [block for block in blocks if block]


def _example(columns: dict[str, Sequence[int]]) -> bytes:
  feature = {
    name: tf.train.Feature(int64_list=tf.train.Int64List(value=values))
    for name, values in columns.items()
  }
  return tf.train.Example(
    features=tf.train.Features(feature=feature)
  ).SerializeToString()


def write(
  directory: str | pathlib.Path,
  items: Sequence[np.ndarray],
  *,
  num_items: int,
  holdout: int = 2,
  train_negatives: int = 4,
  eval_negatives: int = 15,
  num_shards: int = 2,
  block_rows: int = 64,
  seed: int = 0,
  user_keys: Sequence[str] | None = None,
  item_keys: Sequence[str] | None = None,
) -> dataset_lib.Dataset:
  """Writes a dataset of users who took `items[user]` in that order.

  Keys are `u0`, `u1`, … and `i0`, `i1`, … where no others are given.
  """
  user_keys = user_keys or [f'u{user}' for user in range(len(items))]
  item_keys = item_keys or [f'i{item}' for item in range(num_items)]
  directory = pathlib.Path(directory)
  directory.mkdir(parents=True, exist_ok=True)
  generator = np.random.default_rng(seed)
  cut = {'train': slice(None, -holdout)}
  if holdout == 2:
    cut['validation'] = slice(-2, -1)
  cut['test'] = slice(-1, None)
  counts = {'users': len(items), 'items': num_items, 'validation': 0}
  train_count = np.zeros(num_items, np.int64)
  files = []
  free = [np.setdiff1d(np.arange(num_items), taken) for taken in items]
  for split, part in cut.items():
    rows = {user: len(taken[part]) for user, taken in enumerate(items)}
    counts[split] = sum(rows.values())
    k = train_negatives if split == 'train' else eval_negatives
    for shard in range(num_shards):
      name = dataset_lib.shard_name(split, shard, num_shards)
      users = range(shard, len(items), num_shards)
      blocks = _blocks(users, rows, block_rows)
      with tf.io.TFRecordWriter(str(directory / name)) as writer:
        for block in blocks:
          columns = {feature: [] for feature in dataset_lib.features(split)}
          for user in block:
            taken = items[user]
            for item in taken[part]:
              columns[dataset_lib.USER].append(user)
              columns[dataset_lib.POSITIVE].append(item)
              columns[dataset_lib.NEGATIVES].extend(
                generator.choice(free[user], k, replace=split == 'train')
              )
              if split == 'train':
                train_count[item] += 1
            if split != 'train':
              history = taken[: part.start]
              columns[dataset_lib.HISTORY].extend(history)
              columns[dataset_lib.HISTORY_LENGTH].append(len(history))
          writer.write(_example(columns))
      files.append((name, split, sum(rows[user] for user in users), len(blocks)))
  users_tsv = ''.join(
    f'{key}\t{len(taken[cut["train"]])}\n'
    for key, taken in zip(user_keys, items, strict=True)
  )
  items_tsv = ''.join(
    f'{key}\t{count}\n' for key, count in zip(item_keys, train_count, strict=True)
  )
  (directory / dataset_lib.USERS).write_text(users_tsv)
  (directory / dataset_lib.ITEMS).write_text(items_tsv)
  (directory / dataset_lib.REJECTS).write_text('')
  files += [
    (name, None, None, None)
    for name in (dataset_lib.USERS, dataset_lib.ITEMS, dataset_lib.REJECTS)
  ]

  def described(name, split, rows, records):
    content = (directory / name).read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    return File(name, len(content), digest, split, rows, records)

  manifest = Manifest(
    flags={
      'holdout': holdout,
      'seed': seed,
      'eval_negatives': eval_negatives,
      'tie_order': 'input',
      'min_item_count': 1,
    },
    sources=(),
    counts=counts,
    negatives={
      'train': train_negatives,
      'validation': eval_negatives,
      'test': eval_negatives,
    },
    files=tuple(described(*file) for file in sorted(files)),
  )
  (directory / dataset_lib.MANIFEST).write_text(manifest.to_json())
  return dataset_lib.Dataset(str(directory))
