"""Matrix products whose gradients take no longer than they do themselves.

The gradient of a kernel is a product over the rows of two matrices. On a CPU, XLA has
one of them read down its columns for that, where strides of a power of two share a few
lines of the cache: it takes up to three times as long as the product itself. Here the
narrower one is laid out anew first. The sums are the same but for their rounding.
"""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Callable, Iterator

import keras
import tensorflow as tf

from ncf_tfdata import _compat

_Gradient = Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]

# Whether what is traced is compiled by XLA for a CPU.
_COMPILED = contextvars.ContextVar('compiled', default=False)


@contextlib.contextmanager
def compiled(by_xla_for_cpu: bool) -> Iterator[None]:
  """Says of what is traced within whether XLA compiles it for a CPU."""
  token = _COMPILED.set(by_xla_for_cpu)
  try:
    yield
  finally:
    _COMPILED.reset(token)


def product(x: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
  """x times a kernel: [n, a], [a, b] -> [n, b], floats of one type."""
  if not _COMPILED.get():
    return tf.matmul(x, kernel)
  return _product(x, kernel)


def dense(layer: keras.layers.Dense, x: tf.Tensor) -> tf.Tensor:
  """What a built layer makes of x: [..., a] -> [..., units]."""
  rows = tf.reshape(x, [-1, x.shape[-1]])
  result = product(rows, tf.cast(layer.kernel.value, x.dtype))
  if layer.use_bias:
    result += tf.cast(layer.bias.value, x.dtype)
  result = tf.reshape(result, tf.concat([tf.shape(x)[:-1], [layer.units]], 0))
  return layer.activation(tf.ensure_shape(result, [*x.shape[:-1], layer.units]))


def all_pairs(queries: tf.Tensor, vectors: tf.Tensor) -> tf.Tensor:
  """The dot products of all pairs: [n, d], [m, d] -> [n, m], floats of one type."""
  if not _COMPILED.get():
    return tf.matmul(queries, vectors, transpose_b=True)
  return _all_pairs(queries, vectors)


@tf.custom_gradient  # type: ignore[untyped-decorator]
def _product(x: tf.Tensor, kernel: tf.Tensor) -> tuple[tf.Tensor, _Gradient]:
  def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    of_x = tf.matmul(upstream, kernel, transpose_b=True)
    return of_x, _over_rows(x, upstream)

  return tf.matmul(x, kernel), gradient


@tf.custom_gradient  # type: ignore[untyped-decorator]
def _all_pairs(queries: tf.Tensor, vectors: tf.Tensor) -> tuple[tf.Tensor, _Gradient]:
  def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    return tf.matmul(upstream, vectors), _over_rows(upstream, queries)

  return tf.matmul(queries, vectors, transpose_b=True), gradient


def _over_rows(x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
  """x transposed times y: [n, a], [n, b] -> [a, b]."""
  if x.shape[-1] > y.shape[-1]:
    return _laid_out(_over_rows(y, x))
  return tf.matmul(_laid_out(x), y)


def _laid_out(x: tf.Tensor) -> tf.Tensor:
  """The transpose, in memory.

  XLA would else transpose within the product, or compute x again column by column.
  """
  return _compat.kept_apart(tf.transpose(_compat.kept_apart(x)))
