"""A trained model, and what is counted of the dataset added to its logits."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, ClassVar, Self

import keras
import numpy as np
import scipy.sparse as sp
import tensorflow as tf

from ncf_tfdata import dataset as dataset_lib
from ncf_tfdata import side_thread
from ncf_tfdata.data import content, events_in_graph
from ncf_tfdata.evaluation import ranking
from ncf_tfdata.models.ranking_model import ItemSimilarity, Model

if TYPE_CHECKING:
  from ncf_tfdata.data.records import EvaluationBatch


def trained(model: Model) -> Any:
  """The model that is trained, within all that is added to it."""
  while isinstance(model, WithAdded):
    model = model.model
  return model


class WithAdded:
  """A model's logits + what a subclass adds for a history.

  The model is trained without it. A subclass gives `_added` in numpy, and the same in
  a graph: `_added_variables`, `_added_to_candidates`, `_added_to_catalogue`. What it
  adds comes apart by item of the history, exactly: `_effects`.

  Attributes:
    model: What is trained, or another that is added to.
    source: Name of what is added.
    name: The model's.
    num_items: Size of the catalogue.
    reads_history: True.
  """

  source: ClassVar[str]
  reads_history = True

  def __init__(self, model: Model, **options: Any):
    """Wraps a model: any scorer of tensors.

    Args:
      model: What is added to.
      **options: What else a subclass is made of, as `get_config` gives it.
    """
    self.model, self.name, self.num_items = model, model.name, model.num_items
    self._options = options

  def get_config(self) -> dict[str, Any]:
    """Of Keras: what makes it again."""
    model = keras.saving.serialize_keras_object(self.model)
    return {'model': model, **self._options}

  @classmethod
  def from_config(cls, config: dict[str, Any]) -> Self:
    """Makes it again from `get_config`."""
    model = keras.saving.deserialize_keras_object(config['model'])
    return cls(**{**config, 'model': model})

  def around(self, model: Model) -> Self:
    """The same around another model, which no dataset is attached to yet."""
    return type(self)(model, **self._options)

  def attach(self, dataset: dataset_lib.Dataset) -> None:
    """Takes from the dataset what is added."""
    self.model.attach(dataset)

  def load_weights(self, path: str | os.PathLike[str]) -> None:
    """Reads the model's weights."""
    self.model.load_weights(path)

  def save_fitted(self, path: str | os.PathLike[str]) -> None:
    """Keeps what is fitted beside the weights. See `RankingModel.save_fitted`."""
    self.model.save_fitted(path)

  def weights_changed(self) -> None:
    """Tells the model."""
    self.model.weights_changed()

  @property
  def reads_gaps(self) -> bool:
    """Whether the model does; what is added does not."""
    return ranking.reads_gaps(self.model)

  def _items(self, history: tf.RaggedTensor) -> tf.RaggedTensor:
    """The items of histories, for what is added."""
    if not self.reads_gaps:
      return history
    return history.with_flat_values(events_in_graph.items(history.flat_values))

  @property
  def knows_cold_items(self) -> bool:
    """Whether the model does; see `ranking.Scorer`."""
    return getattr(self.model, 'knows_cold_items', False)

  @property
  def described_users(self) -> np.ndarray | None:
    """Of whom the model's features say something; see `ranking.Scorer`."""
    found: np.ndarray | None = getattr(self.model, 'described_users', None)
    return found

  def _shares(self, dataset: dataset_lib.Dataset) -> sp.csr_matrix | None:
    """Which items speak for those without train interactions; None where none do.

    Nothing can be counted of what nobody has had. Of a model that ranks such items, a
    part that gave them nothing would put them below all others.
    """
    neighbours: int = self._options.get('neighbours', 0)
    features = dataset.item_features() if neighbours else None
    if features is None:
      return None
    count = dataset.vocabulary(dataset_lib.ITEMS).counts
    return content.like(features, count, neighbours)

  def _added(self, batch: EvaluationBatch) -> np.ndarray:
    """What is added to the model's scores, float32 [n, num_items]."""
    raise NotImplementedError

  def _added_variables(self) -> list[tf.Variable]:
    """What the graph of `_added_to_candidates` and `_added_to_catalogue` reads."""
    raise NotImplementedError

  def _added_to_candidates(
    self, history: tf.RaggedTensor, items: tf.Tensor
  ) -> tf.Tensor:
    """Of items int [n, c]: float32 [n, c]."""
    raise NotImplementedError

  def _added_to_catalogue(self, history: tf.RaggedTensor) -> tf.Tensor:
    """float32 [n, num_items]."""
    raise NotImplementedError

  def _effects(self, history: tf.RaggedTensor, items: tf.Tensor) -> tf.Tensor:
    """What each entry of the histories adds to items int [n, c].

    Returns:
      float32 [entries, c]. Those of a row add up to what is added to its items, less
      what an empty history adds.
    """
    raise NotImplementedError

  def score_candidates(self, batch: EvaluationBatch, items: np.ndarray) -> np.ndarray:
    """Scores float32 [n, c] of the candidates `items`, int64 [n, c]."""
    added, scores = side_thread.both(
      lambda: np.take_along_axis(self._added(batch), items, axis=1),
      lambda: self.model.score_candidates(batch, items),
    )
    return scores + added

  def score_all(self, batch: EvaluationBatch) -> np.ndarray:
    """Scores float32 [n, num_items] of all items."""
    added, scores = side_thread.both(
      lambda: self._added(batch), lambda: self.model.score_all(batch)
    )
    return scores + added

  def graph_variables(self) -> list[tf.Variable]:
    """All variables that the logits read."""
    return [*self.model.graph_variables(), *self._added_variables()]

  def candidate_logits(
    self, user: tf.Tensor, history: tf.RaggedTensor, items: tf.Tensor
  ) -> tf.Tensor:
    """Scores each row's own candidates. See `RankingModel.candidate_logits`."""
    logits = self.model.candidate_logits(user, history, items)
    return logits + self._added_to_candidates(self._items(history), items)

  def catalogue_logits(self, user: tf.Tensor, history: tf.RaggedTensor) -> tf.Tensor:
    """Scores all items. See `RankingModel.catalogue_logits`."""
    logits = self.model.catalogue_logits(user, history)
    return logits + self._added_to_catalogue(self._items(history))

  def _similarity(self, item: tf.Tensor) -> tf.Tensor:
    """What items int64 [n] say of others, each by itself: float32 [n, num_items]."""
    raise NotImplementedError

  def item_similarities(self) -> dict[str, ItemSimilarity]:
    """The model's, and what is added. See `RankingModel.item_similarities`."""
    return {**self.model.item_similarities(), self.source: self._similarity}

  @property
  def effect_names(self) -> tuple[str, ...]:
    return (*self.model.effect_names, self.source)

  def history_effects(
    self, user: tf.Tensor, history: tf.RaggedTensor, items: tf.Tensor
  ) -> dict[str, tf.Tensor]:
    """The model's, and by name of what is added its parts, which are exact.

    See `RankingModel.history_effects`.
    """
    found = self.model.history_effects(user, history, items)
    return {**found, self.source: self._effects(self._items(history), items)}
