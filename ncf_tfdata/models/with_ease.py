"""EASE beside a model: items regressed on each other, added to any scorer's logits."""

from __future__ import annotations

import functools
import os
import pathlib
from typing import TYPE_CHECKING, Self

import keras
import numpy as np
import tensorflow as tf

from ncf_tfdata import dataset as dataset_lib
from ncf_tfdata import memory
from ncf_tfdata.data import content, dense_inverse, ease, ease_file, records
from ncf_tfdata.models import history_effects
from ncf_tfdata.models.ranking_model import Model
from ncf_tfdata.models.with_added import WithAdded

if TYPE_CHECKING:
  from ncf_tfdata.data.records import EvaluationBatch


@keras.saving.register_keras_serializable('ncf_tfdata')
class WithEase(WithAdded):
  """A model's logits + weight · the scores of EASE.

  EASE reads the whole history, and each pair of items by itself: what a short history
  and narrow vectors leave out. It is no weight of the model: it is fitted on the train
  rows of the dataset that `attach` takes, once it is first asked, or read from beside
  the weights, where `save_fitted` kept it.
  """

  source = 'ease'

  def __init__(
    self, model: Model, weight: float, l2: float = ease.L2, neighbours: int = 0
  ):
    """Wraps a model.

    Args:
      model: Any scorer of tensors.
      weight: Of the scores in the logits.
      l2: Of the ridge regression; above 0.
      neighbours: If not 0, an item without train interactions has the mean weights of
        so many items that are most like it; the dataset has features of items.
    """
    options = {'neighbours': neighbours} if neighbours else {}
    super().__init__(model, weight=weight, l2=l2, **options)
    self._dataset: dataset_lib.Dataset | None = None
    self._weight, self._l2 = np.float32(weight), l2
    self._kept: pathlib.Path | None = None
    self._variable: tf.Variable | None = None

  def load_weights(self, path: str | os.PathLike[str]) -> None:
    """Reads the model's weights; beside them may lie what `save_fitted` kept."""
    super().load_weights(path)
    self._kept = ease_file.beside(path)
    vars(self).pop('weights', None)

  def around(self, model: Model) -> Self:
    made = super().around(model)
    made._kept = self._kept
    return made

  def attach(self, dataset: dataset_lib.Dataset) -> None:
    """Takes the dataset that EASE is fitted on.

    Raises:
      UserError: It takes more memory than there is.
    """
    super().attach(dataset)
    self._dataset = dataset
    vars(self).pop('weights', None)
    needed = dense_inverse.needed_bytes(dataset.own_items)
    if self._kept is not None and ease_file.is_of(self._kept, dataset, self._l2):
      needed = 4 * dataset.own_items**2
    if dataset.num_items > dataset.own_items:
      needed += 4 * dataset.num_items**2
    otherwise = 'Train without --ease_logits.'
    memory.require(f'EASE of {dataset.num_items:,} items', needed, 0, otherwise)

  @functools.cached_property
  def weights(self) -> np.ndarray:
    """B, float32 [num_items, num_items].

    Raises:
      ValueError: There is no dataset yet.
    """
    dataset = self._attached()
    fitted = self._fitted(dataset)
    shares = self._shares(dataset)
    return fitted if shares is None else content.filled_dense(fitted, shares)

  def _fitted(self, dataset: dataset_lib.Dataset) -> np.ndarray:
    """What was kept of this dataset, or is fitted now: float32, of items with rows."""
    own = dataset.own_items
    found = None
    if self._kept is not None:
      found = ease_file.read(self._kept, dataset, self._l2)
    if found is None:
      rows = records.train_rows(dataset)
      found = ease.weights(*rows, dataset.num_users, own, self._l2).astype(np.float32)
    later = dataset.num_items - own
    return np.pad(found, (0, later)) if later else found

  def _attached(self) -> dataset_lib.Dataset:
    if self._dataset is None:
      raise ValueError('EASE is fitted on no dataset yet: call `attach` first.')
    return self._dataset

  def save_fitted(self, path: str | os.PathLike[str]) -> None:
    """Keeps B beside the weights."""
    super().save_fitted(path)
    dataset = self._attached()
    # Of items without rows nothing is kept: what speaks for them is an option.
    filled = self._options.get('neighbours', 0)
    fitted = self._fitted(dataset) if filled else self.weights
    ease_file.write(ease_file.beside(path), fitted, dataset, self._l2)

  def _added(self, batch: EvaluationBatch) -> np.ndarray:
    return self._weight * ease.scores(batch, self.weights)

  def _in_graph(self) -> tf.Variable:
    if self._variable is None:
      self._variable = tf.Variable(
        self.weights, trainable=False, dtype=tf.float32, name='ease'
      )
    return self._variable

  def _added_variables(self) -> list[tf.Variable]:
    return [self._in_graph()]

  def _added_to_candidates(
    self, history: tf.RaggedTensor, items: tf.Tensor
  ) -> tf.Tensor:
    return tf.gather(self._added_to_catalogue(history), items, batch_dims=1)

  def _added_to_catalogue(self, history: tf.RaggedTensor) -> tf.Tensor:
    width = tf.cast(self.num_items, tf.int64)
    # An item counts once, however often it is in a history.
    cells = history.value_rowids() * width + tf.cast(history.flat_values, tf.int64)
    cells = tf.unique(cells).y
    sums = tf.sparse.segment_sum(
      self._in_graph(), cells % width, cells // width, num_segments=history.nrows()
    )
    return self._weight * sums

  def _similarity(self, item: tf.Tensor) -> tf.Tensor:
    return tf.gather(self._in_graph(), item)

  def _effects(self, history: tf.RaggedTensor, items: tf.Tensor) -> tf.Tensor:
    item = tf.cast(history.flat_values, tf.int64)[:, None]
    asked = tf.gather(tf.cast(items, tf.int64), history.value_rowids())
    cells = tf.stack([tf.broadcast_to(item, tf.shape(asked)), asked], axis=2)
    once = tf.cast(history_effects.is_last(history), tf.float32)
    return self._weight * tf.gather_nd(self._in_graph(), cells) * once[:, None]
