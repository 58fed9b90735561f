"""NeuMF and its halves against the paper's formula in plain numpy."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from ncf_tfdata import memory
from ncf_tfdata.data import records
from ncf_tfdata.models import neumf

_USERS, _ITEMS = 7, 11


def _model(**options) -> neumf.NeuMF:
  options = {
    'gmf_dim': 3,
    'mlp_dim': 4,
    'mlp_layers': (6, 5),
    'embedding_stddev': 1.0,
    **options,
  }
  model = neumf.NeuMF(_USERS, _ITEMS, **options)
  generator = np.random.default_rng(0)
  for weight in model.weights:  # Heads and biases start from ones and zeros.
    weight.assign(generator.normal(size=weight.shape))
  return model


def _logit(model: neumf.NeuMF, user: int, item: int) -> float:
  """He et al. 2017, equations 8 to 12 with a bias, one pair at a time."""
  gmf, mlp = model.get_config()['gmf_dim'], model.get_config()['mlp_dim']
  p, q = np.array(model.user_table)[user], np.array(model.item_table)[item]
  features, heads = [], []
  if gmf:
    head = np.ones(gmf) if model.gmf_head is None else np.array(model.gmf_head)
    features.append(p[:gmf] * q[:gmf])
    heads.append(head)
  if mlp:
    x = np.concatenate([p[gmf:], q[gmf:]]) @ np.array(model.first_kernel)
    x = np.maximum(x + np.array(model.first_bias), 0)
    for layer in model.tower:
      x = np.maximum(x @ np.array(layer.kernel) + np.array(layer.bias), 0)
    features.append(x)
    heads.append(np.array(model.mlp_head)[:, 0])
  logit = np.concatenate(features) @ np.concatenate(heads) + float(model.head_bias)
  if model.item_bias is not None:
    logit += float(np.array(model.item_bias)[item, 0])
  return logit


_KINDS = [
  {},
  {'mlp_dim': 0},
  {'gmf_dim': 0},
  {'mlp_layers': (6,)},
  {'item_bias': True, 'gmf_weights': False},
]


def _batch(users: int) -> records.EvaluationBatch:
  return records.EvaluationBatch(
    user=np.arange(users),
    positive=np.zeros(users, np.int64),
    negatives=np.zeros((users, 0), np.int64),
    history=np.zeros(0, np.int64),
    history_length=np.zeros(users, np.int64),
  )


@pytest.mark.parametrize('options', _KINDS)
def test_every_way_to_a_logit_gives_the_papers(options):
  model = _model(**options)
  expected = np.array(
    [[_logit(model, user, item) for item in range(_ITEMS)] for user in range(_USERS)]
  )
  batch, items = _batch(_USERS), np.tile(np.arange(_ITEMS)[::-1], (_USERS, 1))
  close = {'rtol': 1e-4, 'atol': 1e-4}
  np.testing.assert_allclose(model((batch.user, items)), expected[:, ::-1], **close)
  np.testing.assert_allclose(
    model.score_candidates(batch, items), expected[:, ::-1], **close
  )
  np.testing.assert_allclose(model.score_all(batch), expected, **close)


@pytest.mark.parametrize('rows', [1, 2])
def test_scores_do_not_depend_on_how_they_are_chunked(monkeypatch, rows):
  model, batch = _model(item_bias=True), _batch(_USERS)
  items = np.tile(np.arange(5), (_USERS, 1))
  catalogue, pairs = model.score_all(batch), model.score_candidates(batch, items)
  model = _model(item_bias=True)  # One that has not been traced yet.
  monkeypatch.setattr(memory, 'BLOCK_CELLS', 6 * 4 * rows)
  monkeypatch.setattr(neumf, '_CHUNK_ITEMS', 4)
  np.testing.assert_allclose(model.score_all(batch), catalogue, rtol=1e-5, atol=1e-5)
  np.testing.assert_allclose(
    model.score_candidates(batch, items), pairs, rtol=1e-5, atol=1e-5
  )


@pytest.mark.parametrize('options', _KINDS)
def test_a_model_is_made_again_from_its_configuration_and_weights(options, tmp_path):
  model = _model(**options, dropout=0.5, name='x')
  made = keras.saving.deserialize_keras_object(
    keras.saving.serialize_keras_object(model)
  )
  model.save_weights(tmp_path / 'x.weights.h5')
  made.load_weights(tmp_path / 'x.weights.h5')
  assert made.get_config() == model.get_config()
  batch = _batch(_USERS)
  assert np.array_equal(made.score_all(batch), model.score_all(batch))


def test_dropout_is_a_function_of_its_seed_and_keeps_the_mean():
  model = _model(gmf_dim=0, mlp_layers=(64,), dropout=0.5)
  users, items = (
    model.users(tf.zeros([4000], tf.int32)),
    model.items(tf.zeros([4000, 1], tf.int32)),
  )
  plain = model.row_logits(users, items).numpy()
  one, again, other = (
    model.row_logits(users, items, tf.constant(seed, tf.uint64)).numpy()
    for seed in (1, 1, 2)
  )
  assert np.array_equal(one, again)
  assert not np.array_equal(one, other)
  assert one.std() > 0
  assert abs(one.mean() - plain.mean()) < 4 * one.std() / np.sqrt(len(one))


def test_initial_weights_follow_the_seed():
  weights = [
    np.concatenate(
      [np.ravel(weight) for weight in neumf.NeuMF(9, 9, seed=seed).weights]
    )
    for seed in (0, 0, 1)
  ]
  assert np.array_equal(weights[0], weights[1])
  assert not np.array_equal(weights[0], weights[2])
  model = neumf.NeuMF(500, 9, gmf_dim=32, mlp_dim=32, embedding_stddev=0.2)
  assert np.array(model.user_table).std() == pytest.approx(0.2, rel=0.05)
  # Two tables from one stream would make user 3 and item 3 alike.
  assert not np.allclose(model.user_table[:9], model.item_table)


def test_mixed_precision_computes_narrow_and_answers_in_float32():
  policy = keras.config.dtype_policy()
  wide = _model()
  keras.config.set_dtype_policy('mixed_bfloat16')
  try:
    narrow = _model()
  finally:
    keras.config.set_dtype_policy(policy)
  assert {weight.dtype for weight in narrow.weights} == {'float32'}
  scores = narrow.score_all(_batch(_USERS))
  expected = wide.score_all(_batch(_USERS))
  assert scores.dtype == np.float32
  assert not np.array_equal(scores, expected)
  np.testing.assert_allclose(scores, expected, atol=0.05 * np.abs(expected).max())


def test_nothing_to_learn_is_refused():
  with pytest.raises(ValueError, match='gmf_dim=0, mlp_dim=0'):
    neumf.NeuMF(2, 2, gmf_dim=0, mlp_dim=0)
  with pytest.raises(ValueError, match='`mlp_layers`'):
    neumf.NeuMF(2, 2, mlp_layers=())
