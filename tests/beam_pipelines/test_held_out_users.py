"""`--held_out_users`: test on users of whom train and validation know nothing."""

import collections

import numpy as np
import prepared
import pyarrow as pa
import pytest

from beam_pipelines import splits
from ncf_tfdata import dataset as dataset_lib
from ncf_tfdata.dataset import ITEMS, SUCCESSORS, TEST, TRAIN, USERS, VALIDATION

# Each user's items in time order; only ann, who is held out below, takes `g`.
TAKEN = {
  'ann': 'agbc',
  'bob': 'bcda',
  'cy': 'cabe',
  'dee': 'abdc',
  'eve': 'ebf',
  'fay': 'ab',
  'gus': 'dcef',
  'hal': 'abce',
}


def toy_log(tmp_path):
  rows = [(u, item, 5, t) for u, items in TAKEN.items() for t, item in enumerate(items)]
  return prepared.write_log(tmp_path / 'log', rows)


@pytest.mark.slow
def test_a_toy_log_where_the_answer_is_obvious(tmp_path):
  dataset = prepared.prepare(
    toy_log(tmp_path), tmp_path / 'out', *prepared.TOY, '--held_out_users=0.5'
  )
  # Drawn from keys and seed. So is fay, who is too short to be tested, and so stays.
  drawn = {'ann', 'dee', 'gus'}
  train = {
    user: list(items if user == 'fay' else items[:-2])
    for user, items in TAKEN.items()
    if user not in drawn
  }
  assert prepared.by_user(dataset, TRAIN) == train
  for split, users, end in (
    (VALIDATION, set(TAKEN) - drawn - {'fay'}, -2),
    (TEST, drawn, -1),
  ):
    rows = {row.user: row for row in prepared.rows(dataset, split)}
    assert set(rows) == users
    for user, row in rows.items():
      assert row.item == TAKEN[user][end]
      assert ''.join(row.history) == TAKEN[user][:end]
      assert len(set(row.negatives)) == 2
      assert not set(row.negatives) & set(TAKEN[user])
  users, items = dataset.vocabulary(USERS), dataset.vocabulary(ITEMS)
  assert dict(zip(users.keys, users.counts.tolist(), strict=True)) == {
    user: len(train.get(user, [])) for user in TAKEN
  }
  taken = collections.Counter(item for items in train.values() for item in items)
  assert dict(zip(items.keys, items.counts.tolist(), strict=True)) == {
    item: taken[item] for item in 'abcdefg'
  }
  assert dataset.manifest.flags['held_out_users'] == 0.5
  assert prepared.counts(
    dataset, 'kept', TRAIN, VALIDATION, TEST, 'history_only', 'untested'
  ) == [29, 9, 4, 3, 9, 4]
  assert prepared.counts(dataset, 'users', 'users_held_out', 'users_too_short') == [
    8,
    3,
    1,
  ]


def users_tested(dataset):
  return {row.user for row in prepared.rows(dataset, TEST)}


@pytest.mark.slow
@pytest.mark.parametrize('holdout', [1, 2])
def test_test_rows_are_those_of_the_ordinary_split(
  tmp_path, sample_log, sample_dataset, holdout
):
  dataset = prepared.prepare(
    sample_log,
    tmp_path / 'out',
    '--held_out_users=0.3',
    f'--holdout={holdout}',
    '--num_shards=8',
    '--successors=5',
  )
  for name in (USERS, ITEMS):
    assert dataset.vocabulary(name).keys == sample_dataset.vocabulary(name).keys
  ordinary = {row.user: row for row in prepared.rows(sample_dataset, TEST)}
  found = prepared.rows(dataset, TEST)
  held_out = {row.user for row in found}
  assert [ordinary[row.user] for row in found] == found
  assert 0.2 < len(held_out) / len(ordinary) < 0.4
  assert prepared.counts(dataset, 'users_held_out') == [len(held_out)]
  # All the others: as ever, but for the test row.
  before = prepared.histories(sample_dataset)
  cut = {
    user: tuple(items)
    for user, items in prepared.by_user(sample_dataset, TRAIN).items()
    if user not in held_out
  }
  if holdout == 1:
    for row in prepared.rows(sample_dataset, VALIDATION):
      if row.user not in held_out:
        cut[row.user] += (row.item,)
    assert VALIDATION not in dataset.manifest.counts
  else:
    assert prepared.rows(dataset, VALIDATION) == [
      row
      for row in prepared.rows(sample_dataset, VALIDATION)
      if row.user not in held_out
    ]
  train = prepared.by_user(dataset, TRAIN)
  assert {user: tuple(items) for user, items in train.items()} == cut
  assert set(before) == set(train) | held_out
  # Whatever counts train rows counts none of theirs.
  taken = collections.Counter(item for items in train.values() for item in items)
  vocabulary = dataset.vocabulary(ITEMS)
  assert vocabulary.counts.tolist() == [taken[key] for key in vocabulary.keys]
  assert dataset.vocabulary(USERS).counts.tolist() == [
    len(train.get(key, [])) for key in dataset.vocabulary(USERS).keys
  ]
  follows = {
    (earlier, later)
    for items in train.values()
    for place, later in enumerate(items)
    for earlier in items[max(0, place - 10) : place]
  }
  for path in dataset.shards(SUCCESSORS):
    for block in prepared.blocks(path):
      earlier = np.repeat(block['item'], block['length'])
      for pair in zip(earlier, block['successor'], strict=True):
        assert tuple(vocabulary.keys[item] for item in pair) in follows
  counts = dataset.manifest.counts
  names = (TRAIN, VALIDATION, TEST, 'history_only', 'untested')
  assert sum(counts.get(name, 0) for name in names) == counts['kept']


@pytest.mark.slow
def test_users_are_drawn_by_key_and_seed_whatever_the_shards(tmp_path, sample_log):
  found = {
    flags: users_tested(
      prepared.prepare(
        sample_log, tmp_path / str(number), *flags, '--eval_negatives=50'
      )
    )
    for number, flags in enumerate(
      [
        ('--held_out_users=0.3',),
        ('--held_out_users=0.3', '--num_shards=3'),
        ('--held_out_users=0.3', '--seed=1'),
        ('--held_out_users=0.6',),
      ]
    )
  }
  first, in_other_shards, other_seed, more = found.values()
  assert first == in_other_shards
  assert first < more  # so that a larger share only adds to a smaller one
  assert first != other_seed and first & other_seed


def test_draws_are_a_share_of_any_keys():
  names = pa.array([f'user {number}' for number in range(20_000)])
  for share in (0, 0.1, 0.5, 0.99):
    drawn = splits.users_held_out(names, share, 7)
    assert drawn.dtype == bool
    assert abs(drawn.mean() - share) < 0.015


@pytest.mark.parametrize(
  'flag, message',
  [
    ('--held_out_users=1', '--held_out_users=1'),
    ('--held_out_users=-0.1', 'expected a share of users from 0, and less than 1'),
    ('--held_out_users=half', '--held_out_users=half'),
    (
      '--held_out_users=1e-6',
      '1e-06 of 8 users leaves 15 train interactions and 0 test',
    ),
    (
      '--held_out_users=0.999',
      '0.999 of 7 users leaves 0 train interactions and 7 test',
    ),
  ],
)
def test_shares_that_leave_nothing_are_refused(tmp_path, flag, message):
  flags = [*prepared.TOY, flag]
  if flag.endswith('999'):
    flags.append('--min_user_count=3')
  line = prepared.refused(
    f'--input={toy_log(tmp_path)}', f'--output={tmp_path / "out"}', *flags
  )
  assert message in line
  assert not (tmp_path / 'out').exists()


def test_without_it_the_manifest_says_nothing_of_it(sample_dataset):
  content = (sample_dataset.directory / dataset_lib.MANIFEST).read_text()
  for name in ('held_out', SUCCESSORS, 'untested', 'history_only'):
    assert name not in content
