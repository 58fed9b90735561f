"""Baselines that look at the time, as Scorers: what is popular of late.

They need a dataset that holds times: one that is cut by time or by share, or was
prepared with `--keep_times`.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from ncf_tfdata.data.records import EvaluationBatch
from ncf_tfdata.evaluation import catalogue_scorer
from ncf_tfdata.evaluation.item_knn import ItemKNN


class RecentPopularity(catalogue_scorer.SharedScorer):
  """An item's score is the count of its rows in the last days before the cut.

  Source: Ji et al., A re-visit of the popularity baseline in recommender systems (SIGIR
  2020), RecentPop.
  """

  def __init__(
    self,
    user: np.ndarray,
    item: np.ndarray,
    num_users: int,
    num_items: int,
    time: np.ndarray,
    day: int,
    days: float = 7.0,
  ):
    """Counts.

    Args:
      user: int64 [n], ascending.
      item: int64 [n].
      num_users: Users of the dataset.
      num_items: Size of the catalogue.
      time: int64 [n].
      day: What a day is in the unit of `time`.
      days: How far to look back from the latest row.
    """
    del user, num_users
    recent = time > time.max(initial=0) - days * day
    super().__init__(np.bincount(item[recent], minlength=num_items))


class DecayedItemKNN(ItemKNN):
  """An item kNN in which what a user had long ago counts less.

  Each row of the history weighs 2^(-age / half_life), its age being the time from it to
  the moment that is asked about. Source: Ding and Li, Time weight collaborative
  filtering (CIKM 2005), section 4.
  """

  def __init__(
    self,
    user: np.ndarray,
    item: np.ndarray,
    num_users: int,
    num_items: int,
    time: np.ndarray,
    day: int,
    neighbours: int = 100,
    half_life: float = 30.0,
    max_gb: float = 0.0,
  ):
    """Fits; arguments as `ItemKNN` and `RecentPopularity` have them.

    Args:
      user: int64 [n], ascending.
      item: int64 [n].
      num_users: Users of the dataset.
      num_items: Size of the catalogue.
      time: int64 [n]; the neighbours do not depend on it.
      day: What a day is in the unit of times.
      neighbours: Of an item.
      half_life: In days.
      max_gb: Memory that it may take, in 10⁹ bytes; 0 for what is free.
    """
    del time
    super().__init__(user, item, num_users, num_items, neighbours, max_gb)
    self._half_life = max(half_life * day, 1.0)

  def _histories(self, batch: EvaluationBatch, num_items: int) -> sp.csr_matrix:
    if batch.time is None or batch.history_time is None:
      raise ValueError('`batch` must hold times. Received: None.')
    row = np.repeat(np.arange(len(batch.user)), batch.history_length)
    age = batch.time[row] - batch.history_time
    # An item that is there twice counts for both.
    return sp.csr_matrix(
      (np.exp2(-age / self._half_life), (row, batch.history)),
      (len(batch.user), num_items),
    )
