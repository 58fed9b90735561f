"""Train rows of a dataset directory as a tf.data stream of windows of histories.

Whole users are laid end to end, each behind `history_length` pads, and the line is
cut into windows of `window` targets, each with `history_length` positions before it
as context. Where the cuts fall, and the order of the windows, is a function of
(seed, epoch). A target's history is thus the positions before it in its own window.

Pads are no targets, so the real targets of a step are picked out into a fixed number
of rows: fixed, because XLA compiles for one shape, and rows, because a pad then costs
neither the query network nor the softmax.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from ncf_tfdata import dataset as dataset_lib
from ncf_tfdata.data import events_in_graph, row_batches, sampling
from ncf_tfdata.data.train_part import TrainPart
from ncf_tfdata.errors import UserError
from ncf_tfdata.rng_streams import Train
from ncf_tfdata.tracing import without_autograph

# Blocks laid end to end at once; about 2 ** 20 rows, which bounds the memory.
_CHUNK_BLOCKS = (1 << 20) // dataset_lib.BLOCK_ROWS

# Chunks cut at once: the cutting of one would else be as fast as one core.
_CUTTERS = 2

# How full the rows of a step are on average: the number of real targets varies with
# the windows, and what exceeds the rows is lost.
_FILL = 0.91


class _Plan(NamedTuple):
  """Windows a step, and steps an epoch."""

  windows: int
  steps: int


def _plan(
  dataset: dataset_lib.Dataset,
  batch_size: int,
  history_length: int,
  window: int,
  part: TrainPart | None,
) -> _Plan:
  rows = row_batches.rows_of(dataset, part)
  if not rows:
    raise UserError(
      f'{dataset.directory} has no train interactions. '
      'Prepare it again with weaker filters.'
    )
  if batch_size < window:
    raise UserError(
      f'Received --batch_size={batch_size}; expected at least {window}, the targets '
      'of one window.'
    )
  users = dataset.active_users if part is None else part.users
  positions = rows + users * history_length
  windows = max(1, round(_FILL * batch_size / window * positions / rows))
  blocks = sum(
    file.records or 0
    for file in dataset.manifest.files
    if file.split == dataset_lib.TRAIN
  )
  chunks = -(-blocks // _CHUNK_BLOCKS)
  # Each chunk's line begins and ends in the middle of a window.
  most = positions // window + 2 * chunks
  return _Plan(windows, -(-most // windows))


def steps_per_epoch(
  dataset: dataset_lib.Dataset,
  batch_size: int,
  history_length: int,
  window: int = 128,
  part: TrainPart | None = None,
) -> int:
  """Batches of an epoch; the last ones may be empty.

  Raises:
    UserError: There are no train rows, or a batch is smaller than a window.
  """
  return _plan(dataset, batch_size, history_length, window, part).steps


class _Line(NamedTuple):
  """Rows laid end to end, as their indices; n, of n rows, stands where there is none.

  Attributes:
    targets: int32 [length], the rows that are fitted.
    tokens: int32 [length], these and the history before them.
    windows: int32 [], the line's.
  """

  targets: tf.Tensor
  tokens: tf.Tensor
  windows: tf.Tensor


def _lay(
  user: tf.Tensor,
  fitted: tf.Tensor | None,
  *,
  history_length: int,
  window: int,
  offset: tf.Tensor,
) -> _Line:
  """Lays the fitted rows of whole users, or all, each user's behind a history.

  Args:
    user: int64 [n].
    fitted: bool [n], of the last rows of users; None for all.
    history_length: Places before a user's first fitted row, for the latest of the
      others, or none.
    window: Targets of a window.
    offset: int32 [], of the first place.
  """
  total = tf.size(user)
  rows = tf.range(total)
  if fitted is not None:
    rows = tf.boolean_mask(rows, fitted)
  index = tf.range(tf.size(rows))
  start = tf.cast(sampling.runs(tf.gather(user, rows)).start, tf.int32)
  ordinal = tf.cumsum(tf.cast(index == start, tf.int32))
  place = index + ordinal * history_length + offset
  # The first user's pads are the first window's context. There may be no row at all.
  last = tf.concat([[history_length - 1], place], 0)[-1]
  windows = -(-(last + 1 - history_length) // window)
  targets = tf.fill([history_length + windows * window], total)
  targets = tf.tensor_scatter_nd_update(targets, place[:, None], rows)
  if fitted is None:
    return _Line(targets, targets, windows)
  place_of = tf.scatter_nd(rows[:, None], place, [total])
  earlier, back, first = _earlier(user, fitted, history_length)
  place = tf.gather(place_of, first) - back
  tokens = tf.tensor_scatter_nd_update(targets, place[:, None], earlier)
  return _Line(targets, tokens, windows)


def _earlier(
  user: tf.Tensor, fitted: tf.Tensor, length: int
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
  """The rows that are the history of their user's first fitted one.

  Returns:
    int32 [m] each: the row, how far before it is, and the fitted one.
  """
  span = sampling.runs(user)
  start, end = (
    tf.cast(each, tf.int32) for each in (span.start, span.start + span.length)
  )
  before = tf.cumsum(tf.pad(tf.cast(fitted, tf.int32), [[1, 0]]))
  first = end - (tf.gather(before, end) - tf.gather(before, start))
  row = tf.range(tf.size(user))
  back = first - row
  found = tf.where((first < end) & (back > 0) & (back <= length))[:, 0]
  return tuple(tf.gather(each, found) for each in (row, back, first))


def _cut(
  user: tf.Tensor,
  item: tf.Tensor,
  *,
  pad: int,
  history_length: int,
  window: int,
  recency: float,
  key: tuple[int | tf.Tensor, ...],
  fitted: tf.Tensor | None = None,
  time: tf.Tensor | None = None,
) -> dict[str, tf.Tensor]:
  """Cuts the rows of whole users, int64 [n] each, into windows in random order.

  Targets are the rows that are `fitted`, bool [n], or all. With `time` int64 [n] the
  windows have gaps.
  """
  span = sampling.runs(user)
  weight = row_batches.recency_weights(span, recency)
  offset = tf.bitwise.right_shift(
    sampling.bits(key[0], Train.WINDOW_OFFSET, *key[1:]), tf.constant(33, tf.uint64)
  )
  line = _lay(
    user,
    fitted,
    history_length=history_length,
    window=window,
    offset=tf.cast(offset, tf.int32) % window,
  )
  order = tf.random.experimental.stateless_shuffle(
    tf.range(line.windows), sampling.seed_pair(key[0], Train.WINDOWS, *key[1:])
  )
  places = order[:, None] * window + tf.range(history_length + window)

  def look_up(x: tf.Tensor, default: float) -> Callable[[tf.Tensor], tf.Tensor]:
    x = tf.concat([x, tf.constant([default], x.dtype)], 0)
    return lambda index: tf.gather(x, index)

  targets = tf.gather(line.targets, places[:, history_length:])
  tokens = tf.gather(line.tokens, places)
  windows = {
    'tokens': look_up(tf.cast(item, tf.int32), pad)(tokens),
    'user': look_up(tf.cast(user, tf.int32), 0)(targets),
    'weight': look_up(weight, 0.0)(targets),
  }
  if time is not None:
    first = span.start == tf.range(tf.size(user, tf.int64))
    windows['gaps'] = look_up(events_in_graph.codes(time, first), 0)(tokens)
  return windows


def _real_first(real: tf.Tensor) -> tf.Tensor:
  """A stable argsort of bool [R, n], true ones first, in linear time: int32 [R, n]."""
  ones = tf.cast(real, tf.int32)
  place = tf.cumsum(ones, axis=1)
  others = place[:, -1:] + tf.cumsum(1 - ones, axis=1)
  start = tf.range(tf.shape(real)[0])[:, None] * tf.shape(real)[1]
  place = start + tf.where(real, place, others) - 1
  order = tf.math.invert_permutation(tf.reshape(place, [-1]))
  return tf.reshape(order, tf.shape(real)) - start


def _pick(
  windows: dict[str, tf.Tensor],
  batch_size: int,
  replicas: int,
  key: tuple[int | tf.Tensor, ...],
) -> dict[str, tf.Tensor]:
  """Picks the real targets of a step out of its windows, a line for each replica."""
  count, window = windows['weight'].shape
  real = windows['weight'] > 0

  def thinned() -> tf.Tensor:
    draw = sampling.bits(
      key[0], Train.DROPPED_TARGETS, *key[1:], tf.range(count * window)
    )
    draw = tf.cast(tf.bitwise.right_shift(draw, tf.constant(1, tf.uint64)), tf.int64)
    draw = tf.where(real, tf.reshape(draw, real.shape), tf.int64.max)
    return real & (draw <= tf.sort(tf.reshape(draw, [-1]))[batch_size - 1])

  if count * window > batch_size:
    # Most steps have room for all of their targets, and need not sort.
    number = tf.math.count_nonzero(real, dtype=tf.int32)
    real = tf.cond(number > batch_size, thinned, lambda: real)

  share = -(-count // replicas)
  empty = [[0, share * replicas - count], [0, 0]]

  def line(x: tf.Tensor) -> tf.Tensor:
    return tf.reshape(tf.pad(x, empty), [replicas, share * window])

  # Whatever the windows, a replica's rows can hold all of its targets.
  capacity = min(batch_size, share * window)
  row = _real_first(line(real))[:, :capacity]

  def pick(x: tf.Tensor) -> tf.Tensor:
    return tf.gather(line(x), row, batch_dims=1)

  whole: dict[str, tf.Tensor] = {
    name: tf.reshape(tf.pad(windows[name], empty), [replicas, share, -1])
    for name in ('tokens', 'gaps')
    if name in windows
  }
  return {
    **whole,
    'user': pick(windows['user']),
    'row': row,
    'weight': pick(tf.where(real, windows['weight'], 0.0)),
  }


@dataclasses.dataclass(frozen=True)
class _Steps:
  """Makes the steps of an epoch; the fields are arguments of `window_batches`."""

  dataset: dataset_lib.Dataset
  plan: _Plan
  batch_size: int
  history_length: int
  seed: int
  window: int
  recency: float
  replicas: int
  part: TrainPart | None
  gaps: bool

  def of_epoch(self, epoch: tf.Tensor) -> tf.data.Dataset:
    """The number of each step, int64 [], and its windows."""
    return (
      row_batches.blocks(self.dataset, self.seed, epoch)
      .batch(_CHUNK_BLOCKS)
      .enumerate()
      .map(
        lambda chunk, serialized: self._cut(epoch, chunk, serialized),
        num_parallel_calls=_CUTTERS,
        deterministic=True,
      )
      .concatenate(self._empty().repeat())
      .rebatch(self.plan.windows, drop_remainder=True)
      .take(self.plan.steps)
      .enumerate()
    )

  def pick(
    self, epoch: tf.Tensor, step: tf.Tensor, windows: dict[str, tf.Tensor]
  ) -> dict[str, tf.Tensor]:
    """An element of the stream, of a step's windows."""
    return _pick(windows, self.batch_size, self.replicas, (self.seed, epoch, step))

  def _cut(
    self, epoch: tf.Tensor, chunk: tf.Tensor, serialized: tf.Tensor
  ) -> dict[str, tf.Tensor]:
    columns = row_batches.parse(serialized, 0, self.part, self.gaps)
    return _cut(
      columns[dataset_lib.USER],
      columns[dataset_lib.POSITIVE],
      pad=self.dataset.num_items,
      history_length=self.history_length,
      window=self.window,
      recency=self.recency,
      key=(self.seed, epoch, chunk),
      fitted=columns.get(row_batches.FITTED),
      time=columns[dataset_lib.TIME] if self.gaps else None,
    )

  def _empty(self) -> tf.data.Dataset:
    """A step's windows without a target."""
    windows, length = self.plan.windows, self.history_length + self.window
    empty = {
      'tokens': tf.fill([windows, length], self.dataset.num_items),
      'user': tf.zeros([windows, self.window], tf.int32),
      'weight': tf.zeros([windows, self.window]),
    }
    if self.gaps:
      empty['gaps'] = tf.zeros([windows, length], tf.int32)
    return tf.data.Dataset.from_tensors(empty)


def window_batches(
  dataset: dataset_lib.Dataset,
  *,
  batch_size: int,
  history_length: int,
  seed: int,
  window: int = 128,
  recency: float = 0.0,
  replicas: int = 1,
  part: TrainPart | None = None,
  gaps: bool = False,
  first_epoch: int = 0,
  first_step: int = 0,
) -> tf.data.Dataset:
  """Batches of windows, one epoch after another, without end.

  Which rows a step trains on does not depend on the number of replicas: each gets
  an equal share of the step's windows, empty ones making up the number.

  Args:
    dataset: Where to read.
    batch_size: Rows a step has room for, over all replicas. They are about 91 % full;
      of targets beyond their number a draw by counter drops some.
    history_length: L, positions of context before a window's first target, and pads
      before a user's first row.
    seed: Of cuts, order and what is dropped.
    window: T, positions of a window that may be targets.
    recency: A row that is d rows before the last of its user weighs
      (1 + d) ** -recency.
    replicas: R, which share a step.
    part: The rows that are targets; others are history alone. None for all.
    gaps: Whether elements hold the gaps before items; the dataset holds times.
    first_epoch: Where to begin.
    first_step: Batches of the first epoch to leave out.

  Returns:
    Elements whose first axis is that of the replicas, of b windows and c rows each:
    `tokens` int32 [R, b, L + T], items in time order, pads being `num_items`; `row`
    int32 [R, c], of a target in the replica's b * T positions; `user` int32 [R, c];
    `weight` float32 [R, c], 0 where a row is empty. With `gaps`, `gaps` of the shape of
    `tokens`: codes of `events`.

  Raises:
    UserError: There are no train rows, or a batch is smaller than a window.
  """
  plan = _plan(dataset, batch_size, history_length, window, part)
  steps = _Steps(
    *(dataset, plan, batch_size, history_length, seed, window, recency),
    *(replicas, part, gaps),
  )

  @without_autograph
  def of_epoch(epoch: tf.Tensor) -> tf.data.Dataset:
    skip = tf.where(epoch == first_epoch, tf.cast(first_step, tf.int64), 0)
    return (
      steps.of_epoch(epoch)
      .skip(skip)
      .map(
        lambda step, windows: steps.pick(epoch, step, windows),
        num_parallel_calls=tf.data.AUTOTUNE,
        deterministic=True,
      )
    )

  return row_batches.endless(of_epoch, first_epoch)
