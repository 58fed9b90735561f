"""Records of a dataset directory in numpy, for baselines and ranking.

Training reads the same records in tf.data: `row_batches`.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from ncf_tfdata import dataset as dataset_lib
from ncf_tfdata.errors import UserError


class EvaluationBatch(NamedTuple):
  """Held-out rows with what was known before them: n rows of k negatives.

  Attributes:
    user: int64 [n].
    positive: int64 [n], the held-out items.
    negatives: int64 [n, k], items that the user never touched in any split.
    history: int64 [sum of lengths], each user's earlier kept rows, oldest first,
      user after user.
    history_length: int64 [n].
    gap: int64 [n], time since the user's row before, in the log's unit; None where the
      log has no times.
  """

  user: np.ndarray
  positive: np.ndarray
  negatives: np.ndarray
  history: np.ndarray
  history_length: np.ndarray
  gap: np.ndarray | None = None


def columns(
  dataset: dataset_lib.Dataset, split: str
) -> Iterator[dict[str, np.ndarray]]:
  """Yields the flat columns of each block of a split or `SUCCESSORS`, int64 each.

  Raises:
    UserError: A shard is corrupt or cannot be read, and named; or, at the end, the
      dataset is no longer the one that was opened.
  """
  if not dataset.has(split):
    return
  import tensorflow as tf  # Here, for who needs but a batch's type.

  column = tf.io.FixedLenSequenceFeature([], tf.int64, allow_missing=True)
  features = dict.fromkeys(dataset_lib.features(split), column)
  stream = tf.data.TFRecordDataset(dataset.shards(split)).map(
    lambda serialized: tf.io.parse_single_example(serialized, features),
    num_parallel_calls=tf.data.AUTOTUNE,
    deterministic=True,
  )
  try:
    yield from stream.prefetch(tf.data.AUTOTUNE).as_numpy_iterator()
  except tf.errors.OpError as error:
    reason = error.message.partition('\n')[0]
    raise dataset.read_error(split, reason) from error
  # What is read from one path may be of two datasets.
  dataset.check_unchanged()


def blocks(dataset: dataset_lib.Dataset, split: str) -> Iterator[dict[str, np.ndarray]]:
  """Yields a split's `columns`, the negatives int64 [n, negatives].

  Raises:
    UserError: A shard is corrupt.
  """
  for block in columns(dataset, split):
    shape = (len(block[dataset_lib.USER]), dataset.negatives(split))
    block[dataset_lib.NEGATIVES] = block[dataset_lib.NEGATIVES].reshape(shape)
    yield block


def rows(dataset: dataset_lib.Dataset, *splits: str) -> tuple[np.ndarray, np.ndarray]:
  """All rows of one or several splits, user by user.

  Args:
    dataset: Where to read.
    *splits: In time order: what a later split holds of a user comes after what an
      earlier one holds.

  Returns:
    user int64 [n], ascending, and item int64 [n], in time order within a user.

  Raises:
    UserError: A shard is corrupt.
  """
  parts = [
    (block[dataset_lib.USER], block[dataset_lib.POSITIVE])
    for split in splits
    for block in blocks(dataset, split)
  ]
  if not parts:
    return np.zeros(0, np.int64), np.zeros(0, np.int64)
  user, item = (np.concatenate(column) for column in zip(*parts, strict=True))
  order = np.argsort(user, kind='stable')
  return user[order], item[order]


def train_rows(dataset: dataset_lib.Dataset) -> tuple[np.ndarray, np.ndarray]:
  """The train split's `rows`."""
  return rows(dataset, dataset_lib.TRAIN)


def evaluation_batches(
  dataset: dataset_lib.Dataset, split: str, max_rows: int
) -> Iterator[EvaluationBatch]:
  """Streams validation or test: a block each, cut where it has over `max_rows` rows.

  Raises:
    UserError: The split has no rows, or a shard is corrupt.
  """
  if not dataset.rows(split):
    raise UserError(
      f'{dataset.directory} has no {split} rows (it was prepared with '
      f'--holdout={dataset.manifest.flags.get("holdout")}). Evaluate another split.'
    )
  for block in blocks(dataset, split):
    user, length = block[dataset_lib.USER], block[dataset_lib.HISTORY_LENGTH]
    gap = block[dataset_lib.GAP]
    ends = np.concatenate([[0], np.cumsum(length)])
    for start in range(0, len(user), max_rows):
      stop = min(start + max_rows, len(user))
      yield EvaluationBatch(
        user=user[start:stop],
        positive=block[dataset_lib.POSITIVE][start:stop],
        negatives=block[dataset_lib.NEGATIVES][start:stop],
        history=block[dataset_lib.HISTORY][ends[start] : ends[stop]],
        history_length=length[start:stop],
        gap=gap[start:stop] if len(gap) else None,
      )
