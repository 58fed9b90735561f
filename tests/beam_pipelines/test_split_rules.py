"""Every rule of splitting, against plain Python that knows nothing of the job.

The oracle sorts each user's rows, cuts them, and says what each split holds: the
train rows, and the held-out rows with their histories.
"""

import fractions
import json
import math
import random

import numpy as np
import prepared
import pytest
import row_times

from ncf_tfdata import dataset as dataset_lib
from ncf_tfdata.dataset import TEST, TRAIN, VALIDATION
from ncf_tfdata.manifest import CUT_SCHEMA

SEED = 3


def make_log(seed: int, ties: bool = True) -> list[tuple[str, str, int, int]]:
  """A log of 30 users of 1 to 25 rows over 40 items, in no order."""
  draw = random.Random(seed)
  log = []
  for user in range(30):
    items = draw.sample(range(40), draw.randint(1, 25))
    log += [
      (f'u{user}', f'i{item}', 1, draw.randint(-50, 50 if ties else 10**9))
      for item in items
    ]
  draw.shuffle(log)
  return log


def quantile(times: list[int], q: float) -> int:
  rank = math.ceil(fractions.Fraction(str(q)) * len(times))
  return sorted(times)[rank - 1]


def core(log: list, k: int) -> list:
  """Takes rows out one rule at a time until both hold."""
  while True:
    users, items = {}, {}
    for user, item, *_ in log:
      users[user] = users.get(user, 0) + 1
      items[item] = items.get(item, 0) + 1
    left = [row for row in log if users[row[0]] >= k and items[row[1]] >= k]
    if len(left) == len(log):
      return left
    log = left


def by_user(log: list) -> dict[str, list]:
  result = {}
  for row in log:
    result.setdefault(row[0], []).append(row)
  return {user: sorted(rows, key=lambda row: row[3]) for user, rows in result.items()}


def zones(rows: list, split: str, q: float, cuts: tuple) -> list[str]:
  """What each of a user's rows is for."""
  if split == 'time':
    validation, test = cuts
    return [
      TEST if row[3] > test else VALIDATION if row[3] > validation else TRAIN
      for row in rows
    ]
  share = fractions.Fraction(str(q))
  test = math.floor(share * len(rows))
  validation = math.floor(share * (len(rows) - test))
  train = len(rows) - test - validation
  return [TRAIN] * train + [VALIDATION] * validation + [TEST] * test


def expect(log: list, split: str, q: float, holdout: int):
  """(train rows, rows of each zone with their histories, cuts) of a kept log."""
  times = [row[3] for row in log]
  test = quantile(times, q)
  validation = quantile([t for t in times if t <= test], q) if holdout == 2 else test
  train, held = [], {VALIDATION: {}, TEST: {}}
  for user, rows in by_user(log).items():
    items = [row[1] for row in rows]
    named = zones(rows, split, q, (validation, test))
    if holdout == 1 and split == 'ratio':
      named = [TRAIN if zone == VALIDATION else zone for zone in named]
    for place, zone in enumerate(named):
      if zone == TRAIN:
        train.append((user, items[place]))
      elif place:
        row = (items[place], tuple(items[:place]))
        held[zone].setdefault(user, []).append(row)
  return sorted(train), held, (validation if holdout == 2 else None, test)


def check(dataset: dataset_lib.Dataset, train: list, held: dict, targets: str) -> None:
  assert sorted((row.user, row.item) for row in prepared.rows(dataset, TRAIN)) == train
  seen = everything(dataset)
  for split, expected in held.items():
    if not dataset.has(split):
      assert not expected or split == VALIDATION
      continue
    found = {}
    for row in prepared.rows(dataset, split):
      found.setdefault(row.user, []).append((row.item, row.history))
      assert not any((row.user, item) in seen for item in row.negatives)
    if targets == 'random':
      assert found.keys() == expected.keys()
      for user, (row,) in found.items():
        assert row in expected[user]
    else:
      pick = {'last': slice(-1, None), 'first': slice(0, 1), 'successive': slice(None)}
      assert found == {user: rows[pick[targets]] for user, rows in expected.items()}


def everything(dataset: dataset_lib.Dataset) -> set[tuple[str, str]]:
  """All that is known of users: what train holds, and what held-out rows tell."""
  pairs = {(row.user, row.item) for row in prepared.rows(dataset, TRAIN)}
  for split in (VALIDATION, TEST):
    if dataset.has(split):
      for row in prepared.rows(dataset, split):
        pairs |= {(row.user, item) for item in (row.item, *row.history)}
  return pairs


def prepare(tmp_path, log, *flags):
  path = prepared.write_log(tmp_path / 'log.dat', log)
  return prepared.prepare_here(
    path, tmp_path / 'out', *prepared.TOY, f'--seed={SEED}', *flags
  )


@pytest.mark.slow
@pytest.mark.parametrize('holdout', [1, 2])
@pytest.mark.parametrize('targets', dataset_lib.TARGETS)
@pytest.mark.parametrize('split', ['time', 'ratio'])
def test_rows_and_histories(tmp_path, split, targets, holdout):
  log = make_log(seed=len(targets) * holdout)
  q = 0.7 if split == 'time' else 0.3
  share = '--time_quantile=.7' if split == 'time' else '--test_share=.3'
  dataset = prepare(
    tmp_path, log, f'--split={split}', share, f'--targets={targets}',
    f'--holdout={holdout}',
  )  # fmt: skip
  train, held, cuts = expect(log, split, q, holdout)
  check(dataset, train, held, targets)
  manifest = dataset.manifest
  assert manifest.schema_version == CUT_SCHEMA
  assert manifest.cuts.first == min(row[3] for row in log)
  assert manifest.cuts.last == max(row[3] for row in log)
  if split == 'time':
    assert (manifest.cuts.validation, manifest.cuts.test) == cuts
  count = manifest.counts
  in_a_split = sum(count.get(name, 0) for name in dataset_lib.SPLITS)
  assert count['kept'] == len(log) == in_a_split + count.get('history_only', 0)


@pytest.mark.slow
def test_time_of_rows(tmp_path):
  log = make_log(seed=5, ties=False)
  dataset = prepare(tmp_path, log, '--split=time', '--targets=successive')
  row_times.check(dataset, row_times.when(log))


@pytest.mark.slow
@pytest.mark.parametrize('k', [5, 7, 8])
def test_core(tmp_path, k):
  log = make_log(seed=k)
  dataset = prepare(
    tmp_path,
    log,
    f'--core={k}',
    '--core_rounds=8',
    '--split=time',
    '--time_quantile=.6',
  )
  left = core(log, k)
  assert 0 < len(left) < len(log)
  assert dataset.manifest.counts['kept'] == len(left)
  assert dataset.manifest.counts['filtered_core'] == len(log) - len(left)
  train, held, _ = expect(left, 'time', 0.6, 2)
  check(dataset, train, held, 'last')


def chain(length: int) -> list:
  """A log whose 2-core is its first square, and that peels from its far end on."""
  log = [(f'u{u}', f'i{i}', 1, 1) for u in (0, 1) for i in (0, 1)]
  for step in range(1, length):
    log += [(f'u{step + 1}', f'i{step}', 1, 1), (f'u{step + 1}', f'i{step + 1}', 1, 1)]
  return log


@pytest.mark.slow
def test_core_takes_rounds(tmp_path):
  flags = ('--core=2', '--eval_negatives=1', '--allow_empty_splits')
  dataset = prepare(tmp_path, chain(9), *flags, '--train_negatives=0')
  assert prepared.counts(dataset, 'kept', 'users', 'items') == [4, 2, 2]
  assert dataset.manifest.counts['core_rounds'] > 5
  line = prepared.refused(
    f'--input={tmp_path / "log.dat"}', f'--output={tmp_path / "more"}', *prepared.TOY,
    *flags, '--core_rounds=3',
  )  # fmt: skip
  assert '--core=2 is not reached in --core_rounds=3' in line
  assert not (tmp_path / 'more').exists()


@pytest.mark.slow
def test_core_of_nothing(tmp_path):
  log = prepared.write_log(tmp_path / 'log.dat', make_log(1))
  line = prepared.refused(f'--input={log}', f'--output={tmp_path / "out"}', '--core=99')
  assert 'nothing is left' in line


@pytest.mark.slow
def test_drop_repeats(tmp_path):
  items = 'aabbbaacd'
  log = [('u', item, 1, time) for time, item in enumerate(items)]
  log += [('v', item, 1, time) for time, item in enumerate('dcbaefg')]
  dataset = prepare(tmp_path, log, '--duplicates=keep', '--drop_repeats')
  assert prepared.histories(dataset)['u'] == 'abacd'
  assert prepared.counts(dataset, 'repeats', 'duplicates') == [4, 0]
  line = prepared.refused(f'--input={tmp_path / "log.dat"}', '--drop_repeats')
  assert '--duplicates' in line


@pytest.mark.slow
@pytest.mark.parametrize('day', ['2001-09-09', '2001-09-09T00:00:00', '1000000000'])
def test_time_at(tmp_path, day):
  at = 1_000_000_000 if day.isdigit() else 999_993_600
  log = [
    (f'u{user}', f'i{(user + step) % 12}', 1, at + 50 * (step - 5) + user % 2)
    for user in range(20)
    for step in range(8)
  ]
  dataset = prepare(tmp_path, log, '--split=time', f'--time_at={day}')
  assert dataset.manifest.cuts.test == at
  times = [row[3] for row in log if row[3] <= at]
  assert dataset.manifest.cuts.validation == quantile(times, 0.9)


@pytest.mark.slow
@pytest.mark.parametrize(
  'flags, expected',
  [
    (('--split=time', '--time_at=soon'), 'neither a date'),
    (('--split=time', '--time_at=1901-01-01'), 'no row on one of its sides'),
    # The log of that day has not come.
    (('--split=time', '--time_at=2026-11-25'), 'no row on one of its sides'),
    (('--split=time', '--time_quantile=1'), 'a share between 0 and 1'),
    (('--time_quantile=.5',), '--split'),
    (('--targets=first',), '--split'),
    (('--split=ratio', '--time_at=2001-01-01'), '--split'),
    (('--split=time', '--time_quantile=.001'), 'leaves no validation interactions'),
  ],
)
def test_what_is_refused(tmp_path, flags, expected):
  log = prepared.write_log(tmp_path / 'log.dat', make_log(1)[:60])
  line = prepared.refused(
    f'--input={log}', f'--output={tmp_path / "out"}', *prepared.TOY, *flags
  )
  assert expected in line
  assert not (tmp_path / 'out').exists()
  assert [path.name for path in tmp_path.iterdir()] == ['log.dat']


@pytest.mark.slow
def test_a_share_of_a_third_of_a_long_history(tmp_path):
  """As a fraction of its decimal digits, a third has terms of sixteen digits."""
  log = [('u', f'i{step}', 1, step) for step in range(3000)]
  log += [(f'v{user}', f'j{item}', 1, item) for user in range(3) for item in range(9)]
  dataset = prepare(tmp_path, log, '--split=ratio', f'--test_share={1 / 3}')
  assert len(prepared.by_user(dataset, TRAIN)['u']) == 1335
  (row,) = (row for row in prepared.rows(dataset, TEST) if row.user == 'u')
  assert len(row.history) == 2999


@pytest.mark.slow
def test_a_group_without_rows_and_times_before_1970(tmp_path):
  log = [
    (f'u{user}', f'i{(user + step) % 15}', 1, -(10**9) + 7 * step + user)
    for user in range(3)
    for step in range(9)
  ]
  log += [(f'short{user}', 'i1', 1, 5) for user in range(20)]
  dataset = prepare(
    tmp_path, log, '--split=time', '--min_user_count=5', '--num_shards=8',
    '--time_quantile=.7',
  )  # fmt: skip
  assert dataset.manifest.counts['users'] == 3
  assert dataset.manifest.cuts.first == -(10**9)


@pytest.mark.slow
def test_a_user_of_the_whole_catalogue_is_counted_once(tmp_path):
  log = [('all', f'i{item}', 1, item) for item in range(12)]
  log += [
    (f'u{user}', f'i{(user + step) % 12}', 1, 20 * step) for user in range(9)
    for step in range(5)
  ]  # fmt: skip
  dataset = prepare(tmp_path, log, '--split=time', '--time_quantile=.6')
  counts = dataset.manifest.counts
  assert (counts['users_without_negatives'], counts['users_too_crowded']) == (1, 0)
  assert counts['rows_without_negatives'] == 12


@pytest.mark.slow
def test_times_too_far_apart(tmp_path):
  log = [('u', f'i{step}', 1, step * 10**18) for step in range(9)]
  log.append(('v', 'i1', 1, -9 * 10**18))
  path = prepared.write_log(tmp_path / 'log.dat', log)
  line = prepared.refused(
    f'--input={path}', f'--output={tmp_path / "out"}', *prepared.TOY, '--split=time'
  )
  assert 'too far apart to cut a log by' in line


@pytest.mark.slow
def test_a_log_without_times(tmp_path):
  rows = [(user, item) for user, item, *_ in make_log(2)]
  log = prepared.write_log(tmp_path / 'log.csv', rows, ',')
  flags = (f'--input={log}', '--columns=user,item', *prepared.TOY)
  line = prepared.refused(*flags, f'--output={tmp_path / "out"}', '--split=time')
  assert '--split=time needs timestamps' in line
  done = prepared.run(*flags, f'--output={tmp_path / "out"}', '--split=ratio')
  assert done.returncode == 0, done.stderr
  manifest = json.loads((tmp_path / 'out' / 'manifest.json').read_text())
  assert 'cuts' not in manifest
  assert manifest['schema_version'] == CUT_SCHEMA


@pytest.mark.slow
@pytest.mark.parametrize(
  'rule',
  [('--split=time', '--targets=successive', '--time_quantile=.6'), ('--keep_times',)],
  ids=['time', 'keep_times'],
)
def test_the_same_bytes_whatever_the_order_and_shards_of_work(tmp_path, rule):
  log = make_log(7)
  flags = (*rule, '--core=3', '--core_rounds=5')
  digests = set()
  for workers in (1, 2):
    place = tmp_path / str(workers)
    place.mkdir()
    prepare(place, log, *flags, f'--workers={workers}')
    digests.add(json.dumps(prepared.digests(place / 'out'), sort_keys=True))
  assert len(digests) == 1


def expect_arrays(user, item, time, core_size: int):
  """The split by time of a real log, last targets, in numpy."""
  keep = np.ones(len(user), bool)
  while True:
    users, items = (np.bincount(ids[keep]) for ids in (user, item))
    left = keep & (np.take(users, user, mode='clip') >= core_size)
    left &= np.take(items, item, mode='clip') >= core_size
    if (left == keep).all():
      break
    keep = left
  user, item, time = user[keep], item[keep], time[keep]
  order = np.lexsort((np.arange(len(user)), time, user))
  user, item, time = user[order], item[order], time[order]
  test = np.sort(time)[math.ceil(len(time) * 9 / 10) - 1]
  early = np.sort(time[time <= test])
  validation = early[math.ceil(len(early) * 9 / 10) - 1]
  last = np.flatnonzero(np.diff(user, append=-1))
  last_early = np.flatnonzero(np.diff(user[time <= test], append=-1))
  in_train = np.flatnonzero(time <= test)[last_early]
  return {
    'kept': len(user),
    'cuts': (int(validation), int(test)),
    TRAIN: sorted(zip(user[time <= validation], item[time <= validation], strict=True)),
    TEST: [(user[row], item[row]) for row in last if time[row] > test],
    VALIDATION: [(user[row], item[row]) for row in in_train if time[row] > validation],
  }


@pytest.mark.parametrize('core_size', [0, 5, 10])
def test_movielens_100k(tmp_path, shared_data, core_size):
  log = shared_data / 'ml-100k' / 'u.data'
  user, item, _, time = np.loadtxt(log, np.int64, unpack=True)
  expected = expect_arrays(user, item, time, core_size)
  dataset = prepared.prepare_here(
    log,
    tmp_path / 'out',
    '--split=time',
    f'--core={core_size}',
    '--core_rounds=8',
    '--min_item_count=0',
  )
  assert dataset.manifest.counts['kept'] == expected['kept']
  cuts = dataset.manifest.cuts
  assert (cuts.validation, cuts.test) == expected['cuts']
  for split in dataset_lib.SPLITS:
    rows = [(int(row.user), int(row.item)) for row in prepared.rows(dataset, split)]
    assert sorted(rows) == sorted(expected[split])


def test_movielens_1m_has_the_published_counts(tmp_path, shared_data):
  log = shared_data / 'ml-1m' / 'ratings.dat'
  dataset = prepared.prepare_here(log, tmp_path / 'out', '--split=time', '--core=5')
  counts = dataset.manifest.counts
  names = ('kept', 'users', 'items', TRAIN, VALIDATION, TEST)
  expected = [999_611, 6_040, 3_416, 809_685, 1_046, 1_209]
  assert [counts[name] for name in names] == expected
  assert dataset.manifest.cuts.test == 978_132_488
  assert (dataset.vocabulary(dataset_lib.USERS).counts > 0).sum() == 5_453
  items = dataset.vocabulary(dataset_lib.ITEMS)
  cold = items.first_times > 978_132_488 - dataset.manifest.cuts.first
  cold_keys = {key for key, is_cold in zip(items.keys, cold, strict=True) if is_cold}
  targets = [row.item for row in prepared.rows(dataset, TEST)]
  assert sum(item in cold_keys for item in targets) == 6
  twin = prepared.prepare_here(
    log, tmp_path / 'twin', '--split=time', '--core=5', '--holdout=1'
  )
  assert twin.manifest.counts[TRAIN] == 899_650
  assert (twin.vocabulary(dataset_lib.USERS).counts > 0).sum() == 6_011
