"""Item transitions around a model, in numpy and in a graph."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import toy_batch
import toy_dataset

from ncf_tfdata.data import transitions
from ncf_tfdata.errors import UserError
from ncf_tfdata.models import transitions_in_graph
from ncf_tfdata.models.history import History
from ncf_tfdata.models.neumf import NeuMF
from ncf_tfdata.models.with_transitions import WithTransitions

_USERS, _ITEMS = 4, 11
_HISTORIES = [[3, 1, 4, 0, 5, 9, 2], [6, 5], [3, 3], []]


def _neumf() -> NeuMF:
  return NeuMF(_USERS, _ITEMS, gmf_dim=4, mlp_dim=4, mlp_layers=(8,), name='neumf')


def _history() -> History:
  return History(_USERS, _ITEMS, 5, dim=8, heads=2, hidden=6, name='history')


def _with_transitions(model, **options) -> WithTransitions:
  """Around a model, with counts drawn at random in place of a dataset's."""
  generator = np.random.default_rng(0)
  counts = generator.random((_ITEMS, _ITEMS)) * (
    generator.random((_ITEMS, _ITEMS)) < 0.4
  )
  wrapped = WithTransitions(model, 1.5, smoothing=0.1, **options)
  wrapped.scores = transitions.TransitionScores(
    transitions.sp.csr_matrix(counts), generator.integers(0, 9, _ITEMS), reverse=0.5
  )
  return wrapped


@pytest.mark.parametrize('make', [_neumf, _history])
def test_any_model_gets_the_log_of_the_scores_added(make):
  model, batch = make(), toy_batch.of(_HISTORIES)
  wrapped = _with_transitions(model)
  scores = wrapped.scores.scores(batch.history, batch.history_length)
  assert scores[:3].any() and not scores[3].any()
  added = 1.5 * np.log(0.1 + scores)
  close = {'rtol': 1e-5, 'atol': 1e-5}
  expected = model.score_all(batch) + added
  np.testing.assert_allclose(wrapped.score_all(batch), expected, **close)
  items = np.array([[3, 0], [1, 1], [10, 2], [4, 5]])
  expected = np.take_along_axis(expected, items, axis=1)
  np.testing.assert_allclose(wrapped.score_candidates(batch, items), expected, **close)
  assert wrapped.reads_history and wrapped.name == model.name


@pytest.fixture(params=[0, _ITEMS])
def by_table(request, monkeypatch):
  """Has graphs score by the cells of the transitions, and by a table of all pairs."""
  monkeypatch.setattr(transitions_in_graph, '_TABLE_ITEMS', request.param)


@pytest.mark.parametrize('make', [_neumf, _history])
def test_a_graph_scores_as_numpy_does(make, by_table):
  wrapped, batch = _with_transitions(make()), toy_batch.of(_HISTORIES)
  history = tf.RaggedTensor.from_row_lengths(batch.history, batch.history_length)
  close = {'rtol': 1e-5, 'atol': 1e-5}
  np.testing.assert_allclose(
    wrapped.catalogue_logits(tf.constant(batch.user), history),
    wrapped.score_all(batch),
    **close,
  )
  items = np.array([[3, 0, 7], [1, 1, 2], [10, 2, 0], [4, 5, 6]])
  np.testing.assert_allclose(
    wrapped.candidate_logits(tf.constant(batch.user), history, tf.constant(items)),
    wrapped.score_candidates(batch, items),
    **close,
  )


def test_an_item_is_followed_as_by_a_history_of_it_alone(by_table):
  wrapped, batch = _with_transitions(_neumf()), toy_batch.of([[3], [0], [3], [8]])
  found = wrapped.item_similarities()['transitions'](tf.constant(batch.history))
  expected = wrapped.scores.scores(batch.history, batch.history_length)
  np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
  assert expected.any(axis=1).all()


def test_a_cold_user_of_a_model_of_users_is_scored_by_transitions_alone():
  wrapped, batch = (
    _with_transitions(_neumf()),
    toy_batch.of(_HISTORIES, [-1, _USERS, 2, -1]),
  )
  scores = wrapped.scores.scores(batch.history, batch.history_length)
  added = 1.5 * np.log(0.1 + scores)
  found = wrapped.score_all(batch)
  np.testing.assert_allclose(found[[0, 1, 3]], added[[0, 1, 3]], rtol=1e-5, atol=1e-5)
  assert not np.allclose(found[2], added[2], atol=1e-3)


def test_it_is_made_again_from_its_configuration_and_weights(tmp_path):
  model = _history()
  wrapped = WithTransitions(model, 1.5, smoothing=0.1, reverse=0.25)
  made = keras.saving.deserialize_keras_object(
    keras.saving.serialize_keras_object(wrapped)
  )
  model.save_weights(tmp_path / 'x.weights.h5')
  made.load_weights(tmp_path / 'x.weights.h5')
  assert made.get_config() == wrapped.get_config()
  batch = toy_batch.of(_HISTORIES)
  assert np.array_equal(made.model.score_all(batch), model.score_all(batch))


def test_a_history_model_of_former_runs_has_its_transitions_around_it():
  model = _history()
  config = model.get_config()
  former = {'successor_smoothing': 0.01, 'successor_reverse': 0.5}
  plain = History.from_config({**config, **former, 'successor_logits': 0.0})
  assert plain.get_config() == config
  wrapped = History.from_config({**config, **former, 'successor_logits': 1.813})
  options = {'weight': 1.813, 'smoothing': 0.01, 'reverse': 0.5}
  assert wrapped.get_config().items() >= options.items()
  assert wrapped.model.get_config() == config


def test_a_dataset_without_transitions_is_refused(tmp_path):
  items = [np.arange(_ITEMS)] * _USERS
  dataset = toy_dataset.write(
    tmp_path, items, num_items=_ITEMS, eval_negatives=0, train_negatives=0
  )
  _history().attach(dataset)
  with pytest.raises(UserError, match='no item transitions'):
    WithTransitions(_history(), 1.0).attach(dataset)


def test_scores_before_a_dataset_is_attached_are_an_error():
  with pytest.raises(ValueError, match='call `attach` first'):
    WithTransitions(_history(), 1.0).score_all(toy_batch.of(_HISTORIES))
