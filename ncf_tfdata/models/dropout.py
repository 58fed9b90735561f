"""Dropout by counter: a mask is a hash of where an element stands and of a seed.

`tf.random.stateless_*` costs as much as the rest of a history model's step; a few
integer operations that XLA fuses with the product cost next to nothing.
"""

import tensorflow as tf


def _mix(x: tf.Tensor, shift: int, factor: int) -> tf.Tensor:
  """A round of lowbias32 (Wellons, Prospecting for hash functions, 2018)."""
  shifted = tf.bitwise.right_shift(x, tf.constant(shift, tf.uint32))
  return tf.bitwise.bitwise_xor(x, shifted) * tf.constant(factor, tf.uint32)


def keep(shape: tf.Tensor, rate: float, seed: tf.Tensor) -> tf.Tensor:
  """Which elements stay.

  Args:
    shape: int32 [rank], of the mask.
    rate: Probability that an element does not stay.
    seed: uint64 [], random bits; `sampling.bits` makes them of counters.

  Returns:
    bool of that shape.
  """
  low = tf.cast(tf.bitwise.bitwise_and(seed, 0xFFFFFFFF), tf.uint32)
  high = tf.cast(tf.bitwise.right_shift(seed, tf.constant(32, tf.uint64)), tf.uint32)
  # The half that comes between the rounds keeps masks of other seeds from being this
  # one at another offset.
  x = tf.cast(tf.range(tf.reduce_prod(shape)), tf.uint32) + low
  x = _mix(_mix(x, 16, 0x7FEB352D) + high, 15, 0x846CA68B)
  bits = tf.bitwise.right_shift(x, tf.constant(8, tf.uint32))
  return tf.reshape(bits >= tf.constant(int(rate * 2**24), tf.uint32), shape)


def dropout(x: tf.Tensor, rate: float, seed: tf.Tensor | None) -> tf.Tensor:
  """Sets elements to zero and scales the others up, so that the mean stays.

  Args:
    x: Floats of any shape.
    rate: Probability of zero, below 1.
    seed: uint64 []; None leaves `x` as it is.
  """
  if seed is None or not rate:
    return x
  scaled = x * tf.constant(1 / (1 - rate), x.dtype)
  return tf.where(keep(tf.shape(x), rate, seed), scaled, tf.zeros_like(x))
