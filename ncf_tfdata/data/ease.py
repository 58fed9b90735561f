"""EASE: the ridge regression of items on each other."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from ncf_tfdata import memory
from ncf_tfdata.data import dense_inverse, interactions
from ncf_tfdata.data.records import EvaluationBatch
from ncf_tfdata.errors import UserError

# Strength of the ridge.
L2 = 500.0


def _gram(matrix: sp.csr_matrix) -> np.ndarray:
  """Xᵀ X, float64 [num_items, num_items]: users that two items share."""
  users, items = matrix.shape
  gram = np.zeros((items, items))
  if not interactions.is_dense(matrix):
    columns = matrix.tocsc()
    for strip in dense_inverse.blocks(items):
      (columns[:, strip].T @ matrix).toarray(out=gram[strip])
    return gram
  step = memory.block_rows(items)
  narrow = matrix.astype(np.float32)  # Counts of so few rows are exact in it.
  for start in range(0, users, step):
    block = narrow[start : start + step].toarray()
    for strip in dense_inverse.blocks(items):
      gram[strip] += block[:, strip].T @ block
  return gram


def weights(
  user: np.ndarray, item: np.ndarray, num_users: int, num_items: int, l2: float = L2
) -> np.ndarray:
  """Fits.

  P = (Xᵀ X + l2 I)⁻¹, B = I - P diag(P)⁻¹ with a zero diagonal. Source: Steck,
  Embarrassingly shallow autoencoders for sparse data (WWW 2019), equation 8.
  Memory: one float64 [num_items, num_items], and strips of it.

  Args:
    user: int64 [n], of each row.
    item: int64 [n].
    num_users: Users of the dataset.
    num_items: Size of the catalogue.
    l2: Of the ridge regression.

  Returns:
    B, float64 [num_items, num_items].

  Raises:
    UserError: There is no solution.
  """
  found = _gram(interactions.matrix_of(user, item, num_users, num_items))
  diagonal = np.diag_indices(num_items)
  found[diagonal] += l2
  try:
    dense_inverse.invert(found)
  except np.linalg.LinAlgError as error:
    raise UserError(
      f'EASE has no solution with l2={l2}: give it a positive one.'
    ) from error
  found /= -found[diagonal]
  found[diagonal] = 0
  return found


def scores(batch: EvaluationBatch, weights: np.ndarray) -> np.ndarray:
  """Scores the catalogue by x B, x being 1 for each item of a history.

  Args:
    batch: Of n rows.
    weights: B, [num_items, num_items].

  Returns:
    float32 [n, num_items].
  """
  x = interactions.histories(batch, len(weights), weights.dtype.type)
  return interactions.product(x, weights)
