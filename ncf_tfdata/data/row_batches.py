"""Train rows of a dataset directory as a tf.data stream of batches.

Order is a function of (seed, epoch): shards, then blocks, are shuffled; the rows of a
window of blocks, or its users, are permuted; windows are cut into batches. Nothing is
unbatched and no row is an element by itself. A batch in the middle of an epoch is
reached at the cost of parsing what comes before it, so resuming needs no iterator
state.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from ncf_tfdata import dataset as dataset_lib
from ncf_tfdata.data import sampling
from ncf_tfdata.data.train_part import TrainPart
from ncf_tfdata.errors import UserError
from ncf_tfdata.rng_streams import Train
from ncf_tfdata.tracing import without_autograph

# Blocks whose order is mixed at once; about 8 M rows.
_SHUFFLED_BLOCKS = 8192

# Ids in a window, about: 2 ** 18 rows of 4 negatives. Bounds the memory of any k.
_WINDOW_IDS = 1 << 20

_READERS = 16


# Of parsed columns: whether rows are of the part of them that is fitted.
FITTED = 'fitted'


def rows_of(dataset: dataset_lib.Dataset, part: TrainPart | None) -> int:
  """Train rows of an epoch: those of a part, or all."""
  return dataset.rows(dataset_lib.TRAIN) if part is None else part.rows


def steps_per_epoch(
  dataset: dataset_lib.Dataset, batch_size: int, part: TrainPart | None = None
) -> int:
  """Batches of an epoch, the padded last one included."""
  return -(-rows_of(dataset, part) // batch_size)


def blocks(
  dataset: dataset_lib.Dataset, seed: int, epoch: tf.Tensor
) -> tf.data.Dataset:
  """Serialized blocks of one epoch, shuffled."""
  paths = tf.constant(dataset.shards(dataset_lib.TRAIN))
  key = sampling.seed_pair(seed, Train.BLOCKS, epoch)
  paths = tf.random.experimental.stateless_shuffle(paths, key)
  return (
    tf.data.Dataset.from_tensor_slices(paths)
    .interleave(
      tf.data.TFRecordDataset,
      cycle_length=min(_READERS, len(dataset.shards(dataset_lib.TRAIN))),
      block_length=16,
      num_parallel_calls=tf.data.AUTOTUNE,
      deterministic=True,
    )
    .shuffle(_SHUFFLED_BLOCKS, seed=key[0], reshuffle_each_iteration=False)
  )


def parse(
  serialized: tf.Tensor,
  static: int,
  part: TrainPart | None = None,
  times: bool = False,
) -> dict[str, tf.Tensor]:
  """Parses string [blocks] into int64 [n] columns, and `negs` int64 [n, static].

  With a `part` there is a column `FITTED` too, bool [n]; with `times`, `time`.
  """
  names = [dataset_lib.USER, dataset_lib.POSITIVE]
  if times or part is not None:
    names.append(dataset_lib.TIME)
  if static:
    names.append(dataset_lib.NEGATIVES)
  columns = tf.io.parse_example(
    serialized, {name: tf.io.RaggedFeature(tf.int64) for name in names}
  )
  columns = {name: column.flat_values for name, column in columns.items()}
  if static:
    negatives = columns[dataset_lib.NEGATIVES]
    columns[dataset_lib.NEGATIVES] = tf.reshape(negatives, [-1, static])
  if part is not None:
    columns[FITTED] = columns[dataset_lib.TIME] >= part.since
  return columns


def recency_weights(span: sampling.Runs, recency: float) -> tf.Tensor:
  """Weights of rows by their place in their user's.

  Args:
    span: Where the users of n rows lie.
    recency: A row that is d rows before the last of its user weighs
      (1 + d) ** -recency.

  Returns:
    float32 [n].
  """
  rows = tf.size(span.start, out_type=tf.int64)
  if not recency:
    return tf.ones([rows])
  distance = span.start + span.length - 1 - tf.range(rows)
  return tf.cast(distance + 1, tf.float32) ** -recency


def endless(
  epoch_batches: Callable[[tf.Tensor], tf.data.Dataset], first_epoch: int
) -> tf.data.Dataset:
  """One epoch after another, without end, read ahead.

  Args:
    epoch_batches: Of an epoch, int64 [], the batches.
    first_epoch: Where to begin.
  """
  stream = tf.data.Dataset.counter(start=first_epoch).flat_map(epoch_batches)
  options = tf.data.Options()
  options.deterministic = True
  # A stream is already a function of the seed; each worker reads all of it.
  options.experimental_distribute.auto_shard_policy = (
    tf.data.experimental.AutoShardPolicy.OFF
  )
  return stream.with_options(options).prefetch(tf.data.AUTOTUNE)


def _static_negatives(
  dataset: dataset_lib.Dataset, negatives: str, num_negatives: int
) -> int:
  """Negatives a row that are read from the records: 0 where others are drawn.

  Raises:
    UserError: The records hold fewer than are asked for.
  """
  if negatives != 'static':
    return 0
  static = dataset.negatives(dataset_lib.TRAIN)
  if static < num_negatives:
    raise UserError(
      f'--num_negatives={num_negatives} with --negatives=static, but the records '
      f'of {dataset.directory} hold {static}. Use --negatives=fresh, or prepare '
      f'again with --train_negatives={num_negatives}.'
    )
  return static


class _Window(NamedTuple):
  """Some blocks of an epoch, which are permuted together.

  Attributes:
    number: int64 [], in the epoch.
    start: int64 [], rows of the epoch before it.
    columns: What `parse` returns.
  """

  number: tf.Tensor
  start: tf.Tensor
  columns: dict[str, tf.Tensor]

  @property
  def end(self) -> tf.Tensor:
    """Rows of the epoch up to its last: int64 []."""
    return self.start + _fitted_rows(self.columns)

  @property
  def fitted(self) -> tf.Tensor | None:
    """Its rows that are fitted, int64 [m]; None of all."""
    if FITTED not in self.columns:
      return None
    return tf.where(self.columns[FITTED])[:, 0]


def _fitted_rows(columns: dict[str, tf.Tensor]) -> tf.Tensor:
  """How many of the rows that `parse` returns are fitted: int64 []."""
  if FITTED in columns:
    return tf.math.count_nonzero(columns[FITTED], dtype=tf.int64)
  return tf.size(columns[dataset_lib.USER], out_type=tf.int64)


@dataclasses.dataclass(frozen=True)
class _Batches:
  """Makes the batches of an epoch; the fields are arguments of `train_batches`."""

  dataset: dataset_lib.Dataset
  batch_size: int
  seed: int
  negatives: str
  num_negatives: int
  sampler: sampling.Sampler
  recency: float
  by_user: bool
  part: TrainPart | None

  def of_epoch(self, epoch: tf.Tensor, skip: tf.Tensor) -> tf.data.Dataset:
    """Batches of an epoch, without its first `skip` rows, int64 []."""
    # One without rows ends where it starts, and must not bring the epoch's pads.
    windows = self._windows(epoch).filter(
      lambda window: window.end > tf.maximum(skip, window.start)
    )
    return windows.map(
      lambda window: self._rows(window, epoch, skip),
      num_parallel_calls=tf.data.AUTOTUNE,
      deterministic=True,
    ).rebatch(self.batch_size, drop_remainder=True)

  def _windows(self, epoch: tf.Tensor) -> tf.data.Dataset:
    width = 0 if self.negatives == 'none' else self.num_negatives
    blocks_each = max(1, _WINDOW_IDS // dataset_lib.BLOCK_ROWS // max(4, width))
    static = _static_negatives(self.dataset, self.negatives, self.num_negatives)

    def count(
      start: tf.Tensor, columns: dict[str, tf.Tensor]
    ) -> tuple[tf.Tensor, tuple[tf.Tensor, dict[str, tf.Tensor]]]:
      return start + _fitted_rows(columns), (start, columns)

    return (
      blocks(self.dataset, self.seed, epoch)
      .batch(blocks_each)
      .map(
        lambda serialized: parse(serialized, static, self.part),
        num_parallel_calls=tf.data.AUTOTUNE,
        deterministic=True,
      )
      .scan(tf.constant(0, tf.int64), count)
      .enumerate()
      .map(lambda number, content: _Window(number, *content))
    )

  def _rows(
    self, window: _Window, epoch: tf.Tensor, skip: tf.Tensor
  ) -> dict[str, tf.Tensor]:
    """The rows of a window, permuted, and the pads of the epoch's last batch."""
    user, fitted = window.columns[dataset_lib.USER], window.fitted
    span = sampling.runs(user)
    items, has_negatives = self._items(window.columns, epoch, fitted)
    weight = recency_weights(span, self.recency)
    if fitted is not None:
      user, weight = tf.gather(user, fitted), tf.gather(weight, fitted)
      span = sampling.runs(user)
    weight = tf.where(has_negatives, weight, 0.0)
    order = self._order(span, epoch, window.number)
    order = order[tf.maximum(skip - window.start, 0) :]
    total = rows_of(self.dataset, self.part)
    pad = tf.where(window.end == total, -total % self.batch_size, 0)

    def fill(x: tf.Tensor) -> tf.Tensor:
      x = tf.gather(x, order)
      return tf.pad(x, [[0, pad]] + [[0, 0]] * (x.shape.rank - 1))

    return {
      'user': fill(tf.cast(user, tf.int32)),
      'items': fill(tf.cast(items, tf.int32)),
      'weight': fill(weight),
    }

  def _items(
    self, columns: dict[str, tf.Tensor], epoch: tf.Tensor, rows: tf.Tensor | None
  ) -> tuple[tf.Tensor, tf.Tensor]:
    """Positives, and negatives behind them, of some rows or all: int64 [n, 1 + k].

    Returns:
      And bool [n], which rows have all the negatives that they need.
    """

    def pick(column: tf.Tensor) -> tf.Tensor:
      return column if rows is None else tf.gather(column, rows)

    user, item = columns[dataset_lib.USER], columns[dataset_lib.POSITIVE]
    positive = pick(item)[:, None]
    every_row = tf.ones_like(positive[:, 0], tf.bool)
    if self.negatives == 'none':
      return positive, every_row
    if self.negatives == 'static':
      negatives = pick(columns[dataset_lib.NEGATIVES])[:, : self.num_negatives]
      return tf.concat([positive, negatives], axis=1), every_row
    key = self.seed, Train.NEGATIVES, epoch
    negatives, has_negatives = sampling.draw_unseen(
      self.sampler, user, item, self.num_negatives, *key, rows=rows
    )
    return tf.concat([positive, negatives], axis=1), has_negatives

  def _order(
    self, span: sampling.Runs, epoch: tf.Tensor, window: tf.Tensor
  ) -> tf.Tensor:
    """A permutation of a window's rows, or of its users: int32 [n]."""
    key = sampling.seed_pair(self.seed, Train.ROWS, epoch, window)
    shuffle = tf.random.experimental.stateless_shuffle
    if not self.by_user:
      return shuffle(tf.range(tf.size(span.start)), key)
    starts, run = tf.unique(span.start)
    rank = shuffle(tf.range(tf.size(starts)), key)
    return tf.argsort(tf.gather(rank, run), stable=True)


def train_batches(
  dataset: dataset_lib.Dataset,
  *,
  batch_size: int,
  seed: int,
  negatives: str,
  num_negatives: int,
  sampler: sampling.Sampler,
  recency: float = 0.0,
  by_user: bool = False,
  part: TrainPart | None = None,
  first_epoch: int = 0,
  first_step: int = 0,
) -> tf.data.Dataset:
  """Batches of one epoch after another, without end.

  Args:
    dataset: Where to read.
    batch_size: Rows a batch. An epoch's last one is filled with rows of weight 0.
    seed: Of the order and of fresh negatives.
    negatives: `static` takes the records' own, `fresh` draws new ones for every
      epoch, `none` leaves them to the training step, so that rows hold none.
    num_negatives: Negatives a row.
    sampler: What fresh negatives are drawn from.
    recency: A row that is d rows before the last of its user weighs
      (1 + d) ** -recency.
    by_user: Permutes users, whose rows stay together, instead of rows.
    part: The rows that batches hold, with the negatives and weights that they have
      among all; None for all.
    first_epoch: Where to begin.
    first_step: Batches of the first epoch to leave out.

  Returns:
    Elements `user` int32 [batch_size], `items` int32 [batch_size, 1 + num_negatives]
    ([batch_size, 1] with `none`), the positive first, and `weight` float32
    [batch_size]. With `fresh`, the rows of a user who has every item weigh 0.

  Raises:
    UserError: There are no train rows, or fewer static negatives than asked for.
  """
  if not dataset.rows(dataset_lib.TRAIN):
    raise UserError(
      f'{dataset.directory} has no train interactions. '
      'Prepare it again with weaker filters.'
    )
  _static_negatives(dataset, negatives, num_negatives)
  batches = _Batches(
    dataset,
    batch_size,
    seed,
    negatives,
    num_negatives,
    sampler,
    recency,
    by_user,
    part,
  )

  @without_autograph
  def of_epoch(epoch: tf.Tensor) -> tf.data.Dataset:
    skip = tf.where(epoch == first_epoch, first_step * batch_size, 0)
    return batches.of_epoch(epoch, tf.cast(skip, tf.int64))

  return endless(of_epoch, first_epoch)
