"""Users known by what they are: the sum in numpy, and what training sees of it."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf
import toy_batch
import toy_dataset
import toy_features
from toy_features import small_history, small_neumf

from ncf_tfdata.data import row_batches, sampling, window_batches
from ncf_tfdata.data.feature_codes import Coder
from ncf_tfdata.errors import UserError
from ncf_tfdata.features.records import Features
from ncf_tfdata.models import history, history_objective, losses
from ncf_tfdata.models.with_transitions import WithTransitions
from ncf_tfdata.serving import export
from ncf_tfdata.serving.recommender import Recommender
from ncf_tfdata.vocabulary import UNKNOWN

_USERS, _ITEMS = 30, 40
_MEAN, _STDDEV = 3.0, 2.0
# Without train rows, of whom something is known, and nothing.
_DESCRIBED, _BLANK = 4, 5
_CLUBS = [['a', 'b'], ['b'], [], ['a', 'c']]


def _features() -> Features:
  users = np.arange(_USERS)
  ages = np.where(users % 3 == 1, np.nan, users % 7)
  clubs = [_CLUBS[user % 4] for user in users]
  ages[_BLANK], clubs[_BLANK] = np.nan, []
  numbers = toy_features.numbers('age', ages.tolist())
  numbers = dataclasses.replace(numbers, mean=_MEAN, stddev=_STDDEV)
  return Features(_USERS, (toy_features.categories('club', clubs), numbers))


@pytest.fixture(scope='module')
def dataset(tmp_path_factory):
  """Two of its users are in no train row."""
  tastes = toy_dataset.tastes(_USERS, _ITEMS, 12)
  for user in (_DESCRIBED, _BLANK):
    tastes[user] = tastes[user][:2]
  directory = tmp_path_factory.mktemp('features') / 'data'
  made = toy_dataset.write(directory, tastes, num_items=_ITEMS)
  return toy_features.add(made, _features(), 'user')


def _options(dataset) -> dict:
  shapes = Coder(dataset.user_features(), 16).shapes
  return {
    'user_features': [shape.to_config() for shape in shapes],
    'text_buckets': 16,
  }


def _shaken(model, dataset=None):
  """A model of weights that are far from zero, which knows who was trained on."""
  generator = np.random.default_rng(0)
  for weight in model.trainable_variables:
    weight.assign(weight + generator.normal(0, 0.3, weight.shape))
  if dataset is not None:
    model.user_known.assign(_trained(dataset).astype('float32'))
    model.attach(dataset)
  return model


def _trained(dataset) -> np.ndarray:
  return dataset.vocabulary('users.tsv').counts > 0


def _sums(layer, features) -> np.ndarray:
  """What a layer of vectors says of each user, by the formula, one by one."""
  club, age = features.columns
  ends = np.cumsum(club.lengths)
  first, bias, last = (weight.numpy() for weight in layer.numbers)
  found = []
  for user in range(features.size):
    values = club.values[ends[user] - club.lengths[user] : ends[user]]
    number = age.values[user]
    if not len(values) and np.isnan(number):
      found.append(np.zeros(layer.constant.shape))
      continue
    rows = [layer.tables['club'].numpy()[value] for value in values]
    total = layer.constant.numpy() + (np.mean(rows, axis=0) if rows else 0)
    cells = [0, 0] if np.isnan(number) else [(number - _MEAN) / _STDDEV, 1]
    found.append(total + np.maximum(np.array(cells) @ first + bias, 0) @ last)
  return np.array(found)


_BATCH = toy_batch.of(
  [[3, 1, 7], [30], [], [5, 6], []], user=[2, _DESCRIBED, _DESCRIBED, _BLANK, UNKNOWN]
)


def _copied(layer, other, *names) -> None:
  for name in names:
    getattr(other, name).set_weights(getattr(layer, name).get_weights())


@pytest.mark.parametrize('user_embedding', [True, False])
def test_history_with_features_is_one_without_whose_vectors_are_the_sums(
  dataset, user_embedding
):
  options = {'members': 2, 'user_embedding': user_embedding}
  model = _shaken(small_history(dataset, **options, **_options(dataset)), dataset)
  plain = small_history(dataset, members=2)
  for with_features, without in zip(model.networks, plain.networks, strict=True):
    rows = _sums(with_features.user_features, dataset.user_features())
    if user_embedding:
      rows = rows + with_features.user_table.numpy() * _trained(dataset)[:, None]
    without.user_table.assign(rows)
    for name in ('item_table', 'item_bias', 'gain', 'shift'):
      getattr(without, name).assign(getattr(with_features, name))
    _copied(with_features, without, 'up', 'down', 'pool')
  np.testing.assert_allclose(model.score_all(_BATCH), plain.score_all(_BATCH), 0, 1e-5)
  items = np.array([[7, 30, 1], [2, 3, 4], [7, 7, 0], [39, 30, 38], [1, 2, 3]])
  np.testing.assert_allclose(
    model.score_candidates(_BATCH, items),
    plain.score_candidates(_BATCH, items),
    0,
    1e-5,
  )


@pytest.mark.parametrize('halves', [{}, {'gmf_dim': 0}, {'mlp_dim': 0}])
def test_neumf_with_features_is_one_without_whose_vectors_are_the_sums(dataset, halves):
  model = _shaken(small_neumf(dataset, **halves, **_options(dataset)), dataset)
  plain = small_neumf(dataset, **halves)
  own = model.user_table.numpy() * _trained(dataset)[:, None]
  sums = _sums(model.user_features, dataset.user_features())
  for weight in plain.trainable_variables:
    value = own + sums if weight.name == 'user_table' else None
    (same,) = (each for each in model.trainable_variables if each.name == weight.name)
    weight.assign(same if value is None else value)
  np.testing.assert_allclose(model.score_all(_BATCH), plain.score_all(_BATCH), 0, 1e-5)


def test_features_and_ids_of_items_and_users_go_together(dataset, tmp_path):
  """Seeds of one kind of features are not those of the other."""
  toy_dataset.write(tmp_path, toy_dataset.tastes(_USERS), num_items=_ITEMS)
  options = _options(dataset)
  both = {**options, 'item_features': options['user_features']}
  for make in (small_history, small_neumf):
    alone, model = make(dataset, **options), make(dataset, **both)
    (item,), (user,) = model._feature_layers(), model._user_feature_layers()
    kinds = [layer.tables['club'].numpy()[:, :4] for layer in (item, user)]
    assert (kinds[0] != kinds[1]).all()
    assert set(alone._feature_tables()) == {'user feature club'}
    assert set(model._feature_tables()) == {'item feature club', 'user feature club'}


def _gradients(model, dataset, dropout, by_user=False):
  zero = tf.constant(0, tf.int64)
  sampler = sampling.Sampler(dataset.num_items)
  if isinstance(model, history.History):
    objective = history_objective.HistoryObjective(
      model, rows_per_step=100.0, seed=0, sampler=sampler, shared_negatives=16,
      l2=0.1, user_dropout=dropout,
    )  # fmt: skip
    stream = window_batches.window_batches(
      dataset, batch_size=128, history_length=5, window=16, seed=0
    )
  else:
    objective = losses.Objective(
      model, 'softmax', batch_size=64, seed=0, sampler=sampler, num_negatives=2,
      shared_negatives=8, by_user=by_user, user_dropout=dropout,
    )  # fmt: skip
    stream = row_batches.train_batches(
      dataset, batch_size=64, seed=0, negatives='none', num_negatives=2,
      sampler=sampler, by_user=by_user,
    )  # fmt: skip
  batch = next(iter(stream))
  with tf.GradientTape() as tape:
    loss = objective(objective.complete(dict(batch), zero, zero))
  weights = model.trainable_variables
  found = tape.gradient(loss, [weight.value for weight in weights])
  return {
    weight.path: tf.convert_to_tensor(gradient).numpy()
    for weight, gradient in zip(weights, found, strict=True)
  }


@pytest.mark.slow
@pytest.mark.parametrize(
  ('make', 'by_user'),
  [(small_history, False), (small_neumf, False), (small_neumf, True)],
)
def test_of_a_user_who_is_taken_for_a_new_one_features_alone_are_trained(
  dataset, make, by_user
):
  model = _shaken(make(dataset, **_options(dataset)), dataset)
  (layer,) = model._user_feature_layers()
  (table,) = model.vocabulary_weights()['users.tsv']
  whole = _gradients(model, dataset, 1.0, by_user)
  assert not whole[table.path].any()
  for weight in (*layer.tables.values(), *layer.numbers):
    assert whole[weight.path].any(), weight.path
  assert _gradients(model, dataset, 0.5, by_user)[table.path].any()


def test_what_is_no_user_has_the_features_of_one_who_is_there_at_no_weight(dataset):
  model = _shaken(small_history(dataset, **_options(dataset)), dataset)
  user = tf.constant([0, 9, 2, 7])
  told = model.users_told.of(user, tf.constant([False, True, True, False]))
  np.testing.assert_array_equal(told.there, [0, 1, 1, 0])
  for values in told.inputs.values():
    for row in (0, 3):
      np.testing.assert_array_equal(values[row], values[1])
  none = model.users_told.of(user[:0], tf.zeros([0], tf.bool))
  assert none.there.shape == (0,)


@pytest.mark.parametrize('make', [small_history, small_neumf])
def test_whom_a_model_knows(dataset, make):
  plain, model = make(dataset), _shaken(make(dataset, **_options(dataset)), dataset)
  user = np.array([2, _DESCRIBED, _BLANK, UNKNOWN])
  nothing = np.zeros(4, np.int64)
  found = Recommender(model, dataset).knows(user, nothing)
  np.testing.assert_array_equal(found, [True, True, False, False])
  found = Recommender(WithTransitions(model, 0.0), dataset).knows(user, nothing)
  np.testing.assert_array_equal(found, [True, True, False, False])
  found = Recommender(plain, dataset).knows(user, nothing)
  np.testing.assert_array_equal(found, [True, False, False, False])


@pytest.mark.slow
@pytest.mark.parametrize('make', [small_history, small_neumf])
def test_an_export_recommends_what_the_model_does(dataset, tmp_path, make):
  model = _shaken(make(dataset, **_options(dataset)), dataset)
  export.save(model, dataset, tmp_path / 'model')
  served = tf.saved_model.load(str(tmp_path / 'model'))
  keys = [f'u{user}' for user in (2, _DESCRIBED, _BLANK)] + ['stranger']
  found = served.signatures['score'](
    user=tf.constant(keys), item=tf.constant(['i3'] * 4)
  )
  reads = make is small_history
  # What the dataset holds of the blank one is a history.
  assert found['known'].numpy().tolist() == [True, True, reads, False]
  held = dataset.vocabulary('users.tsv')
  assert held.counts[_DESCRIBED] == 0
  tastes = toy_dataset.tastes(_USERS, _ITEMS, 12)
  batch = toy_batch.of([tastes[2], tastes[_DESCRIBED][:2]], user=[2, _DESCRIBED])
  expected = model.score_all(batch)[:, 3]
  np.testing.assert_allclose(found['score'][:2], expected, 0, 1e-5)


@pytest.mark.parametrize('make', [small_history, small_neumf])
def test_a_model_is_saved_with_its_features_or_as_ever(dataset, tmp_path, make):
  model = _shaken(make(dataset, **_options(dataset)), dataset)
  model.save_weights(tmp_path / 'model.weights.h5')
  again = keras.saving.deserialize_keras_object(
    keras.saving.serialize_keras_object(model)
  )
  again.load_weights(tmp_path / 'model.weights.h5')
  again.attach(dataset)
  np.testing.assert_array_equal(again.score_all(_BATCH), model.score_all(_BATCH))
  plain = make(dataset)
  assert not {'user_features', 'text_buckets'} & set(plain.get_config())
  assert plain.described_users is None
  names = [weight.path for weight in plain.weights]
  assert not any('feature' in name for name in names)
  assert any('user_known' in name for name in names) == (make is small_history)


def test_features_of_another_dataset_are_refused(dataset, tmp_path):
  options = _options(dataset)
  options['user_features'] = options['user_features'][:-1]
  with pytest.raises(UserError, match='reads club, and the features of users of'):
    small_history(dataset, **options).attach(dataset)
  bare = toy_dataset.write(tmp_path, toy_dataset.tastes(), num_items=_ITEMS)
  with pytest.raises(UserError, match=r'no features of users.*--user_features=FILE'):
    small_history(dataset, **_options(dataset)).attach(bare)
