"""The nearest items of those that a user has had, as a Scorer."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from ncf_tfdata import memory
from ncf_tfdata.data import interactions
from ncf_tfdata.data.records import EvaluationBatch
from ncf_tfdata.evaluation import catalogue_scorer, footprint, top_lists


class ItemKNN(catalogue_scorer.CatalogueScorer):
  """Sum of the cosines between an item and those in the history.

  cos(i, j) = |users of both| / sqrt(|users of i| |users of j|); of each i only its
  nearest neighbours j count. Source: Sarwar et al., Item-based collaborative
  filtering recommendation algorithms (WWW 2001); Deshpande and Karypis (TOIS 2004).
  """

  def __init__(
    self,
    user: np.ndarray,
    item: np.ndarray,
    num_users: int,
    num_items: int,
    neighbours: int = 100,
    max_gb: float = 0.0,
  ):
    footprint.check(
      'item-knn', num_items, np.bincount(user), max_gb, neighbours=neighbours
    )
    matrix = interactions.matrix_of(user, item, num_users, num_items)
    count = np.asarray(matrix.sum(axis=0)).ravel()
    matrix = (matrix @ sp.diags(1 / np.sqrt(np.maximum(count, 1)))).tocsr()
    columns = matrix.tocsc()
    step = memory.block_rows(num_items)
    self._neighbours = sp.hstack(
      [
        _nearest(columns, matrix, start, min(start + step, num_items), neighbours)
        for start in range(0, num_items, step)
      ]
    ).tocsr()

  def score_all(self, batch: EvaluationBatch) -> np.ndarray:
    history = self._histories(batch, self._neighbours.shape[0])
    return (history @ self._neighbours).toarray().astype(np.float32)

  def _histories(self, batch: EvaluationBatch, num_items: int) -> sp.csr_matrix:
    """The weight of each item of the history: [n, num_items]."""
    return interactions.histories(batch, num_items)


def _nearest(
  columns: sp.csc_matrix, matrix: sp.csr_matrix, start: int, stop: int, neighbours: int
) -> sp.csc_matrix:
  """Cosines of the items start … stop (columns) with their nearest items (rows)."""
  cosine = (columns[:, start:stop].T @ matrix).tocsr()
  row = np.repeat(np.arange(start, stop), np.diff(cosine.indptr))
  cosine.data[cosine.indices == row] = 0
  cosine.eliminate_zeros()
  if np.diff(cosine.indptr).max(initial=0) > neighbours:
    # Selects before it sorts.
    dense = cosine.toarray()
    dense[dense < top_lists.kth_largest(dense, neighbours)] = 0
    # Those as near as the last one are kept too, within bounds.
    kept = max(neighbours, footprint.KEPT)
    cosine = interactions.strongest(sp.csr_matrix(dense), kept)
  return cosine.T
