"""Reading of dataset directories in numpy."""

import pathlib

import numpy as np
import pytest
import toy_dataset

from ncf_tfdata import dataset as dataset_lib
from ncf_tfdata.data import records
from ncf_tfdata.errors import UserError

_NUM_ITEMS = 40


@pytest.fixture(scope='module')
def items():
  return toy_dataset.tastes(num_users=50, num_items=_NUM_ITEMS, rows=12)


@pytest.fixture(scope='module')
def dataset(items, tmp_path_factory):
  directory = tmp_path_factory.mktemp('records')
  return toy_dataset.write(directory, items, num_items=_NUM_ITEMS, num_shards=3)


def test_train_rows_are_user_by_user_and_in_order_of_time(dataset, items):
  user, item = records.train_rows(dataset)
  assert user.dtype == item.dtype == np.int64
  np.testing.assert_array_equal(user, np.repeat(np.arange(50), 10))
  np.testing.assert_array_equal(item.reshape(50, 10), [taken[:-2] for taken in items])


def test_rows_of_a_later_split_come_last_within_their_user(dataset, items):
  user, item = records.rows(dataset, 'train', 'validation')
  np.testing.assert_array_equal(user, np.repeat(np.arange(50), 11))
  np.testing.assert_array_equal(item.reshape(50, 11), [taken[:-1] for taken in items])


@pytest.mark.parametrize('max_rows', [1, 7, 1000])
@pytest.mark.parametrize(('split', 'known'), [('validation', -2), ('test', -1)])
def test_batches_hold_what_came_before(dataset, items, split, known, max_rows):
  users = []
  for batch in records.evaluation_batches(dataset, split, max_rows):
    assert len(batch.user) <= max_rows
    assert batch.negatives.shape == (len(batch.user), dataset.negatives(split))
    ends = np.cumsum(batch.history_length)
    assert ends[-1] == len(batch.history)
    for row, user in enumerate(batch.user):
      history = batch.history[ends[row] - batch.history_length[row] : ends[row]]
      np.testing.assert_array_equal(history, items[user][:known])
      assert batch.positive[row] == items[user][known]
      assert not set(batch.negatives[row]) & set(items[user])
    users.extend(batch.user)
  assert sorted(users) == list(range(50))


def test_a_split_without_rows_is_told(items, tmp_path):
  dataset = toy_dataset.write(tmp_path, items, num_items=_NUM_ITEMS, holdout=1)
  assert len(records.rows(dataset, 'validation')[0]) == 0
  with pytest.raises(UserError, match='--holdout=1'):
    next(records.evaluation_batches(dataset, 'validation', 10))


def test_a_shard_that_vanished_is_told(items, tmp_path):
  dataset = toy_dataset.write(tmp_path, items, num_items=_NUM_ITEMS)
  (tmp_path / dataset.shards('test')[0].rpartition('/')[2]).unlink()
  with pytest.raises(UserError, match='is missing, expected'):
    dataset.verify()


def test_a_corrupt_shard_is_told(items, tmp_path):
  dataset = toy_dataset.write(tmp_path, items, num_items=_NUM_ITEMS)
  path = tmp_path / dataset.shards('test')[0].rpartition('/')[2]
  content = bytearray(path.read_bytes())
  content[len(content) // 2] ^= 0xFF
  path.write_bytes(content)
  with pytest.raises(UserError, match=rf'{path.name} is corrupt') as caught:
    list(records.evaluation_batches(dataset, 'test', 10))
  assert '\n' not in str(caught.value)


def test_a_shard_that_cannot_be_read_is_named(items, tmp_path):
  dataset = toy_dataset.write(tmp_path, items, num_items=_NUM_ITEMS)
  path = pathlib.Path(dataset.shards('test')[1])
  path.unlink()
  path.mkdir()  # What even root cannot read as a file.
  with pytest.raises(UserError, match=rf'cannot read .*{path.name}: Is a directory'):
    list(records.evaluation_batches(dataset, 'test', 10))


def test_single_flipped_bits_of_the_vocabularies_are_told(items, tmp_path):
  dataset = toy_dataset.write(tmp_path, items, num_items=_NUM_ITEMS)
  for name in ('users.tsv', 'items.tsv'):
    path = tmp_path / name
    content = path.read_bytes()
    for bit in range(0, 8 * len(content), 7):
      flipped = bytearray(content)
      flipped[bit // 8] ^= 1 << bit % 8
      path.write_bytes(flipped)
      with pytest.raises(UserError, match=rf'{name} is corrupt') as caught:
        dataset.vocabulary(name)
      assert '\n' not in str(caught.value)
    path.write_bytes(content)
    dataset.vocabulary(name)


def test_rows_of_two_datasets_are_never_taken_for_one(items, tmp_path):
  dataset = toy_dataset.write(tmp_path, items, num_items=_NUM_ITEMS)
  batches = records.evaluation_batches(dataset, 'test', 1)
  next(batches)
  toy_dataset.write(tmp_path, items[:-1], num_items=_NUM_ITEMS)
  with pytest.raises(UserError, match='was replaced while'):
    list(batches)
  with pytest.raises(UserError, match='was replaced while'):
    dataset.vocabulary('users.tsv')


@pytest.mark.parametrize(
  'content', [b'', b'{', b'\xff\xfe', b'[1]', b'{"schema_version": 1}', b'7']
)
def test_a_damaged_manifest_is_told(items, tmp_path, content):
  dataset = toy_dataset.write(tmp_path, items, num_items=_NUM_ITEMS)
  (tmp_path / 'manifest.json').write_bytes(content)
  with pytest.raises(UserError, match=r'manifest.json is not a manifest') as caught:
    dataset_lib.Dataset(str(dataset.directory))
  assert '\n' not in str(caught.value)
