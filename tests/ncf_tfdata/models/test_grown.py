"""Models in a catalogue with new items, against models that were trained with those."""

import itertools

import keras
import numpy as np
import pytest
import toy_batch
import toy_dataset
import toy_features
import toy_new_items

from ncf_tfdata import dataset as dataset_lib
from ncf_tfdata.data import ease as ease_lib
from ncf_tfdata.data import new_items
from ncf_tfdata.errors import UserError
from ncf_tfdata.features.records import Features
from ncf_tfdata.models import saved

_ITEMS, _NEW = 30, 31  # The last item of the larger catalogue is cold, or new.
_HISTORIES = [[0, 2, 4], [1, 3, 5, 7], [], [8]]
_MODELS = {'history': toy_new_items.history_model, 'neumf': toy_new_items.neumf_model}


def _features(size: int) -> Features:
  """Cats and dogs: all that is fitted is the same with one cat more or less."""
  kinds = [[('cat', 'dog')[item % 2]] for item in range(size)]
  return Features(size, (toy_features.categories('kind', kinds),))


@pytest.fixture(scope='module')
def datasets(tmp_path_factory):
  """A dataset with a cat that nobody had, and the same one without it, and a view."""
  directory = tmp_path_factory.mktemp('grown')
  tastes = toy_dataset.tastes(20, _ITEMS, 10)
  made = [
    toy_features.add(
      toy_dataset.write(directory / str(size), tastes, num_items=size), _features(size)
    )
    for size in (_NEW, _ITEMS)
  ]
  path = directory / 'new.csv'
  path.write_text('item,kind\nnew,cat\n')
  return *made, new_items.read(made[1], str(path))


def _without_the_last(model, smaller):
  """A model of a smaller catalogue, and the weights of its items alone."""
  config = keras.saving.serialize_keras_object(model)
  config['config']['num_items'] = smaller
  made = keras.saving.deserialize_keras_object(config)
  of_items = {id(weight) for weight in model.vocabulary_weights()[dataset_lib.ITEMS]}
  for weight, other in zip(model.weights, made.weights, strict=True):
    value = weight.numpy()
    keep = np.delete(value, smaller, axis=0) if id(weight) in of_items else value
    other.assign(keep)
  return made


@pytest.mark.parametrize('kind', sorted(_MODELS))
@pytest.mark.parametrize(('ease', 'kept'), [(0.0, False), (2.0, False), (2.0, True)])
def test_a_new_item_is_ranked_as_one_that_nobody_had(
  datasets, tmp_path, monkeypatch, kind, ease, kept
):
  with_it, without, grown = datasets
  model = _MODELS[kind](with_it, **toy_new_items.options(with_it))
  smaller = _without_the_last(model, _ITEMS)
  scorers = []
  for name, dataset, each in (('a', with_it, model), ('b', without, smaller)):
    run = toy_new_items.run(tmp_path / name, dataset, each, transitions=0, ease=ease)
    if kept:
      saved.save_fitted(run, saved.load(run, dataset))
    scorers.append(saved.load(run, grown if dataset is without else dataset))
  if kept:
    monkeypatch.delattr(ease_lib, 'weights')  # What was kept is read.
  # Without what the new item is in, and with it.
  histories = [*_HISTORIES, [0, _ITEMS, 2]]
  batch = toy_batch.of(histories)
  expected, found = (scorer.score_all(batch) for scorer in scorers)
  assert found.shape == (5, _NEW)
  np.testing.assert_allclose(found, expected, 1e-5, 1e-5)
  items = np.array([[_ITEMS, 3]] * 5)
  np.testing.assert_allclose(
    scorers[1].score_candidates(batch, items),
    np.take_along_axis(found, items, axis=1),
    1e-4,
    1e-5,
  )


@pytest.mark.parametrize('kind', sorted(_MODELS))
def test_scores_of_the_others_are_what_they_were(datasets, tmp_path, kind):
  _, dataset, grown = datasets
  model = _MODELS[kind](dataset, **toy_new_items.options(dataset))
  run = toy_new_items.run(tmp_path / 'run', dataset, model, transitions=0, ease=2.0)
  batch = toy_batch.of(_HISTORIES)
  before, after = (
    np.array(saved.load(run, each).score_all(batch)) for each in (dataset, grown)
  )
  np.testing.assert_allclose(after[:, :_ITEMS], before, 1e-6, 1e-6)
  # What it is decides, and not rows of its id, which are zero.
  assert (np.abs(after[:, _ITEMS]) > 1e-3).all()


def test_rows_of_pads_and_of_users_stay_where_they_were(datasets, tmp_path):
  _, dataset, grown = datasets
  model = toy_new_items.history_model(dataset, **toy_new_items.options(dataset))
  run = toy_new_items.run(tmp_path / 'run', dataset, model, transitions=0, ease=0)
  made = saved.load(run, grown)
  pairs = itertools.zip_longest(model.weights, made.weights)
  for own, larger in ((a.numpy(), b.numpy()) for a, b in pairs):
    if own.shape == larger.shape:
      np.testing.assert_array_equal(larger, own)
      continue
    assert len(larger) == len(own) + 1
    np.testing.assert_array_equal(np.delete(larger, _ITEMS, axis=0), own)
    assert not larger[_ITEMS].any()


def test_a_model_of_ids_alone_is_refused(datasets, tmp_path):
  _, dataset, grown = datasets
  run = toy_new_items.run(
    tmp_path / 'run', dataset, toy_new_items.neumf_model(dataset), transitions=0
  )
  with pytest.raises(UserError, match=r'ids alone.*--use_item_features') as caught:
    saved.load(run, grown)
  assert '\n' not in str(caught.value)
