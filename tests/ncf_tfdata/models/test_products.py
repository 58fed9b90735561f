"""Products whose gradients are laid out anew, against plain ones."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from ncf_tfdata.models import products

_CLOSE = {'rtol': 1e-5, 'atol': 1e-5}


def _drawn(*shape: int) -> tf.Tensor:
  return tf.constant(np.random.default_rng(sum(shape)).normal(size=shape), tf.float32)


def _value_and_gradients(function, one, other, compiled):
  @tf.function(jit_compile=compiled)
  def run(one, other):
    with products.compiled(compiled), tf.GradientTape() as tape:
      tape.watch((one, other))
      found = function(one, other)
      # Not the same for all cells.
      loss = tf.reduce_sum(tf.sin(found))
    return found, *tape.gradient(loss, (one, other))

  return [each.numpy() for each in run(one, other)]


# What is laid out is the narrower of the two; they may be as wide as each other.
@pytest.mark.parametrize('units', [3, 8, 20])
def test_a_product_and_its_gradients_are_the_plain_ones(units):
  x, kernel = _drawn(16, 8), _drawn(8, units)
  expected = _value_and_gradients(tf.matmul, x, kernel, False)
  for compiled in (False, True):
    found = _value_and_gradients(products.product, x, kernel, compiled)
    for one, other in zip(found, expected, strict=True):
      np.testing.assert_allclose(one, other, **_CLOSE)


@pytest.mark.parametrize('vectors', [3, 4, 30])
def test_all_pairs_and_their_gradients_are_the_plain_ones(vectors):
  queries, vectors = _drawn(16, 4), _drawn(vectors, 4)
  plain = functools.partial(tf.matmul, transpose_b=True)
  expected = _value_and_gradients(plain, queries, vectors, False)
  for compiled in (False, True):
    found = _value_and_gradients(products.all_pairs, queries, vectors, compiled)
    for one, other in zip(found, expected, strict=True):
      np.testing.assert_allclose(one, other, **_CLOSE)


@pytest.mark.parametrize('shape', [(7,), (2, 4)])
@pytest.mark.parametrize('bias', [False, True])
def test_a_dense_layer_is_what_keras_makes_of_it(shape, bias):
  layer = keras.layers.Dense(5, 'relu', use_bias=bias, bias_initializer='ones')
  layer.build((None, 3))
  x = _drawn(*shape, 3)
  np.testing.assert_allclose(products.dense(layer, x), layer(x), **_CLOSE)


def test_only_what_is_compiled_is_laid_out():
  """XLA alone knows of a barrier: a graph of TensorFlow's with one would not run."""
  graph = tf.function(products.product)
  with products.compiled(True):
    pass
  found = graph(_drawn(4, 2), _drawn(2, 3))
  assert found.shape == (4, 3)
  kinds = {
    node.op
    for node in graph.get_concrete_function(
      tf.TensorSpec([4, 2]), tf.TensorSpec([2, 3])
    )
    .graph.as_graph_def()
    .node
  }
  assert 'XlaOptimizationBarrier' not in kinds
