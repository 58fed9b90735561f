"""`prepare --forget`: nothing of a user or an item is in any byte that is written."""

import os
import pathlib

import growing
import prepared
import pytest

from beam_pipelines import exported_model, files, forgotten, recommend_pipeline
from ncf_tfdata.dataset import ITEMS, REJECTS, USERS
from ncf_tfdata.errors import UserError

USER, ITEM = growing.FORGOTTEN
FOUND = {USER.encode(), ITEM.encode(), ITEM.replace('\\', '\\\\').encode()}


def _log(directory: pathlib.Path) -> pathlib.Path:
  """The second day, with lines that are no ratings and hold the keys in any form."""
  log = growing.write(directory, 2)
  bad = [
    f'{USER}::{ITEM}::good::1',
    f'x::{ITEM}::{USER}::1',
    f'"{USER}"',
    'x::y::1::z',
  ]
  (log / 'z.dat').write_text('\n'.join(bad) + '\n')
  return log


def _all_bytes(*directories: pathlib.Path) -> dict[str, bytes]:
  return {
    path.name: path.read_bytes()
    for directory in directories
    for path in directory.rglob('*')
    if path.is_file()
  }


@pytest.mark.slow
@pytest.mark.parametrize('kept', [False, True])
def test_nothing_is_left(tmp_path, first_day, kept):
  log, output, split = _log(tmp_path), tmp_path / 'out', tmp_path / 'split'
  flags = (
    *growing.FLAGS, *growing.forget(tmp_path), '--max_reject_fraction=.1',
    f'--export_split={split}', *([f'--ids_from={first_day.directory}'] * kept),
  )  # fmt: skip
  made = prepared.prepare_here(log, output, *flags)
  found = _all_bytes(output, split)
  assert len(found) > 15
  for name, content in found.items():
    assert not [key for key in FOUND if key in content], name
  rejects = found[REJECTS].decode().splitlines()
  assert [line.split('\t')[2:] for line in rejects] == [
    ['rating is not a number', ''],
    ['rating is not a number', ''],
    ['expected 4 fields, found 1', ''],
    ['timestamp is not a whole number', ''],
  ]
  counts = made.manifest.counts
  assert counts['forget_users'] == 2
  assert counts['forget_users_unmatched'] == 1
  assert counts['forget_items_unmatched'] == 0
  rows = growing.days()[1]
  assert counts['forgotten'] == sum(row[0] == USER or row[1] == ITEM for row in rows)
  assert counts['read'] == len(rows) + 4
  # All others have what they had.
  others = {(user, item) for user, item, *_ in rows if user != USER and item != ITEM}
  kept_items = set(growing.keys(made, ITEMS))
  assert {
    (user, item) for user, items in _histories(made).items() for item in items
  } == {pair for pair in others if pair[1] in kept_items}
  if kept:
    _check_ids(made, first_day)


def _histories(made) -> dict[str, list[str]]:
  found = {}
  for split in ('train', 'validation', 'test'):
    for row in prepared.rows(made, split):
      found.setdefault(row.user, []).append(row.item)
  return found


def _check_ids(made, base) -> None:
  """The ids stay, without a key and without a row."""
  used = growing.ids(made)
  for place, (name, key) in enumerate(((USERS, USER), (ITEMS, ITEM))):
    number = growing.keys(base, name).index(key)
    line = (made.directory / name).read_text().split('\n')[number]
    assert line == '\t0\t0'
    assert number not in used[place]


def test_who_returns_gets_a_new_id(tmp_path, forgetful_day):
  before = growing.keys(forgetful_day, USERS), growing.keys(forgetful_day, ITEMS)
  assert '' in before[0]
  assert '' in before[1]
  base = f'--ids_from={forgetful_day.directory}'
  log = growing.write(tmp_path, 2)
  made = prepared.prepare_here(log, tmp_path / 'out', base, *growing.FLAGS)
  assert growing.keys(made, USERS) == [*before[0], USER]
  assert growing.keys(made, ITEMS) == [*before[1], ITEM]
  assert made.vocabulary(USERS).rows[-1] > 0


@pytest.mark.parametrize(
  ('content', 'message'),
  [
    (None, 'cannot read'),
    (b'\xff\xfe', 'is not UTF-8 text'),
    (b'a\nb\t3\n', 'line 2 of'),
    (b'a\\b', 'has a backslash that stands for nothing'),
    (b'a\\', 'has a backslash that stands for nothing'),
  ],
)
def test_what_is_no_list_of_keys_is_refused(tmp_path, content, message):
  path = tmp_path / 'forget'
  if content is not None:
    path.write_bytes(content)
  log = growing.write(tmp_path, 1)
  before = sorted(os.listdir(tmp_path))
  with pytest.raises(UserError) as raised:
    prepared.prepare_here(log, tmp_path / 'out', f'--forget={path}', *growing.FLAGS)
  assert message in str(raised.value)
  assert '\n' not in str(raised.value)
  assert sorted(os.listdir(tmp_path)) == before


def test_an_empty_list_forgets_nobody(tmp_path):
  path = tmp_path / 'forget'
  path.write_text('')
  assert forgotten.plan(str(path), None).keys()[0].to_pylist() == []
  assert forgotten.unmatched(forgotten.plan(str(path), None), []) == {
    'forget_users': 0,
    'forget_users_unmatched': 0,
  }


def test_a_list_that_changes_meanwhile(tmp_path):
  path = tmp_path / 'forget'
  path.write_text('a\n')
  made = forgotten.plan(str(path), None)
  forgotten.read.cache_clear()
  path.write_text('b\n')
  with pytest.raises(UserError, match='changed while it was read'):
    made.keys()


def test_a_job_of_recommendations_passes_over_who_has_no_key(tmp_path):
  path = tmp_path / 'users.tsv'
  path.write_text('a\t1\t2\n\t0\t0\nb\\\\c\t0\t0\n')
  (source,) = files.match(str(path))
  output = recommend_pipeline.Output(str(tmp_path), 'x', '.jsonl', 1, str(tmp_path))
  options = exported_model.ListOptions()
  job = recommend_pipeline.Job('', (source,), b'\t', True, False, options, None, output)
  (key,) = files.ranges(source)
  ((_, (_, users, _)),) = recommend_pipeline._Read(job).process(key)
  assert users.to_pylist() == ['a', 'b\\c']
