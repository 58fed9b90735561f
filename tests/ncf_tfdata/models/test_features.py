"""Items known by what they are: the sum in numpy, and what training sees of it."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
import toy_batch
import toy_dataset
import toy_features
from toy_features import small_history, small_neumf

from ncf_tfdata import dataset as dataset_lib
from ncf_tfdata.data import content, row_batches, sampling, window_batches, words
from ncf_tfdata.data.feature_codes import Coder
from ncf_tfdata.errors import UserError
from ncf_tfdata.features.records import Features, Texts, Vectors
from ncf_tfdata.models import features as features_lib
from ncf_tfdata.models import history_objective, losses
from ncf_tfdata.models.with_transitions import WithTransitions
from ncf_tfdata.serving import export

_ITEMS, _BUCKETS = 40, 16
_COLD = (7, 30)
_MEAN, _STDDEV = 3.0, 2.0


def _features() -> Features:
  generator = np.random.default_rng(0)
  kinds = [['a', 'b'], ['b'], [], ['a', 'c']]
  known = np.arange(_ITEMS) % 3 > 0
  years = np.where(np.arange(_ITEMS) % 4 == 1, np.nan, np.arange(_ITEMS) % 7)
  vectors = generator.normal(1, 2, (_ITEMS, 3)).astype(np.float32) * known[:, None]
  titles = [f'The word{item % 5} Word{item % 3}'.encode() for item in range(_ITEMS)]
  numbers = toy_features.numbers('year', years.tolist())
  return Features(
    _ITEMS,
    (
      toy_features.categories('kind', [kinds[item % 4] for item in range(_ITEMS)]),
      Texts('title', titles),
      dataclasses.replace(numbers, mean=_MEAN, stddev=_STDDEV),
      Vectors('embedding', vectors, known),
    ),
  )


@pytest.fixture(scope='module')
def dataset(tmp_path_factory):
  """Two of its items are in no train row."""
  tastes = toy_dataset.tastes(30, _ITEMS, 12)
  tastes = [np.setdiff1d(items, _COLD, assume_unique=True) for items in tastes]
  tastes[0] = np.append(tastes[0], _COLD)  # Held out, and so a real item.
  directory = tmp_path_factory.mktemp('features') / 'data'
  made = toy_dataset.write(directory, tastes, num_items=_ITEMS)
  return toy_features.add(made, _features())


def _options(dataset) -> dict:
  coder = Coder(dataset.item_features(), _BUCKETS)
  shapes = [shape.to_config() for shape in coder.shapes]
  return {'item_features': shapes, 'text_buckets': _BUCKETS}


def _shaken(model, seed=0):
  generator = np.random.default_rng(seed)
  for weight in model.trainable_variables:
    weight.assign(weight + generator.normal(0, 0.3, weight.shape))
  return model


def _sums(layer, features) -> np.ndarray:
  """What a layer of vectors says of each item, by the formula, one by one."""
  kind, title, year, embedding = features.columns
  ends = np.cumsum(kind.lengths)
  buckets = [
    [words.place(word, _BUCKETS) for word in words.words(text)] for text in title.values
  ]
  shared = sorted({b for b in range(_BUCKETS) if sum(b in x for x in buckets) > 1})
  mean = embedding.values[embedding.known].mean(axis=0)
  spread = np.sqrt(np.square(embedding.values[embedding.known] - mean).mean())
  first, bias, last = (weight.numpy() for weight in layer.numbers)
  found = []
  for item in range(features.size):
    total = layer.constant.numpy().astype(float)
    values = kind.values[ends[item] - kind.lengths[item] : ends[item]]
    rows = [layer.tables['kind'].numpy()[value] for value in values]
    total = total + (np.mean(rows, axis=0) if rows else 0)
    places = [shared.index(b) for b in buckets[item] if b in shared]
    rows = [layer.tables['title'].numpy()[place] for place in places]
    total = total + (np.mean(rows, axis=0) if rows else 0)
    if embedding.known[item]:
      away = (embedding.values[item] - mean) / spread
      total = total + away @ layer.kernels['embedding'].numpy()
    number = year.values[item]
    cells = [0, 0] if np.isnan(number) else [(number - _MEAN) / _STDDEV, 1]
    total = total + np.maximum(np.array(cells) @ first + bias, 0) @ last
    found.append(total)
  return np.array(found)


def _rows(own, of_features, dataset) -> np.ndarray:
  """Rows of all items: of what they are, and their own or those of their like."""
  count = dataset.vocabulary(dataset_lib.ITEMS).counts
  own = own * (count > 0)[:, None]
  like = content.like(dataset.item_features(), count).toarray()
  return own + like @ own + of_features


def test_history_with_features_is_one_without_whose_vectors_are_the_sums(dataset):
  model = _shaken(small_history(dataset, members=2, **_options(dataset)))
  model.attach(dataset)
  plain = small_history(dataset, members=2)
  for with_features, without in zip(model.networks, plain.networks, strict=True):
    own = np.concatenate(
      [with_features.item_table[:-1], with_features.item_bias[:, None]], axis=1
    )
    sums = _sums(with_features.features, dataset.item_features())
    rows = _rows(own, sums, dataset)
    without.item_table.assign(np.pad(rows[:, :-1], [(0, 1), (0, 0)]))
    without.item_bias.assign(rows[:, -1])
    for name in ('user_table', 'gain', 'shift'):
      getattr(without, name).assign(getattr(with_features, name))
    for name in ('up', 'down', 'pool'):
      weights = getattr(with_features, name).get_weights()
      getattr(without, name).set_weights(weights)
  batch = toy_batch.of([[3, 1, 7, 9, 2, 8], [30], [], [5, 6]])
  np.testing.assert_allclose(model.score_all(batch), plain.score_all(batch), 0, 1e-5)
  items = np.array([[7, 30, 1], [2, 3, 4], [7, 7, 0], [39, 30, 38]])
  np.testing.assert_allclose(
    model.score_candidates(batch, items), plain.score_candidates(batch, items), 0, 1e-5
  )


@pytest.mark.parametrize('item_bias', [True, False])
def test_neumf_with_features_is_one_without_whose_vectors_are_the_sums(
  dataset, item_bias
):
  model = _shaken(small_neumf(dataset, item_bias=item_bias, **_options(dataset)))
  model.attach(dataset)
  plain = small_neumf(dataset, item_bias=True)
  bias = model.item_bias.numpy() if item_bias else np.zeros((_ITEMS, 1))
  own = np.concatenate([model.item_table, bias], axis=1)
  rows = _rows(own, _sums(model.features, dataset.item_features()), dataset)
  plain.item_table.assign(rows[:, :-1])
  plain.item_bias.assign(rows[:, -1:])
  for name in ('user_table', 'gmf_head', 'first_kernel', 'first_bias', 'mlp_head'):
    getattr(plain, name).assign(getattr(model, name))
  plain.head_bias.assign(model.head_bias)
  batch = toy_batch.of([[3], [30], []])
  np.testing.assert_allclose(model.score_all(batch), plain.score_all(batch), 0, 1e-5)


@pytest.mark.parametrize('make', [small_history, small_neumf])
def test_the_id_of_an_item_that_nobody_had_says_nothing(dataset, make):
  model = _shaken(make(dataset, **_options(dataset)))
  model.attach(dataset)
  batch = toy_batch.of([[3, 1], [30, 2]])
  before = model.score_all(batch)
  table = (model if make is small_neumf else model.networks[0]).item_table
  changed = table.numpy()
  changed[list(_COLD)] += 1
  table.assign(changed)
  model.weights_changed()
  np.testing.assert_array_equal(model.score_all(batch), before)
  changed[5] += 1
  table.assign(changed)
  # What is made of weights is made anew when it is told, and not before.
  np.testing.assert_array_equal(model.score_all(batch), before)
  model.weights_changed()
  assert (model.score_all(batch)[:, 5] != before[:, 5]).all()


def test_logits_of_cold_items_move_those_of_cold_items_alone(dataset):
  plain, moved = (
    _shaken(small_history(dataset, cold_item_logits=logits, **_options(dataset)))
    for logits in (0.0, 2.5)
  )
  plain.attach(dataset)
  moved.attach(dataset)
  batch = toy_batch.of([[3, 1], [30, 2]])
  expected = np.zeros(_ITEMS)
  expected[list(_COLD)] = 2.5
  difference = moved.score_all(batch) - plain.score_all(batch)
  np.testing.assert_allclose(difference, expected[None] + np.zeros((2, 1)), 0, 1e-5)


def _objective(dataset, model, dropout=0.0, shared=16):
  return history_objective.HistoryObjective(
    model,
    rows_per_step=100.0,
    seed=0,
    sampler=sampling.Sampler(dataset.num_items),
    shared_negatives=shared,
    l2=0.1,
    item_id_dropout=dropout,
  )


def _windows(dataset) -> dict:
  stream = window_batches.window_batches(
    dataset, batch_size=128, history_length=5, window=16, seed=0
  )
  return next(iter(stream))


def _gradients(objective, model, batch) -> tuple[float, dict[str, np.ndarray]]:
  zero = tf.constant(0, tf.int64)
  with tf.GradientTape() as tape:
    loss = objective(objective.complete(dict(batch), zero, zero))
  weights = model.trainable_variables
  found = tape.gradient(loss, [weight.value for weight in weights])
  named = zip(weights, found, strict=True)
  return float(loss), {w.path: tf.convert_to_tensor(g).numpy() for w, g in named}


def test_places_among_a_steps_items_come_to_the_same_as_ids(dataset, monkeypatch):
  model = _shaken(small_history(dataset, **_options(dataset)))
  model.attach(dataset)
  objective, batch = _objective(dataset, model), _windows(dataset)
  by_id = _gradients(objective, model, batch)
  # As if the catalogue were larger than a step.
  size = model.items_known.values.size
  step = features_lib.step

  def distinct(values, ids, most):
    assert most > size
    flat = np.concatenate([np.ravel(each) for each in ids])
    values.size = most + 1
    values_of, values.of = values.of, lambda item: values_of(tf.minimum(item, size - 1))
    ids = [tf.where(each < size, each, values.size) for each in ids]
    made, places = step(values, ids, most)
    values.size, values.of = size, values_of
    real = flat[flat < size]
    assert set(made.item.numpy()) == set(real)  # No other row is touched.
    return made, places

  monkeypatch.setattr(features_lib, 'step', distinct)
  by_place = _gradients(objective, model, batch)
  assert by_place[0] == pytest.approx(by_id[0], rel=1e-5)
  for path, gradient in by_id[1].items():
    np.testing.assert_allclose(by_place[1][path], gradient, 1e-3, 1e-6, err_msg=path)


@pytest.mark.parametrize('shared', [16, 0])
def test_without_ids_features_alone_are_trained(dataset, shared):
  model = _shaken(small_history(dataset, **_options(dataset)))
  model.attach(dataset)
  batch = _windows(dataset)
  _, none = _gradients(_objective(dataset, model, 1.0, shared), model, batch)
  _, half = _gradients(_objective(dataset, model, 0.5, shared), model, batch)
  table = model.networks[0].item_table.path
  assert not none[table].any()
  assert half[table].any()
  features = model.networks[0].features
  for weight in (*features.tables.values(), *features.kernels.values()):
    assert none[weight.path].any(), weight.path


def test_the_share_of_ids_left_out_is_the_one_asked_for():
  place = tf.range(100_000)
  rows = features_lib.Rows(
    tf.ones([100_000, 1]), tf.zeros([100_000, 1]), 0.3, sampling.bits(1)
  )
  left = 1 - rows.at(place).numpy().mean()
  assert left == pytest.approx(0.3, abs=0.01)
  assert (rows.at(place, 1) != rows.at(place, 2)).numpy().any()


@pytest.mark.slow
def test_neumf_trains_features_by_all_its_ways_to_negatives(dataset):
  for shared, by_user in ((0, False), (8, False), (8, True)):
    model = _shaken(small_neumf(dataset, **_options(dataset)))
    model.attach(dataset)
    objective = losses.Objective(
      model,
      'softmax',
      batch_size=64,
      seed=0,
      sampler=sampling.Sampler(dataset.num_items),
      num_negatives=2,
      shared_negatives=shared,
      by_user=by_user,
      item_id_dropout=1.0,
    )
    stream = row_batches.train_batches(
      dataset,
      batch_size=64,
      seed=0,
      negatives='none' if shared else 'fresh',
      num_negatives=2,
      sampler=sampling.Sampler(dataset.num_items),
      by_user=by_user,
    )
    _, found = _gradients(objective, model, next(iter(stream)))
    assert not found[model.item_table.path].any()
    assert found[model.features.tables['kind'].path].any()


def test_features_of_another_dataset_are_refused(dataset, tmp_path):
  options = _options(dataset)
  options['item_features'] = options['item_features'][:-1]
  with pytest.raises(UserError, match='reads kind, title, embedding, and the'):
    small_history(dataset, **options).attach(dataset)
  bare = toy_dataset.write(tmp_path, toy_dataset.tastes(), num_items=_ITEMS)
  with pytest.raises(UserError, match=r'no features of items.*--item_features=FILE'):
    small_history(dataset, **_options(dataset)).attach(bare)


@pytest.mark.slow
def test_an_export_recommends_what_the_model_does(dataset, tmp_path):
  model = _shaken(small_history(dataset, **_options(dataset)))
  scorer = WithTransitions(model, 0.0)  # Wrapped as models are, at no weight.
  model.attach(dataset)
  export.save(model, dataset, tmp_path / 'model')
  served = tf.saved_model.load(str(tmp_path / 'model'))
  found = served.signatures['recommend_history'](
    history=tf.constant([['i3', 'i1'], ['i30', 'i2']]), k=tf.constant(_ITEMS)
  )
  scores = model.score_all(toy_batch.of([[3, 1], [30, 2]], user=[-1, -1]))
  assert scorer.knows_cold_items
  for row, seen in enumerate(([3, 1], [30, 2])):
    order = [item for item in np.argsort(-scores[row]) if item not in seen]
    expected = [f'i{item}'.encode() for item in order]
    assert found['items'][row].numpy().tolist()[: len(expected)] == expected
  # What rows are made of is not exported.
  names = [weight.name for weight in model.graph_variables()]
  assert not any('table' in name and 'item' in name for name in names)


def test_a_model_without_features_is_saved_as_ever(dataset):
  for model in (small_history(dataset), small_neumf(dataset)):
    assert not {'item_features', 'text_buckets', 'cold_item_logits'} & set(
      model.get_config()
    )
    assert not any('feature' in weight.path for weight in model.weights)
