"""The stream of windows: which targets, which histories, and from where."""

import collections
import tempfile

import hypothesis
import numpy as np
import pytest
import tensorflow as tf
import toy_dataset
from hypothesis import strategies as st

from ncf_tfdata import dataset as dataset_lib
from ncf_tfdata.data import records, window_batches
from ncf_tfdata.errors import UserError

_ITEMS = 50


def _log(lengths, seed=0) -> list[np.ndarray]:
  """Distinct items of users with so many train rows."""
  generator = np.random.default_rng(seed)
  return [generator.choice(_ITEMS, length + 2, replace=False) for length in lengths]


def _write(directory, lengths, **options):
  return toy_dataset.write(directory, _log(lengths), num_items=_ITEMS, **options)


@pytest.fixture(scope='module')
def dataset(tmp_path_factory):
  lengths = np.random.default_rng(1).integers(1, 30, 80)
  return _write(tmp_path_factory.mktemp('toy'), lengths, num_shards=3)


_OPTIONS = {'batch_size': 64, 'history_length': 5, 'window': 8}


def _steps(dataset, **options) -> int:
  names = ('batch_size', 'history_length', 'window')
  options = {**_OPTIONS, **options}
  return window_batches.steps_per_epoch(
    dataset, **{name: options[name] for name in names}
  )


def _stream(dataset, **options):
  options = {'seed': 0, **_OPTIONS, **options}
  return window_batches.window_batches(dataset, **options).as_numpy_iterator()


def _rows(batch, history_length) -> list[tuple]:
  """(user, target, history behind pads, weight) of every real row."""
  found = []
  for tokens, user, row, weight in zip(
    *(batch[name] for name in ('tokens', 'user', 'row', 'weight')), strict=True
  ):
    window = tokens.shape[1] - history_length
    for i in np.flatnonzero(weight):
      line, column = divmod(row[i], window)
      context = tokens[line, column : column + history_length]
      target = tokens[line, column + history_length]
      found.append((user[i], target, tuple(context), weight[i]))
  return found


def _epoch(dataset, stream, **options) -> list[tuple]:
  length = {**_OPTIONS, **options}['history_length']
  steps = _steps(dataset, **options)
  return [row for _ in range(steps) for row in _rows(next(stream), length)]


def _expected(dataset, history_length) -> collections.Counter:
  """(user, target, history behind pads) of every train row."""
  users, items = records.train_rows(dataset)
  found = collections.Counter()
  for user in np.unique(users):
    own = items[users == user].tolist()
    for place, item in enumerate(own):
      before = own[:place][-history_length:] if history_length else []
      pads = [_ITEMS] * (history_length - len(before))
      found[user, item, (*pads, *before)] += 1
  return found


@pytest.mark.slow
@hypothesis.settings(max_examples=12, deadline=None)
@hypothesis.given(
  lengths=st.lists(st.integers(1, 30), min_size=1, max_size=20),
  history_length=st.integers(0, 9),
  window=st.integers(1, 12),
  seed=st.integers(0, 9),
  block_rows=st.integers(1, 40),
  replicas=st.integers(1, 3),
)
def test_every_row_is_a_target_once_with_just_its_own_history(
  lengths, history_length, window, seed, block_rows, replicas
):
  with tempfile.TemporaryDirectory() as directory:
    dataset = _write(directory, lengths, block_rows=block_rows, num_shards=1)
    # With room for all windows, nothing is dropped.
    options = {
      'batch_size': 1000 * window,
      'history_length': history_length,
      'window': window,
    }
    stream = _stream(dataset, seed=seed, replicas=replicas, **options)
    expected = _expected(dataset, history_length)
    for _ in range(2):
      rows = _epoch(dataset, stream, **options)
      assert collections.Counter(row[:3] for row in rows) == expected


def test_chunks_are_cut_one_by_one(dataset, monkeypatch):
  monkeypatch.setattr(window_batches, '_CHUNK_BLOCKS', 2)
  monkeypatch.setattr(window_batches, '_FILL', 0.5)  # So that nothing is dropped.
  stream, expected = _stream(dataset), _expected(dataset, 5)
  for _ in range(2):
    rows = _epoch(dataset, stream)
    assert collections.Counter(row[:3] for row in rows) == expected


@pytest.mark.slow
def test_cuts_and_order_differ_by_epoch_and_seed_and_repeat(dataset):
  def first_targets(stream):
    return [row[:2] for row in _epoch(dataset, stream)]

  one, again, other = (_stream(dataset, seed=seed) for seed in (0, 0, 1))
  epochs = [first_targets(one) for _ in range(2)]
  assert epochs == [first_targets(again) for _ in range(2)]
  assert epochs[0] != epochs[1]
  assert first_targets(other) != epochs[0]


def test_windows_of_a_user_are_spread_over_the_epoch(dataset):
  users = np.array([row[0] for row in _epoch(dataset, _stream(dataset))])
  # A user's windows, of 8 targets, would else be neighbours.
  runs = 1 + np.count_nonzero(np.diff(users))
  assert runs > 1.3 * dataset.num_users


def test_shapes_are_fixed_and_rows_about_91_percent_full(dataset):
  stream = _stream(dataset)
  shapes, filled = set(), []
  for _ in range(3 * _steps(dataset)):
    batch = next(stream)
    shapes.add(tuple(batch[name].shape for name in ('tokens', 'row', 'weight')))
    assert {batch[name].dtype for name in ('tokens', 'user', 'row')} == {
      np.dtype('int32')
    }
    filled.append((batch['weight'] > 0).sum())
  assert len(shapes) == 1
  assert max(filled) == 64
  assert 0.8 * 64 < np.median(filled) < 64


def test_what_overflows_is_dropped_by_a_fair_draw(dataset, monkeypatch):
  monkeypatch.setattr(window_batches, '_FILL', 1.8)
  stream = _stream(dataset)
  batch = next(stream)
  assert (batch['weight'] > 0).all()
  kept, seen = collections.Counter(), 0
  for _ in range(20):
    rows = _epoch(dataset, stream)
    kept.update({row[:2] for row in rows})
    seen += len(rows)
  share = seen / 20 / dataset.rows('train')
  assert 0.4 < share < 0.7
  counts = np.array(list(kept.values()))
  assert len(counts) == dataset.rows('train')
  # Binomial: a row's count lies within 5 standard deviations.
  assert abs(counts - 20 * share).max() < 5 * np.sqrt(20 * share * (1 - share))


@pytest.mark.slow
@pytest.mark.parametrize('replicas', [2, 3])
@pytest.mark.parametrize('fill', [0.91, 1.8])
def test_replicas_share_the_targets_of_one(dataset, monkeypatch, replicas, fill):
  monkeypatch.setattr(window_batches, '_FILL', fill)
  one, shared = _stream(dataset), _stream(dataset, replicas=replicas)
  for _ in range(_steps(dataset)):
    batch = next(shared)
    assert {len(batch[name]) for name in batch} == {replicas}
    assert sorted(_rows(batch, 5)) == sorted(_rows(next(one), 5))


@pytest.mark.slow
@pytest.mark.parametrize('epoch,step', [(0, 1), (0, 13), (1, 0), (2, 7)])
@pytest.mark.parametrize('chunk', [2, 1024])
def test_a_resumed_stream_goes_on_as_if_it_had_not_stopped(
  dataset, monkeypatch, epoch, step, chunk
):
  monkeypatch.setattr(window_batches, '_CHUNK_BLOCKS', chunk)
  whole = _stream(dataset)
  for _ in range(epoch * _steps(dataset) + step):
    next(whole)
  resumed = _stream(dataset, first_epoch=epoch, first_step=step)
  for _ in range(_steps(dataset) + 2):
    one, other = next(whole), next(resumed)
    assert all(np.array_equal(one[name], other[name]) for name in one)


def test_recency_weighs_a_row_by_its_distance_from_the_end(dataset):
  users, items = records.train_rows(dataset)
  expected = {}
  for index in range(len(users)):
    distance = (users[index + 1 :] == users[index]).sum()
    expected[users[index], items[index]] = (1 + distance) ** -0.5
  options = {'batch_size': 8000}
  rows = _epoch(dataset, _stream(dataset, recency=0.5, **options), **options)
  assert {row[:2]: row[3] for row in rows} == pytest.approx(expected)


def test_shapes_are_known_to_the_compiler(dataset):
  stream = window_batches.window_batches(dataset, seed=0, replicas=2, **_OPTIONS)
  assert all(spec.shape.is_fully_defined() for spec in stream.element_spec.values())
  assert stream.cardinality() in (
    tf.data.INFINITE_CARDINALITY,
    tf.data.UNKNOWN_CARDINALITY,
  )


def test_a_batch_smaller_than_a_window_is_refused(dataset):
  with pytest.raises(UserError, match=r'--batch_size=7; expected at least 8'):
    _stream(dataset, batch_size=7)


def test_a_dataset_without_train_rows_is_refused(tmp_path):
  dataset = _write(tmp_path, [0, 0])
  with pytest.raises(UserError, match='no train interactions'):
    _stream(dataset)


def test_gaps_stand_beside_the_items_they_come_before(cut):
  user, item = records.train_rows(cut)
  time = records.row_times(cut, dataset_lib.TRAIN)
  code = [
    (1 + int(time[row] - time[row - 1])).bit_length()
    if row and user[row] == user[row - 1]
    else 0
    for row in range(len(user))
  ]
  # A user has an item once.
  expected = {(u, i): c for u, i, c in zip(user, item, code, strict=True)}
  assert len(expected) == len(user) and max(code) > 10
  stream, found = _stream(cut, gaps=True), {}
  for _ in range(_steps(cut)):
    batch = next(stream)
    assert batch['gaps'].shape == batch['tokens'].shape
    assert not batch['gaps'][batch['tokens'] == cut.num_items].any()
    targets = (batch[name][0, :, 5:].ravel() for name in ('tokens', 'gaps'))
    items, gaps = (each[batch['row'][0]] for each in targets)
    for u, i, gap, weight in zip(
      batch['user'][0], items, gaps, batch['weight'][0], strict=True
    ):
      if weight:
        found[u, i] = gap
  assert found.items() <= expected.items()
  assert len(found) > 0.9 * len(expected)
