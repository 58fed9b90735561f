"""Similar items by every means and every way to ask, against numpy."""

import json

import commands
import numpy as np
import prepared
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
import toy_answers
import toy_dataset
import toy_model
import toy_run

import ncf_tfdata as ncf
from ncf_tfdata import dataset as dataset_lib
from ncf_tfdata.data import records
from ncf_tfdata.models import saved
from ncf_tfdata.serving import saved_model, similar


@pytest.fixture(scope='module')
def run(dataset, tmp_path_factory):
  directory = tmp_path_factory.mktemp('similar') / 'run'
  made = toy_answers.history_run(directory, dataset, weight=0.0, ease=3.0)
  return ncf.Run(made, dataset)


@pytest.fixture(scope='module')
def signatures(run):
  # What `test_export.py` loads again, without the file.
  server = saved_model.Server(run.model, run.dataset)
  yield server.signatures


def _matrix(run) -> np.ndarray:
  """1 where a user of train has the item."""
  user, item = records.train_rows(run.dataset)
  matrix = np.zeros((run.dataset.num_users, run.dataset.num_items))
  matrix[user, item] = 1
  return matrix


def _cosines(table: np.ndarray) -> np.ndarray:
  unit = table / np.linalg.norm(table, axis=1, keepdims=True)
  return unit @ unit.T


def _oracle(run, by: str) -> np.ndarray:
  """Similarities [items, items]."""
  matrix = _matrix(run)
  if by == 'vectors':
    tables = [network.item_table.numpy()[:-1] for network in run.model.model.networks]
    return np.mean([_cosines(table) for table in tables], axis=0)
  if by == 'ease':
    return run.model.weights
  if by == 'item-knn':
    return _cosines(matrix.T)
  # What followed within ten interactions.
  counts = np.zeros((run.dataset.num_items,) * 2)
  user, item = records.train_rows(run.dataset)
  for first in range(len(user)):
    for lag in range(1, 11):
      if first + lag < len(user) and user[first] == user[first + lag]:
        counts[item[first], item[first + lag]] += lag**-0.7
  popularity = matrix.sum(axis=0) + 1
  return counts / np.sqrt(np.outer(popularity, popularity))


def _expected(run, by: str, item: int, k: int) -> dict[str, float]:
  scores = np.array(_oracle(run, by)[item])
  scores[item] = -1
  keys = run.dataset.vocabulary(dataset_lib.ITEMS).keys
  best = sorted(zip(-scores, range(len(scores)), strict=True))[:k]
  return {keys[other]: -score for score, other in best if score < 0}


@pytest.mark.parametrize('by', ['vectors', 'ease', 'item-knn', 'transitions'])
def test_lists_are_the_similarities_sorted(run, by):
  keys = run.dataset.vocabulary(dataset_lib.ITEMS).keys
  found = run.similar([*keys[:5], 'no such', keys[0]], k=7, by=by)
  assert (len(found), found.ignored) == (5, 1)
  for item, each in enumerate(found):
    expected = _expected(run, by, item, 7)
    assert (each.item, each.similar) == (keys[item], list(expected))
    np.testing.assert_allclose(each.scores, list(expected.values()), rtol=1e-4)
  assert keys[0] in str(found.table()) and by in str(found.table())


@pytest.mark.parametrize('by', ['vectors', 'ease'])
def test_an_export_gives_the_lists_of_the_library(run, signatures, by):
  keys = run.dataset.vocabulary(dataset_lib.ITEMS).keys
  name = 'similar' if by == 'vectors' else f'similar_by_{by}'
  answer = signatures[name](item=tf.constant([*keys, 'no such']), k=tf.constant(2**30))
  found = {key: value.numpy() for key, value in answer.items()}
  assert found['known'].tolist() == [True] * len(keys) + [False]
  assert found['items'].shape == (len(keys) + 1, len(keys))
  assert found['count'][-1] == 0 and not found['scores'][-1].any()
  for row, each in enumerate(run.similar(k=len(keys), by=by)):
    count = found['count'][row]
    assert [key.decode() for key in found['items'][row, :count]] == each.similar
    assert not any(found['items'][row, count:])
    np.testing.assert_allclose(
      found['scores'][row, :count], each.scores, rtol=1e-4, atol=1e-6
    )
    assert each.item not in each.similar
  with pytest.raises(tf.errors.InvalidArgumentError, match='k must be at least 1'):
    signatures[name](item=tf.constant(keys[:1]), k=tf.constant(0))


def test_items_at_a_time_are_all_at_once(run, monkeypatch):
  whole = [each.similar for each in run.similar(k=3)]
  monkeypatch.setattr('ncf_tfdata.memory.BLOCK_CELLS', 7 * 2 * run.dataset.num_items)
  assert [each.similar for each in run.similar(k=3)] == whole


def test_what_never_met_is_not_similar(tmp_path):
  items = [np.array([0, 1, 2, 3, 0]), np.array([4, 5, 4, 6, 5])] * 2
  dataset = toy_dataset.write(
    tmp_path, items, num_items=8, holdout=1, train_negatives=1, eval_negatives=1
  )
  model = toy_model.Toy(dataset.num_users, dataset.num_items)
  measure = similar.measure(model, dataset, 'item-knn')
  found = similar.find(measure(np.array([0, 7])), np.array([0, 7]), 5)
  assert sorted(found.item[0].tolist()) == [-1, -1, 1, 2, 3]
  assert (found.item[1] == -1).all() and not found.score[1].any()
  # Ids that are of nothing now are in no list.
  unused = np.arange(8) == 2
  found = similar.find(measure(np.array([0])), np.array([0]), 5, unused)
  assert sorted(found.item[0].tolist()) == [-1, -1, -1, 1, 3]


@pytest.mark.parametrize(
  'by', ['vectors', 'popularity', 'als', 'recent-popularity', 'vectors:k=2']
)
def test_what_knows_no_items_is_refused(dataset, by):
  # A model from outside does not say where its vectors are.
  model = toy_model.Toy(dataset.num_users, dataset.num_items)
  with pytest.raises(ValueError, match='`by` must be one of'):
    similar.measure(model, dataset, by)
  with pytest.raises(ncf.UserError, match='no baseline'):
    similar.measure(model, dataset, 'cosine')


def test_vectors_of_neumf_are_the_rows_of_its_table(dataset, tmp_path):
  model = saved.load(toy_run.write(tmp_path / 'run', dataset), dataset)
  found = model.item_similarities()
  assert set(found) == {'vectors'}
  expected = _cosines(model.item_table.numpy())[[3, 0]]
  np.testing.assert_allclose(found['vectors'](np.array([3, 0])), expected, atol=1e-5)


def test_wrong_arguments_are_named(run):
  with pytest.raises(ValueError, match='`k` must be at least 1'):
    run.similar(['i1'], k=0)
  with pytest.raises(ValueError, match='`items` must be a list'):
    run.similar('i1')


@pytest.mark.slow
def test_the_command_writes_and_shows_the_lists(run, tmp_path):
  (tmp_path / 'names.csv').write_text('i0,First\ni1,"One, and only"\n')
  flags = (f'--run_dir={run.directory}', f'--item_names={tmp_path / "names.csv"}')
  path = tmp_path / 'all.parquet'
  done = commands.run(
    'ncf_tfdata.similar', *flags, '--all', '--k=4', f'--output={path}', '--by=item-knn'
  )
  assert done.returncode == 0, done.stderr
  rows = pq.read_table(path).to_pylist()
  expected = [
    (each.item, similar)
    for each in run.similar(k=4, by='item-knn')
    for similar in each.similar
  ]
  assert [(row['item'], row['similar']) for row in rows] == expected
  assert {row['name'] for row in rows} == {'First', 'One, and only', ''}
  path = tmp_path / 'some.jsonl'
  done = commands.run(
    'ncf_tfdata.similar', *flags, '--items=i3,none,i1', f'--output={path}'
  )
  assert done.returncode == 0, done.stderr
  assert '1 of 3 ids are of no item' in done.stderr
  lines = [json.loads(line) for line in path.read_text().splitlines()]
  assert [(line['item'], line['by']) for line in lines] == [
    ('i3', 'vectors'),
    ('i1', 'vectors'),
  ]
  done = commands.run('ncf_tfdata.similar', *flags, '--items=i3', '--by=popularity')
  assert '--by must be one of vectors, ease' in prepared.error_line(done)
