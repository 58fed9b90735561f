"""`prepare` from end to end, as a user types it."""

import collections
import gzip
import json
import random

import prepared
import pyarrow as pa
import pytest

from beam_pipelines import preparation, splits
from beam_pipelines.config import PrepareConfig
from ncf_tfdata import dataset as dataset_lib
from ncf_tfdata.dataset import ITEMS, TEST, TRAIN, USERS, VALIDATION


def rejects(dataset) -> list[list[str]]:
  text = (dataset.directory / dataset_lib.REJECTS).read_text()
  return [line.split('\t') for line in text.splitlines()]


def test_a_toy_log_where_the_answer_is_obvious(tmp_path):
  log = prepared.write_log(tmp_path / 'ratings.dat', prepared.LOG)
  dataset = prepared.prepare(log, tmp_path / 'out', *prepared.TOY)
  assert prepared.by_user(dataset, TRAIN) == {
    '7': ['b', 'a'],
    'ключ': ['e'],
    '10': ['f', 'g'],  # too short to hold anything out
  }
  judged = {row.user: row for row in prepared.rows(dataset, TEST)}
  assert {user: row.item for user, row in judged.items()} == {'7': 'd', 'ключ': 'd'}
  assert {user: ''.join(row.history) for user, row in judged.items()} == {
    '7': 'bac',
    'ключ': 'eb',
  }
  judged = {row.user: row for row in prepared.rows(dataset, VALIDATION)}
  assert {user: row.item for user, row in judged.items()} == {'7': 'c', 'ключ': 'b'}
  assert {user: ''.join(row.history) for user, row in judged.items()} == {
    '7': 'ba',
    'ключ': 'e',
  }
  for split in (VALIDATION, TEST):
    for row in prepared.rows(dataset, split):
      assert len(set(row.negatives)) == 2
      assert not set(row.negatives) & set(prepared.ORDER[row.user])
    blocks = [
      block for path in dataset.shards(split) for block in prepared.blocks(path)
    ]
    assert [gap for block in blocks for gap in block['gap']] == [1, 10]
  for row in prepared.rows(dataset, TRAIN):
    assert len(row.negatives) == 4
    assert not set(row.negatives) & set(prepared.by_user(dataset, TRAIN)[row.user])
  users, items = dataset.vocabulary(USERS), dataset.vocabulary(ITEMS)
  assert dict(zip(users.keys, users.counts.tolist(), strict=True)) == {
      '7': 2, 'ключ': 1, '10': 2,
  }  # fmt: skip
  assert dict(zip(items.keys, items.counts.tolist(), strict=True)) == {
      'a': 1, 'b': 1, 'c': 0, 'd': 0, 'e': 1, 'f': 1, 'g': 1,
  }  # fmt: skip
  assert dataset.manifest.counts == {
      'read': 9, 'rejected': 0, 'filtered_items': 0, 'filtered_ratings': 0,
      'duplicates': 0, 'filtered_users': 0, 'dropped_history': 0, 'kept': 9,
      'users': 3, 'items': 7, 'train': 5, 'validation': 2, 'test': 2,
      'users_too_short': 1, 'users_too_crowded': 0,
  }  # fmt: skip
  assert dataset.negatives(TRAIN) == 4
  assert dataset.negatives(TEST) == 2
  dataset.verify()
  assert rejects(dataset) == []
  (source,) = dataset.manifest.sources
  assert (source.name, source.bytes) == ('ratings.dat', log.stat().st_size)
  assert str(tmp_path) not in dataset.manifest.to_json()


def oracle(log, flags):
  """The protocol in plain lists: kept items of each user in order, and counts."""
  found = collections.Counter(read=len(log))
  read = collections.Counter(item for _, item, _, _ in log)
  kept = collections.defaultdict(list)
  for user, item, rating, stamp in log:
    if read[item] < flags['min_item_count']:
      found['filtered_items'] += 1
    elif rating < flags['min_rating']:
      found['filtered_ratings'] += 1
    else:
      kept[user].append((stamp, item))
  result = {}
  for user, rows in kept.items():
    items = [item for _, item in sorted(rows, key=lambda row: row[0])]
    if flags['duplicates'] == 'first':
      distinct = list(dict.fromkeys(items))
    elif flags['duplicates'] == 'last':
      distinct = list(dict.fromkeys(items[::-1]))[::-1]
    else:
      distinct = items
    found['duplicates'] += len(items) - len(distinct)
    if len(distinct) < flags['min_user_count']:
      found['filtered_users'] += len(distinct)
      continue
    result[user] = distinct[-flags['max_user_history'] :]
    found['dropped_history'] += len(distinct) - len(result[user])
  found['kept'] = sum(map(len, result.values()))
  found['users'] = len(result)
  found['items'] = len({item for items in result.values() for item in items})
  return result, found


@pytest.mark.slow
@pytest.mark.parametrize('seed', range(6))
def test_any_flags_do_as_the_protocol_says(tmp_path, seed):
  generator = random.Random(seed)
  log = [
    (
      f'user {generator.randrange(25)}',
      int(30 * generator.random() ** 2),
      generator.randrange(1, 6),
      generator.randrange(10**9 - 8, 10**9 + 8),
    )
    for _ in range(400)
  ]
  flags = {
    'min_item_count': generator.choice([0, 8, 12]),
    'min_rating': generator.choice([1, 3, 4]),
    'duplicates': ['first', 'last', 'keep'][seed % 3],
    'min_user_count': generator.choice([1, 8]),
    'max_user_history': generator.choice([3, 6, 100]),
    'holdout': 1 + seed % 2,
    'eval_negatives': generator.choice([1, 10]),
    'train_negatives': generator.choice([0, 1, 4]),
    'num_shards': generator.choice([1, 3]),
    'seed': seed,
  }
  path = prepared.write_log(tmp_path / 'log', log)
  dataset = prepared.prepare(
    path, tmp_path / 'out', *(f'--{name}={value}' for name, value in flags.items())
  )
  expected, found = oracle([(u, str(i), r, t) for u, i, r, t in log], flags)
  items = {item for kept in expected.values() for item in kept}
  assert set(dataset.vocabulary(ITEMS).keys) == items
  assert set(dataset.vocabulary(USERS).keys) == set(expected)
  for name, value in found.items():
    assert dataset.manifest.counts[name] == value, name
  total = sum(
      dataset.manifest.counts[name]
      for name in ('rejected', 'filtered_items', 'filtered_ratings', 'duplicates',
                   'filtered_users', 'dropped_history', 'kept')
  )  # fmt: skip
  assert total == dataset.manifest.counts['read'] == 400
  held, k = flags['holdout'], flags['eval_negatives']
  judged = {
    user: kept
    for user, kept in expected.items()
    if len(kept) >= 3 and len(items - set(kept)) >= k
  }
  train = {
    user: kept[:-held] if user in judged else kept for user, kept in expected.items()
  }
  assert prepared.by_user(dataset, TRAIN) == train
  for split, end in ((VALIDATION, -2), (TEST, -1)):
    if split == VALIDATION and held == 1:
      assert VALIDATION not in dataset.manifest.counts
      continue
    found_rows = {row.user: row for row in prepared.rows(dataset, split)}
    assert set(found_rows) == set(judged)
    for user, row in found_rows.items():
      assert row.item == judged[user][end]
      assert list(row.history) == judged[user][:end]
      assert len(set(row.negatives)) == k
      assert not set(row.negatives) & set(judged[user])
  for row in prepared.rows(dataset, TRAIN):
    assert len(row.negatives) == flags['train_negatives']
    assert not set(row.negatives) & set(train[row.user])
  taken = collections.Counter(item for kept in train.values() for item in kept)
  vocabulary = dataset.vocabulary(ITEMS)
  assert dict(zip(vocabulary.keys, vocabulary.counts.tolist(), strict=True)) == {
    item: taken[item] for item in items
  }
  for name, value in flags.items():
    assert dataset.manifest.flags[name] == value


@pytest.mark.slow
def test_holdout_twins_seeds_and_random_ties(tmp_path, sample_log, sample_dataset):
  twin = prepared.prepare(sample_log, tmp_path / 'twin', '--holdout=1')
  assert prepared.rows(twin, TEST) == prepared.rows(sample_dataset, TEST)
  assert twin.rows(TRAIN) == sample_dataset.rows(TRAIN) + sample_dataset.rows(TEST)
  for name in (USERS, ITEMS):
    assert twin.vocabulary(name).keys == sample_dataset.vocabulary(name).keys

  other = prepared.prepare(
    sample_log, tmp_path / 'other', '--seed=1', '--tie_order=random'
  )
  assert other.manifest.counts == sample_dataset.manifest.counts
  before, after = prepared.histories(sample_dataset), prepared.histories(other)
  assert {user: sorted(items) for user, items in before.items()} == {
    user: sorted(items) for user, items in after.items()
  }
  assert before != after
  # Another seed draws other negatives for the same row.
  same = {(row.user, row.item, row.history): row for row in prepared.rows(other, TEST)}
  for row in prepared.rows(sample_dataset, TEST):
    if (row.user, row.item, row.history) in same:
      assert same[row.user, row.item, row.history].negatives != row.negatives


@pytest.mark.slow
def test_random_ties_do_not_depend_on_the_file(tmp_path, sample_log):
  lines = sample_log.read_text().splitlines(keepends=True)
  shuffled = tmp_path / 'ratings.dat'
  shuffled.write_text(''.join(random.Random(0).sample(lines, len(lines))))
  found = [
    prepared.prepare(log, tmp_path / name, '--tie_order=random')
    for name, log in (('a', sample_log), ('b', shuffled))
  ]
  assert [f.sha256 for f in found[0].manifest.files] == [
    f.sha256 for f in found[1].manifest.files
  ]


@pytest.mark.slow
def test_bad_lines_are_kept_with_offset_and_reason(tmp_path):
  good = [f'u{i % 9}::{i * 7 % 40}::3::{i}\n'.encode() for i in range(97)]
  bad = [b'oops\n', b'u\\1::2\t::x::4\r\n', b'u::\xff::1::2']
  log = tmp_path / 'log.dat'
  log.write_bytes(b''.join(good[:50]) + bad[0] + bad[1] + b''.join(good[50:]) + bad[2])
  flags = (f'--input={log}', f'--output={tmp_path / "out"}', *prepared.TOY)
  line = prepared.refused(*flags)
  offset = len(b''.join(good[:50]))
  assert '3 of 100 lines are not ratings' in line
  assert f'log.dat at {offset}: expected 4 fields, found 1' in line
  assert [path.name for path in tmp_path.iterdir()] == ['log.dat']

  line = prepared.refused(*flags, '--max_reject_fraction=0.0299')
  assert '--max_reject_fraction=0.0299' in line
  done = prepared.run(*flags, '--max_reject_fraction=0.03')
  assert done.returncode == 0, done.stderr
  assert 'rejects.tsv' in done.stdout
  dataset = dataset_lib.Dataset(str(tmp_path / 'out'))
  assert prepared.counts(dataset, 'read', 'rejected') == [100, 3]
  assert rejects(dataset) == [
    ['log.dat', str(offset), 'expected 4 fields, found 1', 'oops'],
    ['log.dat', str(offset + 5), "rating 'x' is not a number", r'u\\1::2\t::x::4'],
    [
      'log.dat',
      str(len(log.read_bytes()) - 10),
      'item is not UTF-8',
      r'u::\\xff::1::2',
    ],
  ]


@pytest.mark.slow
def test_the_sample_by_default(tmp_path):
  flags = ('--sample_ratings=3000', f'--cache_dir={tmp_path / "cache"}')
  done = prepared.run(*flags, f'--output={tmp_path / "out"}')
  assert done.returncode == 0, done.stderr
  dataset = dataset_lib.Dataset(str(tmp_path / 'out'))
  assert 2500 < dataset.manifest.counts['read'] < 3500
  assert (tmp_path / 'cache').is_dir()
  assert done.stderr == ''
  out = done.stdout
  assert 'Running with FnApiRunner' in out
  assert f'{dataset.manifest.counts["kept"]:,}' in out
  assert 'ratings/s' in out
  assert f'Next: python -m ncf_tfdata.train --data_dir={tmp_path / "out"}' in out


@pytest.mark.slow
def test_a_finished_dataset_is_replaced_only_when_asked(tmp_path):
  log = prepared.write_log(tmp_path / 'log', prepared.LOG)
  flags = (f'--input={log}', f'--output={tmp_path / "out"}', *prepared.TOY)
  assert prepared.run(*flags).returncode == 0
  before = prepared.digests(tmp_path / 'out')
  assert 'holds a finished dataset. Pass --overwrite' in prepared.refused(*flags)
  # A run that fails leaves the old one as it was.
  assert 'nothing is left' in prepared.refused(
    *flags, '--overwrite', '--min_item_count=9'
  )
  assert prepared.digests(tmp_path / 'out') == before
  done = prepared.run(*flags, '--overwrite', '--num_shards=1')
  assert done.returncode == 0, done.stderr
  dataset_lib.Dataset(str(tmp_path / 'out')).verify()
  # No shard of the old one is left among the new ones.
  shards = sorted(path.name for path in (tmp_path / 'out').glob('ncf-*'))
  assert shards == [dataset_lib.shard_name(s, 0, 1) for s in (TEST, TRAIN, VALIDATION)]
  assert sorted(path.name for path in tmp_path.iterdir()) == ['log', 'out']


def test_a_log_in_the_output_directory_is_not_lost(tmp_path):
  log = prepared.write_log(tmp_path / 'ratings.dat', prepared.LOG)
  flags = (f'--input={log}', f'--output={tmp_path}', *prepared.TOY)
  assert 'holds ratings.dat, which is no part' in prepared.refused(*flags)
  assert 'holds ratings.dat' in prepared.refused(*flags, '--overwrite')
  assert log.exists()


@pytest.mark.slow
@pytest.mark.parametrize(
  'flags, message',
  [
    (['--sede=3'], 'unknown flag --sede=3. Did you mean --seed?'),
    (['--runer=DirectRunner'], 'Did you mean --runner?'),
    (['stray'], 'unknown flag stray'),
    (['--holdout=3'], '--holdout=3: 3 is not an integer in the range [1, 2]'),
    (['--seed=-1'], '--seed=-1'),
    (['--format=xml'], '--format=xml: value should be one of'),
    (['--direct_num_workers=x'], "--direct_num_workers: invalid int value: 'x'"),
    (['--runner=NoRunner'], '--runner=NoRunner: Unexpected pipeline runner'),
    (['--runner=DataflowRunner'], 'Missing required option: project'),
    (['--input=/', '--output='], '--output= is empty'),
    (['--input=nowhere/none.dat'], 'nowhere/none.dat does not exist'),
    (['--input=nowhere://none'], 'cannot list --input=nowhere://none'),
    (['--output=nowhere://none/x'], 'cannot write to --output=nowhere://none/x'),
    (['--output={tmp}/log'], 'log is a file, expected a directory'),
    (['--output={tmp}/log/out'], 'Not a directory'),
    (['--input={tmp}/empty'], 'empty holds no data'),
    (['--input={tmp}/cut.gz'], 'cut.gz is not a whole gzip file'),
    (['--input={tmp}/blank'], 'blank holds no line that is not blank'),
    (['--columns=user,item'], 'names 2 columns'),
    (['--user_column=who'], "no column 'who'"),
    (['--min_item_count=100'], 'nothing is left of 9 ratings'),
    (['--eval_negatives=100'], 'no user leaves 100 of the 7 items'),
    (
      ['--max_user_history=7', '--holdout=2', '--input={tmp}/full'],
      'the whole catalogue, 3 items',
    ),
  ],
)
def test_what_the_user_can_mend_is_one_line(tmp_path, flags, message):
  prepared.write_log(tmp_path / 'log', prepared.LOG)
  prepared.write_log(tmp_path / 'full', [(1, i, 1, 1) for i in 'abc'])
  (tmp_path / 'empty').touch()
  (tmp_path / 'blank').write_text('\n\r\n')
  (tmp_path / 'cut.gz').write_bytes(gzip.compress(b'1::2::3::4\n' * 99)[:-9])
  before = sorted(path.name for path in tmp_path.iterdir())
  defaults = [
    f'--input={tmp_path / "log"}',
    f'--output={tmp_path / "out"}',
    *prepared.TOY,
  ]
  line = prepared.refused(*defaults, *(flag.format(tmp=tmp_path) for flag in flags))
  assert message in line
  assert 'while running' not in line
  assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_help_is_there_without_beam():
  done = prepared.run('--help')
  assert '--min_item_count' in done.stdout
  # absl's code for help
  assert done.returncode == 1


def test_default_output_is_named_after_the_input():
  names = {
    'sample': 'sample',
    '/x/my-log.csv.gz': 'my-log',
    '/x/ml-1m/ratings.dat': 'ml-1m',
    '/x/ml-100k/u.data': 'ml-100k',
    '/x/logs/*.csv': 'logs',
    '/x/folder/': 'folder',
    'movielens/1m-ratings': '1m-ratings',
    'gs://bucket/ratings.csv': 'bucket',
    '.': prepared.ROOT.name,
    '..': prepared.ROOT.parent.name,
  }
  found = [preparation.output_path(PrepareConfig(input=source)) for source in names]
  assert found == [f'data/{name}' for name in names.values()]


def test_movielens_1m(tmp_path, shared_data):
  dataset = prepared.prepare(shared_data / 'ml-1m', tmp_path / 'out')
  names = ('read', 'kept', 'items', 'users', *dataset_lib.SPLITS)
  assert prepared.counts(dataset, *names) == [
      1_000_209, 999_611, 3_416, 6_040, 987_531, 6_040, 6_040,
  ]  # fmt: skip
  assert prepared.counts(dataset, 'rejected', 'filtered_items', 'users_too_short') == [
    0,
    598,
    0,
  ]
  dataset.verify()


def test_movielens_1m_under_he2017(tmp_path, shared_data):
  dataset = prepared.prepare(
    shared_data / 'ml-1m' / 'ratings.dat',
    tmp_path / 'out',
    '--flagfile=configs/prepare-he2017.cfg',
  )
  assert prepared.counts(dataset, 'kept', 'items') == [1_000_209, 3_706]
  popularity = dict(enumerate(dataset.vocabulary(ITEMS).counts))
  by_key = {key: popularity[i] for i, key in enumerate(dataset.vocabulary(ITEMS).keys)}
  hits = []
  for row in prepared.rows(dataset, TEST):
    score = by_key[row.item]
    scores = [by_key[item] for item in row.negatives]
    assert len(scores) == 99
    rank = sum(s > score for s in scores) + sum(s == score for s in scores) / 2
    hits.append(rank < 10)
  assert sum(hits) / len(hits) == pytest.approx(0.4555, abs=0.01)


def test_the_manifest_is_json_that_says_what_was_asked(sample_dataset):
  content = json.loads((sample_dataset.directory / dataset_lib.MANIFEST).read_text())
  assert content['flags']['num_shards'] == 8
  assert content['flags']['seed'] == 0
  names = [file['name'] for file in content['files']]
  assert names == sorted(names)
  for name in ('input', 'output', 'runner', 'overwrite', 'cache_dir'):
    assert name not in content['flags']


# Two users of two rows, of whom none can be held out.
_SHORT = [('1', 'a', 5, 1), ('1', 'b', 5, 2), ('2', 'a', 5, 1), ('2', 'd', 5, 2)]
_LONG = [('3', item, 5, time) for time, item in enumerate('abc')]


@pytest.mark.slow
@pytest.mark.parametrize(
  ('rows', 'flags', 'empty'),
  [
    (_SHORT, (), 'no validation and no test interactions'),
    (_SHORT, ('--holdout=1',), 'no test interactions'),
    # Whoever is held out is in no validation; the others are too short for it.
    (
      _SHORT + _LONG,
      ('--held_out_users=0.5', '--seed=SEED'),
      'no validation interactions',
    ),
  ],
)
def test_an_empty_split_is_published_only_when_asked(tmp_path, rows, flags, empty):
  log = prepared.write_log(tmp_path / 'log', rows)
  output = tmp_path / 'out'
  drawn = [splits.users_held_out(pa.array(['3']), 0.5, seed)[0] for seed in range(99)]
  flags = [flag.replace('SEED', str(drawn.index(True))) for flag in flags]
  flags += [f'--input={log}', f'--output={output}', '--min_item_count=1']
  flags += ['--eval_negatives=1', '--num_shards=1', '--train_negatives=1']
  line = prepared.refused(*flags)
  assert f'would have {empty}' in line
  assert '--allow_empty_splits' in line
  assert not output.exists()
  done = prepared.run(*flags, '--allow_empty_splits')
  assert done.returncode == 0, done.stderr
  dataset_lib.Dataset(str(output)).verify()
  assert empty.replace('no', 'No', 1) in done.stdout
