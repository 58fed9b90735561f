"""EASE around a model, in numpy and in a graph."""

import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf
import toy_batch
import toy_dataset

from ncf_tfdata import memory
from ncf_tfdata.data import ease
from ncf_tfdata.errors import UserError
from ncf_tfdata.models import counted
from ncf_tfdata.models.configs import HistoryConfig
from ncf_tfdata.models.history import History
from ncf_tfdata.models.neumf import NeuMF
from ncf_tfdata.models.with_ease import WithEase
from ncf_tfdata.models.with_transitions import WithTransitions

_ITEMS = 9
_TRAIN = [[0, 1, 2, 3], [1, 2, 4, 8], [5, 6, 2, 7], [0, 3, 5, 8], [6, 7, 1, 0]]
_USERS = len(_TRAIN)
# One item twice, all of them, and none.
_HISTORIES = [[3, 1, 4, 0, 3], [6], list(range(_ITEMS)), [], [2, 8]]


@pytest.fixture(scope='module')
def dataset(tmp_path_factory):
  # The last of each is held out.
  items = [np.array([*found, found[0]]) for found in _TRAIN]
  return toy_dataset.write(
    tmp_path_factory.mktemp('toy'),
    items,
    num_items=_ITEMS,
    holdout=1,
    train_negatives=1,
    eval_negatives=1,
  )


def _neumf() -> NeuMF:
  return NeuMF(_USERS, _ITEMS, gmf_dim=4, mlp_dim=4, mlp_layers=(8,), name='neumf')


def _history() -> History:
  return History(_USERS, _ITEMS, 5, dim=8, heads=2, hidden=6, name='history')


def _regressed(l2: float) -> np.ndarray:
  """Scores of the histories, item by item: a ridge regression without the item."""
  x = np.zeros((_USERS, _ITEMS))
  asked = np.zeros((_USERS, _ITEMS))
  for user in range(_USERS):
    x[user, _TRAIN[user]] = 1
    asked[user, _HISTORIES[user]] = 1
  scores = np.zeros((_USERS, _ITEMS))
  for item in range(_ITEMS):
    others = [other for other in range(_ITEMS) if other != item]
    left = x[:, others].T @ x[:, others] + l2 * np.eye(_ITEMS - 1)
    scores[:, item] = asked[:, others] @ np.linalg.solve(
      left, x[:, others].T @ x[:, item]
    )
  return scores


@pytest.mark.parametrize('make', [_neumf, _history])
def test_any_model_gets_the_regression_added(make, dataset):
  model, batch = make(), toy_batch.of(_HISTORIES)
  wrapped = WithEase(model, 1.5, l2=2.0)
  wrapped.attach(dataset)
  close = {'rtol': 1e-5, 'atol': 1e-5}
  expected = model.score_all(batch) + 1.5 * _regressed(2.0)
  np.testing.assert_allclose(wrapped.score_all(batch), expected, **close)
  history = tf.RaggedTensor.from_row_lengths(batch.history, batch.history_length)
  user = tf.constant(batch.user)
  np.testing.assert_allclose(wrapped.catalogue_logits(user, history), expected, **close)
  items = np.array([[3, 0], [1, 1], [8, 2], [4, 5], [0, 7]])
  expected = np.take_along_axis(expected, items, axis=1)
  np.testing.assert_allclose(wrapped.score_candidates(batch, items), expected, **close)
  np.testing.assert_allclose(
    wrapped.candidate_logits(user, history, tf.constant(items)), expected, **close
  )
  assert wrapped.reads_history and wrapped.name == model.name


def test_it_is_made_again_from_its_configuration(dataset):
  wrapped = WithEase(WithTransitions(_history(), 1.5), 2.0, l2=3.0)
  made = keras.saving.deserialize_keras_object(
    keras.saving.serialize_keras_object(wrapped)
  )
  assert made.get_config() == wrapped.get_config()
  with pytest.raises(ValueError, match='attach'):
    made.score_all(toy_batch.of(_HISTORIES))


def test_a_configuration_says_what_is_added(dataset):
  open_config = HistoryConfig(transition_logits=0, ease_logits=0)
  assert isinstance(counted.added(_history(), open_config, dataset), History)
  found = counted.added(_history(), open_config.replace(ease_logits=1), dataset)
  assert isinstance(found, WithEase) and found.weights.shape == (_ITEMS, _ITEMS)


def test_what_does_not_fit_into_memory_is_refused_in_one_line(dataset, monkeypatch):
  monkeypatch.setattr(memory, 'available', lambda: 100)
  with pytest.raises(UserError, match=r'EASE of 9 items .* without --ease_logits'):
    WithEase(_history(), 1.0).attach(dataset)


@pytest.fixture(scope='module')
def kept(tmp_path_factory, dataset):
  """Weights, and beside them what EASE was fitted to."""
  weights = tmp_path_factory.mktemp('kept') / 'best.weights.h5'
  wrapped = WithEase(_history(), 1.5, l2=2.0)
  wrapped.attach(dataset)
  wrapped.model.save_weights(weights)
  wrapped.save_fitted(weights)
  return weights, wrapped.weights


def _loaded(weights, dataset, l2: float = 2.0) -> WithEase:
  """As a run is loaded: weights first."""
  wrapped = WithEase(_history(), 1.5, l2=l2)
  wrapped.load_weights(weights)
  wrapped.attach(dataset)
  return wrapped


def test_what_was_kept_is_not_fitted_again(kept, dataset, monkeypatch):
  weights, matrix = kept
  monkeypatch.setattr(ease, 'weights', None)
  np.testing.assert_array_equal(_loaded(weights, dataset).weights, matrix)


def test_kept_twice_it_has_the_same_bytes(kept, dataset, tmp_path):
  weights, _ = kept
  _loaded(weights, dataset).save_fitted(tmp_path / weights.name)
  first = (weights.parent / 'ease.npz').read_bytes()
  assert (tmp_path / 'ease.npz').read_bytes() == first


def test_what_was_kept_needs_no_memory_to_fit(kept, dataset, monkeypatch):
  weights, _ = kept
  monkeypatch.setattr(memory, 'available', lambda: 4 * _ITEMS**2)
  _loaded(weights, dataset)
  with pytest.raises(UserError, match='EASE of 9 items'):
    _loaded(weights, dataset, l2=3.0)


def _cut_short(path):
  path.write_bytes(path.read_bytes()[:-40])


def _changed_by_a_bit(path):
  content = bytearray(path.read_bytes())
  content[len(content) // 2] ^= 1  # within the matrix
  path.write_bytes(content)


@pytest.mark.parametrize('l2', [2.0, 5.0])
@pytest.mark.parametrize('spoil', [_cut_short, _changed_by_a_bit, None])
def test_what_is_damaged_or_of_another_ridge_is_fitted_anew(
  kept, dataset, tmp_path, spoil, l2
):
  weights, matrix = kept
  here = shutil.copytree(weights.parent, tmp_path / 'here')
  if spoil:
    spoil(here / 'ease.npz')
  found = _loaded(here / weights.name, dataset, l2).weights
  fresh = WithEase(_history(), 1.5, l2=l2)
  fresh.attach(dataset)
  np.testing.assert_array_equal(found, fresh.weights)
  assert np.allclose(found, matrix, rtol=1e-6) == (l2 == 2.0)


def test_that_of_another_dataset_is_fitted_anew(kept, tmp_path):
  weights, matrix = kept
  items = [np.array([*found[1:], 8, found[0]]) for found in _TRAIN]
  other = toy_dataset.write(
    tmp_path, items, num_items=_ITEMS, holdout=1, train_negatives=1, eval_negatives=1
  )
  assert not np.allclose(_loaded(weights, other).weights, matrix)
