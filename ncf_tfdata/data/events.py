"""Entries of histories: an item, and how long it came after the entry before it.

An entry is one int64: the item's id, and above its bits a code of the gap. Where the
gap is not known the code is 0, and the entry is the item's id. So items are entries.

A code says on which power of two a gap lies, whatever the unit of the log's timestamps:
1 + floor(log2(1 + gap)), at most 63.

`events_in_graph` does the same in tensors.
"""

from __future__ import annotations

import numpy as np

# Codes are below this.
CODES = 64

ITEM_BITS = 40
ITEM = (1 << ITEM_BITS) - 1
# Of float64: what stands before the mantissa is the exponent, and this.
MANTISSA_BITS, BIAS = 52, 1023


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
  code = ((gap + 1).view(np.int64) >> MANTISSA_BITS) - (BIAS - 1)
  code = np.minimum(code, CODES - 1)
  first = np.cumsum(length) - length
  code[first[length > 0]] = 0
  return item | (code << ITEM_BITS)


def items(entries: np.ndarray) -> np.ndarray:
  """The items of entries: int64 of the same shape."""
  return entries & ITEM
