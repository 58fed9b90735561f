"""What followed what, as `prepare --successors` counted it, and scores from it."""

import functools

import numpy as np
import scipy.sparse as sp

from ncf_tfdata import dataset as dataset_lib
from ncf_tfdata.data import interactions, records
from ncf_tfdata.errors import UserError

# A cell takes a sparse product so many times what it takes a dense one.
_SPARSE_CELL = 8


def read(dataset: dataset_lib.Dataset) -> sp.csr_matrix:
  """Reads the item transitions that a dataset keeps.

  Returns:
    C, float64 [num_items, num_items]: the sum of l^-0.7 over all two train rows of a
    user at distance l <= 10, the earlier's item in the row and the later's in the
    column; zero where a pair was not kept.

  Raises:
    UserError: The dataset has none, or a shard is corrupt.
  """
  if not dataset.has(dataset_lib.SUCCESSORS):
    raise UserError(
      f'{dataset.directory} has no item transitions. '
      'Prepare it again with --successors=500 --overwrite.'
    )
  blocks = list(records.columns(dataset, dataset_lib.SUCCESSORS))
  item, length, successor, weight = (
    np.concatenate([np.zeros(0, np.int64), *(block[name] for block in blocks)])
    for name in dataset_lib.features(dataset_lib.SUCCESSORS)
  )
  counts = sp.csr_matrix(
    (weight * dataset_lib.WEIGHT_UNIT, (np.repeat(item, length), successor)),
    (dataset.num_items, dataset.num_items),
  )
  counts.sort_indices()
  return counts


class TransitionScores:
  """Scores items by how often they followed those of a user's recent history.

  W = (C + reverse Cᵀ) / sqrt(pop popᵀ), with pop the count of train rows + 1; a
  user's scores are the sum over the last items, at distance l from the end, of
  l^-decay W[item].

  Attributes:
    weights: W, float64 [num_items, num_items].
    decay: By distance from the end of the history.
    last: Items of the history that count.
  """

  def __init__(
    self,
    counts: sp.csr_matrix,
    item_count: np.ndarray,
    reverse: float = 0.0,
    decay: float = dataset_lib.TRANSITION_DECAY,
    last: int = dataset_lib.TRANSITION_HISTORY,
  ):
    """Takes what `read` returns.

    Args:
      counts: C, float64 [num_items, num_items].
      item_count: int64 [num_items], train rows of each item.
      reverse: Weight of what came before, beside what came after.
      decay: By distance from the end of the history.
      last: Items of the history that count.
    """
    self.decay, self.last = decay, last
    if reverse:
      counts = counts + reverse * counts.T
    scale = sp.diags(1 / np.sqrt(item_count + 1))
    self.weights = (scale @ counts @ scale).tocsr()

  def scores(self, history: np.ndarray, history_length: np.ndarray) -> np.ndarray:
    """Scores the whole catalogue.

    Args:
      history: int64 [sum of lengths], oldest first, user after user.
      history_length: int64 [n].

    Returns:
      float32 [n, num_items], 0 for what never followed.
    """
    users = len(history_length)
    back = np.repeat(np.cumsum(history_length), history_length)
    back -= np.arange(len(history))
    user = np.repeat(np.arange(users), history_length)
    recent = back <= self.last
    recency = sp.csr_matrix(
      (back[recent] ** -self.decay, (user[recent], history[recent])),
      (users, self.weights.shape[0]),
    )
    if self._is_dense(recency):
      return interactions.product(recency, self._by_column)
    found = recency @ self.weights
    found.data = found.data.astype(np.float32)  # `astype` of the matrix would sort it.
    return found.toarray()

  @functools.cached_property
  def _by_column(self) -> sp.csc_matrix:
    return self.weights.tocsc()

  def _is_dense(self, recency: sp.csr_matrix) -> bool:
    """Whether a product takes longer with the cells alone than with all of them."""
    cells = np.diff(self.weights.indptr)[recency.indices].sum()
    every = recency.nnz * self.weights.shape[1]
    return interactions.is_worth_copies(recency) and _SPARSE_CELL * cells > every
