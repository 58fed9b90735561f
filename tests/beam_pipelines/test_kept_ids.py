"""`prepare --ids_from` keeps dense ids, against the same log prepared without it."""

import collections
import hashlib
import os
import shutil

import growing
import numpy as np
import prepared
import pytest

from beam_pipelines import kept_ids
from ncf_tfdata.dataset import ITEMS, SPLITS, TRAIN, USERS, Dataset
from ncf_tfdata.errors import UserError

pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def plain(tmp_path_factory):
  """The second day, prepared by itself."""
  directory = tmp_path_factory.mktemp('plain')
  log = growing.write(directory, 2)
  return prepared.prepare_here(log, directory / 'out', *growing.FLAGS)


@pytest.mark.parametrize('name', [USERS, ITEMS])
def test_old_keys_keep_their_ids_and_new_ones_follow_in_their_order(
  first_day, second_day, plain, name
):
  old, new = growing.keys(first_day, name), growing.keys(plain, name)
  assert set(old) - set(new) and set(new) - set(old)
  follow = [key for key in new if key not in old]
  assert growing.keys(second_day, name) == old + follow


@pytest.mark.parametrize('name', [USERS, ITEMS])
def test_vanished_keys_have_a_line_and_no_row(first_day, second_day, plain, name):
  keys = growing.keys(second_day, name)
  gone = {keys[number] for number in growing.unused(second_day, name)}
  assert gone == set(growing.keys(first_day, name)) - set(growing.keys(plain, name))
  used = growing.ids(second_day)[name == ITEMS]
  assert not used & growing.unused(second_day, name)
  assert len(keys) == second_day.manifest.counts[name.removesuffix('.tsv')]
  assert len(gone) == second_day.manifest.counts[f'unused_{name.removesuffix(".tsv")}']


def test_the_rows_are_those_without(second_day, plain):
  for split in SPLITS:
    assert prepared.by_user(second_day, split) == prepared.by_user(plain, split)
  assert prepared.histories(second_day) == prepared.histories(plain)
  assert _transitions(second_day) == _transitions(plain)


def _transitions(dataset: Dataset) -> dict:
  """What followed each item, with weights; in no order, for ids decide ties."""
  items, found = growing.keys(dataset, ITEMS), {}
  for path in dataset.shards('successors'):
    for block in prepared.blocks(path):
      start = 0
      for item, length in zip(block['item'], block['length'], strict=True):
        part = slice(start, start + length)
        found[items[item]] = sorted(block['weight'][part])
        start += length
  return found


def test_lines_count_train_rows_and_all_rows(second_day):
  train, rows = (collections.Counter() for _ in range(2))
  for split in SPLITS:
    for row in prepared.rows(second_day, split):
      for key in (('user', row.user), ('item', row.item)):
        rows[key] += 1
        train[key] += split == TRAIN
  for role, name in (('user', USERS), ('item', ITEMS)):
    found = second_day.vocabulary(name)
    assert found.counts.tolist() == [train[role, key] for key in found.keys]
    assert found.rows.tolist() == [rows[role, key] for key in found.keys]


def test_negatives_are_unseen_items_that_have_rows(second_day):
  seen = prepared.histories(second_day)
  items = second_day.vocabulary(ITEMS)
  rows = dict(zip(items.keys, items.rows, strict=True))
  for split in SPLITS:
    for row in prepared.rows(second_day, split):
      assert all(rows[item] for item in row.negatives)
      if split != TRAIN:
        assert not set(row.negatives) & set(seen[row.user])


def test_days_in_a_chain(tmp_path, first_day, second_day):
  log = growing.write(tmp_path, 3)
  third = prepared.prepare_here(
    log, tmp_path / 'out', f'--ids_from={second_day.directory}', *growing.FLAGS
  )
  for name, back in ((USERS, growing.GONE_USERS), (ITEMS, growing.GONE_ITEMS)):
    first, second, now = (
      growing.keys(day, name) for day in (first_day, second_day, third)
    )
    assert now == second
    assert second[: len(first)] == first
    assert all(third.vocabulary(name).rows[first.index(key)] for key in back)
    assert not growing.unused(third, name)
  assert third.manifest.base.sha256 == second_day.sha256
  # Nothing is unused, and so nothing is said of it.
  assert 'unused_users' not in third.manifest.counts
  assert third.unused_items() is None


def test_items_that_nobody_has_are_first_seen_after_all(tmp_path, first_day):
  log = growing.write(tmp_path, 2)
  flags = (f'--ids_from={first_day.directory}', '--split=ratio', *growing.FLAGS)
  made = prepared.prepare_here(log, tmp_path / 'out', *flags)
  items, unused = made.vocabulary(ITEMS), growing.unused(made, ITEMS)
  assert unused == set(np.flatnonzero(made.unused_items()).tolist())
  assert not growing.ids(made)[1] & unused
  first = collections.defaultdict(lambda: 10**9)
  for _, item, _, time in growing.days()[1]:
    first[item] = min(first[item], time)
  begin, end = made.manifest.cuts.first, made.manifest.cuts.last
  expected = [
    (end + 1 if number in unused else first[key]) - begin
    for number, key in enumerate(items.keys)
  ]
  assert items.first_times.tolist() == expected


def test_same_bytes_in_the_place_of_the_base_and_however_it_is_cut(
  tmp_path, monkeypatch, first_day, second_day
):
  place = tmp_path / 'daily'
  shutil.copytree(first_day.directory, place)
  monkeypatch.setattr(kept_ids, 'PART_BYTES', 32)
  assert len(kept_ids.plan(str(place)).users) > 4
  log = growing.write(tmp_path, 2, parts=4)
  flags = (f'--ids_from={place}', '--overwrite', '--workers=3', *growing.FLAGS)
  made = prepared.prepare_here(log, place, *flags)
  # The manifest names sources, so only the rest can be equal.
  found, expected = (prepared.digests(day.directory) for day in (made, second_day))
  del found['manifest.json'], expected['manifest.json']
  assert found == expected
  assert made.manifest.base == second_day.manifest.base
  assert made.manifest.drift == second_day.manifest.drift


def _corrupt(directory):
  path = directory / USERS
  path.write_bytes(path.read_bytes().replace(b'early', b'later'))


def _other_manifest(directory):
  (directory / 'manifest.json').write_text('{"schema_version": 1}')


def _renamed(vocabulary: str):
  def change(directory):
    """Writes a dataset whose keys are others, and of another kind."""
    dataset = Dataset(str(directory))
    found = dataset.vocabulary(vocabulary)
    names = [str(10**6 + number) for number in range(len(found))]
    lines = zip(names, found.counts.tolist(), strict=True)
    content = ''.join(f'{key}\t{count}\n' for key, count in lines).encode()
    text = (directory / 'manifest.json').read_text()
    for file in dataset.manifest.files:
      if file.name == vocabulary:
        text = text.replace(file.sha256, hashlib.sha256(content).hexdigest())
    (directory / 'manifest.json').write_text(text)
    (directory / vocabulary).write_bytes(content)

  return change


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    (shutil.rmtree, 'is no finished dataset (no manifest.json). Name a directory'),
    (_other_manifest, 'holds a manifest.json that this version does not read'),
    (_corrupt, "is corrupt: the sha256 of users.tsv is not the manifest's"),
    (_renamed(ITEMS), 'no item of the log is among the'),
  ],
)
def test_what_is_no_base_is_refused(tmp_path, first_day, change, message):
  base = tmp_path / 'base'
  shutil.copytree(first_day.directory, base)
  change(base)
  log = growing.write(tmp_path, 2)
  before = sorted(os.listdir(tmp_path))
  with pytest.raises(UserError, match='--ids_from=') as raised:
    prepared.prepare_here(log, tmp_path / 'out', f'--ids_from={base}', *growing.FLAGS)
  assert message in str(raised.value)
  assert '\n' not in str(raised.value)
  assert sorted(os.listdir(tmp_path)) == before


def test_users_of_another_kind_are_refused(first_day):
  made = kept_ids.plan(str(first_day.directory))
  assert made.example_user == growing.keys(first_day, USERS)[0]
  assert made.example_user.isdigit()
  with pytest.raises(UserError) as raised:
    kept_ids.check_overlap(made, 0, 5, 'u-1')
  assert f'"u-1", is among the {first_day.num_users} of --ids_from=' in str(
    raised.value
  )
  # Sessions may be new every day.
  kept_ids.check_overlap(made, 0, 5, '9000')
  kept_ids.check_overlap(made, 1, 5, 'u-1')


def test_days_that_overlap_count_once(tmp_path, first_day, second_day):
  """A log of files of which the second has the first one's last lines again."""
  log = tmp_path / 'log'
  log.mkdir()
  rows = growing.days()[1]
  prepared.write_log(log / '1.dat', rows[:150])
  prepared.write_log(log / '2.dat', rows[100:])
  base = f'--ids_from={first_day.directory}'
  made = prepared.prepare_here(log, tmp_path / 'out', base, *growing.FLAGS)
  assert prepared.counts(made, 'duplicates') == [50]
  assert prepared.counts(second_day, 'duplicates') == [0]
  for split in SPLITS:
    assert prepared.by_user(made, split) == prepared.by_user(second_day, split)
  for name in (USERS, ITEMS):
    assert growing.keys(made, name) == growing.keys(second_day, name)


def test_a_part_that_changes_meanwhile(tmp_path, first_day):
  base = tmp_path / 'base'
  shutil.copytree(first_day.directory, base)
  (part,) = kept_ids.plan(str(base)).users
  _corrupt(base)
  with pytest.raises(UserError, match='changed while it was read'):
    kept_ids.read(part)
