"""Batches of held-out rows for scorers, made of histories alone."""

from collections.abc import Iterable, Sequence

import numpy as np

from ncf_tfdata.data.records import EvaluationBatch


def of(
  histories: Sequence[Sequence[int]], user: Iterable[int] | None = None
) -> EvaluationBatch:
  """Rows with these histories, of users 0, 1, … or others; all ask for item 0."""
  rows = len(histories)
  return EvaluationBatch(
    user=np.array(range(rows) if user is None else user),
    positive=np.zeros(rows, np.int64),
    negatives=np.zeros((rows, 0), np.int64),
    history=np.array([item for items in histories for item in items], np.int64),
    history_length=np.array([len(items) for items in histories]),
  )
