"""Entries of histories: an item, and how long it came after the entry before it.

An entry is one int64: the item's id, and above its bits a code of the gap. Where the
gap is not known the code is 0, and the entry is the item's id. So items are entries.

A code says on which power of two a gap lies, whatever the unit of the log's timestamps:
1 + floor(log2(1 + gap)), at most 63.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

# Codes are below this.
CODES = 64

_ITEM_BITS = 40
_ITEM = (1 << _ITEM_BITS) - 1
# Of float64: what stands before the mantissa is the exponent, and this.
_MANTISSA_BITS, _BIAS = 52, 1023


def of_times(
  item: np.ndarray, length: np.ndarray, time: np.ndarray | None
) -> np.ndarray:
  """Entries of some rows' histories, one after the other.

  Args:
    item: int64 [sum of lengths], oldest first.
    length: int64 [n].
    time: int64 [sum of lengths], never less than the one before; None where there are
      none.

  Returns:
    int64 [sum of lengths]. Of a row's first entry the gap is not known.
  """
  if time is None or not len(item):
    return item
  gap = np.diff(time, prepend=time[0]).astype(np.float64)
  code = ((gap + 1).view(np.int64) >> _MANTISSA_BITS) - (_BIAS - 1)
  code = np.minimum(code, CODES - 1)
  first = np.cumsum(length) - length
  code[first[length > 0]] = 0
  return item | (code << _ITEM_BITS)


def codes_in_graph(time: tf.Tensor, first: tf.Tensor) -> tf.Tensor:
  """Codes of rows that lie one after the other: int32 [n], as `of_times` has them.

  Args:
    time: int64 [n].
    first: bool [n], before which rows there is none.
  """
  before = tf.concat([time[:1], time[:-1]], 0)
  gap = tf.cast(tf.where(first, tf.zeros_like(time), time - before), tf.float64)
  bits = tf.bitcast(gap + 1, tf.int64)
  code = tf.bitwise.right_shift(bits, tf.constant(_MANTISSA_BITS, tf.int64))
  code = tf.minimum(tf.cast(code, tf.int32) - (_BIAS - 1), CODES - 1)
  return tf.where(first, 0, code)


def items(entries: np.ndarray) -> np.ndarray:
  """The items of entries: int64 of the same shape."""
  return entries & _ITEM


def items_in_graph(entries: tf.Tensor) -> tf.Tensor:
  """The items of entries: int64 of the same shape, of any int."""
  return tf.bitwise.bitwise_and(tf.cast(entries, tf.int64), _ITEM)


def split_in_graph(entries: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
  """The items and the codes of entries: int32 of the same shape, of any int."""
  entries = tf.cast(entries, tf.int64)
  code = tf.bitwise.right_shift(entries, tf.constant(_ITEM_BITS, tf.int64))
  return tf.cast(items_in_graph(entries), tf.int32), tf.cast(code, tf.int32)
