"""NeuMF and its two halves, GMF and MLP (He et al., Neural collaborative filtering,
WWW 2017, section 3), as one Keras model.

The tower's first layer is linear in (user, item) before its activation, so its user
part is computed once a row and its item part once an item, and a whole catalogue, or
negatives that a batch shares, cost no embedding-wide product a pair.
"""

from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ncf_tfdata import dataset as dataset_lib
from ncf_tfdata import memory
from ncf_tfdata.errors import ArgumentError
from ncf_tfdata.models import dropout as dropout_lib
from ncf_tfdata.models import featured_model, products
from ncf_tfdata.models.features import FeatureVectors, Rows, Step, Told
from ncf_tfdata.tracing import without_autograph

# Items of a chunk of the catalogue, at most.
_CHUNK_ITEMS = 4096


@keras.saving.register_keras_serializable('ncf_tfdata')
class NeuMF(featured_model.FeaturedModel):
  """Logits of (user, item) pairs: h_gmf · (p ∘ q) + h_mlp · tower(p', q') + bias.

  One table a side holds the vectors of both halves, GMF's columns first: one gather a
  row, one update. With `gmf_dim` 0 this is MLP, with `mlp_dim` 0 GMF. What items are
  has vectors of the same columns, the bias included, which are added; so has what users
  are, without a bias.
  """

  def __init__(
    self,
    num_users: int,
    num_items: int,
    gmf_dim: int = 32,
    mlp_dim: int = 32,
    mlp_layers: tuple[int, ...] = (256, 128, 64),
    dropout: float = 0.0,
    item_bias: bool = False,
    gmf_weights: bool = True,
    embedding_stddev: float = 0.05,
    seed: int = 0,
    **kwargs: Any,
  ) -> None:
    """Makes and builds the model.

    Args:
      num_users: Rows of the user table.
      num_items: Rows of the item table.
      gmf_dim: Width of GMF's vectors; 0 leaves GMF out.
      mlp_dim: Width of the MLP's vectors; 0 leaves the MLP out.
      mlp_layers: Units of the tower's ReLU layers, at least one.
      dropout: Rate on the tower's output.
      item_bias: Adds a learned bias of each item.
      gmf_weights: Learns h_gmf, from ones; otherwise GMF is the plain dot product.
      embedding_stddev: Of the normal distribution that both tables start from.
      seed: Of all initial weights.
      **kwargs: Of `FeaturedModel` and `keras.Model`.

    Raises:
      ArgumentError: Both halves are left out, or the tower has no layer.
    """
    super().__init__(num_users, num_items, **kwargs)
    if not gmf_dim and not mlp_dim:
      raise ArgumentError(
        '`gmf_dim` or `mlp_dim` must be above 0.', gmf_dim=gmf_dim, mlp_dim=mlp_dim
      )
    if mlp_dim and not mlp_layers:
      raise ArgumentError('`mlp_layers` must hold units.', mlp_layers=mlp_layers)
    self._config = {
      'gmf_dim': gmf_dim,
      'mlp_dim': mlp_dim,
      'mlp_layers': tuple(mlp_layers),
      'dropout': dropout,
      'item_bias': item_bias,
      'gmf_weights': gmf_weights,
      'embedding_stddev': embedding_stddev,
      'seed': seed,
    }
    self._gmf_dim, self._mlp_dim, self._dropout = gmf_dim, mlp_dim, dropout
    self._widest = max(mlp_layers) if mlp_dim else 1
    # Seeds that are neighbours must not make weights that are alike.
    seeds = iter(np.random.SeedSequence(seed).generate_state(8 + len(mlp_layers)))
    self._add_tables(seeds, embedding_stddev, item_bias)
    head = gmf_dim and gmf_weights
    self.gmf_head = self._weight((gmf_dim,), 'ones', 'gmf_head') if head else None
    if mlp_dim:
      self._add_tower(seeds, mlp_layers)
    self.head_bias = self._weight((), 'zeros', 'head_bias')
    self._biased = item_bias or bool(self.shapes)
    self.features: FeatureVectors | None = None
    if self.shapes:
      width = gmf_dim + mlp_dim + 1
      self.features = FeatureVectors(self.shapes, width, int(next(seeds)))
    self.user_features: FeatureVectors | None = None
    if self.user_shapes:
      width = gmf_dim + mlp_dim
      self.user_features = FeatureVectors(
        self.user_shapes, width, int(next(seeds)), name='user_features'
      )
      self.user_known = self._add_user_known()
    self.built = True

  def _weight(self, shape: tuple[int, ...], initializer: Any, name: str) -> Any:
    # Under mixed precision a table must be cast after the gather, not before it.
    return self.add_weight(
      shape=shape, initializer=initializer, name=name, autocast=False
    )

  def _add_tables(self, seeds: Iterator[int], stddev: float, item_bias: bool) -> None:
    def table(rows: int, name: str) -> keras.Variable:
      normal = keras.initializers.RandomNormal(stddev=stddev, seed=int(next(seeds)))
      return self._weight((rows, self._gmf_dim + self._mlp_dim), normal, name)

    self.user_table = table(self.num_users, 'user_table')
    self.item_table = table(self.num_items, 'item_table')
    bias = (self.num_items, 1)
    self.item_bias = self._weight(bias, 'zeros', 'item_bias') if item_bias else None

  def _add_tower(self, seeds: Iterator[int], layers: tuple[int, ...]) -> None:
    def glorot() -> keras.initializers.Initializer:
      return keras.initializers.GlorotUniform(seed=int(next(seeds)))

    first, *rest = layers
    self.first_kernel = self._weight(
      (2 * self._mlp_dim, first), glorot(), 'first_kernel'
    )
    self.first_bias = self._weight((first,), 'zeros', 'first_bias')
    self.tower: list[keras.layers.Dense] = []
    for width, units in zip(layers, rest, strict=False):
      layer = keras.layers.Dense(
        units,
        'relu',
        kernel_initializer=glorot(),
        name=f'tower_{len(self.tower) + 1}',
      )
      layer.build((None, width))
      self.tower.append(layer)
    self.mlp_head = self._weight((layers[-1], 1), glorot(), 'mlp_head')

  def get_config(self) -> dict[str, Any]:
    return {**super().get_config(), **self._config}

  @property
  def tables(self) -> list[keras.Variable]:
    """Weights that have a row for each user or item."""
    bias = [] if self.item_bias is None else [self.item_bias]
    return [self.user_table, self.item_table, *bias]

  @property
  def all_tables(self) -> list[keras.Variable]:
    """These, and those of values of features."""
    layers = [*self._feature_layers(), *self._user_feature_layers()]
    of_features = [table for layer in layers for table in layer.tables.values()]
    return [*self.tables, *of_features]

  def vocabulary_weights(self) -> dict[str, list[keras.Variable]]:
    users, *items = self.tables
    return {
      dataset_lib.USERS: [users],
      dataset_lib.ITEMS: items,
      **self._feature_tables(),
    }

  def _feature_layers(self) -> list[FeatureVectors]:
    return [] if self.features is None else [self.features]

  def _user_feature_layers(self) -> list[FeatureVectors]:
    return [] if self.user_features is None else [self.user_features]

  def _item_weights(self) -> list[keras.Variable]:
    of_features = [] if self.features is None else self.features.weights
    return [*self.tables[1:], *of_features]

  def _networks(self) -> list[Callable[[Step], Rows]]:
    return [self.rows]

  def users(
    self,
    user: tf.Tensor,
    known: tf.Tensor | None = None,
    told: Told | None = None,
  ) -> tf.Tensor:
    """Vectors of users.

    Args:
      user: int [n].
      known: float32 [n], 0 where the id says nothing; None for what was trained on.
      told: What is known of them; None for what the dataset says.

    Returns:
      [n, gmf_dim + mlp_dim]; of the table alone where there are no features.
    """
    rows = tf.gather(self.user_table.value, user)
    if self.user_features is None:
      return rows
    known = self.known(user) if known is None else known
    told = self.users_told.of(user, user >= 0) if told is None else told
    return rows * known[:, None] + told.vectors(self.user_features)

  def items(self, item: tf.Tensor) -> tf.Tensor:
    """Vectors of items, the bias last: int [...] -> [..., gmf_dim + mlp_dim (+ 1)]."""
    (rows,) = self._all_rows()
    return self._of_ids(item) if rows is None else rows.at(item)

  def _of_ids(self, item: tf.Tensor) -> tf.Tensor:
    rows = tf.gather(self.item_table.value, item)
    if self.item_bias is None:
      # What items are has a bias all the same.
      return tf.pad(rows, [[0, 0], [0, 1]]) if self.shapes else rows
    return tf.concat([rows, tf.gather(self.item_bias.value, item)], axis=-1)

  def rows(self, step: Step, id_dropout: float = 0.0, seed: Any = None) -> Rows:
    """The rows of m items: those of their ids, and of what they are.

    Args:
      step: The items.
      id_dropout: Share of what is looked at whose own row is left out.
      seed: uint64 [], of that.
    """
    assert self.features is not None
    return Rows(self._of_ids(step.item), self.features(step.inputs), id_dropout, seed)

  def _parts(self, rows: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    rows = tf.cast(rows, self.compute_dtype)
    gmf = rows[..., : self._gmf_dim]
    return gmf, rows[..., self._gmf_dim : self._gmf_dim + self._mlp_dim]

  def _weighted(self, gmf: tf.Tensor) -> tf.Tensor:
    return gmf if self.gmf_head is None else gmf * tf.cast(self.gmf_head, gmf.dtype)

  def _first(self, user: tf.Tensor, item: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The user's and the item's part of the first layer's input to its ReLU."""
    kernel = tf.cast(self.first_kernel, self.compute_dtype)
    bias = tf.cast(self.first_bias, self.compute_dtype)
    shape = tf.concat([tf.shape(item)[:-1], [kernel.shape[1]]], 0)
    flat = tf.reshape(item, [-1, self._mlp_dim])
    items = products.product(flat, kernel[self._mlp_dim :])
    users = products.product(user, kernel[: self._mlp_dim])
    return users + bias, tf.reshape(items, shape)

  def _tower(self, x: tf.Tensor, seed: tf.Tensor | None) -> tf.Tensor:
    """From the first layer's input to its ReLU [n, c, units] to logits [n, c]."""
    shape = tf.shape(x)[:2]
    x = tf.nn.relu(tf.reshape(x, [-1, x.shape[-1]]))
    for layer in self.tower:
      x = products.dense(layer, x)
    x = dropout_lib.dropout(x, self._dropout, seed)
    return tf.cast(tf.reshape(x @ tf.cast(self.mlp_head, x.dtype), shape), tf.float32)

  def row_logits(
    self, users: tf.Tensor, items: tf.Tensor, seed: tf.Tensor | None = None
  ) -> tf.Tensor:
    """Logits of each row's own candidates.

    Args:
      users: [n, d], of `users`.
      items: [n, c, d'], of `items`.
      seed: uint64 [], of dropout; None leaves it out.

    Returns:
      float32 [n, c].
    """
    user_gmf, user_mlp = self._parts(users)
    item_gmf, item_mlp = self._parts(items)
    logits = tf.cast(self.head_bias, tf.float32)
    if self._gmf_dim:
      product = self._weighted(user_gmf)[:, None] * item_gmf
      logits += tf.reduce_sum(tf.cast(product, tf.float32), axis=-1)
    if self._mlp_dim:
      user, item = self._first(user_mlp, item_mlp)
      logits += self._tower(user[:, None] + item, seed)
    return logits + items[..., -1] if self._biased else logits

  def logits(
    self, users: tf.Tensor, items: tf.Tensor, seed: tf.Tensor | None = None
  ) -> tf.Tensor:
    """Logits of every user with every item.

    Args:
      users: [n, d], of `users`.
      items: [m, d'], of `items`.
      seed: uint64 [], of dropout; None leaves it out.

    Returns:
      float32 [n, m].
    """
    user_gmf, user_mlp = self._parts(users)
    item_gmf, item_mlp = self._parts(items)
    logits = tf.cast(self.head_bias, tf.float32)
    if self._gmf_dim:
      product = tf.matmul(self._weighted(user_gmf), item_gmf, transpose_b=True)
      logits += tf.cast(product, tf.float32)
    if self._mlp_dim:
      user, item = self._first(user_mlp, item_mlp)
      # Of one rank: Grappler drops the 1 of [1, 1, units] + [m, units].
      logits += self._tower(user[:, None] + item[None], seed)
    return logits + items[:, -1] if self._biased else logits

  def call(self, inputs: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
    """(user int [n], items int [n, c]) -> logits float32 [n, c]."""
    user, items = inputs
    return self.row_logits(self.users(user), self.items(items))

  def _known(self, user: tf.Tensor, logits: Callable[..., tf.Tensor]) -> tf.Tensor:
    """Logits [n, c] of a function of users, and 0 of cold ones, who have no vector."""
    known = (user >= 0) & (user < self.num_users)
    return tf.where(known[:, None], logits(tf.where(known, user, 0)), 0.0)

  @without_autograph
  def candidate_logits(
    self, user: tf.Tensor, history: tf.RaggedTensor, items: tf.Tensor
  ) -> tf.Tensor:
    del history
    return self._known(user, lambda known: self((known, items)))

  @without_autograph
  def catalogue_logits(self, user: tf.Tensor, history: tf.RaggedTensor) -> tf.Tensor:
    del history
    return self._known(user, self._all_logits)

  def _all_logits(self, user: tf.Tensor) -> tf.Tensor:
    """Logits of all items, in chunks as wide as memory allows for so many users."""
    rows = tf.size(user)
    columns = memory.BLOCK_CELLS // (tf.maximum(rows, 1) * self._widest)
    columns = tf.clip_by_value(columns, 1, min(_CHUNK_ITEMS, self.num_items))
    chunks = (self.num_items + columns - 1) // columns
    users = self.users(user)

    def chunk(
      number: tf.Tensor, logits: tf.TensorArray
    ) -> tuple[tf.Tensor, tf.TensorArray]:
      first = number * columns
      item = tf.range(first, tf.minimum(first + columns, self.num_items))
      part = self.logits(users, self.items(item))
      return number + 1, logits.write(number, tf.transpose(part))

    logits = tf.TensorArray(
      tf.float32, size=chunks, element_shape=[None, None], infer_shape=False
    )
    # One at a time: it is memory that the chunks are for.
    _, logits = tf.while_loop(
      lambda number, _: number < chunks, chunk, (0, logits), parallel_iterations=1
    )
    return tf.transpose(tf.reshape(logits.concat(), [self.num_items, rows]))

  def row_cells(self, candidates: int | None = None) -> int:
    return (candidates or min(_CHUNK_ITEMS, self.num_items)) * self._widest
