"""The stream of train batches: which rows, in which order, from where."""

import collections

import numpy as np
import pytest
import toy_dataset

from ncf_tfdata.data import records, row_batches, sampling
from ncf_tfdata.errors import UserError

_BATCH = 50
_ITEMS = 40


@pytest.fixture(scope='module')
def dataset(tmp_path_factory):
  return toy_dataset.write(
    tmp_path_factory.mktemp('toy'),
    toy_dataset.tastes(num_items=_ITEMS),
    num_items=_ITEMS,
    num_shards=3,
  )


def _stream(dataset, **options):
  options = {
    'batch_size': _BATCH,
    'seed': 1,
    'negatives': 'fresh',
    'num_negatives': 2,
    'sampler': sampling.Sampler(dataset.num_items),
    **options,
  }
  return row_batches.train_batches(dataset, **options).as_numpy_iterator()


def _epoch(dataset, stream) -> dict[str, np.ndarray]:
  """One epoch's rows, in order, its filling included."""
  steps = row_batches.steps_per_epoch(dataset, _BATCH)
  batches = [next(stream) for _ in range(steps)]
  assert {batch['user'].shape for batch in batches} == {(_BATCH,)}
  return {
    name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]
  }


def _pairs(rows) -> list[tuple[int, int]]:
  real = rows['weight'] > 0
  return list(zip(rows['user'][real], rows['items'][real, 0], strict=True))


def test_an_epoch_holds_every_row_once_and_fills_the_last_batch(dataset):
  stream = _stream(dataset)
  expected = collections.Counter(zip(*records.train_rows(dataset), strict=True))
  for _ in range(3):
    rows = _epoch(dataset, stream)
    assert collections.Counter(_pairs(rows)) == expected
    filled = rows['weight'] == 0
    assert filled.sum() == -dataset.rows('train') % _BATCH
    assert not filled[: dataset.rows('train')].any()


def test_a_batch_may_be_larger_than_the_dataset(dataset):
  batch = next(_stream(dataset, batch_size=5000))
  assert batch['weight'].sum() == dataset.rows('train')


@pytest.mark.slow
def test_order_and_draws_are_a_function_of_seed_and_epoch(dataset):
  first, again, other = (_stream(dataset, seed=seed) for seed in (1, 1, 2))
  epochs = [_epoch(dataset, first) for _ in range(2)]
  for epoch in epochs:
    repeated = _epoch(dataset, again)
    assert all(np.array_equal(epoch[name], repeated[name]) for name in epoch)
  assert _pairs(epochs[0]) != _pairs(epochs[1])
  assert _pairs(_epoch(dataset, other)) != _pairs(epochs[0])


def test_rows_of_a_user_are_spread_over_the_epoch(dataset):
  user = _epoch(dataset, _stream(dataset))['user'][: dataset.rows('train')]
  neighbours = (user[1:] == user[:-1]).mean()
  assert neighbours < 3 / dataset.num_users


def test_by_user_rows_stay_together_and_users_are_mixed(dataset):
  stream = _stream(dataset, by_user=True)
  orders = []
  for _ in range(2):
    rows = _epoch(dataset, stream)
    user = rows['user'][rows['weight'] > 0]
    first = np.flatnonzero(np.r_[True, user[1:] != user[:-1]])
    assert len(first) == dataset.num_users
    orders.append(user[first].tolist())
    expected = collections.Counter(zip(*records.train_rows(dataset), strict=True))
    assert collections.Counter(_pairs(rows)) == expected
  assert sorted(orders[0]) == sorted(orders[1]) != orders[0] != orders[1]


@pytest.mark.slow
@pytest.mark.parametrize('epoch,step', [(0, 1), (0, 21), (1, 0), (2, 7)])
@pytest.mark.parametrize(
  'options',
  [
    {'negatives': 'fresh'},
    {'negatives': 'static'},
    {'negatives': 'none'},
    {'negatives': 'none', 'by_user': True, 'recency': 1.0},
  ],
)
def test_a_resumed_stream_goes_on_as_if_it_had_not_stopped(
  dataset, epoch, step, options
):
  whole = _stream(dataset, **options)
  steps = row_batches.steps_per_epoch(dataset, _BATCH)
  for _ in range(epoch * steps + step):
    next(whole)
  resumed = _stream(dataset, **options, first_epoch=epoch, first_step=step)
  for _ in range(steps + 2):
    one, other = next(whole), next(resumed)
    assert all(np.array_equal(one[name], other[name]) for name in one)


@pytest.mark.slow
def test_windows_are_skipped_and_cut_exactly(dataset, monkeypatch):
  # Two blocks a window instead of all of the toy's.
  monkeypatch.setattr(row_batches, '_WINDOW_IDS', 2 * 1024 * 4)
  whole = _stream(dataset)
  for step in range(row_batches.steps_per_epoch(dataset, _BATCH)):
    expected = next(whole)
    if step % 3:
      continue
    resumed = next(_stream(dataset, first_step=step))
    assert all(np.array_equal(expected[name], resumed[name]) for name in expected)


def test_fresh_negatives_are_no_train_items_and_differ_by_epoch(dataset):
  user, item = records.train_rows(dataset)
  own = set(zip(user, item, strict=True))
  stream = _stream(dataset, num_negatives=3)
  drawn = []
  for _ in range(2):
    rows = _epoch(dataset, stream)
    real = rows['weight'] > 0
    users = np.repeat(rows['user'][real], 3)
    negatives = rows['items'][real, 1:].ravel()
    assert not own & set(zip(users, negatives, strict=True))
    order = np.lexsort((rows['items'][real, 0], rows['user'][real]))
    drawn.append(rows['items'][real, 1:][order])
  assert drawn[0].shape == (dataset.rows('train'), 3)
  # About 22 items are free a user, so that one draw in 22 repeats by chance.
  assert (drawn[0] == drawn[1]).mean() < 0.1


def test_static_negatives_are_those_of_the_records(dataset):
  block_rows = {}
  for block in records.blocks(dataset, 'train'):
    columns = (block[name] for name in ('user', 'pos', 'negs'))
    for user, item, negatives in zip(*columns, strict=True):
      block_rows[user, item] = negatives[:2].tolist()
  rows = _epoch(dataset, _stream(dataset, negatives='static'))
  real = rows['weight'] > 0
  for user, items in zip(rows['user'][real], rows['items'][real], strict=True):
    assert block_rows[user, items[0]] == items[1:].tolist()


def test_without_negatives_a_row_holds_its_positive_only(dataset):
  assert next(_stream(dataset, negatives='none'))['items'].shape == (_BATCH, 1)


@pytest.mark.slow
def test_recency_weighs_a_row_by_its_distance_from_the_end(dataset):
  user, item = records.train_rows(dataset)
  expected = {}
  for index in range(len(user)):
    distance = (user[index + 1 :] == user[index]).sum()
    expected[user[index], item[index]] = (1 + distance) ** -0.5
  rows = _epoch(dataset, _stream(dataset, recency=0.5))
  found = dict(zip(_pairs(rows), rows['weight'][rows['weight'] > 0], strict=True))
  assert found == pytest.approx(expected)


@pytest.mark.slow
@pytest.mark.parametrize('recency', [0.0, 0.5])
def test_rows_of_a_user_who_has_every_item_weigh_nothing(tmp_path, recency):
  nearly, whole = np.arange(11), np.arange(12)
  held_out = [0, 1]
  dataset = toy_dataset.write(
    tmp_path,
    [np.concatenate([items, held_out]) for items in (nearly, whole, nearly[1:])],
    num_items=12,
    eval_negatives=0,
    train_negatives=0,
  )
  rows = _epoch(dataset, _stream(dataset, recency=recency))
  assert collections.Counter(rows['user'][rows['weight'] > 0].tolist()) == {
    0: 11,
    2: 10,
  }
  fresh = rows['items'][(rows['user'] == 0) & (rows['weight'] > 0), 1:]
  assert (fresh == 11).all()
  none = _epoch(dataset, _stream(dataset, recency=recency, negatives='none'))
  assert (none['weight'] > 0).sum() == 33


def test_more_static_negatives_than_the_records_hold_are_refused(dataset):
  with pytest.raises(UserError, match=r'--num_negatives=9 .* hold 4'):
    _stream(dataset, negatives='static', num_negatives=9)
