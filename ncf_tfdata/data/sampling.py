"""Items drawn by counter, in the graph: no generator state anywhere.

A draw is a pure function of its counters (seed, epoch, user, position, ...), so it
depends neither on batch boundaries nor on threads, and a resumed run draws the same.
Counters are mixed as in splitmix64 (Steele, Lea and Flood, Fast splittable
pseudorandom number generators, OOPSLA 2014, figure 14).
"""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from ncf_tfdata.errors import UserError

_GOLDEN = 0x9E3779B97F4A7C15

# A popular item that is refused so often is replaced by a uniform draw. With half of
# all probability on a user's own items that befalls one draw in 65,536.
_ATTEMPTS = 16


def _finalise(x: tf.Tensor) -> tf.Tensor:
  def shift(bits: int) -> tf.Tensor:
    return tf.bitwise.right_shift(x, tf.constant(bits, tf.uint64))

  x = tf.bitwise.bitwise_xor(x, shift(30)) * tf.constant(0xBF58476D1CE4E5B9, tf.uint64)
  x = tf.bitwise.bitwise_xor(x, shift(27)) * tf.constant(0x94D049BB133111EB, tf.uint64)
  return tf.bitwise.bitwise_xor(x, shift(31))


def bits(*counters: int | tf.Tensor) -> tf.Tensor:
  """64 random bits for each tuple of counters.

  Args:
    *counters: Integers or integer tensors that broadcast; slow ones first, for each
      is mixed at the shape that the ones before it have.

  Returns:
    uint64, of the counters' common shape.
  """
  state = tf.zeros([], tf.uint64)
  for counter in counters:
    counter = tf.cast(tf.convert_to_tensor(counter), tf.uint64)
    state = _finalise(state + (counter + 1) * tf.constant(_GOLDEN, tf.uint64))
  return state


def seed_pair(*counters: int | tf.Tensor) -> tf.Tensor:
  """int64 [2], a seed for `tf.random.stateless_*`."""
  return tf.bitcast(bits(*counters, tf.range(2)), tf.int64)


def _below(random: tf.Tensor, bound: tf.Tensor) -> tf.Tensor:
  """Maps 64 bits to int64 in [0, bound); its bias is at most bound / 2 ** 32."""
  half = tf.constant(32, tf.uint64)
  high = tf.bitwise.right_shift(random, half)
  return tf.cast(
    tf.bitwise.right_shift(high * tf.cast(bound, tf.uint64), half), tf.int64
  )


class Sampler:
  """Draws item ids: all alike, or popular ones more often.

  Ids of items that are unused are never drawn. The others have places in the order of
  their ids, among which is drawn; where all are used, a place is an id.

  Attributes:
    num_items: Number of ids.
    num_places: Items that may be drawn.
    unused: bool [num_items], or None.
    uniform: Whether all items are alike.
    log_probability: float32 [num_items], log of each item's probability; -inf where it
      is never drawn.
  """

  def __init__(
    self,
    num_items: int,
    counts: np.ndarray | None = None,
    exponent: float = 1.0,
    unused: np.ndarray | None = None,
  ):
    """Makes a sampler.

    Args:
      num_items: Number of ids.
      counts: int64 [num_items], train rows of each item, for probabilities in
        proportion to counts ** exponent; None for uniform ones.
      exponent: Of the counts.
      unused: bool [num_items], ids that are never drawn; None where all may be.

    Raises:
      UserError: The powers of the counts are too large.
    """
    self.num_items, self.unused = num_items, unused
    self._ids = None if unused is None else np.flatnonzero(~unused)
    self.num_places = num_items if self._ids is None else len(self._ids)
    self.uniform = counts is None
    self.log_probability = np.full(num_items, -np.inf, np.float32)
    drawn = slice(None) if self._ids is None else self._ids
    if counts is None:
      self.log_probability[drawn] = -np.log(self.num_places)
      return
    # An item without train rows can be held out, so it must be possible to draw it.
    with np.errstate(over='ignore'):
      weight = np.maximum(counts[drawn], 1).astype(np.float64) ** exponent
    cumulative = np.cumsum(weight)
    if not np.isfinite(cumulative[-1]):
      raise UserError(
        f'received --popularity_exponent={exponent}, which overflows; expected '
        'something like 0.5.'
      )
    self.log_probability[drawn] = np.log(weight / cumulative[-1])
    self._cumulative = cumulative / cumulative[-1]

  def draw(self, random: tf.Tensor) -> tf.Tensor:
    """Maps random bits, uint64 of any shape, to item ids, int64 of the same."""
    return self.ids(self.draw_places(random))

  def ids(self, place: tf.Tensor) -> tf.Tensor:
    """The ids at some places, int64 of any shape."""
    return place if self._ids is None else tf.gather(self._ids, place)

  def places(self, item: tf.Tensor) -> tf.Tensor:
    """The places of items that are used, int64 of any shape."""
    if self.unused is None:
      return item
    return tf.gather(np.cumsum(~self.unused) - 1, item)

  def draw_places(self, random: tf.Tensor) -> tf.Tensor:
    """Maps random bits, uint64 of any shape, to places of items, int64 of the same."""
    if self.uniform:
      return _below(random, tf.constant(self.num_places, tf.uint64))
    mantissa = tf.bitwise.right_shift(random, tf.constant(11, tf.uint64))
    fraction = tf.cast(mantissa, tf.float64) * 2.0**-53
    item = tf.searchsorted(
      tf.constant(self._cumulative),
      tf.reshape(fraction, [-1]),
      side='right',
      out_type=tf.int64,
    )
    # The last cumulative value may be rounded to just below 1.
    return tf.reshape(tf.minimum(item, self.num_places - 1), tf.shape(random))


class Runs(NamedTuple):
  """Where the users of a sequence of rows lie, users being contiguous.

  Attributes:
    start: int64 [n], index of the first row of the row's user.
    length: int64 [n], number of rows of the row's user.
  """

  start: tf.Tensor
  length: tf.Tensor


def runs(user: tf.Tensor) -> Runs:
  """Finds the runs of equal values in int64 [n]."""
  rows = tf.size(user, out_type=tf.int64)
  first = tf.concat([tf.ones_like(user[:1], tf.bool), user[1:] != user[:-1]], 0)
  starts = tf.where(first)[:, 0]
  run = tf.cumsum(tf.cast(first, tf.int32)) - 1
  lengths = tf.concat([starts[1:], rows[None]], 0) - starts
  return Runs(tf.gather(starts, run), tf.gather(lengths, run))


class _Owned:
  """The distinct items of each user of some rows, searchable."""

  def __init__(self, user: tf.Tensor, item: tf.Tensor, num_items: int):
    self._num_items = num_items
    key = tf.sort(user * num_items + item)
    # Duplicates are in the log where it was prepared with --duplicates=keep.
    key = tf.boolean_mask(key, tf.concat([[True], key[1:] != key[:-1]], 0))
    self._key = key
    owner = key // num_items
    rank = tf.range(tf.size(key, out_type=tf.int64)) - runs(owner).start
    # How many items that are not the user's lie before each one that is; ascending
    # within a user, hence ascending over all.
    gap = key - owner * num_items - rank
    self._gap = owner * (num_items + 1) + gap

  def contains(self, user: tf.Tensor, item: tf.Tensor) -> tf.Tensor:
    """Whether items belong to users: int64 [m] each -> bool [m]."""
    key = user * self._num_items + item
    index = tf.searchsorted(self._key, key, out_type=tf.int32)
    return tf.gather(self._key, tf.minimum(index, tf.size(self._key) - 1)) == key

  def all_items(self, user: tf.Tensor) -> tf.Tensor:
    """Whether users have every item: int64 [n] -> bool [n]."""
    base = user * self._num_items
    begin = tf.searchsorted(self._key, base)
    end = tf.searchsorted(self._key, base + self._num_items)
    return end - begin == self._num_items

  def others(self, user: tf.Tensor, random: tf.Tensor) -> tf.Tensor:
    """Draws uniformly from what is not the user's, without a single rejection.

    The r-th item that is not the user's is r plus the number of the user's items
    that have at most r others before them.

    Args:
      user: int64 [n].
      random: uint64 [n, k].

    Returns:
      int64 [n, k]; of a user who has every item, the last item.
    """
    base = user * (self._num_items + 1)
    begin = tf.searchsorted(self._gap, base, out_type=tf.int64)
    end = tf.searchsorted(self._gap, base + self._num_items + 1, out_type=tf.int64)
    free = self._num_items - (end - begin)
    r = _below(random, free[:, None])
    found = tf.searchsorted(
      self._gap, tf.reshape(base[:, None] + r, [-1]), side='right', out_type=tf.int64
    )
    item = r + tf.reshape(found, tf.shape(r)) - begin[:, None]
    return tf.minimum(item, self._num_items - 1)


def draw_unseen(
  sampler: Sampler,
  user: tf.Tensor,
  item: tf.Tensor,
  count: int,
  *key: int | tf.Tensor,
  rows: tf.Tensor | None = None,
) -> tuple[tf.Tensor, tf.Tensor]:
  """Draws negatives that are no item of the row's user.

  Args:
    sampler: Where from.
    user: int64 [n]; a user's rows are contiguous, in order, and all there.
    item: int64 [n].
    count: Draws a row.
    *key: Counters, such as seed and epoch. User, position and draw come after them.
    rows: int64 [m], the rows to draw for, which get what they would get among all;
      None for all.

  Returns:
    int64 [n, count], and bool [n], which rows they are for: where the user has every
    item there is none to draw, and the draws mean nothing. Of some rows, [m, count]
    and [m].
  """
  owned = _Owned(user, sampler.places(item), sampler.num_places)
  span = runs(user)
  # Few users have that many rows, and so most blocks need no search.
  has_negatives = tf.cond(
    tf.reduce_any(span.length >= sampler.num_places),
    lambda: ~owned.all_items(user),
    lambda: tf.ones_like(user, tf.bool),
  )
  position = tf.range(tf.size(user, out_type=tf.int64)) - span.start
  if rows is not None:
    user, position, has_negatives = (
      tf.gather(each, rows) for each in (user, position, has_negatives)
    )
  random = bits(
    *key,
    user[:, None],
    position[:, None] * count + tf.range(count, dtype=tf.int64),
  )
  if sampler.uniform:
    return sampler.ids(owned.others(user, random)), has_negatives
  drawn = _draw_others(sampler, owned, tf.repeat(user, count), tf.reshape(random, [-1]))
  return sampler.ids(tf.reshape(drawn, tf.shape(random))), has_negatives


def _draw_others(
  sampler: Sampler, owned: _Owned, user: tf.Tensor, random: tf.Tensor
) -> tf.Tensor:
  """Draws from a sampler, again where the item is the user's.

  What is so still after `_ATTEMPTS` is drawn uniformly from the others.

  Args:
    sampler: Where from.
    owned: Items of the users.
    user: int64 [m], of each draw.
    random: uint64 [m], the bits of its first attempt.

  Returns:
    int64 [m], places.
  """

  def seen(index: tf.Tensor, drawn: tf.Tensor) -> tf.Tensor:
    return tf.boolean_mask(index, owned.contains(tf.gather(user, index), drawn))

  def redraw(
    attempt: tf.Tensor, drawn: tf.Tensor, bad: tf.Tensor
  ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    again = sampler.draw_places(bits(tf.gather(random, bad), attempt))
    drawn = tf.tensor_scatter_nd_update(drawn, bad[:, None], again)
    return attempt + 1, drawn, seen(bad, again)

  drawn = sampler.draw_places(random)
  attempt, drawn, bad = tf.while_loop(
    lambda attempt, drawn, bad: (attempt < _ATTEMPTS) & (tf.size(bad) > 0),
    redraw,
    (tf.constant(0), drawn, seen(tf.range(tf.size(drawn)), drawn)),
    shape_invariants=(
      tf.TensorShape([]),
      tf.TensorShape([None]),
      tf.TensorShape([None]),
    ),
  )
  last = owned.others(
    tf.gather(user, bad), bits(tf.gather(random, bad), attempt)[:, None]
  )
  return tf.tensor_scatter_nd_update(drawn, bad[:, None], last[:, 0])
