"""A run that is asked about items that came after training."""

import warnings

import numpy as np
import pytest
import toy_answers
import toy_batch
import toy_new_items

import ncf_tfdata as ncf

_NEW = {'new-cat': 'cat,2,red', 'new-dog': 'dog,3,grey'}


@pytest.fixture(scope='module')
def dataset(tmp_path_factory):
  return toy_new_items.dataset(tmp_path_factory.mktemp('animals'))


@pytest.fixture(scope='module')
def made(dataset, tmp_path_factory):
  """A run of two networks, transitions and EASE."""
  model = toy_new_items.history_model(dataset, **toy_new_items.options(dataset))
  return toy_new_items.run(tmp_path_factory.mktemp('run') / 'run', dataset, model)


@pytest.fixture(scope='module')
def new_file(dataset, tmp_path_factory):
  """A new cat and a new dog, and the like of each cold one."""
  path = tmp_path_factory.mktemp('new') / 'new.csv'
  return toy_new_items.write(path, {**_NEW, **toy_new_items.twins(dataset)})


@pytest.fixture(scope='module')
def run(made, new_file):
  return ncf.Run.load(made.directory, new_items=new_file)


def _warm_histories(dataset) -> list[list[int]]:
  """Histories of some users, without cold items."""
  cold = toy_new_items.places(dataset, toy_new_items.cold(dataset))
  found = []
  for history in list(toy_answers.histories(dataset).values())[:12]:
    items = toy_new_items.places(dataset, history)
    found.append([item for item in items if item not in cold])
  return found


def test_a_new_item_has_the_score_of_a_cold_one_that_is_the_same(run, dataset):
  twins = toy_new_items.twins(dataset)
  assert len(twins) >= 4
  new = toy_new_items.places(run.dataset, twins)
  cold = toy_new_items.places(run.dataset, toy_new_items.cold(dataset))
  batch = toy_batch.of(_warm_histories(dataset))
  scores = np.array(run.model.score_all(batch))
  np.testing.assert_allclose(scores[:, new], scores[:, cold], 1e-5, 1e-5)
  # They are of different animals, and so not all alike.
  assert np.ptp(scores[:, new], axis=1).min() > 0.1


def test_who_wants_cats_gets_the_new_cat_first(run):
  found = run.recommend(['u0', 'u1', 'u2', 'u3'], k=1, allow=list(_NEW))
  assert [one.items for one in found] == [['new-cat'], ['new-dog']] * 2
  # Among all others it is above every animal of the other kind.
  dogs = {'new-dog', *(f'i{number}' for number in range(1, 40, 2))}
  for one in run.recommend(['u0', 'u2'], k=run.dataset.num_items):
    assert dogs.isdisjoint(one.items[: one.items.index('new-cat')])


def test_lists_and_scores_without_new_items_are_those_of_before(run, made, dataset):
  new = [*_NEW, *toy_new_items.twins(dataset)]
  before, after = (
    each.recommend(k=dataset.num_items, exclude=excluded)
    for each, excluded in ((ncf.Run.load(made.directory), ()), (run, new))
  )
  for one, other in zip(after, before, strict=True):
    # Two that are alike have one score but for its last bits, and may change places.
    found, expected = (
      dict(zip(each.items, each.scores, strict=True)) for each in (one, other)
    )
    assert found.keys() == expected.keys()
    np.testing.assert_allclose(
      [found[key] for key in expected], list(expected.values()), 1e-6, 1e-5
    )
    np.testing.assert_allclose(one.scores, other.scores, 1e-6, 1e-5)


def test_a_new_item_in_a_history_counts_as_a_cold_one_does(run, dataset):
  cold = toy_new_items.cold(dataset)[0]
  asked = [key for key in run.dataset.vocabulary('items.tsv').keys if cold not in key]
  found = run.recommend(
    histories={'a': ['i2', cold], 'b': ['i2', f'new-{cold}']}, k=9, allow=asked
  )
  one, other = found
  assert one.items == other.items
  np.testing.assert_allclose(one.scores, other.scores, 1e-5, 1e-5)
  with pytest.warns(UserWarning, match='1 events are of items'):
    run.recommend(histories={'a': ['i2', 'never heard of']})


@pytest.mark.slow
def test_a_new_item_has_reasons_and_similar_ones(run):
  (one,) = run.recommend(['u0'], k=1, allow=['new-cat'], explain=True)
  reasons = one.reasons[0]
  assert reasons
  assert all(int(reason.item[1:]) % 2 == 0 for reason in reasons)
  for by in ('ease', 'transitions'):
    (found,) = run.similar(['new-cat'], k=5, by=by)
    assert found.similar
    kinds = {toy_new_items.animal(int(k[1:]))[:3] for k in found.similar if k[0] == 'i'}
    assert kinds <= {'cat'}
  (found,) = run.similar(['i0'], k=60, by='vectors')
  assert 'new-cat' in found.similar


def test_popular_lists_end_with_new_items(run, dataset):
  (one,) = run.recommend(['nobody'], k=run.dataset.num_items)
  assert one.source == 'popularity'
  assert set(one.items[-len(_NEW) :]) <= {*_NEW, *toy_new_items.twins(dataset)}


def test_a_run_with_new_items_is_not_judged(run, made):
  before = made.metrics()
  with pytest.raises(ncf.ArgumentError, match='load the run without `new_items`'):
    run.evaluate(progress=False)
  assert made.metrics() == before


def test_a_run_of_ids_alone_and_one_without_features_are_refused(
  dataset, tmp_path, new_file
):
  plain = toy_new_items.run(
    tmp_path / 'run', dataset, toy_new_items.neumf_model(dataset), transitions=0
  )
  run = ncf.Run.load(plain.directory, new_items=new_file)
  with pytest.raises(ncf.UserError, match='ids alone'):
    run.recommend(['u0'])


def test_categories_that_nobody_knows_are_counted(made, tmp_path):
  path = toy_new_items.write(tmp_path / 'new.csv', {'n': 'emu,1,red|pink|blue'})
  with pytest.warns(UserWarning, match='ignored: kind 1, coat 2'):
    ncf.Run.load(made.directory, new_items=path)
  path = toy_new_items.write(tmp_path / 'known.csv', _NEW)
  with warnings.catch_warnings():
    warnings.simplefilter('error')
    ncf.Run.load(made.directory, new_items=path)


@pytest.mark.slow
def test_baselines_and_other_runs_have_new_items_too(run, made, dataset, tmp_path):
  batch = toy_batch.of(_warm_histories(dataset))
  specs = ['popularity', 'ease', 'content-knn', 'category-popularity', 'transitions']
  for name, scorer in run.beside([*specs, str(made.directory)]).items():
    assert np.array(scorer.score_all(batch)).shape == (12, run.dataset.num_items), name
  plain = toy_new_items.run(
    tmp_path / 'run', dataset, toy_new_items.neumf_model(dataset), transitions=0
  )
  with pytest.raises(ncf.UserError, match='ids alone'):
    run.beside([str(plain.directory)])
