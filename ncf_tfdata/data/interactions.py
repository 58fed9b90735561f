"""Interactions as sparse matrices of users and items."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp

from ncf_tfdata.data.records import EvaluationBatch

# Above this density a dense product is faster than scipy's sparse one.
DENSE = 0.005
# Of what is read again and again: it stays in a core's cache. And columns of it, where
# rows are so many.
_CACHED_BYTES, _NARROWEST = 1 << 20, 32
# Readings of each row that are worth a copy of it.
_WORTH_A_COPY = 4


def matrix_of(
  user: np.ndarray,
  item: np.ndarray,
  num_users: int,
  num_items: int,
  dtype: type[np.floating[Any]] = np.float64,
) -> sp.csr_matrix:
  """`dtype` [num_users, num_items], 1 where a user has the item."""
  ones = np.ones(len(user), dtype)
  matrix = sp.csr_matrix((ones, (user, item)), (num_users, num_items))
  matrix.data[:] = 1
  return matrix


def histories(
  batch: EvaluationBatch,
  num_items: int,
  dtype: type[np.floating[Any]] = np.float64,
  last: int = 0,
) -> sp.csr_matrix:
  """`dtype` [n, num_items], 1 where an item is in the history.

  Args:
    batch: Of n rows.
    num_items: Size of the catalogue.
    dtype: Of the cells.
    last: Entries of a history that count, from its end; 0 for all.
  """
  length, item = batch.history_length, batch.history
  row = np.repeat(np.arange(len(length)), length)
  if last:
    back = np.repeat(np.cumsum(length), length) - np.arange(len(row))
    row, item = row[back <= last], item[back <= last]
  return matrix_of(row, item, len(length), num_items, dtype)


def is_dense(matrix: sp.csr_matrix) -> bool:
  """Whether a product is faster with all of the matrix's cells."""
  return matrix.nnz > DENSE * matrix.shape[0] * matrix.shape[1]


def product(x: sp.csr_matrix, weights: np.ndarray | sp.csc_matrix) -> np.ndarray:
  """x @ weights, whose sums go by x's columns: of a row the same in any company.

  Args:
    x: `dtype` [n, m], of few cells.
    weights: `dtype` [m, k], in which the sums are made.

  Returns:
    float32 [n, k].
  """
  rows, columns = weights.shape
  width = columns
  if is_worth_copies(x):
    width = max(_NARROWEST, _CACHED_BYTES // (weights.dtype.itemsize * rows))
  found = np.empty((x.shape[0], columns), np.float32)
  for start in range(0, columns, width):
    strip = weights[:, start : start + width]
    dense = strip if isinstance(strip, np.ndarray) else strip.toarray(order='C')
    found[:, start : start + width] = x @ np.ascontiguousarray(dense)
  return found


def is_worth_copies(x: sp.csr_matrix) -> bool:
  """Whether a product with x reads each row of the other side so often."""
  return x.nnz > _WORTH_A_COPY * x.shape[1]


def strongest(matrix: sp.csr_matrix, kept: int) -> sp.csr_matrix:
  """The `kept` largest entries of each row; of equal ones the lower column."""
  length = np.diff(matrix.indptr)
  if length.max(initial=0) <= kept:
    return matrix
  row = np.repeat(np.arange(len(length)), length)
  order = np.lexsort((matrix.indices, -matrix.data, row))
  place = np.arange(len(row)) - np.repeat(matrix.indptr[:-1], length)
  order = order[place < kept]
  return sp.csr_matrix(
    (matrix.data[order], (row[order], matrix.indices[order])), matrix.shape
  )
