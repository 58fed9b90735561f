"""NeuMF against plain numpy, and its scores against each other."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from ncf_tfdata import losses, neumf, records

USERS, ITEMS = 7, 11


def model(**options):
  options = {
    'gmf_dim': 3,
    'mlp_dim': 4,
    'mlp_layers': (6, 5),
    'item_bias': True,
    'embedding_stddev': 1.0,
    'seed': 0,
    **options,
  }
  return neumf.NeuMF(USERS, ITEMS, **options)


def batch(user):
  empty = np.zeros(0, np.int64)
  return records.EvaluationBatch(
    np.asarray(user), np.zeros(len(user), np.int64), empty, empty, empty
  )


@pytest.mark.parametrize(
  'options',
  [{}, {'gmf_dim': 0}, {'mlp_dim': 0}, {'gmf_weights': False}, {'item_bias': False}],
  ids=str,
)
def test_all_ways_to_score_agree(options):
  made = model(**options)
  user = np.array([0, 3, 6])
  everything = made.catalogue(batch(user))
  assert everything.shape == (3, ITEMS)
  items = np.array([[1, 5], [0, 10], [7, 7]])
  some = made.pairs(batch(user), items)
  np.testing.assert_allclose(
    some, np.take_along_axis(everything, items, 1), rtol=1e-4, atol=1e-5
  )


def test_configuration_makes_the_same_model():
  made = model()
  again = neumf.NeuMF.from_config(made.get_config())
  again.set_weights(made.get_weights())
  user = np.arange(USERS)
  np.testing.assert_array_equal(
    made.catalogue(batch(user)), again.catalogue(batch(user))
  )


def test_a_seed_decides_the_initial_weights():
  same, other = model().get_weights(), model(seed=1).get_weights()
  for a, b in zip(model().get_weights(), same, strict=True):
    np.testing.assert_array_equal(a, b)
  assert any(not np.array_equal(a, b) for a, b in zip(same, other, strict=True))


LOGITS = np.array([[2.0, -1.0, 0.5], [-30.0, 40.0, 0.0]], np.float32)


def test_bce_is_keras_own():
  labels = np.array([[1.0, 0, 0]] * 2, np.float32)
  expected = keras.losses.BinaryCrossentropy(from_logits=True, reduction=None)
  np.testing.assert_allclose(
    losses.bce(tf.constant(LOGITS)), expected(labels, LOGITS), rtol=1e-5
  )


def test_softmax_is_keras_own():
  labels = np.array([[1.0, 0, 0]] * 2, np.float32)
  expected = keras.losses.CategoricalCrossentropy(from_logits=True, reduction=None)
  np.testing.assert_allclose(
    losses.softmax(tf.constant(LOGITS)), expected(labels, LOGITS), rtol=1e-5
  )


def test_bpr_is_the_paper_formula():
  difference = LOGITS[:, :1].astype(np.float64) - LOGITS[:, 1:]
  expected = np.log1p(np.exp(-difference)).mean(1)
  np.testing.assert_allclose(losses.bpr(tf.constant(LOGITS)), expected, rtol=1e-5)
