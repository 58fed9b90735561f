"""`--keep_times`: leave-last-out with the times of rows and of histories."""

import json
import random

import growing
import prepared
import pytest
import row_times

from ncf_tfdata import dataset as dataset_lib
from ncf_tfdata.dataset import ITEMS, TEST, TRAIN, VALIDATION
from ncf_tfdata.manifest import LEAVE_LAST_OUT_SCHEMA

pytestmark = pytest.mark.slow

# Ann takes an item a day, bob every ten days; the lines stand in no order.
_BEGIN, _DAY = 1_000_000_000, 86_400
_COLUMNS = '--columns=user,item,rating,timestamp'
_TAKEN = {'ann': ('abcd', 1), 'bob': ('cabe', 10)}
_TOY = [
  (user, item, 5, _BEGIN + place * step * _DAY)
  for user, (items, step) in _TAKEN.items()
  for place, item in reversed(list(enumerate(items)))
]


def _in_days(values) -> list[float]:
  return [value / _DAY for value in values]


def test_a_toy_log_as_a_user_types_it(tmp_path):
  log = prepared.write_log(tmp_path / 'log.dat', _TOY)
  output = tmp_path / 'out'
  done = prepared.run(
    f'--input={log}', f'--output={output}', '--keep_times', '--min_item_count=1',
    '--eval_negatives=1', '--num_shards=1',
  )  # fmt: skip
  assert done.returncode == 0, done.stderr
  assert 'first interaction' in done.stdout
  assert '2001-10-09 01:46:40' in done.stdout  # The last one, in UTC.
  dataset = dataset_lib.Dataset(str(output))
  users = dataset.vocabulary(dataset_lib.USERS).keys
  ann = users.index('ann')
  expected = {
    TRAIN: ([0, 1], [0, 10], None, None),
    VALIDATION: ([2], [20], [0, 1], [0, 10]),
    TEST: ([3], [30], [0, 1, 2], [0, 10, 20]),
  }
  for split, (anns, bobs, ann_before, bob_before) in expected.items():
    (block,) = prepared.blocks(dataset.shards(split)[0])
    assert set(block) == set(dataset.features(split))
    # By dense id, which the hash of keys decides.
    ordered = anns + bobs if ann == 0 else bobs + anns
    assert _in_days(block['time']) == ordered
    if split != TRAIN:
      before = ann_before + bob_before if ann == 0 else bob_before + ann_before
      assert _in_days(block['history_time']) == before
      assert _in_days(block['gap']) == ([1, 10] if ann == 0 else [10, 1])
  items = dataset.vocabulary(ITEMS)
  first = dict(zip(items.keys, _in_days(items.first_times), strict=True))
  assert first == {'a': 0, 'b': 1, 'c': 0, 'd': 3, 'e': 30}
  manifest = json.loads((output / 'manifest.json').read_text())
  assert manifest['schema_version'] == LEAVE_LAST_OUT_SCHEMA
  assert manifest['flags']['keep_times'] is True
  assert manifest['cuts'] == {
    'first': _BEGIN, 'last': _BEGIN + 30 * _DAY, 'test': None, 'validation': None,
  }  # fmt: skip
  assert not dataset.manifest.is_cut


def _log(seed: int) -> list[tuple[str, str, int, int]]:
  """40 users of 1 to 20 rows over 30 items, with ties, also before 1970."""
  draw = random.Random(seed)
  log = [
    (f'u{user}', f'i{item}', draw.randint(1, 5), draw.randint(-200, 200))
    for user in range(40)
    for item in draw.sample(range(30), draw.randint(1, 20))
  ]
  draw.shuffle(log)
  return log


def _both(tmp_path, log, *flags):
  """The dataset without times, and with."""
  path = prepared.write_log(tmp_path / 'log.dat', log)
  return [
    prepared.prepare_here(path, tmp_path / name, *prepared.TOY, *flags, *more)
    for name, more in (('plain', ()), ('timed', ('--keep_times',)))
  ]


def _check_alike(plain, timed) -> None:
  """All but times is as it is without them."""
  for split in dataset_lib.SPLITS:
    assert plain.has(split) == timed.has(split)
    columns = plain.features(split)
    added = {'time'} if split == TRAIN else {'time', 'history_time'}
    assert set(timed.features(split)) == {*columns, *added}
    for one, other in zip(plain.shards(split), timed.shards(split), strict=True):
      found = [
        {name: block[name] for name in columns} for block in prepared.blocks(other)
      ]
      assert found == prepared.blocks(one)
  files = {path: (timed.directory / path) for path in ('users.tsv', 'rejects.tsv')}
  for name, path in files.items():
    assert path.read_bytes() == (plain.directory / name).read_bytes()
  assert plain.vocabulary(ITEMS).first_times is None
  assert timed.manifest.counts == plain.manifest.counts
  flags = dict(timed.manifest.flags)
  assert flags.pop('keep_times') is True
  assert flags == plain.manifest.flags
  timed.verify()


@pytest.mark.parametrize(
  'flags',
  [
    (),
    ('--holdout=1',),
    ('--core=5',),
    ('--min_item_count=12', '--min_user_count=8', '--min_rating=2'),
    ('--max_user_history=6', '--tie_order=random'),
    ('--held_out_items=.3', '--successors=9'),
    ('--held_out_users=.4', '--inspect'),
  ],
  ids=lambda flags: ' '.join(flags) or 'default',
)
def test_times_are_those_of_the_kept_rows(tmp_path, flags):
  log = _log(len(flags))
  plain, timed = _both(tmp_path, log, *flags)
  _check_alike(plain, timed)
  assert timed.manifest.inspection == plain.manifest.inspection
  kept = row_times.when(log)
  if not any('held_out' in flag for flag in flags):  # Every kept row is in a split.
    rows = {
      (row.user, row.item)
      for s in dataset_lib.SPLITS
      if timed.has(s)
      for row in prepared.rows(timed, s)
    }
    kept = {row: time for row, time in kept.items() if row in rows}
  assert len(kept) == timed.manifest.counts['kept']
  row_times.check(timed, kept)


def test_each_repeat_has_its_own_time(tmp_path):
  log = [('u', item, 1, time) for time, item in enumerate('abaabc')]
  log += [('v', item, 1, 10 * time) for time, item in enumerate('dcbae')]
  log += [('w', item, 1, 1) for item in 'fg']
  plain, timed = _both(tmp_path, log, '--duplicates=keep', '--drop_repeats')
  _check_alike(plain, timed)
  users = timed.vocabulary(dataset_lib.USERS).keys
  found = {}
  for path in timed.shards(TEST):
    for block in prepared.blocks(path):
      start = 0
      for user, time, length in zip(
        block['user'], block['time'], block['history_length'], strict=True
      ):
        past = block['history_time'][start : start + length]
        found[users[user]] = (past, time)
        start += length
  assert found == {'u': ([0, 1, 2, 4], 5), 'v': ([0, 10, 20, 30], 40)}


@pytest.mark.parametrize('kept', [False, True])
def test_times_of_a_log_that_grows_and_forgets(tmp_path, first_day, kept):
  flags = (*growing.FLAGS, *growing.forget(tmp_path), '--keep_times')
  if kept:  # Of a dataset without times.
    flags += (f'--ids_from={first_day.directory}',)
  made = prepared.prepare_here(growing.write(tmp_path, 2), tmp_path / 'out', *flags)
  user, item = growing.FORGOTTEN
  left = [row for row in growing.days()[1] if row[0] != user and row[1] != item]
  found = {(r.user, r.item) for s in dataset_lib.SPLITS for r in prepared.rows(made, s)}
  when = {row: t for row, t in row_times.when(left).items() if row in found}
  assert len(when) == made.manifest.counts['kept']
  row_times.check(made, when)
  # The next day may do without.
  flags = (*growing.FLAGS, f'--ids_from={made.directory}')
  log = growing.write(tmp_path, 3)
  after = prepared.prepare_here(log, tmp_path / 'after', *flags)
  assert not after.manifest.has_times
  for name in (dataset_lib.USERS, ITEMS):
    known = made.vocabulary(name).keys
    assert after.vocabulary(name).keys[: len(known)] == known


def test_exported_files_are_as_without(tmp_path):
  path = prepared.write_log(tmp_path / 'log.dat', _log(4))
  found = []
  for name, more in (('plain', ()), ('timed', ('--keep_times',))):
    split = tmp_path / f'{name}-split'
    prepared.prepare_here(
      path, tmp_path / name, *prepared.TOY, f'--export_split={split}', *more
    )
    digests = prepared.digests(split)
    del digests['split.json']  # It names the dataset.
    found.append(digests)
  assert found[0] == found[1]


@pytest.mark.parametrize(
  ('columns', 'flags', 'told'),
  [
    (
      2,
      ('--columns=user,item',),
      '--keep_times needs timestamps, and the log has none',
    ),
    (4, ('--split=time', _COLUMNS), '--keep_times needs --split to be leave-last-out'),
    (4, ('--split=ratio', _COLUMNS), '--keep_times needs --split to be leave-last-out'),
  ],
)
def test_what_is_refused(tmp_path, columns, flags, told):
  rows = [row[:columns] for row in _log(1)]
  log = prepared.write_log(tmp_path / 'log.csv', rows, ',')
  line = prepared.refused(
    f'--input={log}', f'--output={tmp_path / "out"}', '--keep_times', *flags
  )
  assert told in line
  assert [path.name for path in tmp_path.iterdir()] == ['log.csv']


def test_times_too_far_apart_are_refused_where_they_are_kept(tmp_path):
  log = [('u', f'i{step}', 1, step * 10**18) for step in range(9)]
  log += [('v', f'j{item}', 1, -9 * 10**18) for item in range(3)]
  path = prepared.write_log(tmp_path / 'log.dat', log)
  flags = (f'--input={path}', f'--output={tmp_path / "out"}', *prepared.TOY)
  assert 'too far apart to' in prepared.refused(*flags, '--keep_times')
  done = prepared.run(*flags)
  assert done.returncode == 0, done.stderr


def test_tfds_reads_times(tmp_path):
  tfds = pytest.importorskip('tensorflow_datasets')
  _, timed = _both(tmp_path, _log(3))
  builder = tfds.builder_from_directory(str(timed.directory))
  for split in dataset_lib.SPLITS:
    expected = [b for path in timed.shards(split) for b in prepared.blocks(path)]
    found = list(tfds.as_numpy(builder.as_dataset(split=split)))
    for name in ('time', 'history_time'):
      # One shape for all splits: a train block has an empty history.
      assert [b[name].tolist() for b in found] == [b.get(name, []) for b in expected]
