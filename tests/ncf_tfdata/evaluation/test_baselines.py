"""Baselines against their definitions, written as loops or solved another way."""

import importlib.util
import pathlib
import sys
import tracemalloc

import numpy as np
import prepared
import pytest
import sklearn.metrics.pairwise
import toy_dataset

from ncf_tfdata import memory
from ncf_tfdata.data import dense_inverse, interactions, records
from ncf_tfdata.errors import UserError
from ncf_tfdata.evaluation import baselines, footprint

_USERS, _ITEMS = 30, 20


@pytest.fixture(scope='module')
def taken():
  return toy_dataset.tastes(num_users=_USERS, num_items=_ITEMS, rows=9)


@pytest.fixture(scope='module')
def rows(taken):
  user = np.repeat(np.arange(_USERS), 8)
  return user, np.concatenate([items[:-1] for items in taken])


@pytest.fixture(scope='module')
def matrix(rows):
  matrix = np.zeros((_USERS, _ITEMS))
  matrix[rows] = 1
  return matrix


@pytest.fixture(scope='module')
def batch(taken):
  """Every user, with histories of different lengths."""
  history = [items[: 3 + user % 6] for user, items in enumerate(taken)]
  return records.EvaluationBatch(
    user=np.arange(_USERS),
    positive=np.array([items[-1] for items in taken]),
    negatives=np.zeros((_USERS, 0), np.int64),
    history=np.concatenate(history),
    history_length=np.array(list(map(len, history))),
  )


@pytest.fixture(scope='module')
def known(batch):
  """The histories as a matrix."""
  known = np.zeros((_USERS, _ITEMS))
  known[np.repeat(batch.user, batch.history_length), batch.history] = 1
  return known


def _scores(spec, rows, batch):
  return baselines.create(spec)(*rows, _USERS, _ITEMS).score_all(batch)


@pytest.fixture(params=[0.0, 1.0], ids=['dense', 'sparse'])
def either_product(request, monkeypatch):
  """Both ways that matrices are multiplied, which the density decides."""
  monkeypatch.setattr(interactions, 'DENSE', request.param)


def test_popularity_counts_rows(rows, batch, matrix):
  np.testing.assert_array_equal(
    _scores('popularity', rows, batch), np.tile(matrix.sum(axis=0), (_USERS, 1))
  )


def test_item_knn_sums_cosines(rows, batch, matrix, known):
  cosine = sklearn.metrics.pairwise.cosine_similarity(matrix.T)
  np.fill_diagonal(cosine, 0)
  np.testing.assert_allclose(
    _scores(f'item-knn:neighbours={_ITEMS}', rows, batch), known @ cosine, rtol=1e-5
  )


def _alone(num_items):
  """Each item as the only one of a history."""
  item = np.arange(num_items)
  return records.EvaluationBatch(
    user=np.zeros(num_items, np.int64),
    positive=item,
    negatives=np.zeros((num_items, 0), np.int64),
    history=item,
    history_length=np.ones(num_items, np.int64),
  )


def test_item_knn_keeps_each_items_nearest(rows, matrix):
  cosine = sklearn.metrics.pairwise.cosine_similarity(matrix.T)
  np.fill_diagonal(cosine, 0)
  found = _scores('item-knn:neighbours=4', rows, _alone(_ITEMS))
  kept = found > 0
  np.testing.assert_allclose(found[kept], cosine[kept], rtol=1e-5)
  for item in range(_ITEMS):
    fourth = np.sort(cosine[:, item])[-4]
    # Of those as near as the fourth, which sums of floats tell apart, at least one.
    assert kept[cosine[:, item] > fourth + 1e-9, item].all()
    assert not kept[cosine[:, item] < fourth - 1e-9, item].any()
    assert kept[:, item].sum() >= 4


def test_item_knn_keeps_a_bounded_number_of_items_that_are_as_near(monkeypatch):
  # One user has all items, so that all are as near.
  monkeypatch.setattr(footprint, 'KEPT', 6)
  user, item = np.zeros(_ITEMS, np.int64), np.arange(_ITEMS)
  scorer = baselines.create('item-knn:neighbours=2')(user, item, 1, _ITEMS)
  found = scorer.score_all(_alone(_ITEMS))
  np.testing.assert_array_equal((found > 0).sum(axis=0), 6)


@pytest.mark.usefixtures('either_product')
def test_ease_is_a_ridge_regression_of_each_item_on_the_others(
  rows, batch, matrix, known
):
  l2 = 3.0
  weights = np.zeros((_ITEMS, _ITEMS))
  for item in range(_ITEMS):
    others = np.delete(np.arange(_ITEMS), item)
    # Ridge as least squares with a row of sqrt(l2) for each weight.
    left = np.vstack([matrix[:, others], np.sqrt(l2) * np.eye(_ITEMS - 1)])
    right = np.concatenate([matrix[:, item], np.zeros(_ITEMS - 1)])
    weights[others, item] = np.linalg.lstsq(left, right, rcond=None)[0]
  np.testing.assert_allclose(
    _scores(f'ease:l2={l2}', rows, batch), known @ weights, rtol=1e-4, atol=1e-6
  )


def test_a_symmetric_matrix_is_inverted_in_its_own_memory(monkeypatch):
  generator = np.random.default_rng(0)
  for size, block in ((7, 3), (12, 4), (50, 16), (33, 64), (1, 2)):
    monkeypatch.setattr(dense_inverse, 'BLOCK', block)
    half = generator.normal(size=(size, size))
    matrix = half @ half.T + 0.1 * np.eye(size)
    found = matrix.copy()
    dense_inverse.invert(found)
    np.testing.assert_allclose(found @ matrix, np.eye(size), atol=1e-9)


@pytest.mark.parametrize('size', [1, 5, 40])
def test_a_matrix_that_is_not_positive_definite_is_told(size):
  matrix = np.eye(size)
  matrix[-1, -1] = -1
  with pytest.raises(np.linalg.LinAlgError):
    dense_inverse.invert(matrix)


def test_what_would_not_fit_is_refused_before_anything_is_computed(rows, monkeypatch):
  lengths = np.full(1_000_000, 100)
  with pytest.raises(UserError, match=r'100,000 items takes 82\.5 GB.*max_gb=64'):
    baselines.create('ease:max_gb=64').check_memory(100_000, lengths)
  baselines.create('ease:max_gb=90').check_memory(100_000, lengths)
  baselines.create('popularity').check_memory(10**9, lengths)
  for name in ('item-knn', 'transitions', 'successors:reverse=0.5'):
    with pytest.raises(UserError, match=r'of 100,000 items takes .* GB of memory, and'):
      baselines.create(f'{name}:max_gb=1').check_memory(100_000, lengths)
    baselines.create(f'{name}:max_gb=90').check_memory(100_000, lengths)
    with pytest.raises(UserError, match='GB of memory'):
      baselines.create(f'{name}:max_gb=1e-6')(*rows, _USERS, _ITEMS)
  monkeypatch.setattr(memory, 'available', lambda: 80 * 10**9)
  with pytest.raises(UserError, match=r'80\.0 GB are free\. Leave ease out'):
    baselines.create('ease').check_memory(100_000, lengths)
  with pytest.raises(UserError, match='GB'):
    # What does not ask first is told the same.
    baselines.create('ease')(*rows, _USERS, 100_000)


@pytest.mark.slow
@pytest.mark.parametrize(
  ('users', 'items', 'each'), [(2000, 1000, 50), (900, 9000, 20), (3000, 300, 100)]
)
@pytest.mark.parametrize(
  'spec',
  ['item-knn', 'item-knn:neighbours=900', 'transitions', 'transitions:reverse=1'],
)
def test_the_memory_is_what_was_estimated(spec, users, items, each):
  user = np.repeat(np.arange(users), each)
  item = np.random.default_rng(0).integers(0, items, len(user))
  tracemalloc.start()
  baselines.create(spec)(user, item, users, items)
  _, peak = tracemalloc.get_traced_memory()
  tracemalloc.stop()
  # The estimate allows for a dense block, which some fits do without.
  block = 40 * min(memory.BLOCK_CELLS + items, items**2) * spec.startswith('item-knn')
  lengths = np.full(users, each)
  enough = (8 * peak + block) / 1e9
  baselines.create(f'{spec}:max_gb={enough}').check_memory(items, lengths)
  with pytest.raises(UserError):
    baselines.create(f'{spec}:max_gb={peak / 1e9}').check_memory(items, lengths)


def test_a_catalogue_counted_in_parts_is_the_same(rows, batch, monkeypatch):
  whole = _scores('successors:reverse=0.5', rows, batch)
  monkeypatch.setattr(footprint, 'PAIRS', 100)
  np.testing.assert_allclose(
    _scores('successors:reverse=0.5', rows, batch), whole, rtol=1e-6
  )


def test_no_more_of_what_followed_an_item_is_kept_than_asked_for(rows):
  every = _scores('successors', rows, _alone(_ITEMS))
  found = _scores('successors:kept=3', rows, _alone(_ITEMS))
  kept = found > 0
  np.testing.assert_array_equal(found[kept], every[kept])
  assert (every > 0).sum(axis=1).max() > 3
  np.testing.assert_array_equal(
    kept.sum(axis=1), np.minimum((every > 0).sum(axis=1), 3)
  )


@pytest.mark.slow
@pytest.mark.parametrize(
  'spec',
  [
    # A third of the time of all other tests.
    pytest.param('ease', marks=pytest.mark.scale),
    'item-knn',
    'successors',
    'sequence-knn',
  ],
)
def test_a_baseline_holds_at_24000_items(spec):
  """Where LAPACK by way of scipy ends in an error and a segmentation fault."""
  users, items, each = 30_000, 24_000, 8
  needed = dense_inverse.needed_bytes(items)
  if spec == 'ease' and memory.available() < 1.2 * needed:
    pytest.skip(f'{needed / 1e9:.1f} GB of memory are not free')
  generator = np.random.default_rng(0)
  user = np.repeat(np.arange(users), each)
  # Pairs of items that always come together, 2 j and 2 j + 1.
  first = 2 * generator.integers(0, items // 2, (users, each // 2))
  item = np.stack([first, first + 1], axis=2).ravel()
  scorer = baselines.create(spec)(user, item, users, items)
  asked = _alone(items)
  part = slice(items - 100, items, 2)
  batch = records.EvaluationBatch(
    asked.user[part],
    asked.positive[part],
    asked.negatives[part],
    asked.history[part],
    asked.history_length[part],
  )
  scores = scorer.score_all(batch)
  assert np.isfinite(scores).all()
  scores[np.arange(50), asked.history[part]] = -np.inf
  np.testing.assert_array_equal(scores.argmax(axis=1), asked.history[part] + 1)


def test_ease_without_a_penalty_may_have_no_solution(batch):
  never_taken = (np.array([0, 1]), np.array([0, 1]))
  with pytest.raises(UserError, match='l2'):
    _scores('ease:l2=0', never_taken, batch)


@pytest.mark.parametrize('reverse', [0, 0.5])
def test_successors_are_counted_by_distance(rows, batch, taken, reverse):
  distance, decay, last = 3, 0.7, 4
  counts = np.zeros((_ITEMS, _ITEMS))
  for items in taken:
    items = items[:-1]
    for later in range(len(items)):
      for earlier in range(max(0, later - distance), later):
        weight = (later - earlier) ** -decay
        counts[items[earlier], items[later]] += weight
        counts[items[later], items[earlier]] += reverse * weight
  popularity = np.bincount(rows[1], minlength=_ITEMS) + 1
  weights = counts / np.sqrt(np.outer(popularity, popularity))
  expected = np.zeros((_USERS, _ITEMS))
  ends = np.cumsum(batch.history_length)
  for user, end in enumerate(ends):
    history = batch.history[end - batch.history_length[user] : end]
    for back, item in enumerate(history[::-1][:last], start=1):
      expected[user] += back**-decay * weights[item]
  spec = f'successors:reverse={reverse}:distance={distance}:decay={decay}:last={last}'
  np.testing.assert_allclose(_scores(spec, rows, batch), expected, rtol=1e-5, atol=1e-7)


def _session_knn(sessions, histories, neighbours, last):
  """V-SKNN by loops: sessions by user, a history for each user."""
  expected = np.zeros((_USERS, _ITEMS))
  for user, history in enumerate(histories):
    recent = [*history][-last:]
    weight = {item: (place + 1) / len(recent) for place, item in enumerate(recent)}
    similar = {
      other: sum(weight.get(item, 0) for item in set(session))
      for other, session in enumerate(sessions)
      if other != user
    }
    nearest = sorted(similar, key=lambda other: (-round(similar[other], 9), other))
    for other in nearest[:neighbours]:
      for item in set(sessions[other]):
        expected[user, item] += similar[other]
  return expected


@pytest.mark.parametrize('neighbours', [1, 4, 100])
@pytest.mark.parametrize('last', [1, 3, 50])
def test_sequence_knn_sums_the_nearest_users(rows, batch, taken, neighbours, last):
  histories = np.split(batch.history, np.cumsum(batch.history_length)[:-1])
  sessions = [items[:-1] for items in taken]
  expected = _session_knn(sessions, histories, neighbours, last)
  found = _scores(f'sequence-knn:neighbours={neighbours}:last={last}', rows, batch)
  # Its unit is the weight of the first of the last items.
  scale = np.minimum(batch.history_length, last)[:, None]
  np.testing.assert_allclose(found / scale, expected, rtol=1e-5)


def test_sequence_knn_weighs_an_item_by_its_last_place():
  # User 0 has 1 alone, user 1 has 2 alone; the asked one has 1, 2, 1.
  rows = np.array([0, 1]), np.array([1, 2])
  batch = records.EvaluationBatch(
    user=np.array([2]),
    positive=np.array([0]),
    negatives=np.zeros((1, 0), np.int64),
    history=np.array([1, 2, 1]),
    history_length=np.array([3]),
  )
  found = baselines.create('sequence-knn')(*rows, 3, 4).score_all(batch)
  np.testing.assert_array_equal(found, [[0, 3, 2, 0]])


def test_sequence_knn_looks_at_who_had_a_crowded_item_last(monkeypatch):
  # Item 0 is of all; users 0 to 3 had it 4, 3, 2 and 1 before the end of theirs.
  sessions = [[0, 1, 2, 3, 4], [0, 5, 6, 7], [0, 8, 9], [0, 10]]
  user = np.repeat(np.arange(4), [len(session) for session in sessions])
  item = np.concatenate(sessions)
  batch = records.EvaluationBatch(
    user=np.array([4]),
    positive=np.array([11]),
    negatives=np.zeros((1, 0), np.int64),
    history=np.array([0]),
    history_length=np.array([1]),
  )
  found = baselines.create('sequence-knn:kept=2')(user, item, 5, 12).score_all(batch)
  np.testing.assert_array_equal(np.flatnonzero(found[0]), [0, 8, 9, 10])
  # Few rows at once are the same.
  monkeypatch.setattr(memory, 'BLOCK_CELLS', 1)
  again = baselines.create('sequence-knn:kept=2')(user, item, 5, 12).score_all(batch)
  np.testing.assert_array_equal(again, found)


def test_sequence_knn_of_too_many_interactions_is_refused(monkeypatch):
  monkeypatch.setattr(memory, 'available', lambda: 20 * 10**9)
  baselines.create('sequence-knn').check_memory(10**5, np.full(10**6, 100))
  with pytest.raises(UserError, match=r'sequence-knn of .*20\.0 GB are free'):
    baselines.create('sequence-knn').check_memory(10**5, np.full(10**6, 1000))


@pytest.mark.parametrize(
  'spec', ['popularity', 'item-knn', 'ease', 'successors', 'sequence-knn']
)
def test_candidates_score_as_in_the_catalogue(spec, rows, batch):
  scorer = baselines.create(spec)(*rows, _USERS, _ITEMS)
  items = np.random.default_rng(0).integers(0, _ITEMS, (_USERS, 5))
  expected = np.take_along_axis(scorer.score_all(batch), items, axis=1)
  np.testing.assert_array_equal(scorer.score_candidates(batch, items), expected)


@pytest.mark.parametrize(
  ('spec', 'told'),
  [
    ('eaze', 'popularity, recent-popularity, item-knn'),
    ('ease:l3=1', 'l2=<number from 0>'),
    ('ease:l2=much', 'l2=<number from 0>'),
    ('ease:l2=-1', 'l2=<number from 0>'),
    ('ease:l2=nan', 'l2=<number from 0>'),
    ('popularity:l2=1', 'no parameters'),
    ('item-knn:neighbours=0', 'neighbours=<whole number from 1>'),
  ],
)
def test_what_is_no_baseline_is_told(spec, told):
  with pytest.raises(UserError, match=told):
    baselines.create(spec)


@pytest.mark.parametrize('spec', ['als:factors=8', 'bpr:factors=8:iterations=50'])
def test_factors_tell_tastes_apart_or_say_what_to_install(spec, rows, batch):
  if importlib.util.find_spec('implicit') is None:
    with pytest.raises(UserError, match='pip install'):
      _scores(spec, rows, batch)
    return
  scorer = baselines.create(spec)(*rows, _USERS, _ITEMS)
  scores = scorer.score_all(batch)
  # Even users like even items, odd users odd ones.
  even = scores[:, ::2].mean(axis=1) > scores[:, 1::2].mean(axis=1)
  assert np.mean(even == (np.arange(_USERS) % 2 == 0)) > 0.8
  items = np.tile(np.arange(_ITEMS), (_USERS, 1))
  np.testing.assert_allclose(
    scorer.score_candidates(batch, items), scores, rtol=1e-4, atol=1e-5
  )


def test_baselines_agree_with_an_independent_script(shared_data, tmp_path, monkeypatch):
  peers = shared_data.parent / 'bench' / 'peers.py'
  ratings = shared_data / 'ml-100k' / 'u.data'
  if not peers.exists() or not ratings.exists():
    pytest.skip('no ../shared/bench/peers.py or ml-100k')
  monkeypatch.syspath_prepend(str(pathlib.Path(prepared.ROOT / 'benchmarks')))
  agreement = importlib.import_module('peers_agreement')
  dataset = prepared.prepare(
    ratings, tmp_path / 'ml-100k', '--min_item_count=0', '--holdout=1'
  )
  try:
    assert agreement.compare(dataset, str(peers), str(ratings))
  finally:
    sys.modules.pop('peers_agreement', None)
