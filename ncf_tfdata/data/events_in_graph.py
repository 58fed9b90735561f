"""Entries of histories in tensors; see `events`."""

from __future__ import annotations

import tensorflow as tf

from ncf_tfdata.data import events


def codes(time: tf.Tensor, first: tf.Tensor) -> tf.Tensor:
  """Codes int32 [n] of rows that lie one after the other; see `events.of_times`.

  Args:
    time: int64 [n].
    first: bool [n], before which rows there is none.
  """
  before = tf.concat([time[:1], time[:-1]], 0)
  gap = tf.cast(tf.where(first, tf.zeros_like(time), time - before), tf.float64)
  bits = tf.bitcast(gap + 1, tf.int64)
  code = tf.bitwise.right_shift(bits, tf.constant(events.MANTISSA_BITS, tf.int64))
  code = tf.minimum(tf.cast(code, tf.int32) - (events.BIAS - 1), events.CODES - 1)
  return tf.where(first, 0, code)


def items(entries: tf.Tensor) -> tf.Tensor:
  """The items of entries: int64 of the same shape, of any int."""
  return tf.bitwise.bitwise_and(tf.cast(entries, tf.int64), events.ITEM)


def split(entries: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
  """The items and the codes of entries: int32 of the same shape, of any int."""
  entries = tf.cast(entries, tf.int64)
  code = tf.bitwise.right_shift(entries, tf.constant(events.ITEM_BITS, tf.int64))
  return tf.cast(items(entries), tf.int32), tf.cast(code, tf.int32)
