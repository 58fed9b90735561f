"""How alike items are by what they are, and what that says of items nobody has had.

This module imports no TensorFlow.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from ncf_tfdata import memory
from ncf_tfdata.data import interactions, words
from ncf_tfdata.features.records import Categories, Column, Features, Numbers, Texts

# A number is near its two nearest quantiles of so many.
_QUANTILES = 11

# Most alike items that speak for one that nobody has had.
NEIGHBOURS = 20


def vectors(features: Features) -> sp.csr_matrix:
  """A vector of each item, whose products are cosines of what items are.

  Categories and words weigh tf · idf, idf = log(n / items that have it), tf being 1
  (Salton and Buckley, Term-weighting approaches in automatic text retrieval, 1988).
  A number is a point between its nearest quantiles. Of vectors the mean is taken off.
  Each column has length 1, or 0 where nothing is known, and so has the whole. What
  frequencies, quantiles and means are is told by the dataset's own items alone, so that
  they stay what they are with items that came later.

  Returns:
    float32 [n, d].
  """
  fitted = features.size - features.later
  parts = [_unit(_column(column, fitted)) for column in features.columns]
  if not parts:
    return sp.csr_matrix((features.size, 1), dtype=np.float32)
  return _unit(sp.hstack(parts)).astype(np.float32).tocsr()


def _column(column: Column, fitted: int) -> sp.csr_matrix:
  """One column as `vectors` has it, of which the first `fitted` rows are fitted on."""
  if isinstance(column, Categories):
    return _weighed(column.values, column.lengths, len(column.vocabulary), fitted)
  if isinstance(column, Texts):
    return _of_texts(column.values, fitted)
  if isinstance(column, Numbers):
    return _of_numbers(column.values, fitted)
  known = column.values[:fitted][column.known[:fitted]]
  mean = known.mean(axis=0) if len(known) else 0.0
  return sp.csr_matrix((column.values - mean) * column.known[:, None])


def _of_texts(texts: list[bytes], fitted: int) -> sp.csr_matrix:
  known: dict[str, int] = {}
  found = [words.words(text) for text in texts]
  values = [known.setdefault(word, len(known)) for line in found for word in line]
  lengths = np.array([len(line) for line in found], np.int64)
  return _weighed(np.array(values, np.int64), lengths, len(known), fitted)


def _weighed(
  values: np.ndarray, lengths: np.ndarray, size: int, fitted: int
) -> sp.csr_matrix:
  """float64 [n, size]: log(n / rows that have it) where a row has a value.

  Rows, and their number, are those that are fitted on.
  """
  row = np.repeat(np.arange(len(lengths)), lengths)
  matrix = interactions.matrix_of(row, values, len(lengths), max(size, 1))
  count = np.asarray(matrix[:fitted].sum(axis=0)).ravel()
  return matrix @ sp.diags(np.log(fitted / np.maximum(count, 1)))


def _of_numbers(values: np.ndarray, fitted: int) -> sp.csr_matrix:
  """float64 [n, quantiles]: weights of the two quantiles that a number is between."""
  known = np.flatnonzero(~np.isnan(values))
  told = values[known[known < fitted]]
  levels = np.linspace(0, 1, _QUANTILES)
  knots = np.unique(np.quantile(told, levels)) if len(told) else np.zeros(1)
  place = np.interp(values[known], knots, np.arange(len(knots)))
  lower = np.minimum(place.astype(int), max(len(knots) - 2, 0))
  upper = np.minimum(lower + 1, len(knots) - 1)
  share = place - lower
  cells = np.concatenate([1 - share, share])
  index = np.tile(known, 2), np.concatenate([lower, upper])
  return sp.csr_matrix((cells, index), (len(values), len(knots)))


def _unit(matrix: sp.spmatrix) -> sp.csr_matrix:
  """Rows of length 1; zero ones stay zero."""
  length = np.sqrt(np.asarray(matrix.multiply(matrix).sum(axis=1)).ravel())
  return sp.diags(1 / np.where(length > 0, length, 1)) @ matrix


def like(
  features: Features, count: np.ndarray, neighbours: int = NEIGHBOURS
) -> sp.csr_matrix:
  """For each item that nobody has had, those that are most like it, by shares.

  Args:
    features: Of n items.
    count: int64 [n], train interactions of each item.
    neighbours: How many items speak for one, of equal ones the lower ids.

  Returns:
    float64 [n, n]: rows of cosines that sum to 1, of items with interactions; empty
    rows of items that have some themselves, or are like none.
  """
  found = vectors(features)
  cold = np.flatnonzero(count == 0)
  warm = sp.diags((count > 0).astype(np.float32)) @ found
  shares = [sp.csr_matrix((0, features.size))]
  step = memory.block_rows(features.size)
  for start in range(0, len(cold), step):
    cosines = (found[cold[start : start + step]] @ warm.T).tocsr()
    cosines.data = np.maximum(cosines.data, 0).astype(np.float64)
    cosines.eliminate_zeros()
    shares.append(interactions.strongest(cosines, neighbours))
  nearest = sp.vstack(shares).tocsr()
  total = np.asarray(nearest.sum(axis=1)).ravel()
  nearest = sp.diags(1 / np.where(total > 0, total, 1)) @ nearest
  place = sp.csr_matrix(
    (np.ones(len(cold)), (cold, np.arange(len(cold)))), (features.size, len(cold))
  )
  return (place @ nearest).tocsr()


def filled(matrix: sp.csr_matrix, shares: sp.csr_matrix) -> sp.csr_matrix:
  """Weights of items with items, and for items nobody has had those of their like.

  A row or a column of one is the mean of those of the items that `shares` names. No
  item weighs on itself by it.

  Args:
    matrix: [n, n].
    shares: [n, n], of `like`.

  Returns:
    [n, n].
  """
  with_columns = matrix + matrix @ shares.T
  found = (with_columns + shares @ with_columns).tocsr()
  cold = np.asarray(shares.sum(axis=1)).ravel() > 0
  diagonal = found.diagonal() * cold
  return found - sp.diags(diagonal)


def filled_dense(matrix: np.ndarray, shares: sp.csr_matrix) -> np.ndarray:
  """`filled` of a dense matrix [n, n], in place: rows and columns alone are made."""
  cold = np.flatnonzero(np.asarray(shares.sum(axis=1)).ravel() > 0)
  own = shares[cold]
  matrix[:, cold] += (own @ matrix.T).T.astype(matrix.dtype)
  matrix[cold] += (own @ matrix).astype(matrix.dtype)
  matrix[cold, cold] = 0
  return matrix
