"""A model that may know items and users by what they are, as well as by their ids."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import keras
import numpy as np
import tensorflow as tf

from ncf_tfdata import dataset as dataset_lib
from ncf_tfdata.data.feature_codes import Coder, Shape, names
from ncf_tfdata.errors import UserError
from ncf_tfdata.features.records import Features
from ncf_tfdata.models import features as features_lib
from ncf_tfdata.models.ranking_model import RankingModel

if TYPE_CHECKING:
  from ncf_tfdata.data.records import EvaluationBatch

_T = TypeVar('_T')

# Settings of a model, by whose features they are. Their values are columns' shapes.
SETTINGS = {dataset_lib.ITEM: 'item_features', dataset_lib.USER: 'user_features'}


class FeaturedModel(RankingModel):
  """Base of models whose vectors of items, and of users, may have a part for features.

  The weights of features are trained; what each item or user is like is the dataset's,
  which `attach` reads. Vectors of all items are made once for all questions, and anew
  when weights have changed; those of users are made for each question. A subclass gives
  `_networks`, `_feature_layers`, `_user_feature_layers` and `_item_weights`.

  Attributes:
    shapes: Of the columns of features of items; none for a model that knows their ids
      alone.
    user_shapes: The same of users.
    user_known: Not trained, float32 [num_users]; the id of a user with 0 says nothing.
      A subclass adds it by `_add_user_known`.
    knows_cold_items: Whether an item that nothing was learnt of has a vector.
  """

  user_known: keras.Variable

  free_settings: ClassVar[tuple[str, ...]] = (
    *RankingModel.free_settings,
    *SETTINGS.values(),
    'cold_item_logits',
  )

  def __init__(
    self,
    num_users: int,
    num_items: int,
    item_features: Sequence[Mapping[str, Any]] = (),
    text_buckets: int = 0,
    cold_item_logits: float = 0.0,
    user_features: Sequence[Mapping[str, Any]] = (),
    **kwargs: Any,
  ) -> None:
    """Takes the shapes.

    Args:
      num_users: Users of the dataset.
      num_items: Size of the catalogue.
      item_features: A `Shape`'s configuration for each column.
      text_buckets: Places that the words of a column of texts share.
      cold_item_logits: Added to the logits of items without train interactions.
      user_features: As `item_features`.
      **kwargs: Of `keras.Model`.
    """
    super().__init__(num_users, num_items, **kwargs)
    self.shapes, self.user_shapes = (
      tuple(map(Shape.of_config, configs)) for configs in (item_features, user_features)
    )
    self._text_buckets, self._cold_item_logits = text_buckets, cold_item_logits
    self._catalogue_of_features: features_lib.Catalogue | None = None
    self._features_of_users: features_lib.Users | None = None

  @property
  def knows_cold_items(self) -> bool:
    return bool(self.shapes)

  @property
  def described_users(self) -> np.ndarray | None:
    """Of whom features say something, bool [num_users]; see `ranking.Scorer`."""
    return self.users_told.told if self.user_shapes else None

  def get_config(self) -> dict[str, Any]:
    config = super().get_config()
    if self.shapes:  # So that one without is saved as ever.
      config['item_features'] = [shape.to_config() for shape in self.shapes]
      config['text_buckets'] = self._text_buckets
      config['cold_item_logits'] = self._cold_item_logits
    if self.user_shapes:
      config['user_features'] = [shape.to_config() for shape in self.user_shapes]
      config['text_buckets'] = self._text_buckets
    return config

  def _add_user_known(self) -> keras.Variable:
    return self.add_weight(
      shape=(self.num_users,),
      initializer='ones',
      trainable=False,
      name='user_known',
      autocast=False,
    )

  def known(self, user: tf.Tensor) -> tf.Tensor:
    """Whether users were trained on: int [n] -> float32 [n], 1 or 0."""
    return tf.gather(self.user_known.value, user)

  def _feature_tables(self) -> dict[str, list[keras.Variable]]:
    """Weights with a row for each value of a column, by what `keys_of` calls it."""
    layers = {
      dataset_lib.ITEM: self._feature_layers(),
      dataset_lib.USER: self._user_feature_layers(),
    }
    found: dict[str, list[keras.Variable]] = {}
    for role, of_role in layers.items():
      for layer in of_role:
        for name, table in layer.tables.items():
          found.setdefault(_key(role, name), []).append(table)
    return found

  def _feature_layers(self) -> list[features_lib.FeatureVectors]:
    """The vectors of features of items, of each network."""
    raise NotImplementedError

  def _user_feature_layers(self) -> list[features_lib.FeatureVectors]:
    """The vectors of features of users, of each network."""
    raise NotImplementedError

  def _networks(self) -> list[Callable[[features_lib.Step], features_lib.Rows]]:
    """What gives the rows of some items, of each network."""
    raise NotImplementedError

  def _item_weights(self) -> list[keras.Variable]:
    """The weights that the rows of items are made of."""
    raise NotImplementedError

  def attach(self, dataset: dataset_lib.Dataset) -> None:
    """Reads the dataset's features, where the model has a part for them.

    Raises:
      UserError: The dataset has none, or others.
    """
    super().attach(dataset)
    if self.shapes:
      features, coder = self._read(dataset, dataset_lib.ITEM, self.shapes)
      self._catalogue_of_features = features_lib.Catalogue(
        dataset, features, coder, self._cold_item_logits
      )
    if self.user_shapes:
      features, coder = self._read(dataset, dataset_lib.USER, self.user_shapes)
      self._features_of_users = features_lib.Users(coder.codes(features))

  def _read(
    self, dataset: dataset_lib.Dataset, role: str, shapes: Sequence[Shape]
  ) -> tuple[Features, Coder]:
    """A dataset's features of items or users, and what reads them as a training did."""
    features = of_dataset(dataset, role)
    coder = Coder(features, self._text_buckets)
    if coder.shapes != shapes:
      raise UserError(
        f'the model reads {", ".join(names(shapes))}, and the features of {role}s of '
        f'{dataset.directory} are {", ".join(names(coder.shapes))}, or of other '
        'sizes. Name the dataset that it was trained on.'
      )
    return features, coder

  @property
  def items_known(self) -> features_lib.Catalogue:
    """What is known of the dataset's items.

    Raises:
      ValueError: There is no dataset yet.
    """
    return _attached(self._catalogue_of_features, dataset_lib.ITEM)

  @property
  def users_told(self) -> features_lib.Users:
    """What is known of the dataset's users.

    Raises:
      ValueError: There is no dataset yet.
    """
    return _attached(self._features_of_users, dataset_lib.USER)

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
    users = self.users_told.variables() if self.user_shapes else []
    if not self.shapes:
      return [*super().graph_variables(), *users]
    self._make_rows()
    replaced = {id(weight) for weight in self._item_weights()}
    kept = [weight.value for weight in self.weights if id(weight) not in replaced]
    return [*kept, *self.items_known.made, *users]

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


def _attached(found: _T | None, role: str) -> _T:
  if found is None:
    raise ValueError(f'there are no features of {role}s yet: call `attach` first.')
  return found


def _vectors(rows: tf.Variable) -> tf.Tensor:
  return rows.value()[:, :-1]  # The last cell is the bias.


def _key(role: str, name: str) -> str:
  """What a column is called where columns stand beside users.tsv and items.tsv."""
  return f'{role} feature {name}'


def keys_of(
  dataset: dataset_lib.Dataset, settings: Mapping[str, Any]
) -> dict[str, tuple[str, ...]]:
  """What the rows of a model's feature tables stand for in a dataset, by name.

  Args:
    dataset: With the features that the model reads.
    settings: Of the model, by their names in its `get_config`.
  """
  found: dict[str, tuple[str, ...]] = {}
  for role, name in SETTINGS.items():
    if settings.get(name):
      keys = Coder(of_dataset(dataset, role), settings['text_buckets']).keys
      found |= {_key(role, column): values for column, values in keys.items()}
  return found


def columns_of(settings: Mapping[str, Any], role: str) -> str:
  """The columns of features that a model reads, with the widths that must agree."""
  shapes = settings.get(SETTINGS[role], ())
  found = [
    shape['name'] if shape['bag'] else f'{shape["name"] or "numbers"} {shape["size"]}'
    for shape in shapes
  ]
  return ', '.join(found) or 'none'


def of_dataset(dataset: dataset_lib.Dataset, role: str) -> Features:
  """The features of a dataset's items, or of its users.

  Raises:
    UserError: It has none.
  """
  of_items = role == dataset_lib.ITEM
  found = dataset.item_features() if of_items else dataset.user_features()
  if found is None:
    raise UserError(
      f'{dataset.directory} has no features of {role}s, and --use_{role}_features '
      f'needs them. Prepare it again with --{role}_features=FILE, or leave it out.'
    )
  return found
