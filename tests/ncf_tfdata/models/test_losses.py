"""Losses against independent forms of their formulas, and the objective's parts."""

import numpy as np
import pytest
import scipy.special
import sklearn.metrics
import tensorflow as tf

from ncf_tfdata.data import sampling
from ncf_tfdata.models import losses, neumf

_LOGITS = np.random.default_rng(0).normal(0, 3, (5, 4)).astype(np.float32)


def test_bce_is_the_log_loss_of_a_rows_pairs():
  found = losses.bce(_LOGITS).numpy()
  for row, value in zip(_LOGITS, found, strict=True):
    expected = sklearn.metrics.log_loss([1, 0, 0, 0], scipy.special.expit(row))
    assert value == pytest.approx(expected, rel=1e-5)


def test_softmax_is_the_cross_entropy_of_the_positive():
  expected = -scipy.special.log_softmax(_LOGITS, axis=1)[:, 0]
  np.testing.assert_allclose(losses.softmax(_LOGITS), expected, rtol=1e-5)


def test_bpr_is_the_log_odds_of_each_pair_in_order():
  difference = _LOGITS[:, :1] - _LOGITS[:, 1:]
  expected = -np.log(scipy.special.expit(difference)).mean(axis=1)
  np.testing.assert_allclose(losses.bpr(_LOGITS), expected, rtol=1e-5)


@pytest.mark.parametrize('loss', losses.LOSSES)
def test_losses_stay_finite_where_a_sigmoid_would_underflow(loss):
  logits = tf.constant([[-500.0, 500.0, losses.MASKED]])
  with tf.GradientTape() as tape:
    tape.watch(logits)
    value = losses.LOSSES[loss](logits)
  assert np.isfinite(value).all()
  assert np.isfinite(tape.gradient(value, logits)).all()


_BATCH = {
  'user': tf.constant([0, 3, 2, 0]),
  'items': tf.constant([[1, 0, 2], [4, 4, 3], [5, 1, 0], [0, 0, 0]]),
  'weight': tf.constant([1.0, 0.5, 2.0, 0.0]),
}


def _objective(loss='bce', **options):
  model = neumf.NeuMF(
    4, 6, gmf_dim=2, mlp_dim=2, mlp_layers=(3,), embedding_stddev=1.0, item_bias=True
  )
  model.item_bias.assign(np.arange(6.0)[:, None])
  options = {
    'batch_size': 4,
    'seed': 0,
    'sampler': sampling.Sampler(6),
    'num_negatives': 2,
    **options,
  }
  return model, losses.Objective(model, loss, **options)


def _value(objective, batch=_BATCH, step=0) -> float:
  zero = tf.constant(0, tf.int64)
  completed = objective.complete(batch, zero, tf.constant(step, tf.int64))
  return objective(completed).numpy()


def _squares(model, item) -> np.ndarray:
  bias = np.array(model.item_bias)[item, 0] ** 2
  return (np.array(model.item_table)[item] ** 2).sum(-1) + bias


def test_rows_count_by_weight_and_a_row_of_weight_0_not_at_all():
  model, objective = _objective()
  logits = model((_BATCH['user'], _BATCH['items']))
  expected = (losses.bce(logits) * _BATCH['weight']).numpy().sum() / 4
  assert _value(objective) == pytest.approx(expected, rel=1e-5)
  changed = tf.tensor_scatter_nd_update(_BATCH['items'], [[3, 0]], [5])
  assert _value(objective, {**_BATCH, 'items': changed}) == _value(objective)


def test_l2_is_that_of_the_rows_a_batch_touches():
  (model, plain), (_, penalised) = _objective(), _objective(l2=0.1)
  user, items = _BATCH['user'].numpy(), _BATCH['items'].numpy()
  rows = (np.array(model.user_table)[user] ** 2).sum(1)
  rows += _squares(model, items[:, 0]) + _squares(model, items[:, 1:]).mean(1)
  expected = 0.1 * (rows * _BATCH['weight'].numpy()).sum() / 4
  assert _value(penalised) - _value(plain) == pytest.approx(expected, rel=1e-4)


def test_l2_of_tables_is_shared_out_over_replicas():
  (model, plain), (_, whole) = _objective(), _objective(l2_tables=0.1)
  _, half = _objective(l2_tables=0.1, replicas=2)
  expected = 0.1 * sum((np.array(table) ** 2).sum() for table in model.tables)
  assert _value(whole) - _value(plain) == pytest.approx(expected, rel=1e-4)
  assert _value(half) - _value(plain) == pytest.approx(expected / 2, rel=1e-4)


@pytest.mark.parametrize('loss', losses.LOSSES)
def test_shared_negatives_are_scored_for_every_row_but_hits_are_masked(loss):
  model, objective = _objective(loss, shared_negatives=50)
  batch = {**_BATCH, 'items': _BATCH['items'][:, :1]}
  zero = tf.constant(0, tf.int64)
  completed = objective.complete(batch, zero, zero)
  negatives = completed['negatives'].numpy()
  assert set(negatives) == set(range(6))
  items = np.concatenate([batch['items'], np.tile(negatives, (4, 1))], axis=1)
  logits = model((batch['user'], items)).numpy()
  hit = items == items[:, :1]
  hit[:, 0] = False
  rows = losses.LOSSES[loss](np.where(hit, -1e9, logits)).numpy()
  expected = (rows * batch['weight'].numpy()).sum() / 4
  assert objective(completed).numpy() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize('loss', losses.LOSSES)
def test_by_user_the_loss_is_that_of_rows_whose_users_rows_are_all_masked(loss):
  sampler = sampling.Sampler(6, np.array([60, 20, 10, 5, 4, 1]), 0.5)
  options = {'shared_negatives': 8, 'sampler': sampler, 'l2': 0.1, 'logq': True}
  batch = {
    'user': tf.constant([3, 3, 1, 0, 0, 0]),  # Three users fill up to four.
    'items': tf.constant([[1], [4], [4], [5], [2], [0]]),
    'weight': tf.constant([1.0, 0.5, 2.0, 1.0, 1.0, 0.0]),
  }
  model, objective = _objective(loss, by_user=True, **options)
  zero = tf.constant(0, tf.int64)
  completed = objective.complete(batch, zero, zero)
  assert completed['users'].shape[0] == 4
  user, items = batch['user'].numpy(), batch['items'].numpy()[:, 0]
  negatives = completed['negatives'].numpy()
  own = {u: set(items[user == u]) for u in user}
  pairs = np.concatenate([items[:, None], np.tile(negatives, (6, 1))], axis=1)
  logits = model((user, pairs)).numpy()
  logits[:, 1:] -= np.log(8) + sampler.log_probability[negatives]
  for row, u in enumerate(user):
    hit = [negative in own[u] for negative in negatives]
    logits[row, 1:][hit] = -1e9
  rows = losses.LOSSES[loss](logits).numpy()
  rows += 0.1 * (np.array(model.user_table)[user] ** 2).sum(1)
  rows += 0.1 * (_squares(model, items) + _squares(model, negatives).mean())
  expected = (rows * batch['weight'].numpy()).sum() / 4
  assert objective(completed).numpy() == pytest.approx(expected, rel=1e-4)


def test_shared_negatives_are_a_function_of_the_step():
  _, objective = _objective(shared_negatives=20)
  draws = [
    objective.complete(_BATCH, tf.constant(0, tf.int64), tf.constant(step, tf.int64))
    for step in (0, 0, 1)
  ]
  draws = [draw['negatives'].numpy().tolist() for draw in draws]
  assert draws[0] == draws[1] != draws[2]


def test_logq_takes_the_log_of_the_expected_count_off_negatives():
  sampler = sampling.Sampler(6, np.array([60, 20, 10, 5, 4, 1]), 1.0)
  model, objective = _objective('softmax', sampler=sampler, logq=True)
  items = _BATCH['items'].numpy()
  logits = model((_BATCH['user'], items)).numpy()
  probability = np.array([0.6, 0.2, 0.1, 0.05, 0.04, 0.01])
  logits[:, 1:] -= np.log(2 * probability[items[:, 1:]])
  rows = -scipy.special.log_softmax(logits, axis=1)[:, 0]
  expected = (rows * _BATCH['weight'].numpy()).sum() / 4
  assert _value(objective) == pytest.approx(expected, rel=1e-4)


def test_dropout_changes_with_the_step():
  model = neumf.NeuMF(4, 6, gmf_dim=0, mlp_dim=8, dropout=0.5, embedding_stddev=1.0)
  objective = losses.Objective(
    model, 'bce', batch_size=4, seed=0, sampler=sampling.Sampler(6), num_negatives=2
  )
  assert _value(objective) == _value(objective)
  assert _value(objective) != _value(objective, step=1)
