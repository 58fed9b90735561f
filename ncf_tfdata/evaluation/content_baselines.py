"""Baselines that know items by what they are, and so those that nobody has had."""

from __future__ import annotations

import numpy as np

from ncf_tfdata import memory
from ncf_tfdata.data import content, interactions
from ncf_tfdata.data.records import EvaluationBatch
from ncf_tfdata.evaluation import catalogue_scorer
from ncf_tfdata.features.records import Categories, Features


class ContentKNN(catalogue_scorer.CatalogueScorer):
  """Sum of the cosines between an item and those of the history, by what they are.

  The profile of a user is the sum of the vectors of their items, and a score is its
  product with an item's: of every item the nearest of all count. Vectors are those of
  `content.vectors`: TF-IDF of categories and of words, each column of length 1. It
  learns nothing of interactions. Source: Pazzani and Billsus, Content-based
  recommendation systems (The adaptive web, 2007), section 10.4.
  """

  knows_cold_items = True

  def __init__(
    self,
    user: np.ndarray,
    item: np.ndarray,
    num_users: int,
    num_items: int,
    features: Features,
    last: int = 0,
  ):
    """Takes features of all items.

    Args:
      user: int64 [n], not looked at.
      item: int64 [n], not looked at.
      num_users: Users of the dataset.
      num_items: Size of the catalogue.
      features: Of the catalogue.
      last: Items of a history that count, from its end; 0 for all.
    """
    del user, item, num_users, num_items
    self._vectors, self._last = content.vectors(features), last
    self._columns = self._vectors.T.tocsr()

  def score_all(self, batch: EvaluationBatch) -> np.ndarray:
    num_items = self._vectors.shape[0]
    history = interactions.histories(batch, num_items, np.float32, self._last)
    profile = history @ self._vectors
    scores = np.empty((len(batch.user), num_items), np.float32)
    step = memory.block_rows(num_items)
    for start in range(0, len(scores), step):
      part = slice(start, start + step)
      (profile[part] @ self._columns).toarray(out=scores[part])
    return scores


class CategoryPopularity(catalogue_scorer.SharedScorer):
  """How often items of an item's categories are had, whoever asks.

  A category's rate is its items' train rows over the number of its items that have
  any; an item's score is the mean rate of its categories, over all columns of them.
  One without a category has the mean rate of all items.
  """

  knows_cold_items = True

  def __init__(
    self,
    user: np.ndarray,
    item: np.ndarray,
    num_users: int,
    num_items: int,
    features: Features,
  ):
    del user, num_users
    count = np.bincount(item, minlength=num_items).astype(np.float64)
    had = count > 0
    total, number = np.zeros(num_items), np.zeros(num_items)
    for column in features.columns:
      if isinstance(column, Categories):
        row = np.repeat(np.arange(num_items), column.lengths)
        size = len(column.vocabulary)
        rows, items = (
          np.bincount(column.values, each[row], size) for each in (count, had)
        )
        rate = rows / np.maximum(items, 1)
        total += np.bincount(row, rate[column.values], num_items)
        number += column.lengths
    mean = count.sum() / max(had.sum(), 1)
    super().__init__(np.where(number > 0, total / np.maximum(number, 1), mean))
