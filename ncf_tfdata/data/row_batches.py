"""Train rows of a dataset directory as a tf.data stream of batches.

Order is a function of (seed, epoch): shards, then blocks, are shuffled; the rows of a
window of blocks, or its users, are permuted; windows are cut into batches. Nothing is
unbatched and no row is an element by itself. A batch in the middle of an epoch is
reached at the cost of parsing what comes before it, so resuming needs no iterator
state.
"""

import tensorflow as tf

from ncf_tfdata import dataset as dataset_lib
from ncf_tfdata.data import sampling
from ncf_tfdata.errors import UserError
from ncf_tfdata.rng_streams import Train

# Blocks whose order is mixed at once; about 8 M rows.
_SHUFFLED_BLOCKS = 8192

# Ids in a window, about: 2 ** 18 rows of 4 negatives. Bounds the memory of any k.
_WINDOW_IDS = 1 << 20

_READERS = 16


def steps_per_epoch(dataset: dataset_lib.Dataset, batch_size: int) -> int:
  """Batches of an epoch, the padded last one included."""
  return -(-dataset.rows(dataset_lib.TRAIN) // batch_size)


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


def parse(serialized: tf.Tensor, static: int) -> dict[str, tf.Tensor]:
  """Parses string [blocks] into int64 [n] columns, and `negs` int64 [n, static]."""
  names = [dataset_lib.USER, dataset_lib.POSITIVE]
  if static:
    names.append(dataset_lib.NEGATIVES)
  columns = tf.io.parse_example(
    serialized, {name: tf.io.RaggedFeature(tf.int64) for name in names}
  )
  columns = {name: column.flat_values for name, column in columns.items()}
  if static:
    negatives = columns[dataset_lib.NEGATIVES]
    columns[dataset_lib.NEGATIVES] = tf.reshape(negatives, [-1, static])
  return columns


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
    first_epoch: Where to begin.
    first_step: Batches of the first epoch to leave out.

  Returns:
    Elements `user` int32 [batch_size], `items` int32 [batch_size, 1 + num_negatives]
    ([batch_size, 1] with `none`), the positive first, and `weight` float32
    [batch_size].

  Raises:
    UserError: There are no train rows, or fewer static negatives than asked for.
  """
  total = dataset.rows(dataset_lib.TRAIN)
  if not total:
    raise UserError(
      f'{dataset.directory} has no train rows. Prepare it again with weaker filters.'
    )
  static = 0
  if negatives == 'static':
    static = dataset.negatives(dataset_lib.TRAIN)
    if static < num_negatives:
      raise UserError(
        f'--num_negatives={num_negatives} with --negatives=static, but the records '
        f'of {dataset.directory} hold {static}. Use --negatives=fresh, or prepare '
        f'again with --train_negatives={num_negatives}.'
      )
  width = 0 if negatives == 'none' else num_negatives
  window_blocks = max(1, _WINDOW_IDS // dataset_lib.BLOCK_ROWS // max(4, width))
  padding = -total % batch_size

  def rows_of(window, start, columns, epoch, skip):
    user, item = columns[dataset_lib.USER], columns[dataset_lib.POSITIVE]
    rows = tf.size(user)
    items = item[:, None]
    if negatives == 'static':
      items = tf.concat(
        [items, columns[dataset_lib.NEGATIVES][:, :num_negatives]], axis=1
      )
    elif negatives == 'fresh':
      drawn = sampling.draw_unseen(
        sampler, user, item, num_negatives, seed, Train.NEGATIVES, epoch
      )
      items = tf.concat([items, drawn], axis=1)
    weight = tf.ones([rows])
    span = sampling.runs(user)
    if recency:
      index = tf.range(tf.cast(rows, tf.int64))
      distance = span.start + span.length - 1 - index
      weight = tf.cast(distance + 1, tf.float32) ** -recency
    key = sampling.seed_pair(seed, Train.ROWS, epoch, window)
    if by_user:
      starts, run = tf.unique(span.start)
      rank = tf.random.experimental.stateless_shuffle(tf.range(tf.size(starts)), key)
      order = tf.argsort(tf.gather(rank, run), stable=True)
    else:
      order = tf.random.experimental.stateless_shuffle(tf.range(rows), key)
    order = order[tf.maximum(skip - start, 0) :]
    pad = tf.where(start + tf.cast(rows, tf.int64) == total, padding, 0)

    def fill(x):
      return tf.pad(x, [[0, pad]] + [[0, 0]] * (x.shape.rank - 1))

    return {
      'user': fill(tf.gather(tf.cast(user, tf.int32), order)),
      'items': fill(tf.gather(tf.cast(items, tf.int32), order)),
      'weight': fill(tf.gather(weight, order)),
    }

  def epoch_rows(epoch):
    skip = tf.where(epoch == first_epoch, first_step * batch_size, 0)
    skip = tf.cast(skip, tf.int64)

    def count(start, columns):
      return (
        start + tf.size(columns[dataset_lib.USER], out_type=tf.int64),
        (start, columns),
      )

    windows = (
      blocks(dataset, seed, epoch)
      .batch(window_blocks)
      .map(
        lambda serialized: parse(serialized, static),
        num_parallel_calls=tf.data.AUTOTUNE,
        deterministic=True,
      )
      .scan(tf.constant(0, tf.int64), count)
      .enumerate()
      .filter(
        lambda window, content: (
          content[0] + tf.size(content[1][dataset_lib.USER], out_type=tf.int64) > skip
        )
      )
    )
    return windows.map(
      lambda window, content: rows_of(window, content[0], content[1], epoch, skip),
      num_parallel_calls=tf.data.AUTOTUNE,
      deterministic=True,
    ).rebatch(batch_size, drop_remainder=True)

  epochs = tf.data.Dataset.counter(start=first_epoch)
  stream = epochs.flat_map(epoch_rows)
  options = tf.data.Options()
  options.deterministic = True
  # A stream is already a function of the seed; each worker reads all of it.
  options.experimental_distribute.auto_shard_policy = (
    tf.data.experimental.AutoShardPolicy.OFF
  )
  return stream.with_options(options).prefetch(tf.data.AUTOTUNE)
