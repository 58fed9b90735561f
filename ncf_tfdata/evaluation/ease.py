"""EASE: the ridge regression of items on each other, as a Scorer."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from ncf_tfdata import memory
from ncf_tfdata.data.records import EvaluationBatch
from ncf_tfdata.errors import UserError
from ncf_tfdata.evaluation import dense_inverse, footprint, interactions


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
  for start in range(0, users, step):
    block = matrix[start : start + step].toarray()
    for strip in dense_inverse.blocks(items):
      gram[strip] += block[:, strip].T @ block
  return gram


class Ease(interactions.CatalogueScorer):
  """Scores x B, where B is the ridge regression of items on each other.

  P = (Xᵀ X + l2 I)⁻¹, B = I - P diag(P)⁻¹ with a zero diagonal. Source: Steck,
  Embarrassingly shallow autoencoders for sparse data (WWW 2019), equation 8.
  Memory: one float64 [num_items, num_items], and strips of it.
  """

  def __init__(
    self,
    user: np.ndarray,
    item: np.ndarray,
    num_users: int,
    num_items: int,
    l2: float = 500.0,
    max_gb: float = 0.0,
  ):
    """Fits.

    Args:
      user: int64 [n], of each row.
      item: int64 [n].
      num_users: Users of the dataset.
      num_items: Size of the catalogue.
      l2: Of the ridge regression.
      max_gb: Memory that it may take, in 10⁹ bytes; 0 for what is free.

    Raises:
      UserError: It would take more, or has no solution.
    """
    footprint.check('ease', num_items, np.bincount(user), max_gb)
    weights = _gram(interactions.matrix_of(user, item, num_users, num_items))
    diagonal = np.diag_indices(num_items)
    weights[diagonal] += l2
    try:
      dense_inverse.invert(weights)
    except np.linalg.LinAlgError as error:
      raise UserError(
        f'EASE has no solution with l2={l2}: give it a positive one.'
      ) from error
    weights /= -weights[diagonal]
    weights[diagonal] = 0
    self._weights = weights

  def score_all(self, batch: EvaluationBatch) -> np.ndarray:
    history = interactions.histories(batch, len(self._weights))
    if interactions.is_dense(history):
      history = history.toarray()
    return (history @ self._weights).astype(np.float32)
