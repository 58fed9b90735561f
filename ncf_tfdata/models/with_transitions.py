"""Item transitions beside a model: what followed what, added to any scorer's logits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import keras
import numpy as np
import tensorflow as tf

from ncf_tfdata import dataset as dataset_lib
from ncf_tfdata.data import content, transitions
from ncf_tfdata.models import transitions_in_graph
from ncf_tfdata.models.ranking_model import Model
from ncf_tfdata.models.with_added import WithAdded

if TYPE_CHECKING:
  from ncf_tfdata.data.records import EvaluationBatch


@keras.saving.register_keras_serializable('ncf_tfdata')
class WithTransitions(WithAdded):
  """A model's logits + weight · log(smoothing + transition scores).

  The transitions are the dataset's, which `attach` reads. They are no weights: the
  model is trained without them.

      model = WithTransitions(NeuMF(num_users, num_items), weight=1.5)
      model.attach(dataset)
      model.score_all(batch)

  Attributes:
    scores: Transition scores; None until `attach`.
  """

  source = 'transitions'

  def __init__(
    self,
    model: Model,
    weight: float,
    smoothing: float = 0.01,
    reverse: float = 0.0,
    neighbours: int = 0,
  ):
    """Wraps a model.

    Args:
      model: Any scorer of tensors.
      weight: Of the log in the logits.
      smoothing: What is added to the scores before the log is taken; above 0.
      reverse: Weight of what came before, beside what came after.
      neighbours: If not 0, an item without train interactions has the mean transitions
        of so many items that are most like it; the dataset has features of items.
    """
    options = {'neighbours': neighbours} if neighbours else {}
    super().__init__(
      model, weight=weight, smoothing=smoothing, reverse=reverse, **options
    )
    self.scores: transitions.TransitionScores | None = None
    self._weight, self._smoothing = np.float32(weight), np.float32(smoothing)
    self._graph: transitions_in_graph.Scores | None = None

  def attach(self, dataset: dataset_lib.Dataset) -> None:
    """Reads the dataset's transitions.

    Raises:
      UserError: It has none.
    """
    super().attach(dataset)
    self.scores = transitions.TransitionScores(
      transitions.read(dataset),
      dataset.vocabulary(dataset_lib.ITEMS).counts,
      reverse=self._options['reverse'],
    )
    if (shares := self._shares(dataset)) is not None:
      self.scores.weights = content.filled(self.scores.weights, shares)
    self._graph = None

  def _attached(self) -> transitions.TransitionScores:
    if self.scores is None:
      raise ValueError('there are no transitions yet: call `attach` first.')
    return self.scores

  def _added(self, batch: EvaluationBatch) -> np.ndarray:
    """What is added to the model's scores, float32 [n, num_items]."""
    scores = self._attached().scores(batch.history, batch.history_length)
    return self._weight * np.log(self._smoothing + scores)

  def _in_graph(self) -> transitions_in_graph.Scores:
    if self._graph is None:
      self._graph = transitions_in_graph.of(self._attached())
    return self._graph

  def _added_variables(self) -> list[tf.Variable]:
    return self._in_graph().variables

  def _added_to_candidates(
    self, history: tf.RaggedTensor, items: tf.Tensor
  ) -> tf.Tensor:
    scores = self._in_graph().of_candidates(history, items)
    return self._weight * tf.math.log(self._smoothing + scores)

  def _added_to_catalogue(self, history: tf.RaggedTensor) -> tf.Tensor:
    scores = self._in_graph().of_catalogue(history)
    return self._weight * tf.math.log(self._smoothing + scores)

  def _similarity(self, item: tf.Tensor) -> tf.Tensor:
    return self._in_graph().of_items(tf.cast(item, tf.int64))

  def _effects(self, history: tf.RaggedTensor, items: tf.Tensor) -> tf.Tensor:
    # The logarithm's gain over no history, shared out as the sum within it: the values
    # of Aumann and Shapley (Values of non-atomic games, 1974) of a function of a sum,
    # which are also its integrated gradients (Sundararajan et al., ICML 2017).
    parts = self._in_graph().of_entries(history, items)
    row = history.value_rowids()
    total = tf.math.unsorted_segment_sum(parts, row, history.nrows())
    smoothing = tf.cast(self._smoothing, parts.dtype)
    gain = tf.math.log1p(total / smoothing)
    share = tf.math.divide_no_nan(parts, tf.gather(total, row))
    return self._weight * tf.cast(share * tf.gather(gain, row), tf.float32)
