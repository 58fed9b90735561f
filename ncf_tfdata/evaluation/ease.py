"""EASE as a Scorer."""

from __future__ import annotations

import numpy as np

from ncf_tfdata.data import ease
from ncf_tfdata.data.records import EvaluationBatch
from ncf_tfdata.evaluation import catalogue_scorer, footprint


class Ease(catalogue_scorer.CatalogueScorer):
  """Scores a history by the ridge regression of items on each other.

  See `ncf_tfdata.data.ease`, where its formula and its source are.
  """

  def __init__(
    self,
    user: np.ndarray,
    item: np.ndarray,
    num_users: int,
    num_items: int,
    l2: float = ease.L2,
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
    self._weights = ease.weights(user, item, num_users, num_items, l2)

  def score_all(self, batch: EvaluationBatch) -> np.ndarray:
    return ease.scores(batch, self._weights)
