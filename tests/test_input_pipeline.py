"""Batches: every row once an epoch, negatives verified, the same from any start."""

import numpy as np
import pytest
import toy_dataset

from ncf_tfdata import dataset as dataset_lib
from ncf_tfdata import input_pipeline, sampling

ITEMS = toy_dataset.tastes()
BATCH = 128


@pytest.fixture(scope='module')
def dataset(tmp_path_factory):
  directory = tmp_path_factory.mktemp('toy') / 'data'
  toy_dataset.write(directory, ITEMS, num_items=40)
  return dataset_lib.Dataset(str(directory))


def batches(dataset, **options):
  """The batches of epochs 0 and 1."""
  options = {
    'batch_size': BATCH,
    'seed': 0,
    'negatives': 'fresh',
    'num_negatives': 3,
    'sampler': sampling.Sampler(dataset.num_items),
    **options,
  }
  steps = input_pipeline.steps_per_epoch(dataset, BATCH)
  done = options.get('first_epoch', 0) * steps + options.get('first_step', 0)
  stream = input_pipeline.train_batches(dataset, **options)
  return list(stream.take(2 * steps - done).as_numpy_iterator())


def pairs(elements):
  """(user, positive) of the rows that count, sorted."""
  found = [
    np.stack([batch['user'], batch['items'][:, 0]], 1)[batch['weight'] > 0]
    for batch in elements
  ]
  return sorted(map(tuple, np.concatenate(found).tolist()))


def test_an_epoch_holds_every_train_row_once(dataset):
  steps = input_pipeline.steps_per_epoch(dataset, BATCH)
  found = batches(dataset)
  assert len(found) == 2 * steps
  expected = sorted(
    (user, int(item)) for user, items in enumerate(ITEMS) for item in items[:-2]
  )
  assert pairs(found[:steps]) == expected
  assert pairs(found[steps:]) == expected


def test_epochs_differ_in_order_and_negatives(dataset):
  steps = input_pipeline.steps_per_epoch(dataset, BATCH)
  found = batches(dataset)
  assert not np.array_equal(found[0]['user'], found[steps]['user'])


def test_fresh_negatives_are_never_train_items(dataset):
  taken = [set(items[:-2].tolist()) for items in ITEMS]
  for batch in batches(dataset):
    real = batch['weight'] > 0
    for user, items in zip(batch['user'][real], batch['items'][real], strict=True):
      assert not taken[user] & set(items[1:].tolist())
      assert items.max() < dataset.num_items


def test_the_same_seed_gives_the_same_batches_and_another_does_not(dataset):
  first, again = batches(dataset), batches(dataset)
  for a, b in zip(first, again, strict=True):
    for name in a:
      np.testing.assert_array_equal(a[name], b[name])
  other = batches(dataset, seed=1)
  assert not np.array_equal(first[0]['user'], other[0]['user'])


@pytest.mark.parametrize('epoch, step', [(0, 0), (0, 3), (1, 0), (1, 5)])
def test_a_stream_taken_up_anywhere_is_the_rest_of_the_whole(dataset, epoch, step):
  steps = input_pipeline.steps_per_epoch(dataset, BATCH)
  whole = batches(dataset)[epoch * steps + step :]
  rest = batches(dataset, first_epoch=epoch, first_step=step)
  assert len(rest) == len(whole)
  for a, b in zip(whole, rest, strict=True):
    for name in a:
      np.testing.assert_array_equal(a[name], b[name])


def test_static_negatives_are_those_of_the_records(dataset):
  (batch, *_) = batches(dataset, negatives='static', num_negatives=2, sampler=None)
  assert batch['items'].shape == (BATCH, 3)


def test_recency_weighs_by_the_distance_from_the_last_train_row(dataset):
  for batch in batches(dataset, recency=1.0):
    real = batch['weight'] > 0
    rows = zip(
      batch['user'][real], batch['items'][real, 0], batch['weight'][real], strict=True
    )
    for user, item, weight in rows:
      train = ITEMS[user][:-2].tolist()
      distance = len(train) - 1 - train.index(item)
      assert weight == pytest.approx(1 / (1 + distance), rel=1e-6)
