"""A model that may know items by what they are, as well as by their ids."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import keras
import numpy as np
import tensorflow as tf

from ncf_tfdata import dataset as dataset_lib
from ncf_tfdata.data.feature_codes import Coder, Shape, names
from ncf_tfdata.errors import UserError
from ncf_tfdata.features import records as item_features_lib
from ncf_tfdata.models import features as features_lib
from ncf_tfdata.models.ranking_model import RankingModel

if TYPE_CHECKING:
  from ncf_tfdata.data.records import EvaluationBatch


class FeaturedModel(RankingModel):
  """Base of models whose item vectors may have a part for features.

  The weights of features are trained; what each item is like is the dataset's, which
  `attach` reads. Vectors of all items are made once for all questions, and anew when
  weights have changed. A subclass gives `_networks`, `_feature_layers` and
  `_item_weights`.

  Attributes:
    shapes: Of the features' columns; none for a model that knows ids alone.
    knows_cold_items: Whether an item that nothing was learnt of has a vector.
  """

  free_settings: ClassVar[tuple[str, ...]] = (
    *RankingModel.free_settings,
    'item_features',
    'cold_item_logits',
  )

  def __init__(
    self,
    num_users: int,
    num_items: int,
    item_features: Sequence[Mapping[str, Any]] = (),
    text_buckets: int = 0,
    cold_item_logits: float = 0.0,
    **kwargs: Any,
  ) -> None:
    """Takes the shapes.

    Args:
      num_users: Users of the dataset.
      num_items: Size of the catalogue.
      item_features: A `Shape`'s configuration for each column.
      text_buckets: Places that the words of a column of texts share.
      cold_item_logits: Added to the logits of items without train interactions.
      **kwargs: Of `keras.Model`.
    """
    super().__init__(num_users, num_items, **kwargs)
    self.shapes = tuple(map(Shape.of_config, item_features))
    self._text_buckets, self._cold_item_logits = text_buckets, cold_item_logits
    self._catalogue_of_features: features_lib.Catalogue | None = None

  @property
  def knows_cold_items(self) -> bool:
    return bool(self.shapes)

  def get_config(self) -> dict[str, Any]:
    config = super().get_config()
    if self.shapes:  # So that one without is saved as ever.
      config['item_features'] = [shape.to_config() for shape in self.shapes]
      config['text_buckets'] = self._text_buckets
      config['cold_item_logits'] = self._cold_item_logits
    return config

  def _feature_tables(self) -> dict[str, list[keras.Variable]]:
    """Weights with a row for each value of a column, by what `keys_of` calls it."""
    found: dict[str, list[keras.Variable]] = {}
    for layer in self._feature_layers():
      for name, table in layer.tables.items():
        found.setdefault(_FEATURE + name, []).append(table)
    return found

  def _feature_layers(self) -> list[features_lib.FeatureVectors]:
    """The vectors of features, of each network."""
    raise NotImplementedError

  def _networks(self) -> list[Callable[[features_lib.Step], features_lib.Rows]]:
    """What gives the rows of some items, of each network."""
    raise NotImplementedError

  def _item_weights(self) -> list[keras.Variable]:
    """The weights that the rows of items are made of."""
    raise NotImplementedError

  def attach(self, dataset: dataset_lib.Dataset) -> None:
    """Reads the dataset's features of items, where the model has a part for them.

    Raises:
      UserError: The dataset has none, or others.
    """
    super().attach(dataset)
    if not self.shapes:
      return
    features = of_dataset(dataset)
    coder = Coder(features, self._text_buckets)
    if coder.shapes != self.shapes:
      raise UserError(
        f'the model reads {", ".join(names(self.shapes))}, and the features of '
        f'{dataset.directory} are {", ".join(names(coder.shapes))}, or of other '
        'sizes. Name the dataset that it was trained on.'
      )
    self._catalogue_of_features = features_lib.Catalogue(
      dataset, features, coder, self._cold_item_logits
    )

  @property
  def items_known(self) -> features_lib.Catalogue:
    """What is known of the dataset's items.

    Raises:
      ValueError: There is no dataset yet.
    """
    if self._catalogue_of_features is None:
      raise ValueError('there are no features of items yet: call `attach` first.')
    return self._catalogue_of_features

  def weights_changed(self) -> None:
    super().weights_changed()
    if self._catalogue_of_features is not None:
      self._catalogue_of_features.weights_changed()

  def load_weights(self, path: str | os.PathLike[str], **options: Any) -> None:
    super().load_weights(path, **options)
    self.weights_changed()

  def _all_rows(self) -> list[features_lib.Rows | None]:
    """The rows of all items, of each network; None where there are no features."""
    if not self.shapes:
      return [None] * len(self._networks())
    return [features_lib.Rows(rows.value()) for rows in self.items_known.made]

  def _make_rows(self) -> None:
    if self.shapes:
      self.items_known.make(self._networks())

  def graph_variables(self) -> list[tf.Variable]:
    if not self.shapes:
      return super().graph_variables()
    self._make_rows()
    replaced = {id(weight) for weight in self._item_weights()}
    kept = [weight.value for weight in self.weights if id(weight) not in replaced]
    return [*kept, *self.items_known.made]

  def _item_vectors(self) -> list[Callable[[], tf.Tensor]]:
    if not self.shapes:
      return super()._item_vectors()
    self._make_rows()
    return [functools.partial(_vectors, rows) for rows in self.items_known.made]

  def score_candidates(self, batch: EvaluationBatch, items: np.ndarray) -> np.ndarray:
    self._make_rows()
    return super().score_candidates(batch, items)

  def score_all(self, batch: EvaluationBatch) -> np.ndarray:
    self._make_rows()
    return super().score_all(batch)


def _vectors(rows: tf.Variable) -> tf.Tensor:
  return rows.value()[:, :-1]  # The last cell is the bias.


# Before the name of a column, where columns stand beside users.tsv and items.tsv.
_FEATURE = 'item feature '


def keys_of(
  dataset: dataset_lib.Dataset, text_buckets: int
) -> dict[str, tuple[str, ...]]:
  """What the rows of feature tables stand for, by name; nothing without features."""
  features = dataset.item_features()
  if features is None:
    return {}
  keys = Coder(features, text_buckets).keys
  return {_FEATURE + name: found for name, found in keys.items()}


def columns_of(settings: Mapping[str, Any]) -> str:
  """The columns of features that a model reads, with the widths that must agree."""
  shapes = settings.get('item_features', ())
  found = [
    shape['name'] or 'numbers' if shape['bag'] else f'{shape["name"]} {shape["size"]}'
    for shape in shapes
  ]
  return ', '.join(found) or 'none'


def of_dataset(dataset: dataset_lib.Dataset) -> item_features_lib.Features:
  """The features of a dataset's items.

  Raises:
    UserError: It has none.
  """
  found = dataset.item_features()
  if found is None:
    raise UserError(
      f'{dataset.directory} has no features of items, and --use_item_features needs '
      'them. Prepare it again with --item_features=FILE, or leave it out.'
    )
  return found
