"""How much memory a baseline takes to fit, estimated before anything is computed.

Bytes of an entry, a row or a pair are those measured, rounded up; a test compares the
estimates with what fits allocate.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ncf_tfdata import dataset as dataset_lib
from ncf_tfdata import memory
from ncf_tfdata.data import dense_inverse

# What is kept of an item at most, which bounds the memory of any catalogue.
KEPT = 4096
# Pairs of rows that are counted at once: 24 bytes each.
PAIRS = 1 << 25
# Of a row: its sparse matrix, by rows and by columns, and what makes it.
_ROW_BYTES = 60


def _ease(num_items: int, lengths: np.ndarray, **_: Any) -> int:
  return dense_inverse.needed_bytes(num_items)


def _item_knn(
  num_items: int, lengths: np.ndarray, neighbours: int = 100, **_: Any
) -> int:
  """Of neighbours, with as many again that are equally near, and of a dense block."""
  pairs = int((lengths.astype(float) ** 2).sum())
  kept = min(pairs, 2 * num_items * neighbours, num_items**2)
  block = min(memory.BLOCK_CELLS + num_items, num_items**2)
  return _ROW_BYTES * int(lengths.sum()) + 40 * block + 30 * kept


def _transitions(
  num_items: int,
  lengths: np.ndarray,
  reverse: float = 0.0,
  distance: int = dataset_lib.TRANSITION_DISTANCE,
  kept: int = KEPT,
  **_: Any,
) -> int:
  """As if no item followed another twice."""
  lags = range(1, distance + 1)
  pairs = sum(int(np.maximum(lengths - lag, 0).sum()) for lag in lags)
  entries = min(pairs, num_items * kept, num_items**2) * (2 if reverse else 1)
  return _ROW_BYTES * int(lengths.sum()) + 24 * min(pairs, PAIRS) + 40 * entries


def _sequence_knn(num_items: int, lengths: np.ndarray, **_: Any) -> int:
  """Ids of rows, their order, and two sparse matrices."""
  return 64 * int(lengths.sum()) + 16 * (len(lengths) + memory.BLOCK_CELLS)


_NEEDED: Mapping[str, Callable[..., int]] = {
  'ease': _ease,
  'item-knn': _item_knn,
  'item-knn-decay': _item_knn,
  'sequence-knn': _sequence_knn,
  'successors': _transitions,
  'transitions': _transitions,
}


def check(
  name: str,
  num_items: int,
  lengths: np.ndarray,
  max_gb: float = 0.0,
  **parameters: Any,
) -> None:
  """Refuses a fit that would not fit.

  Args:
    name: Of the baseline; one whose memory is that of its rows is never refused.
    num_items: Size of the catalogue.
    lengths: int64 [num_users], rows of each user.
    max_gb: Memory that it may take, in 10⁹ bytes; 0 for what is free.
    **parameters: Of the baseline.

  Raises:
    UserError: It takes more.
  """
  needed = _NEEDED.get(name)
  if needed:
    memory.require(
      f'{name} of {num_items:,} items',
      needed(num_items, lengths, **parameters),
      max_gb,
      f'Leave {name} out of --baselines, or say with {name}:max_gb=… how much it may '
      'take.',
    )
