"""What `prepare --inspect` measures, against plain Python that sorts and counts."""

import collections
import itertools
import json
import math
import random

import numpy as np
import prepared
import pytest

from beam_pipelines import counter_rng, inspection, keys
from ncf_tfdata import dataset as dataset_lib
from ncf_tfdata.dataset import TEST, VALIDATION
from ncf_tfdata.manifest import Manifest
from ncf_tfdata.rng_streams import Prepare

pytestmark = pytest.mark.slow

SEED = 3
ALL = ('--inspect', f'--seed={SEED}', '--allow_empty_splits')


def make_log(seed: int) -> list[tuple[str, str, int, int]]:
  """A log of 60 users with habits, repeats and ties, in order of nothing."""
  draw = random.Random(seed)
  log = []
  for user in range(60):
    item, time = draw.randrange(50), draw.randrange(5_000)
    for _ in range(draw.randint(1, 40)):
      log.append((f'u{user}', f'i{item}', 1, time))
      if draw.random() < 0.9:
        item = (item + 1) % 50 if draw.random() < 0.8 else draw.randrange(60)
      time += draw.choice([0, 0, 1, 7, 90, 3_000])
  draw.shuffle(log)
  # Somewhat popular at the end alone.
  log += [(f'u{user}', 'new', 1, 200_000 + user % 7) for user in range(20)]
  return log


def histories(log: list) -> dict[str, list]:
  found = collections.defaultdict(list)
  for row in log:
    found[row[0]].append(row)
  return {user: sorted(rows, key=lambda row: row[3]) for user, rows in found.items()}


def rules(sequences: list[list[str]]) -> int:
  count = collections.Counter()
  for items in sequences:
    count.update(itertools.pairwise(items))
  return sum(number >= 5 for number in count.values())


def shuffled(user: str, items: list[str]) -> list[str]:
  """In order of the draws of places; the one thing that is not made anew here."""
  import pyarrow as pa

  (who,) = keys.hashes(pa.array([user]))
  draws = [
    int(counter_rng.bits(SEED, Prepare.INSPECTION_ORDER, who, place))
    for place in range(len(items))
  ]
  return [item for _, item in sorted(zip(draws, items, strict=True))]


def expect_users(log: list) -> dict[str, int]:
  """Ties, repeats, order and bots of a log of which every row is kept."""
  users = histories(log)
  tied_rows = tied_users = repeated = consecutive = 0
  for rows in users.values():
    times = [row[3] for row in rows]
    items = [row[1] for row in rows]
    tied = [times.count(time) > 1 for time in times]
    tied_rows, tied_users = tied_rows + sum(tied), tied_users + tied[-1]
    repeated += len(items) - len(set(items))
    consecutive += sum(a == b for a, b in itertools.pairwise(items))
  many = [
    len(rows) for rows in users.values() if len(rows) > 100 * len(log) / len(users)
  ]
  sequences = {user: [row[1] for row in rows] for user, rows in users.items()}
  return {
    'rows': len(log),
    'users': len(users),
    'tied_rows': tied_rows,
    'tied_users': tied_users,
    'log_rows': len(log),
    'repeated_rows': repeated,
    'consecutive_repeats': consecutive,
    'rules': rules(list(sequences.values())),
    'shuffled_rules': rules([shuffled(*one) for one in sequences.items()]),
    'bots': len(many),
    'bot_rows': sum(many),
  }


def quartiles(distances: list[int]) -> tuple[int, ...]:
  ordered = sorted(distances)
  return tuple(ordered[math.ceil(q * len(ordered) / 4) - 1] for q in (1, 2, 3))


def expect_time_split(log: list, manifest: Manifest):
  """(counts, distances) of a split by time with all its targets."""
  cuts = {VALIDATION: manifest.cuts.validation, TEST: manifest.cuts.test}
  first_user, first_item = {}, {}
  for user, item, _, time in log:
    first_user[user] = min(time, first_user.get(user, time))
    first_item[item] = min(time, first_item.get(item, time))
  counts, distances = {}, collections.defaultdict(list)
  for split, cut in cuts.items():
    counts[f'rows_after_{split}_cut'] = sum(row[3] > cut for row in log)
    counts[f'users_after_{split}_cut'] = sum(t > cut for t in first_user.values())
    counts[f'items_after_{split}_cut'] = sum(t > cut for t in first_item.values())
    targets = []
    for rows in histories(log).values():
      for before, row in itertools.pairwise(rows):
        if cut < row[3] and (split == TEST or row[3] <= cuts[TEST]):
          targets.append(row[1])
          distances[f'{split}_since_row_before'].append(row[3] - before[3])
          train = [one[3] for one in rows if one[3] <= cuts[VALIDATION]]
          if train:
            distances[f'{split}_since_train'].append(row[3] - max(train))
    counts[f'{split}_targets'] = len(targets)
    counts[f'{split}_cold_targets'] = sum(first_item[one] > cut for one in targets)
  return counts, {name: quartiles(found) for name, found in distances.items()}


def inspect(tmp_path, log, *flags, shards=2) -> Manifest:
  path = prepared.write_log(tmp_path / 'log.dat', log)
  flags = (*prepared.TOY, *flags, f'--num_shards={shards}')
  return prepared.prepare_here(path, tmp_path / f'out{shards}', *flags).manifest


@pytest.mark.parametrize('seed', [1, 2])
@pytest.mark.parametrize('shards', [1, 3])
def test_a_split_by_time(tmp_path, seed, shards):
  log = make_log(seed)
  flags = ('--duplicates=keep', '--split=time', '--targets=successive', *ALL)
  manifest = inspect(tmp_path, log, *flags, '--eval_negatives=1', shards=shards)
  assert manifest.counts.get('users_too_crowded', 0) == 0
  counts, distances = expect_time_split(log, manifest)
  found = manifest.inspection
  assert found.counts == expect_users(log) | counts
  assert found.counts['test_cold_targets'] > 0 < found.counts['validation_targets']
  assert set(found.distances) == set(distances)
  for name, expected in distances.items():
    for one, exact in zip(found.distances[name], expected, strict=True):
      assert one <= exact <= one * (1 + 1 / 512)
      assert one == exact or exact >= 1024


@pytest.mark.parametrize('flags', [(), ('--split=ratio',), ('--holdout=1',)])
def test_other_splits(tmp_path, flags):
  log = make_log(4)
  manifest = inspect(tmp_path, log, '--duplicates=keep', *ALL, *flags)
  found = manifest.inspection
  expected = expect_users(log)
  splits = [split for split in (VALIDATION, TEST) if split in manifest.negatives]
  expected |= {f'{split}_targets': manifest.counts[split] for split in splits}
  assert found.counts == expected
  assert set(found.distances) == {
    f'{split}_since_{what}' for split in splits for what in ('row_before', 'train')
  }
  assert found.order_effect == 1 - expected['shuffled_rules'] / expected['rules'] > 0


def test_distances_of_last_rows(tmp_path):
  log = [(f'u{u}', f'i{u + t}', 1, 10 * t * t + u) for u in range(9) for t in range(6)]
  found = inspect(tmp_path, log, *ALL).inspection
  assert found.distances == {
    'validation_since_row_before': (70,) * 3,
    'validation_since_train': (70,) * 3,
    'test_since_row_before': (90,) * 3,
    'test_since_train': (160,) * 3,
  }


def test_repeats_are_counted_before_they_are_dropped(tmp_path):
  log = make_log(5)
  found = inspect(tmp_path, log, *ALL).inspection
  expected = expect_users(log)
  for name in ('log_rows', 'repeated_rows', 'consecutive_repeats'):
    assert found.counts[name] == expected[name] > 0
  assert found.counts['rows'] == expected['rows'] - expected['repeated_rows']


def test_a_log_without_times(tmp_path):
  rows = [(user, item) for user, item, *_ in make_log(6)]
  log = prepared.write_log(tmp_path / 'log.csv', rows, ',')
  flags = ('--columns=user,item', '--duplicates=keep', *prepared.TOY, *ALL)
  found = prepared.prepare_here(log, tmp_path / 'out', *flags).manifest.inspection
  expected = expect_users([(user, item, 1, 0) for user, item in rows])
  del expected['tied_rows'], expected['tied_users']
  assert {name: found.counts[name] for name in expected} == expected
  assert found.tied is None
  assert not found.distances
  line = prepared.refused(
    f'--input={log}', f'--output={tmp_path / "no"}', *flags, '--max_tied=1'
  )
  assert '--max_tied=1 needs timestamps' in line


def test_bots_are_named(tmp_path):
  log = [(f'u{u:03d}', f'i{t}', 1, t) for u in range(400) for t in range(3)]
  log += [
    (f'bot{b}', f'i{t}', 1, t) for b in range(7) for t in range(900 + 10 * (b % 3))
  ]
  log += [(f'u{u:03d}', 'last', 1, 9_999) for u in range(400)]
  found = inspect(
    tmp_path, log, *ALL, '--duplicates=keep', '--train_negatives=0'
  ).inspection
  # 100 times the mean of 19.7 is more than anybody has, until there are more users.
  assert found.counts['bots'] == 0
  log += [(f'v{v}', 'i0', 1, v) for v in range(1_500)]
  found = inspect(
    tmp_path, log, *ALL, '--duplicates=keep', '--train_negatives=0', shards=3
  ).inspection
  assert found.counts['bots'] == 7
  assert found.counts['bot_rows'] == 3 * 900 + 2 * 910 + 2 * 920
  assert found.bots == {'bot2': 920, 'bot5': 920, 'bot1': 910, 'bot4': 910, 'bot0': 900}
  assert found.bot_share == found.counts['bot_rows'] / len(log)


def test_only_the_manifest_knows(tmp_path):
  """The shards are the same bytes, and ordinary manifests say nothing of it."""
  path = prepared.write_log(tmp_path / 'log.dat', make_log(8))
  flags = (*prepared.TOY, '--successors=3')
  plain = prepared.prepare_here(path, tmp_path / 'plain', *flags)
  seen = prepared.prepare_here(path, tmp_path / 'seen', *flags, '--max_tied=1')
  assert plain.manifest.files == seen.manifest.files
  manifests = [
    json.loads((tmp_path / name / 'manifest.json').read_text())
    for name in ('plain', 'seen')
  ]
  assert manifests[1].pop('inspection').keys() == {'counts', 'distances', 'bots'}
  assert manifests[0] == manifests[1]


def test_the_summary_says_it(tmp_path):
  path = prepared.write_log(tmp_path / 'log.dat', make_log(9))
  done = prepared.run(
    f'--input={path}', f'--output={tmp_path / "out"}', *prepared.TOY, '--inspect',
    '--split=time', '--duplicates=keep',
  )  # fmt: skip
  assert done.returncode == 0, done.stderr
  found = dataset_lib.Dataset(str(tmp_path / 'out')).manifest.inspection
  lines = done.stdout.split('\n')

  def value(label: str) -> str:
    (line,) = (line for line in lines if line.strip().startswith(label))
    return (
      line.rsplit(maxsplit=1)[-1] if '%' not in line else line.rsplit(maxsplit=2)[-2]
    )

  assert value('rows tied in time') == f'{100 * found.tied:.3g}'
  assert value('test rows of such items') == f'{100 * found.cold_targets:.3g}'
  assert value('gone once rows are shuffled') == f'{100 * found.order_effect:.3g}'
  assert value('rows after the test cut') == f'{found.counts["rows_after_test_cut"]:,}'
  assert value('users of 100 times the mean') == '0'


THRESHOLDS = [
  ('--max_tied=', lambda found: found.tied, -1, 'more than --max_tied='),
  ('--max_cold_targets=', lambda found: found.cold_targets, -1, 'nobody had'),
  ('--min_order_effect=', lambda found: found.order_effect, 1, 'less than'),
]


@pytest.mark.parametrize('flag, share, direction, words', THRESHOLDS)
def test_thresholds(tmp_path, flag, share, direction, words):
  flags = (
    '--duplicates=keep',
    '--split=time',
    '--targets=successive',
    '--eval_negatives=1',
  )
  log = tmp_path / 'log.dat'
  exact = share(inspect(tmp_path, make_log(1), *flags, '--inspect').inspection)
  assert 0 < exact < 1
  at = (f'--input={log}', *prepared.TOY, *flags)
  limit = f'{flag}{exact + direction * 1e-9!r}'
  line = prepared.refused(*at, f'--output={tmp_path / "no"}', limit)
  assert words in line
  # Nothing is left of it, and what the log just reaches passes.
  assert sorted(path.name for path in tmp_path.iterdir()) == ['log.dat', 'out2']
  done = prepared.run(*at, f'--output={tmp_path / "yes"}', f'{flag}{exact!r}')
  assert done.returncode == 0, done.stderr


def test_a_threshold_of_bots(tmp_path):
  log = [(f'u{u}', f'i{u % 7}', 1, u) for u in range(300)]
  log += [('robot', f'i{t}', 1, t) for t in range(200)]
  path = prepared.write_log(tmp_path / 'log.dat', log)
  flags = (*prepared.TOY, '--train_negatives=0', '--allow_empty_splits')
  line = prepared.refused(
    f'--input={path}', f'--output={tmp_path / "no"}', *flags, '--max_bot_rows=.39'
  )
  assert '40 % of the rows are of users with more than 100 times' in line
  assert "'robot' with 200" in line
  assert not (tmp_path / 'no').exists()


@pytest.mark.parametrize(
  'flags, expected',
  [
    (('--max_cold_targets=.1',), '--split'),
    (('--min_order_effect=.1',), 'no two items follow each other 5 times'),
    (('--max_tied=2',), 'max_tied'),
  ],
)
def test_what_cannot_be_known_is_refused(tmp_path, flags, expected):
  log = [(f'u{u}', f'i{(u + t) % 9}', 1, u * t) for u in range(4) for t in range(4)]
  path = prepared.write_log(tmp_path / 'log.dat', log)
  line = prepared.refused(
    f'--input={path}', f'--output={tmp_path / "out"}', *prepared.TOY, *flags
  )
  assert expected in line
  assert [one.name for one in tmp_path.iterdir()] == ['log.dat']


@pytest.mark.parametrize('bits', [9, 10, 11, 31, 53, 54, 63, 64])
def test_bins_of_distances(bits):
  """A bin's least value is at most the distance, and less by at most 1/512."""
  top = 1 << bits
  distance = sorted({max(0, top - 1 - below) for below in (0, 1, 2, 3, 700, top >> 2)})
  found = inspection._bin(np.array(distance, np.uint64)).tolist()
  assert found == sorted(found)
  for one, number in zip(distance, found, strict=True):
    least = inspection._least(number)
    assert least <= one <= least + least // 512
    assert inspection._bin(np.array([least], np.uint64)).tolist() == [number]


def test_movielens_1m(tmp_path, shared_data):
  log = shared_data / 'ml-1m' / 'ratings.dat'
  flags = ('--inspect', '--split=time', '--core=5')
  found = prepared.prepare_here(log, tmp_path / 'out', *flags).manifest.inspection
  user, item, _, time = np.array(
    [line.split('::') for line in log.read_text(encoding='latin-1').splitlines()]
  ).astype(np.int64).T  # fmt: skip
  kept = np.bincount(item)[item] >= 5
  user, item, time = user[kept], item[kept], time[kept]
  order = np.lexsort((np.arange(len(user)), time, user))
  user, item, time = user[order], item[order], time[order]
  _, moment, number = np.unique(
    user << 32 | time, return_inverse=True, return_counts=True
  )
  tied = number[moment] > 1
  last = np.flatnonzero(np.diff(user, append=-1))
  assert found.counts['tied_rows'] == tied.sum() == 766_865
  assert found.counts['tied_users'] == tied[last].sum() == 2_540
  pair = (item[:-1] << 20 | item[1:])[user[:-1] == user[1:]]
  assert found.counts['rules'] == (np.unique(pair, return_counts=True)[1] >= 5).sum()
  assert found.counts['test_cold_targets'] == 6
  assert found.counts['test_targets'] == 1_209
  test = [row for row in last if time[row] > 978_132_488]
  middle = sorted(time[row] - time[row - 1] for row in test)[1_209 // 2]
  assert found.distances['test_since_row_before'][1] == middle == 67
  # Any other shuffle leaves about as many rules.
  assert 0.7 < found.order_effect < 0.75
  drawn = np.lexsort((np.random.default_rng(0).random(len(user)), user))
  other = (item[drawn][:-1] << 20 | item[drawn][1:])[user[:-1] == user[1:]]
  again = (np.unique(other, return_counts=True)[1] >= 5).sum()
  assert found.counts['shuffled_rules'] == pytest.approx(again, rel=0.03)
