"""One network of a history model: tables, encoders, and what asks the catalogue."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ncf_tfdata.data import events, sampling
from ncf_tfdata.data.feature_codes import Shape
from ncf_tfdata.models import dropout as dropout_lib
from ncf_tfdata.models import features as features_lib
from ncf_tfdata.models import history_encoders, products

# User vectors start near zero: a user is at first what the history says.
_USER_STDDEV = 0.01

# What dropout acts on; each has a mask of its own.
_POOLED, _ATTENDED, _USER, _HIDDEN = range(4)
# What items are looked at for; the id vectors that are left out are drawn for each.
SEEN, TARGET, CANDIDATE = range(3)


def _gelu(x: tf.Tensor) -> tf.Tensor:
  """Hendrycks and Gimpel, Gaussian error linear units (2016), the sigmoid form."""
  return x * tf.sigmoid(1.702 * x)


class Member(keras.layers.Layer):  # type: ignore[misc]
  """One network of an ensemble: tables, encoders and query network of its own.

  Keras makes the paths of a saved file of the names of classes (`layers/member_1/…`).
  So this one keeps its name: under another no run of before would load.

  query = encoded + user + MLP(layer-normed: encoded, last item, last but one, user)

  A user's vector is a row of a table, what features say of them, the sum of both, or
  there is none.

  Attributes:
    item_table: [num_items + 1, dim]; the last row stands for pads and is never used.
    item_bias: [num_items].
    user_table: [num_users, dim], or None.
    gap_table: [events.CODES, dim], what a gap before an item adds to its vector in
      histories, from 0 on; None where gaps are not read.
    features: Vectors of what items are, and their biases behind them; or None. With
      them the methods take `rows`, of the items that tokens and items then number.
    user_features: Vectors of what users are, or None.
  """

  def __init__(
    self,
    num_users: int,
    num_items: int,
    *,
    history_length: int,
    encoder: str,
    dim: int,
    heads: int,
    hidden: int,
    user_embedding: bool,
    dropout: float,
    embedding_stddev: float,
    seed: int,
    gaps: bool = False,
    attention_length: int | None = None,
    features: Sequence[Shape] = (),
    user_features: Sequence[Shape] = (),
    **kwargs: Any,
  ) -> None:
    super().__init__(**kwargs)
    self._num_items, self._dim, self._length = num_items, dim, history_length
    self._dropout = dropout
    # The first five are what they are of five alone.
    seven = np.random.SeedSequence(seed).generate_state(7).tolist()
    *five, of_features, of_user_features = seven
    seeds = iter(five)

    def normal(stddev: float) -> keras.initializers.Initializer:
      return keras.initializers.RandomNormal(stddev=stddev, seed=next(seeds))

    # Under mixed precision a table must be cast after the gather, not before it.
    def weight(shape: tuple[int, ...], initializer: Any, name: str) -> keras.Variable:
      return self.add_weight(
        shape=shape, initializer=initializer, name=name, autocast=False
      )

    def dense(inputs: int, units: int, stddev: float, name: str) -> keras.layers.Dense:
      layer = keras.layers.Dense(units, kernel_initializer=normal(stddev), name=name)
      layer.build((None, inputs))
      return layer

    self.item_table = weight(
      (num_items + 1, dim), normal(embedding_stddev), 'item_table'
    )
    self.item_bias = weight((num_items,), 'zeros', 'item_bias')
    users = normal(_USER_STDDEV)
    self.user_table = (
      weight((num_users, dim), users, 'user_table') if user_embedding else None
    )
    self.pool: history_encoders.PoolEncoder | None = None
    self.attention: history_encoders.AttentionEncoder | None = None
    self._remembers = encoder != 'none'
    if self._remembers:
      parts = 3 + (encoder == 'both') + (user_embedding or bool(user_features))
      self.gain = weight((parts, dim), 'ones', 'gain')
      self.shift = weight((parts, dim), 'zeros', 'shift')
      # It starts near zero, so that what is learned first is what is summed.
      self.up = dense(parts * dim, hidden, (parts * dim) ** -0.5, 'up')
      self.down = dense(hidden, dim, 0.01 * hidden**-0.5, 'down')
    self.gap_table: keras.Variable | None = None
    if gaps:
      self.gap_table = weight((events.CODES, dim), 'zeros', 'gap_table')
    if encoder in ('pool', 'both'):
      self.pool = history_encoders.PoolEncoder(dim, heads, history_length, name='pool')
    if encoder in ('attention', 'both'):
      self.attention = history_encoders.AttentionEncoder(
        dim,
        heads,
        attention_length or history_length,
        seed=next(seeds),
        name='attention',
      )
    self.features: features_lib.FeatureVectors | None = None
    if features:
      self.features = features_lib.FeatureVectors(
        features, dim + 1, seed=of_features, name='features'
      )
    self.user_features: features_lib.FeatureVectors | None = None
    if user_features:
      self.user_features = features_lib.FeatureVectors(
        user_features, dim, seed=of_user_features, name='user_features'
      )
    self.built = True

  def item_weights(self) -> list[keras.Variable]:
    """What vectors and biases of items are made of."""
    of_features = [] if self.features is None else self.features.weights
    return [self.item_table, self.item_bias, *of_features]

  def rows(
    self, step: features_lib.Step, id_dropout: float = 0.0, seed: Any = None
  ) -> features_lib.Rows:
    """The rows [m + 1, dim + 1] of m items: vectors, biases behind; the last is zero.

    Args:
      step: The items.
      id_dropout: Share of what is looked at whose id vector is left out.
      seed: uint64 [], of that.
    """
    assert self.features is not None
    vectors = tf.gather(self.item_table.value, step.item)
    bias = tf.gather(self.item_bias.value, step.item)[:, None]
    own = tf.concat([vectors, bias], axis=1)
    own, of_features = (
      tf.pad(rows, [[0, 1], [0, 0]]) for rows in (own, self.features(step.inputs))
    )
    return features_lib.Rows(own, of_features, id_dropout, seed)

  def items(
    self, item: tf.Tensor, rows: features_lib.Rows | None = None, site: int = SEEN
  ) -> tf.Tensor:
    """Vectors of items or pads: int [...] -> [..., dim], zero for pads."""
    if rows is not None:
      return tf.cast(rows.at(item, site)[..., :-1], self.compute_dtype)
    vectors = tf.gather(self.item_table.value, item)
    real = tf.cast(item < self._num_items, vectors.dtype)
    return tf.cast(vectors * real[..., None], self.compute_dtype)

  def users(
    self, user: tf.Tensor, known: tf.Tensor, told: features_lib.Told | None = None
  ) -> tf.Tensor | None:
    """Vectors of users.

    Args:
      user: int [n].
      known: float32 [n], 0 where the id says nothing.
      told: What is known of them; None where there are no features.

    Returns:
      [n, dim], or None.
    """
    parts = []
    if self.user_table is not None:
      parts.append(tf.gather(self.user_table.value, user) * known[:, None])
    if self.user_features is not None and told is not None:
      parts.append(told.vectors(self.user_features))
    return tf.cast(sum(parts[1:], parts[0]), self.compute_dtype) if parts else None

  def query(
    self,
    tokens: tf.Tensor,
    row: tf.Tensor,
    users: tf.Tensor | None,
    seed: tf.Tensor | None = None,
    rows: features_lib.Rows | None = None,
    gaps: tf.Tensor | None = None,
  ) -> tf.Tensor:
    """What is asked of the catalogue, for each target.

    Args:
      tokens: int32 [B, T + history_length].
      row: int32 [n], of the targets in the B * T positions.
      users: [n, dim], of `users`.
      seed: uint64 [], of dropout; None leaves it out.
      rows: Of the items, of which tokens are places, pads being the last; None where
        there are no features.
      gaps: int32 [B, T + history_length], codes of `events` of the tokens; None where
        they are not read.

    Returns:
      [n, dim].
    """

    def drop(x: tf.Tensor, site: int) -> tf.Tensor:
      site_seed = None if seed is None else sampling.bits(seed, site)
      return dropout_lib.dropout(x, self._dropout, site_seed)

    if users is not None:
      users = drop(users, _USER)
    if not self._remembers:
      return users

    def at_targets(x: tf.Tensor) -> tf.Tensor:
      return tf.gather(tf.reshape(x, [-1, self._dim]), row)

    length = self._length
    x = self.items(tokens, rows)
    if gaps is not None:
      x += self._of_gaps(gaps)
    last = at_targets(x[:, length - 1 : -1])
    parts = [last, at_targets(x[:, length - 2 : -2])]
    total = []
    if self.pool is not None:
      pooled = drop(self.pool(x, row), _POOLED)
      parts.append(pooled)
      total.append(pooled)
    if self.attention is not None:
      pad = self._num_items if rows is None else tf.shape(rows.own)[0] - 1
      added = self.attention(x, real=tokens < pad, targets=x.shape[1] - length)
      added = drop(at_targets(added), _ATTENDED)
      parts.append(last + added)
      # The pool has the last item already.
      total.append(last + added if self.pool is None else added)
    if users is not None:
      parts.append(users)
      total.append(users)
    hidden = drop(_gelu(products.dense(self.up, self._normed(parts))), _HIDDEN)
    return tf.add_n([*total, products.dense(self.down, hidden)])

  def _of_gaps(self, gaps: tf.Tensor) -> tf.Tensor:
    """Vectors of codes of gaps: int32 [...] -> [..., dim], zero for those not known."""
    assert self.gap_table is not None
    vectors = tf.gather(self.gap_table.value, gaps)
    known = tf.cast(gaps > 0, vectors.dtype)
    return tf.cast(vectors * known[..., None], self.compute_dtype)

  def _normed(self, parts: list[tf.Tensor]) -> tf.Tensor:
    """Layer norm of each part by itself: k of [n, dim] -> [n, k * dim]."""
    x = tf.cast(tf.stack(parts, axis=1), tf.float32)
    mean, variance = tf.nn.moments(x, axes=-1, keepdims=True)
    x = (x - mean) * tf.math.rsqrt(variance + 1e-6)
    x = x * self.gain.value + self.shift.value
    return tf.cast(tf.reshape(x, [-1, len(parts) * self._dim]), self.compute_dtype)

  def logits(
    self,
    query: tf.Tensor,
    items: tf.Tensor | None = None,
    rows: features_lib.Rows | None = None,
  ) -> tf.Tensor:
    """Logits of every query with every item of a list.

    Args:
      query: [n, dim].
      items: int [m], or None for the whole catalogue.
      rows: As in `query`.

    Returns:
      float32 [n, m].
    """
    vectors, bias = self._candidates(items, rows)
    vectors = tf.cast(vectors, query.dtype)
    return tf.cast(products.all_pairs(query, vectors), tf.float32) + bias

  def _candidates(
    self, items: tf.Tensor | None, rows: features_lib.Rows | None
  ) -> tuple[tf.Tensor, tf.Tensor]:
    """Vectors [m, dim] and biases [m]."""
    if rows is not None:
      if items is None:
        items = tf.range(rows.own.shape[0] - 1)
      found = rows.at(items, CANDIDATE)
      return found[:, :-1], found[:, -1]
    vectors, bias = self.item_table.value, self.item_bias.value
    if items is None:
      return vectors[:-1], bias
    return tf.gather(vectors, items), tf.gather(bias, items)

  def row_logits(
    self, query: tf.Tensor, items: tf.Tensor, rows: features_lib.Rows | None = None
  ) -> tf.Tensor:
    """Logits of queries [n, dim] with their own items int [n, c]: float32 [n, c]."""
    if rows is not None:
      found = rows.at(items, TARGET)
      vectors, bias = tf.cast(found[..., :-1], query.dtype), found[..., -1]
    else:
      vectors, bias = self.items(items), tf.gather(self.item_bias.value, items)
    product = tf.einsum('nd,ncd->nc', query, vectors)
    return tf.cast(product, tf.float32) + bias
