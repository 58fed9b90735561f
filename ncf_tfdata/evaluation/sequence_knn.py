"""V-SKNN: what users with similar last items have in their histories, as a Scorer."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from ncf_tfdata import memory
from ncf_tfdata.data import interactions
from ncf_tfdata.data.records import EvaluationBatch
from ncf_tfdata.evaluation import catalogue_scorer, footprint


class SequenceKNN(catalogue_scorer.CatalogueScorer):
  """Sums the similarities of the nearest users who have an item.

  sim(u, v) = Σ w(i) over the items i that v has and that are among the `last` of u,
  n of them; w falls linearly from 1 for the very last one to 1 / n. Of u's
  `neighbours`, the users v other than u with the largest sim > 0 (of equal ones the
  lower id), score(u, i) = Σ sim(u, v) over those who have i. Sessions are users' train
  histories. Source: Ludewig and Jannach, Evaluation of session-based recommendation
  algorithms (UMUAI 2018), V-SKNN.

  They look for neighbours among the latest sessions only. A dataset does not say when a
  user was active, so all are looked at, but for an item of more than `kept` users: of
  these, who had it nearest to the end of their history.
  """

  def __init__(
    self,
    user: np.ndarray,
    item: np.ndarray,
    num_users: int,
    num_items: int,
    neighbours: int = 100,
    last: int = 10,
    kept: int = footprint.KEPT,
    max_gb: float = 0.0,
  ):
    """Fits.

    Args:
      user: int64 [n], ascending.
      item: int64 [n], in time order within a user.
      num_users: Users of the dataset.
      num_items: Size of the catalogue.
      neighbours: Users whose histories count.
      last: Items of a history that neighbours are looked for by.
      kept: Users of an item that are looked at, at most.
      max_gb: Memory that it may take, in 10⁹ bytes; 0 for what is free.

    Raises:
      UserError: It would take more.
    """
    lengths = np.bincount(user, minlength=num_users)
    footprint.check('sequence-knn', num_items, lengths, max_gb)
    self._neighbours, self._last = neighbours, last
    self._sessions = interactions.matrix_of(
      user, item, num_users, num_items, np.float32
    )
    latest = _nearest_to_the_end(user, item, num_users, num_items, kept)
    self._users_of = interactions.matrix_of(
      item[latest], user[latest], num_items, num_users, np.float32
    )
    # Cells of the similarities of a row at most, by which rows are taken at once.
    self._width = min(num_users, last * kept)

  def score_all(self, batch: EvaluationBatch) -> np.ndarray:
    items = self._sessions.shape[1]
    weights = _by_position(batch, self._last, items)
    scores = np.empty((len(batch.user), items), np.float32)
    step = memory.block_rows(self._width)
    for start in range(0, len(scores), step):
      part = slice(start, start + step)
      similar = weights[part] @ self._users_of
      nearest = _nearest(similar, batch.user[part], self._neighbours)
      (nearest @ self._sessions).toarray(out=scores[part])
    return scores


def _nearest_to_the_end(
  user: np.ndarray, item: np.ndarray, num_users: int, num_items: int, kept: int
) -> np.ndarray:
  """The rows that are among the `kept` of their item with the fewest rows after.

  Returns:
    Indices int64; of rows as near to the end, the lower users'.
  """
  popularity = np.bincount(item, minlength=num_items)
  if popularity.max(initial=0) <= kept:
    return np.arange(len(user))
  end = np.cumsum(np.bincount(user, minlength=num_users))
  after = end[user] - np.arange(len(user))
  order = np.lexsort((after, item))
  place = np.arange(len(item)) - np.repeat(
    np.cumsum(popularity) - popularity, popularity
  )
  return order[place < kept]


def _by_position(batch: EvaluationBatch, last: int, num_items: int) -> sp.csr_matrix:
  """Weights of the last items of each history: float32 [n, num_items].

  In units of 1 / n, so that sums are exact and equal similarities are equal; by it
  neither neighbours nor the order of scores change.
  """
  length = batch.history_length
  row = np.repeat(np.arange(len(length)), length)
  back = np.repeat(np.cumsum(length), length) - np.arange(len(row)) - 1
  taken = back < last
  row, item, back = row[taken], batch.history[taken], back[taken]
  weight = np.minimum(length, last)[row] - back
  # Of an item that is there twice, the later one.
  key, first = np.unique((row * num_items + item)[::-1], return_index=True)
  weight = weight[::-1][first].astype(np.float32)
  return sp.csr_matrix((weight, np.divmod(key, num_items)), (len(length), num_items))


def _nearest(
  similar: sp.csr_matrix, user: np.ndarray, neighbours: int
) -> sp.csr_matrix:
  """The largest similarities of each row, but for the user's own.

  Args:
    similar: float32 [n, num_users].
    user: int64 [n], whose rows they are.
    neighbours: How many of a row are kept.

  Returns:
    A matrix of the same shape.
  """
  columns, values, starts = [], [], [0]
  for row, own in enumerate(user):
    part = slice(similar.indptr[row], similar.indptr[row + 1])
    column, value = similar.indices[part], similar.data[part]
    value = np.where(column == own, 0, value)
    if len(value) > neighbours:
      bound = np.partition(value, -neighbours)[-neighbours]
      chosen = np.flatnonzero(value > bound)
      ties = np.flatnonzero(value == bound)
      ties = ties[np.argsort(column[ties])][: neighbours - len(chosen)]
      chosen = np.concatenate([chosen, ties])
      column, value = column[chosen], value[chosen]
    columns.append(column)
    values.append(value)
    starts.append(starts[-1] + len(column))
  return sp.csr_matrix(
    (np.concatenate(values), np.concatenate(columns), np.array(starts)), similar.shape
  )
