"""The row-wise Adam beside Keras's, and the learning rate's course."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from ncf_tfdata.training import optimizers

_TABLE = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)


def _train(optimizer, batches) -> np.ndarray:
  table = keras.Variable(_TABLE)
  optimizer.build([table])
  for index in batches:
    with tf.GradientTape() as tape:
      loss = tf.reduce_sum(tf.sin(tf.gather(table.value, index)))
    gradient = tape.gradient(loss, table.value)
    assert isinstance(gradient, tf.IndexedSlices)
    if not getattr(optimizer, 'row_wise', False):
      gradient = tf.convert_to_tensor(gradient)
    optimizer.apply([gradient], [table])
  return np.array(table)


def test_lazy_adam_is_adam_where_every_row_is_used():
  batches = [[0, 1, 2, 3, 4, 5, 0, 3, 3], [5, 4, 3, 2, 1, 0], [0, 1, 2, 3, 4, 5]]
  lazy = _train(optimizers.LazyAdam(0.1, beta_2=0.9), batches)
  dense = _train(keras.optimizers.Adam(0.1, beta_2=0.9), batches)
  np.testing.assert_allclose(lazy, dense, rtol=1e-5)


def test_lazy_adam_leaves_rows_alone_that_a_batch_does_not_use():
  batches = [[0, 1], [2, 2], [4]]
  lazy = _train(optimizers.LazyAdam(0.1), batches)
  dense = _train(keras.optimizers.Adam(0.1), batches)
  assert np.array_equal(lazy[[3, 5]], _TABLE[[3, 5]])
  # Row 0 was used in the first step only; Adam's momentum moves it in the others too.
  first = _train(optimizers.LazyAdam(0.1), batches[:1])
  assert np.array_equal(lazy[0], first[0])
  assert not np.array_equal(dense[0], first[0])


def test_lazy_adam_applies_a_dense_gradient_as_adam_does():
  results = []
  for kind in (optimizers.LazyAdam, keras.optimizers.Adam):
    weight = keras.Variable(_TABLE)
    optimizer = kind(0.1)
    optimizer.apply([tf.ones_like(_TABLE)], [weight])
    results.append(np.array(weight))
  np.testing.assert_array_equal(*results)


def test_the_rate_decays_by_epoch_after_a_linear_start():
  rate = optimizers.LearningRate(0.8, decay=0.5, steps_per_epoch=10, warmup_steps=4)
  found = [float(rate(step)) for step in (0, 1, 3, 4, 9, 10, 19, 20)]
  assert found == pytest.approx([0.2, 0.4, 0.8, 0.8, 0.8, 0.4, 0.4, 0.2])
  made = optimizers.LearningRate.from_config(rate.get_config())
  assert float(made(10)) == pytest.approx(0.4)


@pytest.mark.parametrize('name', optimizers.OPTIMIZERS)
def test_every_optimizer_by_name_descends(name):
  rate = optimizers.LearningRate(0.1, steps_per_epoch=100)
  optimizer = optimizers.create(name, rate, beta_2=0.99, average=0.0)
  before, after = np.sin(_TABLE).sum(), np.sin(_train(optimizer, [range(6)] * 5)).sum()
  assert after < before


def test_the_cosine_falls_to_zero_at_the_last_step_and_stays_there():
  rate = optimizers.LearningRate(
    0.6, steps_per_epoch=10, warmup_steps=2, cosine_steps=40
  )
  found = [float(rate(step)) for step in (0, 10, 20, 30, 40, 50)]
  half = 0.3 * (1 + np.cos(np.pi * np.array([0, 0.25, 0.5, 0.75, 1, 1])))
  assert found == pytest.approx([0.3, *half[1:]], abs=1e-6)
