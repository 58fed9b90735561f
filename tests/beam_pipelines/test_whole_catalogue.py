"""A user who has the whole catalogue does not stop the job for all others."""

import numpy as np
import prepared
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_pipelines import histories, shards, splits
from ncf_tfdata import dataset as dataset_lib
from ncf_tfdata.dataset import ITEMS, SUCCESSORS, TEST, TRAIN, USERS, VALIDATION
from ncf_tfdata.manifest import Manifest

ITEM_KEYS = 'abcdefgh'
# In time order. `bot` and `crawler` have all eight items, `fan` all but one.
SEEN = {
  'ann': 'abcde',
  'bot': 'hgfedcba',
  'bob': 'bcdaf',
  'crawler': 'abcdefgh',
  'fan': 'abcdefg',
  'guest': 'gh',
}


def toy_log(path, seen=None):
  rows = [
    (user, item, 5, time)
    for user, items in (SEEN if seen is None else seen).items()
    for time, item in enumerate(items)
  ]
  return prepared.write_log(path, rows)


@pytest.mark.slow
def test_they_are_in_no_split_and_everyone_else_is(tmp_path):
  flags = (*prepared.TOY, '--successors=9', f'--output={tmp_path / "out"}')
  done = prepared.run(f'--input={toy_log(tmp_path / "log")}', *flags)
  assert done.returncode == 0, done.stderr
  dataset = dataset_lib.Dataset(str(tmp_path / 'out'))
  dataset.verify()
  train = prepared.by_user(dataset, TRAIN)
  assert train == {
    'ann': list('abc'),
    'bob': list('bcd'),
    'fan': list('abcdefg'),  # leaves too little to be ranked against
    'guest': list('gh'),
  }
  assert set(prepared.by_user(dataset, VALIDATION)) == {'ann', 'bob'}
  assert set(prepared.by_user(dataset, TEST)) == {'ann', 'bob'}
  for row in prepared.rows(dataset, TRAIN):
    assert not set(row.negatives) & set(train[row.user])

  # They have their lines in the vocabulary, and their rows are accounted for.
  users, items = dataset.vocabulary(USERS), dataset.vocabulary(ITEMS)
  assert dict(zip(users.keys, users.counts.tolist(), strict=True)) == {
    'ann': 3, 'bob': 3, 'bot': 0, 'crawler': 0, 'fan': 7, 'guest': 2
  }  # fmt: skip
  assert dict(zip(items.keys, items.counts.tolist(), strict=True)) == {
    'a': 2, 'b': 3, 'c': 3, 'd': 2, 'e': 1, 'f': 1, 'g': 2, 'h': 1
  }  # fmt: skip
  counts = dataset.manifest.counts
  assert counts['users_without_negatives'] == 2
  assert counts['rows_without_negatives'] == 16
  assert counts['users_too_crowded'] == counts['users_too_short'] == 1
  assert counts['read'] == counts['kept'] == sum(map(len, SEEN.values()))
  in_splits = sum(counts[split] for split in dataset_lib.SPLITS)
  assert counts['kept'] == in_splits + 16
  # Nothing followed `h` but in the rows of `bot`.
  assert dataset.rows(SUCCESSORS) > 0
  followed = {
    items.keys[item]
    for path in dataset.shards(SUCCESSORS)
    for block in prepared.blocks(path)
    for item in block['item']
  }
  assert followed == set('abcdefg')

  # By dense id, which follows the two groups of users.
  named = [(user.user, user.rows) for user in dataset.manifest.without_negatives]
  assert named == [(key, 8) for key in users.keys if key in ('bot', 'crawler')]
  out = done.stdout
  assert 'users in no split: they have every item' in out
  for user in ('bot', 'crawler'):
    assert f'    {user!r}, 8 interactions\n' in out


@pytest.mark.slow
def test_few_of_many_are_named_in_one_order(tmp_path):
  seen = SEEN | {f'bot{number}': 'abcdefgh' for number in range(20)}
  log = toy_log(tmp_path / 'log', seen)
  one, many = (
    prepared.prepare(log, tmp_path / str(n), *prepared.TOY, f'--num_shards={n}')
    for n in (1, 7)
  )
  for dataset in (one, many):
    named = [user.user for user in dataset.manifest.without_negatives]
    everyone = dataset.vocabulary(USERS).keys
    assert named == [key for key in everyone if len(seen[key]) == 8][:5]
    assert dataset.manifest.counts['users_without_negatives'] == 22
  text = one.manifest.to_json()
  assert Manifest.from_json(text) == one.manifest


def test_rows_that_hold_no_negatives_keep_everyone(tmp_path):
  flags = (*prepared.TOY, '--train_negatives=0')
  dataset = prepared.prepare(toy_log(tmp_path / 'log'), tmp_path / 'out', *flags)
  train = prepared.by_user(dataset, TRAIN)
  assert train['bot'] == list(SEEN['bot'])
  assert 'users_without_negatives' not in dataset.manifest.counts
  assert 'without_negatives' not in dataset.manifest.to_json()


@pytest.mark.parametrize('users', ['a', 'abc'])
@pytest.mark.parametrize('items', ['a', 'ab'])
def test_a_catalogue_that_everyone_has_is_refused(tmp_path, users, items):
  log = toy_log(tmp_path / 'log', dict.fromkeys(users, items))
  line = prepared.refused(
    f'--input={log}', f'--output={tmp_path / "out"}', *prepared.TOY
  )
  many = 's' if len(items) > 1 else ''
  assert f'every user has the whole catalogue, {len(items)} item{many}, so' in line
  assert 'Lower --min_item_count' in line
  assert [path.name for path in tmp_path.iterdir()] == ['log']


@given(
  st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=9), min_size=1, max_size=6),
  st.sampled_from([0, 2]),
  st.sampled_from([0.0, 0.5]),
)
def test_every_row_is_in_one_place(seen, train_negatives, share):
  users = histories.Users(
    pa.array([f'u{number}' for number in range(len(seen))]),
    np.array([len(items) for items in seen]),
    np.concatenate(seen).astype(np.int32),
    {},
  )
  recipe = splits.Recipe(2, train_negatives, 1, seed=0, held_out_users=share)
  shard = shards.make(users, 10, users.item.astype(np.int64), 4, recipe)
  without = [len(set(items)) == 4 and train_negatives > 0 for items in seen]
  assert shard.split.users_without_negatives.tolist() == without
  in_train = set(shard.rows[TRAIN].user.tolist())
  assert not in_train & {10 + user for user, is_out in enumerate(without) if is_out}
  counts = shard.split.counts
  rows = sum(len(items) for items, out in zip(seen, without, strict=True) if out)
  assert counts.get('users_without_negatives', 0) == sum(without)
  assert counts.get('rows_without_negatives', 0) == rows
  only_train = counts['users_too_short'] + counts['users_too_crowded']
  evaluated = len(shard.rows[TEST]) + counts.get('untested', 0)
  assert only_train + sum(without) + evaluated == len(seen)
  elsewhere = counts.get('history_only', 0) + counts.get('untested', 0)
  in_splits = sum(map(len, shard.rows.values()))
  assert in_splits + elsewhere + rows == sum(map(len, seen))
