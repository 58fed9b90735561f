"""Reading of a log that was cut by time, where a user's history is stored once."""

import collections

import numpy as np
import prepared
import pytest

from ncf_tfdata import dataset as dataset_lib
from ncf_tfdata.data import records
from ncf_tfdata.dataset import TEST, VALIDATION
from ncf_tfdata.serving import recommender
from ncf_tfdata.vocabulary import UNKNOWN


def as_rows(dataset, split, max_rows):
  """What the reader gives, in the log's own keys."""
  users = dataset.vocabulary(dataset_lib.USERS).keys
  items = dataset.vocabulary(dataset_lib.ITEMS).keys
  for batch in records.evaluation_batches(dataset, split, max_rows):
    assert 0 < len(batch.user) <= max_rows
    assert len(batch.time) == len(batch.user)
    assert len(batch.history_time) == len(batch.history)
    ends = np.cumsum(batch.history_length)
    for row, end in enumerate(ends):
      past = slice(end - batch.history_length[row], end)
      assert (np.diff(batch.history_time[past]) >= 0).all()
      gap = batch.time[row] - batch.history_time[past][-1]
      assert gap == batch.gap[row]
      yield prepared.Row(
        users[batch.user[row]],
        items[batch.positive[row]],
        tuple(items[item] for item in batch.negatives[row]),
        tuple(items[item] for item in batch.history[past]),
      )


@pytest.mark.parametrize('max_rows', [1, 7, 10_000])
@pytest.mark.parametrize('split', [VALIDATION, TEST])
def test_each_row_has_its_own_history(cut, split, max_rows):
  expected = prepared.rows(cut, split)
  assert max(collections.Counter(row.user for row in expected).values()) > 3
  assert list(as_rows(cut, split, max_rows)) == expected


@pytest.mark.parametrize('entries', [1, 60])
def test_long_histories_make_small_batches(cut, monkeypatch, entries):
  monkeypatch.setattr(records, '_MAX_ENTRIES', entries)
  for batch in records.evaluation_batches(cut, TEST, 100):
    assert len(batch.user) == 1 or len(batch.history) <= entries
  assert list(as_rows(cut, TEST, 100)) == prepared.rows(cut, TEST)


def test_the_newest_history_of_each_user(cut):
  users = cut.vocabulary(dataset_lib.USERS).keys
  items = cut.vocabulary(dataset_lib.ITEMS).keys
  newest = collections.defaultdict(tuple)
  for row in prepared.rows(cut, dataset_lib.TRAIN):
    newest[row.user] += (row.item,)
  for split in (VALIDATION, TEST):
    for row in prepared.rows(cut, split):
      newest[row.user] = (*row.history, row.item)
  histories = recommender.read_histories(cut)
  for user, key in enumerate(users):
    found, _ = histories.of(np.array([user]))
    assert tuple(items[item] for item in found) == newest[key]


@pytest.mark.parametrize('gaps', [False, True])
def test_histories_of_some_users_are_those_of_all(cut, gaps):
  every = recommender.read_histories(cut, gaps)
  assert (every.entry != every.item).any() == gaps
  asked = np.array([7, UNKNOWN, 2, 7, cut.num_users - 1])
  found = recommender.read_histories(cut, gaps, asked)
  for user in range(cut.num_users):
    expected = every.of(np.array([user if user in asked else UNKNOWN]))
    for one, other in zip(found.of(np.array([user])), expected, strict=True):
      np.testing.assert_array_equal(one, other)
  nobody = recommender.read_histories(cut, gaps, np.array([UNKNOWN]))
  assert len(nobody.entry) == 0


def test_no_more_is_read_than_is_asked_for(cut, monkeypatch):
  read, columns = [], records.columns

  def noted(dataset, split, names):
    for block in columns(dataset, split, names):
      read.append(split)
      yield block

  monkeypatch.setattr(records, 'columns', noted)
  tested = next(columns(cut, TEST, ('user',)))['user'][:1]
  recommender.read_histories(cut, users=tested)
  assert read == [TEST]
