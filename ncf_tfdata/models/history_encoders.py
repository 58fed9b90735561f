"""What a history model makes of the items before a target, as Keras layers.

Both encoders work on windows of T targets with L positions of context before the
first: target t sees positions t to t + L - 1, oldest first, and nothing else.
"""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ncf_tfdata.models import products

# A masked logit. Finite, so that a row without any history has no NaN.
_MASKED = -1e9


def band(weights: tf.Tensor, targets: int) -> tf.Tensor:
  """Toeplitz matrices: each target's row is the weights, one column further right.

  Args:
    weights: [K, L], of the oldest position first.
    targets: T.

  Returns:
    [K, T, T + L]; row t holds the weights in columns t to t + L - 1, else zero.
  """
  heads, length = weights.shape
  width = targets + length
  # Rows of width + 1 laid end to end, then cut at width: each begins one later.
  rows = tf.tile(tf.pad(weights, [[0, 0], [0, targets + 1]])[:, None], [1, targets, 1])
  rows = tf.reshape(rows, [heads, targets * (width + 1)])[:, : targets * width]
  return tf.reshape(rows, [heads, targets, width])


def _powers(heads: int, length: int) -> np.ndarray:
  """Lag ** -p, oldest first, of a p for each head: float64 [heads, length]."""
  lag = np.arange(length, 0, -1.0)
  return lag ** -np.linspace(0.25, 1.5, heads)[:, None]


def _constant(value: np.ndarray) -> Callable[..., tf.Tensor]:
  """An initializer that gives this value."""
  return lambda shape, dtype=None: tf.constant(value, dtype)


def _overlapping(x: tf.Tensor, length: int) -> tf.Tensor:
  """Pieces of 2 L, each an L further: [B, (n + 1) L, …] -> [B n, 2 L, …]."""
  rest = x.shape[2:].as_list()
  x = tf.reshape(x, [-1, x.shape[1] // length, length, *rest])
  return tf.reshape(tf.concat([x[:, :-1], x[:, 1:]], axis=2), [-1, 2 * length, *rest])


class PoolEncoder(keras.layers.Layer):  # type: ignore[misc]
  """Weighted sums of a history: a learned weight for each head and lag.

  A head is an equal share of the channels. One product with a Toeplitz matrix a head
  serves all targets of a window, so no history is gathered row by row.
  """

  def __init__(self, dim: int, heads: int, length: int, **kwargs: Any) -> None:
    """Makes and builds the layer; `heads` divides `dim`."""
    super().__init__(**kwargs)
    self._dim, self._heads = dim, heads
    weights = _powers(heads, length)
    weights /= weights.sum(axis=1, keepdims=True)
    self.lag = self.add_weight(
      shape=(heads, length), initializer=_constant(weights), name='lag'
    )
    self.scale = self.add_weight(shape=(dim,), initializer='ones', name='scale')
    self.built = True

  def call(self, x: tf.Tensor, row: tf.Tensor) -> tf.Tensor:
    """Pools the histories of some targets.

    Args:
      x: [B, T + L, dim].
      row: int32 [n], of the targets in the B * T positions.

    Returns:
      [n, dim].
    """
    width, channels = x.shape[1], self._dim // self._heads
    targets = width - self.lag.shape[1]
    x = tf.reshape(x, [-1, width, self._heads, channels])
    x = tf.reshape(tf.transpose(x, [2, 1, 0, 3]), [self._heads, width, -1])
    pooled = band(self.lag.value, targets) @ x
    pooled = tf.reshape(pooled, [self._heads, targets, -1, channels])
    pooled = tf.transpose(pooled, [2, 1, 0, 3])
    return tf.gather(tf.reshape(pooled, [-1, self._dim]), row) * self.scale.value


class AttentionEncoder(keras.layers.Layer):  # type: ignore[misc]
  """A gated block of causal self-attention, with a learned bias for head and lag.

  The position before a target asks. A target sees the last L items, as in
  `PoolEncoder`.
  Sources: Vaswani et al., Attention is all you need (NeurIPS 2017), section 3.2;
  Shaw et al., Self-attention with relative position representations (NAACL 2018);
  Zhai et al., Actions speak louder than words (ICML 2024), for the gate.
  """

  def __init__(
    self, dim: int, heads: int, length: int, seed: int, **kwargs: Any
  ) -> None:
    """Makes and builds the layer; `heads` divides `dim`."""
    super().__init__(**kwargs)
    self._dim, self._heads = dim, heads
    seeds = [int(n) for n in np.random.SeedSequence(seed).generate_state(3)]

    def dense(
      inputs: int, units: int, stddev: float, seed: int, name: str
    ) -> keras.layers.Dense:
      layer = keras.layers.Dense(
        units,
        use_bias=False,
        kernel_initializer=keras.initializers.RandomNormal(stddev=stddev, seed=seed),
        name=name,
        dtype=self.dtype_policy,
      )
      layer.build((None, inputs))
      return layer

    self.norm = keras.layers.LayerNormalization(name='norm', dtype=self.dtype_policy)
    self.norm.build((None, dim))
    # Keys and values of all positions; queries and gates of those that ask.
    self.keys = dense(dim, 2 * dim, dim**-0.5, seeds[0], 'keys')
    self.queries = dense(dim, 2 * dim, dim**-0.5, seeds[1], 'queries')
    self.output_layer = dense(dim, dim, 0.1 * dim**-0.5, seeds[2], 'output')
    self.lag = self.add_weight(
      shape=(heads, length),
      initializer=_constant(np.log(_powers(heads, length))),
      name='lag',
      autocast=False,
    )
    self.built = True

  def _split(self, x: tf.Tensor) -> tf.Tensor:
    """[B, S, dim] -> [B, heads, S, dim / heads]."""
    width, channels = x.shape[1], self._dim // self._heads
    x = tf.reshape(x, [-1, width, self._heads, channels])
    return tf.transpose(x, [0, 2, 1, 3])

  def call(self, x: tf.Tensor, real: tf.Tensor, targets: int) -> tf.Tensor:
    """What attention adds to the item before each target.

    Args:
      x: [B, T + L or more, dim], of T targets; what is more comes first.
      real: bool [B, T + L or more], False at pads.
      targets: T.

    Returns:
      [B, T, dim]; zero where there is no history.
    """
    length = self.lag.shape[1]
    x, real = (each[:, -(targets + length) :] for each in (x, real))
    x = self.norm(x)
    key, value = tf.split(products.dense(self.keys, x), 2, axis=-1)
    asking = x[:, length - 1 : length - 1 + targets]
    query, gate = tf.split(products.dense(self.queries, asking), 2, axis=-1)
    if targets <= length:
      out = self._attended(query, key, value, real)
    else:
      # In pieces of L targets, which see 2 L items each: of all T + L, most see little.
      pieces = -(-targets // length)
      fill = [[0, 0], [0, pieces * length - targets]]
      query, key, value = (
        tf.pad(each, [*fill, [0, 0]]) for each in (query, key, value)
      )
      query = tf.reshape(query, [-1, length, self._dim])
      seen = (key, value, tf.pad(real, fill))
      out = self._attended(query, *(_overlapping(each, length) for each in seen))
      out = tf.reshape(out, [-1, pieces * length, self._dim])[:, :targets]
    return products.dense(self.output_layer, out * tf.nn.silu(gate))

  def _attended(
    self, query: tf.Tensor, key: tf.Tensor, value: tf.Tensor, real: tf.Tensor
  ) -> tf.Tensor:
    """Mean values: [B, T, dim], twice [B, T + L, dim], [B, T + L] -> [B, T, dim]."""
    targets = query.shape[1]
    logits = tf.matmul(self._split(query), self._split(key), transpose_b=True)
    logits = tf.cast(logits, tf.float32) * (self._dim // self._heads) ** -0.5
    logits += band(self.lag.value, targets)
    seen = band(tf.ones([1, self.lag.shape[1]]), targets) > 0
    seen &= real[:, None, None, :]
    weights = tf.nn.softmax(tf.where(seen, logits, _MASKED))
    # Without history the softmax is spread over what must not be seen.
    weights = tf.cast(tf.where(seen, weights, 0.0), value.dtype)
    out = tf.transpose(tf.matmul(weights, self._split(value)), [0, 2, 1, 3])
    return tf.reshape(out, [-1, targets, self._dim])
