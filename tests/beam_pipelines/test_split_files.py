"""The split as plain files: what another system may learn, is asked, and may know."""

import collections
import csv
import dataclasses
import json
import random
import socket

import numpy as np
import prepared
import pyarrow as pa
import pytest

from beam_pipelines import outputs, split_files, splits, staging
from beam_pipelines.histories import Users
from ncf_tfdata import dataset as dataset_lib
from ncf_tfdata.dataset import TEST, TRAIN, VALIDATION
from ncf_tfdata.errors import UserError

pytestmark = pytest.mark.slow


def make_log(seed: int, users: int = 30) -> list[tuple[str, str, int, int]]:
  """Users of 1 to 20 rows over 40 items, with ties, in no order."""
  draw = random.Random(seed)
  log = []
  for user in range(users):
    items = draw.sample(range(40), draw.randint(1, 20))
    log += [(f'u{user}', f'i{item}', 1, draw.randint(-30, 30)) for item in items]
  draw.shuffle(log)
  return log


def histories(log: list) -> dict[str, list[tuple[str, int]]]:
  """(item, time) of each user, in order of time, and of the file among ties."""
  found = collections.defaultdict(list)
  for user, item, _, time in log:
    found[user].append((item, time))
  return {user: sorted(rows, key=lambda row: row[1]) for user, rows in found.items()}


def read(path) -> list[dict[str, str]]:
  with open(path, newline='') as stream:
    return list(csv.DictReader(stream, delimiter='\t', quoting=csv.QUOTE_NONE))


def by_user(rows: list[dict]) -> dict[str, dict[int, str]]:
  """Items by position; users are together, and positions go up."""
  found, last = {}, None
  for row in rows:
    user, position = row['user'], int(row['position'])
    if user != last:
      assert user not in found
      found[user], last = {}, user
    assert position > max(found[user], default=-1)
    found[user][position] = row['item']
  return found


RULES = [
  (),
  ('--holdout=1',),
  ('--tie_order=input', '--split=time', '--time_quantile=.6'),
  ('--split=time', '--time_quantile=.6', '--targets=successive'),
  ('--split=time', '--time_quantile=.6', '--targets=first', '--holdout=1'),
  ('--split=ratio', '--test_share=.3', '--targets=random'),
  ('--held_out_users=.3',),
]


@pytest.mark.parametrize('flags', RULES)
def test_files_hold_the_split_and_every_history(tmp_path, flags):
  log = make_log(len(flags))
  path = prepared.write_log(tmp_path / 'log.dat', log)
  made = tmp_path / 'files'
  dataset = prepared.prepare_here(
    path, tmp_path / 'out', *prepared.TOY, *flags, f'--export_split={made}'
  )
  everything = histories(log)
  found = {name: read(made / name) for name in os_names(made) if name != 'split.json'}
  for rows in found.values():
    for row in rows:
      item, time = everything[row['user']][int(row['position'])]
      assert (row['item'], int(row['timestamp'])) == (item, time)
  train = by_user(found['train.tsv'])
  for split in dataset_lib.SPLITS:
    if split not in dataset.manifest.counts:
      assert f'{split}.tsv' not in found
      continue
    asked = [(row['user'], row['item']) for row in found[f'{split}.tsv']]
    assert asked == [(row.user, row.item) for row in prepared.rows(dataset, split)]
    if split == TRAIN:
      continue
    known = by_user(found[f'{split}-history.tsv'])
    targets = by_user(found[f'{split}.tsv'])
    for user, items in targets.items():
      assert not known.get(user, {}).keys() & train.get(user, {}).keys()
      both = known.get(user, {}) | train.get(user, {})
      for position in items:
        before = [both[place] for place in sorted(both) if place < position]
        assert before == [item for item, _ in everything[user][:position]]
    for user, items in known.items():
      assert max(items) < max(targets[user])
  assert found['test.tsv']
  index = json.loads((made / 'split.json').read_text())
  assert index['dataset'] == dataset.sha256
  digests = {name: one['sha256'] for name, one in index['files'].items()}
  assert digests == {
    name: digest
    for name, digest in prepared.digests(made).items()
    if name != 'split.json'
  }
  assert {name: one['rows'] for name, one in index['files'].items()} == {
    name: len(rows) for name, rows in found.items()
  }


def os_names(directory) -> list[str]:
  return sorted(path.name for path in directory.iterdir())


def test_a_split_by_time_trains_on_the_past_alone(tmp_path):
  path = prepared.write_log(tmp_path / 'log.dat', make_log(3))
  made = tmp_path / 'files'
  dataset = prepared.prepare_here(
    path, tmp_path / 'out', *prepared.TOY, '--split=time', f'--export_split={made}'
  )
  cuts = dataset.manifest.cuts
  assert max(int(r['timestamp']) for r in read(made / 'train.tsv')) <= cuts.validation
  assert min(int(r['timestamp']) for r in read(made / 'test.tsv')) > cuts.test
  validation = [int(r['timestamp']) for r in read(made / 'validation.tsv')]
  assert cuts.validation < min(validation) <= max(validation) <= cuts.test


def test_the_dataset_is_the_same(tmp_path):
  path = prepared.write_log(tmp_path / 'log.dat', make_log(4))
  flags = (path, tmp_path / 'plain', *prepared.TOY)
  plain = prepared.prepare_here(*flags)
  prepared.prepare_here(
    path, tmp_path / 'out', *prepared.TOY, f'--export_split={tmp_path / "files"}'
  )
  assert prepared.digests(plain.directory) == prepared.digests(tmp_path / 'out')
  assert os_names(tmp_path) == ['files', 'log.dat', 'out', 'plain']


def test_a_log_without_times_has_positions(tmp_path):
  rows = [(f'u{u}', f'i{(u + t) % 9}') for u in range(9) for t in range(5)]
  log = prepared.write_log(tmp_path / 'log.csv', rows, ',')
  prepared.prepare_here(
    log, tmp_path / 'out', *prepared.TOY, '--columns=user,item',
    f'--export_split={tmp_path / "files"}',
  )  # fmt: skip
  lines = (tmp_path / 'files' / 'train.tsv').read_text().split('\n')
  assert lines[0] == 'user\titem\tposition'
  assert len(lines) == 2 + 9 * 3
  test = read(tmp_path / 'files' / 'test.tsv')
  assert {(r['user'], r['item'], r['position']) for r in test} == {
    (f'u{u}', f'i{(u + 4) % 9}', '4') for u in range(9)
  }


def test_odd_keys_stay_on_their_line(tmp_path):
  log = [(f'u "{u}\\', f"ünd'{(u + t) % 9}", 1, t) for u in range(6) for t in range(5)]
  path = prepared.write_log(tmp_path / 'log.dat', log)
  prepared.prepare_here(
    path, tmp_path / 'out', *prepared.TOY, f'--export_split={tmp_path / "files"}'
  )
  rows = read(tmp_path / 'files' / 'train.tsv')
  assert {row['user'] for row in rows} == {f'u "{u}\\\\' for u in range(6)}
  assert {row['item'] for row in rows} <= {f"ünd'{i}" for i in range(9)}


def test_the_same_bytes_whoever_works(tmp_path, sample_log):
  digests = []
  for name, flags in {
    'one': (),
    'threads': ('--workers=2',),
    'processes': ('--direct_num_workers=2', '--direct_running_mode=multi_processing'),
  }.items():
    made = tmp_path / f'{name}-files'
    prepared.prepare(
      sample_log, tmp_path / name, '--split=time', '--targets=successive',
      f'--export_split={made}', *flags,
    )  # fmt: skip
    digests.append(prepared.digests(made))
  assert digests[0] == digests[1] == digests[2]
  assert len(digests[0]) == 6


def test_what_is_refused(tmp_path):
  log = prepared.write_log(tmp_path / 'log.dat', make_log(5))
  (tmp_path / 'full').mkdir()
  (tmp_path / 'full' / 'mine').write_text('mine')
  flags = (f'--input={log}', f'--output={tmp_path / "out"}', *prepared.TOY)
  for path, expected in (
    (tmp_path / 'full', 'holds mine'),
    (log, 'is a file'),
    (tmp_path / 'out', 'lie in one another'),
    (tmp_path / 'out' / 'split', 'lie in one another'),
    (tmp_path, 'holds full'),
  ):
    assert expected in prepared.refused(*flags, f'--export_split={path}')
  assert os_names(tmp_path) == ['full', 'log.dat']
  assert (tmp_path / 'full' / 'mine').read_text() == 'mine'


def test_a_job_that_fails_leaves_nothing(tmp_path):
  log = prepared.write_log(tmp_path / 'log.dat', make_log(6))
  line = prepared.refused(
    f'--input={log}', f'--output={tmp_path / "out"}', *prepared.TOY,
    f'--export_split={tmp_path / "files"}', '--max_tied=0',
  )  # fmt: skip
  assert '--max_tied=0' in line
  assert os_names(tmp_path) == ['log.dat']


def test_what_a_killed_run_left_is_swept(tmp_path):
  log = prepared.write_log(tmp_path / 'log.dat', make_log(6))
  dead = tmp_path / f'files.incomplete-{socket.gethostname()}-4194305-01234567'
  dead.mkdir()
  for name in ('train.tsv', 'test-history.tsv', 'split.json'):
    (dead / name).write_text('half')
  prepared.prepare_here(
    log, tmp_path / 'out', *prepared.TOY, f'--export_split={tmp_path / "files"}'
  )
  assert os_names(tmp_path) == ['files', 'log.dat', 'out']


def staged(tmp_path) -> tuple[split_files.Plan, str]:
  """A piece of one group, as workers leave it, and the vocabulary beside it."""
  made = split_files.plan(
    str(tmp_path / 'files'), str(tmp_path / 'out'), [], dataset_lib.SPLITS, True
  )
  directory = staging.staging_directory(str(tmp_path / 'out'))
  users = Users(
    pa.array(['u', 'v']), np.array([4, 1]), np.zeros(5, np.int32), {},
    time=np.array([0, 5, 5, 9, 2], np.uint8), epoch=-3,
  )  # fmt: skip
  split = splits.Split(
    np.array([True, False, False, False, True]),
    {VALIDATION: np.array([2]), TEST: np.array([3])},
    np.zeros(2, bool),
    {},
  )
  piece = split_files.piece(users, np.array([1, 0, 2, 0, 1]), split, made)
  staging.write_piece(directory, 'split-000000.arrow', piece)
  staging.write(directory, dataset_lib.ITEMS, b'a\t1\nb\t2\nc\t3\n')
  return made, directory


def test_a_publisher_that_was_lost_can_be_followed(tmp_path):
  made, directory = staged(tmp_path)
  pieces = ['split-000000.arrow']
  split_files.publish(made, directory, pieces, '{}')
  first = prepared.digests(made.directory)
  assert (tmp_path / 'files' / 'test.tsv').read_text() == (
    'user\titem\tposition\ttimestamp\nu\ta\t3\t6\n'
  )
  assert (tmp_path / 'files' / 'test-history.tsv').read_text() == (
    'user\titem\tposition\ttimestamp\nu\ta\t1\t2\nu\tc\t2\t2\n'
  )
  # Another worker does it again, after the first has died behind the rename.
  split_files.publish(made, directory, pieces, '{}')
  assert prepared.digests(made.directory) == first
  assert not outputs.names(made.staging)
  with pytest.raises(UserError, match='cannot put the split'):
    split_files.publish(made, directory, pieces, '{"another": 1}')
  assert prepared.digests(made.directory) == first


def test_pieces_of_no_users(tmp_path):
  made, directory = staged(tmp_path)
  nobody = Users(pa.array([], pa.string()), np.zeros(0, int), np.zeros(0, np.int32), {})
  nothing = {name: np.zeros(0, int) for name in (VALIDATION, TEST)}
  split = splits.Split(np.zeros(0, bool), nothing, np.zeros(0, bool), {})
  content = split_files.piece(nobody, np.zeros(0, int), split, made)
  staging.write_piece(directory, 'split-000001.arrow', content)
  pieces = ['split-000001.arrow', 'split-000000.arrow', 'split-000001.arrow']
  split_files.publish(made, directory, pieces, '{}')
  assert len((tmp_path / 'files' / 'train.tsv').read_text().split('\n')) == 2 + 2
  assert dataclasses.replace(made, times=False).columns == split_files._COLUMNS
