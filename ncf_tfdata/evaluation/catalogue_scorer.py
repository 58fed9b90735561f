"""A scorer that is made of interactions alone."""

from __future__ import annotations

import numpy as np

from ncf_tfdata.data.records import EvaluationBatch


class CatalogueScorer:
  """A scorer of the whole catalogue only, of which candidates are columns."""

  reads_history = True

  def score_candidates(self, batch: EvaluationBatch, items: np.ndarray) -> np.ndarray:
    return np.take_along_axis(self.score_all(batch), items, axis=1)

  def score_all(self, batch: EvaluationBatch) -> np.ndarray:
    raise NotImplementedError


class SharedScorer(CatalogueScorer):
  """A scorer that gives every user the same scores, whatever they have had."""

  reads_history = False

  def __init__(self, scores: np.ndarray):
    """Takes the scores of the catalogue, kept as float32 [num_items]."""
    self._scores = scores.astype(np.float32)

  def score_all(self, batch: EvaluationBatch) -> np.ndarray:
    # One row in memory, by which the ranking knows that they are shared.
    return np.broadcast_to(self._scores, (len(batch.user), len(self._scores)))
