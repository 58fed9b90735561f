"""Records of a dataset directory in numpy, for baselines and ranking.

Training reads the same records in tf.data: `row_batches`.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from ncf_tfdata import dataset as dataset_lib
from ncf_tfdata.errors import UserError

# Entries of histories in a batch of more than one row: 8 MiB.
_MAX_ENTRIES = 1 << 20


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
    time: int64 [n], since the log's first row; None where the dataset holds no times.
    history_time: int64 [sum of lengths], the same of the history.
    entries: int64 [sum of lengths], the history as `events` has it, with what is known
      of its times; None where they are those of `history_time`, or there are none.
  """

  user: np.ndarray
  positive: np.ndarray
  negatives: np.ndarray
  history: np.ndarray
  history_length: np.ndarray
  gap: np.ndarray | None = None
  time: np.ndarray | None = None
  history_time: np.ndarray | None = None
  entries: np.ndarray | None = None


class StoredHistories(NamedTuple):
  """Histories of a block's rows, as it stores them: once a user.

  A user's rows are in time order, so the history of the last holds those of the others.

  Attributes:
    start: int64 [n], where the history of each row begins.
    length: int64 [n].
  """

  start: np.ndarray
  length: np.ndarray

  @classmethod
  def of_block(cls, block: dict[str, np.ndarray]) -> 'StoredHistories':
    """Where a block of validation or test stores them."""
    user, length = block[dataset_lib.USER], block[dataset_lib.HISTORY_LENGTH]
    first = np.flatnonzero(np.diff(user, prepend=-1))
    rows = np.diff(first, append=len(user))
    stored = length[first + rows - 1]
    return cls(np.repeat(np.cumsum(stored) - stored, rows), length)

  def places(self, rows: slice) -> np.ndarray:
    """Where the entries of some rows' histories are stored, row after row: int64."""
    return spans(self.start[rows], self.length[rows])


def spans(start: np.ndarray, length: np.ndarray) -> np.ndarray:
  """The places start, start + 1, … of each of some spans, one span after the other.

  Args:
    start: int64 [n].
    length: int64 [n].

  Returns:
    int64 [sum of lengths].
  """
  # Each place among all of them, moved to where its span begins.
  shift = np.repeat(start - np.cumsum(length) + length, length)
  return np.arange(len(shift)) + shift


def columns(
  dataset: dataset_lib.Dataset, split: str, names: Sequence[str] | None = None
) -> Iterator[dict[str, np.ndarray]]:
  """Yields the flat columns of each block of a split or `SUCCESSORS`, int64 each.

  Args:
    dataset: Where to read.
    split: What.
    names: Of the columns; None for all.

  Raises:
    UserError: A shard is corrupt or cannot be read, and named; or, at the end, the
      dataset is no longer the one that was opened.
  """
  if not dataset.has(split):
    return
  import tensorflow as tf  # Here, for who needs but a batch's type.

  column = tf.io.FixedLenSequenceFeature([], tf.int64, allow_missing=True)
  features = dict.fromkeys(names or dataset.features(split), column)
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
  user, item = _by_user(dataset, splits, dataset_lib.POSITIVE)
  return user, item


def row_times(dataset: dataset_lib.Dataset, *splits: str) -> np.ndarray:
  """The times of `rows`, int64 [n], since the log's first.

  Raises:
    ValueError: The dataset holds no times.
    UserError: A shard is corrupt.
  """
  if not dataset.manifest.has_times:
    raise ValueError(f'`dataset` must hold times. Received: {dataset.directory}.')
  return _by_user(dataset, splits, dataset_lib.TIME)[1]


def _by_user(
  dataset: dataset_lib.Dataset, splits: Sequence[str], *names: str
) -> list[np.ndarray]:
  """The users of all rows of some splits, ascending, and columns of theirs."""
  parts = [
    [block[name] for name in (dataset_lib.USER, *names)]
    for split in splits
    for block in columns(dataset, split, (dataset_lib.USER, *names))
  ]
  if not parts:
    return [np.zeros(0, np.int64) for _ in (dataset_lib.USER, *names)]
  found = [np.concatenate(each) for each in zip(*parts, strict=True)]
  order = np.argsort(found[0], kind='stable')
  return [each[order] for each in found]


def train_rows(dataset: dataset_lib.Dataset) -> tuple[np.ndarray, np.ndarray]:
  """The train split's `rows`."""
  return rows(dataset, dataset_lib.TRAIN)


def evaluation_batches(
  dataset: dataset_lib.Dataset, split: str, max_rows: int
) -> Iterator[EvaluationBatch]:
  """Streams validation or test: a block each, cut where it would be large.

  Args:
    dataset: Where to read.
    split: Validation or test.
    max_rows: Most rows of a batch. One of several rows also has no more than a
      million entries of histories.

  Raises:
    UserError: The split has no rows, or a shard is corrupt.
  """
  if not dataset.rows(split):
    raise UserError(
      f'{dataset.directory} has no {split} rows (it was prepared with '
      f'--holdout={dataset.manifest.flags.get("holdout")}). Evaluate another split.'
    )
  for block in blocks(dataset, split):
    stored = StoredHistories.of_block(block)
    for rows in _batches(stored.length, max_rows):
      entries = stored.places(rows)
      gap, time = block[dataset_lib.GAP], block.get(dataset_lib.TIME)
      yield EvaluationBatch(
        user=block[dataset_lib.USER][rows],
        positive=block[dataset_lib.POSITIVE][rows],
        negatives=block[dataset_lib.NEGATIVES][rows],
        history=block[dataset_lib.HISTORY][entries],
        history_length=stored.length[rows],
        gap=gap[rows] if len(gap) else None,
        time=None if time is None else time[rows],
        history_time=(
          None if time is None else block[dataset_lib.HISTORY_TIME][entries]
        ),
      )


def _batches(length: np.ndarray, max_rows: int) -> Iterator[slice]:
  """Cuts rows with histories of some lengths [n] where they are too many to expand."""
  ends = np.cumsum(length)
  start = 0
  while start < len(length):
    before = ends[start] - length[start]
    fit = int(np.searchsorted(ends, before + _MAX_ENTRIES, side='right'))
    stop = min(start + max_rows, max(fit, start + 1))
    yield slice(start, stop)
    start = stop
