"""Ranking metrics as Keras objects, for `compile`, `evaluate` and hand-written loops.

    model.compile(loss=…, metrics=[keras_metrics.HitRate(10), keras_metrics.NDCG(10)])

A row is one list of candidates: `y_true` [n, c] is 1 at its one relevant item and 0
elsewhere, `y_pred` [n, c] holds scores (logits or probabilities). Ranks are those of
the protocol: candidates that score higher, plus half of those that score equal.
"""

from typing import Any

import keras
from keras import ops


def ranks(y_true: Any, y_pred: Any) -> Any:
  """0-based rank of each row's relevant item.

  Args:
    y_true: [n, c], 1 at the relevant item.
    y_pred: [n, c], scores.

  Returns:
    float32 [n].
  """
  y_pred = ops.convert_to_tensor(y_pred)
  relevant = ops.argmax(ops.convert_to_tensor(y_true), axis=-1)
  target = ops.take_along_axis(y_pred, relevant[:, None], axis=-1)
  higher = ops.sum(ops.cast(y_pred > target, 'float32'), axis=-1)
  equal = ops.sum(ops.cast(y_pred == target, 'float32'), axis=-1) - 1
  # A comparison with NaN is false: without this, a diverged model would rank first.
  broken = ops.any(ops.isnan(y_pred), axis=-1)
  return ops.where(broken, float('inf'), higher + 0.5 * equal)


class _RankingMetric(keras.metrics.Mean):  # type: ignore[misc]
  """Mean of a function of the rank, with optional row weights [n]."""

  _prefix = ''

  def __init__(self, k: int = 10, name: str | None = None, dtype: Any = None):
    if k < 1:
      raise ValueError(f'k must be at least 1. Received: k={k}')
    super().__init__(name=name or f'{self._prefix}@{k}', dtype=dtype)
    self.k = k

  def value(self, rank: Any) -> Any:
    """The metric of rows whose relevant item has `rank`, float32 [n], below k."""
    raise NotImplementedError

  def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
    rank = ranks(y_true, y_pred)
    value = ops.where(rank < self.k, self.value(rank), 0.0)
    return super().update_state(value, sample_weight)

  def get_config(self) -> dict[str, Any]:
    return {**super().get_config(), 'k': self.k}


@keras.saving.register_keras_serializable('ncf_tfdata')
class HitRate(_RankingMetric):
  """HR@k = Recall@k of one relevant item: mean of [rank < k].

  Source: He et al., Neural Collaborative Filtering (WWW 2017), section 4.1.
  """

  _prefix = 'hr'

  def value(self, rank: Any) -> Any:
    return ops.ones_like(rank)


@keras.saving.register_keras_serializable('ncf_tfdata')
class NDCG(_RankingMetric):
  """NDCG@k of one relevant item: mean of [rank < k] / log2(rank + 2).

  Source: Järvelin and Kekäläinen, Cumulated gain-based evaluation of IR techniques
  (TOIS 2002), with the log2(position + 1) discount.
  """

  _prefix = 'ndcg'

  def value(self, rank: Any) -> Any:
    return 1 / ops.log2(rank + 2)


@keras.saving.register_keras_serializable('ncf_tfdata')
class MRR(_RankingMetric):
  """MRR@k = MAP@k of one relevant item: mean of [rank < k] / (rank + 1).

  Source: Voorhees, The TREC-8 question answering track report (1999).
  """

  _prefix = 'mrr'

  def value(self, rank: Any) -> Any:
    return 1 / (rank + 1)
