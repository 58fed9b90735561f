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
