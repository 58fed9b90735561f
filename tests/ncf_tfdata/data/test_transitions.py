"""What followed what: counted as plain loops count it, on every runner alike."""

import collections
import dataclasses
import fractions
import random

import numpy as np
import prepared
import pytest
import scipy.sparse as sp
import toy_dataset
from hypothesis import given
from hypothesis import strategies as st

from beam_pipelines import transitions as counting
from ncf_tfdata import dataset as dataset_lib
from ncf_tfdata.data import records, transitions
from ncf_tfdata.dataset import ITEMS, SUCCESSORS, TRAIN
from ncf_tfdata.errors import UserError
from ncf_tfdata.evaluation import baselines

# 2 ** 16 / l ** .7 for l = 1 … 10, rounded.
WEIGHTS = [65536, 40342, 30374, 24834, 21242, 18697, 16785, 15287, 14077, 13076]
HISTORIES = st.lists(
  st.lists(st.integers(0, 12), min_size=1, max_size=25), min_size=1, max_size=8
)


def oracle(histories, keep):
  """Each item's [(successor, weight), …], best first, and all items' counts."""
  found = collections.defaultdict(collections.Counter)
  count = collections.Counter(item for items in histories for item in items)
  for items in histories:
    for place, later in enumerate(items):
      for distance in range(1, min(place, 10) + 1):
        found[items[place - distance]][later] += WEIGHTS[distance - 1]
  ranked = {
    earlier: sorted(
      followed.items(),
      key=lambda pair: (fractions.Fraction(-(pair[1] ** 2), count[pair[0]] + 1), pair),
    )[:keep]
    for earlier, followed in found.items()
  }
  return ranked, count


def written(dataset):
  """The same from a dataset's shards, by dense id."""
  result = {}
  for path in dataset.shards(SUCCESSORS):
    for block in prepared.blocks(path):
      assert set(block) == set(dataset_lib.features(SUCCESSORS))
      pairs = iter(zip(block['successor'], block['weight'], strict=True))
      for item, length in zip(block['item'], block['length'], strict=True):
        assert item not in result
        result[item] = [next(pairs) for _ in range(length)]
      assert next(pairs, None) is None
  return result


def train_histories(dataset):
  items = {key: number for number, key in enumerate(dataset.vocabulary(ITEMS).keys)}
  return [
    [items[key] for key in keys] for keys in prepared.by_user(dataset, TRAIN).values()
  ]


def test_a_toy_log_where_the_answer_is_obvious(tmp_path):
  # The last two of each user are held out: train is a b c, a c and b a.
  log = [
    (user, item, 5, time)
    for user, items in {'1': 'abcde', '2': 'acfg', '3': 'bafg'}.items()
    for time, item in enumerate(items)
  ]
  path = prepared.write_log(tmp_path / 'log', log)
  dataset = prepared.prepare(path, tmp_path / 'out', *prepared.TOY, '--successors=9')
  keys = dataset.vocabulary(ITEMS).keys
  found = {
    keys[item]: [(keys[later], weight) for later, weight in pairs]
    for item, pairs in written(dataset).items()
  }
  assert found == {
    'a': [('c', 65536 + 40342), ('b', 65536)],
    'b': [('c', 65536), ('a', 65536)],
  }
  assert dataset.rows(SUCCESSORS) == 4
  assert dataset.manifest.flags['successors'] == 9
  matrix = transitions.read(dataset)
  assert matrix.dtype == np.float64
  expected = np.zeros((7, 7))
  a, b, c = (keys.index(key) for key in 'abc')
  expected[a, c], expected[a, b], expected[b, c], expected[b, a] = 1 + 2**-0.7, 1, 1, 1
  np.testing.assert_allclose(matrix.toarray(), expected, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize('keep', [1, 3, 1000])
def test_any_log_is_counted_as_by_plain_loops(tmp_path, keep):
  generator = random.Random(keep)
  log = [
    (generator.randrange(30), int(40 * generator.random() ** 2), 3, generator.random())
    for _ in range(900)
  ]
  log = [(user, item, rating, int(time * 1e6)) for user, item, rating, time in log]
  # Items that only ever lose their rows leave gaps in the provisional ids.
  log += [('short', item, 3, 0) for item in range(100, 140)]
  path = prepared.write_log(tmp_path / 'log', log)
  flags = ('--duplicates=keep', '--min_user_count=5', '--max_user_history=30')
  dataset = prepared.prepare(
    path, tmp_path / 'out', *prepared.TOY, *flags, f'--successors={keep}'
  )
  expected, count = oracle(train_histories(dataset), keep)
  assert written(dataset) == expected
  assert dataset.vocabulary(ITEMS).counts.tolist() == [
    count[item] for item in range(dataset.num_items)
  ]
  assert dataset.rows(SUCCESSORS) == sum(map(len, expected.values()))
  shards = [f for f in dataset.manifest.files if f.split == SUCCESSORS]
  assert sum(file.rows for file in shards) == dataset.rows(SUCCESSORS)
  assert len(shards) == 8
  dataset.verify()
  assert transitions.read(dataset).nnz == dataset.rows(SUCCESSORS)


@pytest.mark.slow
@given(HISTORIES, st.integers(1, 5), st.integers(1, 15), st.data())
def test_groups_may_be_dealt_and_arrive_in_any_way(histories, keep, num_shards, data):
  expected, count = oracle(histories, keep)
  item_count = np.array([count[item] for item in range(13)])
  starts = counting.Plan(keep, num_shards, '').starts(13)
  groups = data.draw(
    st.lists(st.integers(0, 2), min_size=len(histories), max_size=len(histories))
  )
  by_later = collections.defaultdict(list)
  for group in set(groups):
    mine = [items for items, g in zip(histories, groups, strict=True) if g == group]
    user = np.repeat(np.arange(len(mine)), [len(items) for items in mine])
    pairs = counting.count(counting.TrainRows(user, np.concatenate(mine)))
    for number, part in pairs.deal(pairs.later, starts):
      assert ((part.later >= starts[number]) & (part.later < starts[number + 1])).all()
      by_later[number].append(part)
  found, cut = set(), set()
  for parts in by_later.values():
    pairs = counting.merge(data.draw(st.permutations(parts)))
    found |= set(listed(pairs))
    pairs = dataclasses.replace(pairs, later_count=item_count[pairs.later])
    best = listed(counting.best(pairs, keep))
    cut |= set(best)
    assert len(best) <= keep * 13
  every, _ = oracle(histories, 13)
  assert found == {(a, b, weight) for a in every for b, weight in every[a]}
  # What a range of later items drops is not among the best of all.
  assert {(a, b, weight) for a in expected for b, weight in expected[a]} <= cut <= found


def listed(pairs):
  columns = pairs.earlier, pairs.later, pairs.weight
  return list(zip(*(column.tolist() for column in columns), strict=True))


def pairs_of(*rows):
  earlier, later, weight, count = np.array(rows, np.int64).T
  return counting.Pairs(earlier.astype(np.int32), later.astype(np.int32), weight, count)


def test_equally_good_successors_go_by_id():
  # 3 / sqrt(9 c) = 1 / sqrt(c), which roots of floats would not always say.
  for c in range(1, 200):
    found = counting.best(
      pairs_of((7, 5, 3 * 20000, 9 * c - 1), (7, 4, 20000, c - 1), (7, 9, 5, c)), 2
    )
    assert [later for _, later, _ in listed(found)] == [4, 5]


def test_large_sums_are_exact():
  parts = [
    counting.Pairs(
      np.array([1, 1], np.int32),
      np.array([2, 3], np.int32),
      np.array([2**53 + 1, 7]),
    ).narrow(),
    counting.Pairs(
      np.array([1, 2], np.int32), np.array([3, 2], np.int32), np.array([1, 300])
    ).narrow(),
  ]
  expected = [(1, 2, 2**53 + 1), (1, 3, 8), (2, 2, 300)]
  assert listed(counting.merge(parts)) == expected
  assert listed(counting.merge(parts[::-1])) == expected


@pytest.mark.parametrize('size', [0, 1, 2, 5, 300, 30_000])
def test_groups_of_any_size_are_counted(size):
  item = np.random.default_rng(0).permutation(2**31 - 1 - np.arange(size))
  pairs = counting.count(counting.TrainRows(np.zeros(size, np.int64), item))
  assert sorted(listed(pairs)) == sorted(
    (earlier, later, weight)
    for distance, weight in enumerate(WEIGHTS, 1)
    for earlier, later in zip(item[:-distance], item[distance:], strict=True)
  )


def test_blocks_hold_whole_items():
  sizes = [60_000, 6_000, 1, 70_000, 5]
  earlier = np.repeat(np.arange(len(sizes)), sizes).astype(np.int32)
  later = np.concatenate([np.arange(size) for size in sizes]).astype(np.int32)
  content, count = counting.encode(
    counting.Pairs(earlier, later, np.ones(len(earlier), np.int64))
  )
  assert count == 4
  assert counting.encode(counting.merge([])) == (b'', 0)
  assert len(content) > 2 * len(earlier)


@pytest.fixture(scope='module')
def counted(sample_log, tmp_path_factory):
  """The sample with all its successors, and some users held out."""
  output = tmp_path_factory.mktemp('counted') / 'out'
  flags = ('--successors=30', '--held_out_users=0.2')
  return prepared.prepare(sample_log, output, *flags)


@pytest.mark.slow
@pytest.mark.parametrize(
  'flags',
  [
    ('--direct_num_workers=2', '--direct_running_mode=multi_threading'),
    ('--direct_num_workers=2', '--direct_running_mode=multi_processing'),
  ],
  ids=['multi_threading', 'multi_processing'],
)
def test_every_runner_writes_the_same_bytes(tmp_path, sample_log, counted, flags):
  content = ('--successors=30', '--held_out_users=0.2')
  prepared.prepare(
    sample_log, tmp_path / 'out', *content, *flags, PYTHONHASHSEED='12345'
  )
  assert prepared.digests(tmp_path / 'out') == prepared.digests(counted.directory)


def digests_of_successors(dataset):
  return [file for file in dataset.manifest.files if file.split == SUCCESSORS]


@pytest.mark.slow
def test_groups_of_users_and_cuts_of_the_log_change_no_byte(
  tmp_path, sample_log, counted
):
  lines = sample_log.read_bytes().splitlines(keepends=True)
  folder = tmp_path / 'log'
  folder.mkdir()
  for number, start in enumerate(range(0, len(lines), 1700)):
    part = b''.join(lines[start : start + 1700])
    (folder / f'part-{number:02d}').write_bytes(part)
  flags = ('--successors=30', '--held_out_users=0.2', '--num_shards=3')
  other = prepared.prepare(folder, tmp_path / 'out', *flags)
  assert digests_of_successors(other) == digests_of_successors(counted)


@pytest.mark.slow
def test_the_rest_of_a_dataset_is_the_same_without(
  tmp_path, sample_log, sample_dataset
):
  dataset = prepared.prepare(sample_log, tmp_path / 'out', '--successors=2')
  plain, found = sample_dataset.manifest, dataset.manifest
  assert [f for f in found.files if f.split != SUCCESSORS] == list(plain.files)
  assert found.counts == plain.counts | {SUCCESSORS: dataset.rows(SUCCESSORS)}
  assert found.flags == plain.flags | {'successors': 2}
  for name in (dataset_lib.FEATURES_INFO, dataset_lib.DATASET_INFO):
    assert (dataset.directory / name).read_text() == (
      sample_dataset.directory / name
    ).read_text()


def test_tfds_reads_a_dataset_with_successors(counted):
  tfds = pytest.importorskip('tensorflow_datasets')
  builder = tfds.builder_from_directory(str(counted.directory))
  assert sorted(builder.info.splits) == sorted(dataset_lib.SPLITS)
  blocks = tfds.as_numpy(builder.as_dataset(split='test'))
  assert sum(len(block['user']) for block in blocks) == counted.rows('test')


@pytest.fixture(scope='module')
def whole(sample_log, tmp_path_factory):
  """The sample with all its successors."""
  output = tmp_path_factory.mktemp('whole') / 'out'
  return prepared.prepare(sample_log, output, '--successors=100000')


@pytest.mark.slow
@pytest.mark.parametrize('reverse', [0.0, 0.5])
@pytest.mark.parametrize('last', [3, 50])
def test_scores_are_those_of_the_baseline(whole, reverse, last):
  user, item = records.train_rows(whole)
  options = {'reverse': reverse, 'decay': 0.7, 'last': last}
  baseline = baselines.TransitionCounts(
    user, item, whole.num_users, whole.num_items, **options
  )
  count = np.bincount(item, minlength=whole.num_items)
  scorer = transitions.TransitionScores(transitions.read(whole), count, **options)
  exact = np.zeros((whole.num_items, whole.num_items))
  for items in train_histories(whole):
    for place, later in enumerate(items):
      for distance in range(1, min(place, 10) + 1):
        exact[items[place - distance], later] += distance**-0.7
  unrounded = transitions.TransitionScores(
    transitions.sp.csr_matrix(exact), count, **options
  )
  # A weight is off by half of its unit at most.
  rounding = max(abs(w / 2**16 * d**0.7 - 1) for d, w in enumerate(WEIGHTS, 1))
  for batch in records.evaluation_batches(whole, 'test', 100):
    expected = baseline.score_all(batch)
    found = scorer.scores(batch.history, batch.history_length)
    assert found.dtype == np.float32
    assert found.shape == (len(batch.user), whole.num_items)
    assert expected.any(axis=1).all()
    np.testing.assert_allclose(found, expected, rtol=rounding + 1e-6)
    found = unrounded.scores(batch.history, batch.history_length)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.slow
def test_a_history_of_nothing_scores_nothing(whole):
  count = whole.vocabulary(ITEMS).counts
  scorer = transitions.TransitionScores(transitions.read(whole), count)
  found = scorer.scores(np.array([3, 4], np.int64), np.array([0, 2, 0]))
  assert not found[0].any() and found[1].any() and not found[2].any()


def test_a_dataset_without_successors_says_what_to_run(tmp_path):
  dataset = toy_dataset.write(tmp_path, toy_dataset.tastes(5), num_items=40)
  with pytest.raises(UserError, match='Prepare it again with --successors=500'):
    transitions.read(dataset)


@pytest.mark.slow
def test_a_corrupt_shard_is_one_line(tmp_path, sample_log):
  dataset = prepared.prepare(sample_log, tmp_path / 'out', '--successors=2')
  path = max(dataset.shards(SUCCESSORS))
  with open(path, 'r+b') as stream:
    stream.seek(30)
    stream.write(b'\xff')
  with pytest.raises(UserError, match=r'ncf-successors.tfrecord-\d+-of-\d+ is corrupt'):
    transitions.read(dataset)


def test_successors_are_no_negative_number():
  assert '--successors=-1' in prepared.refused('--successors=-1')


def test_scores_by_all_cells_are_those_by_the_cells_alone(monkeypatch):
  generator = np.random.default_rng(0)
  counts = sp.random(12, 12, 0.4, 'csr', random_state=generator)
  counts.sort_indices()
  scorer = transitions.TransitionScores(counts, generator.integers(1, 9, 12))
  length = generator.integers(0, 70, 40)
  history = generator.integers(12, size=length.sum())
  found = []
  for dense in (False, True):
    monkeypatch.setattr(transitions, '_SPARSE_CELL', dense * 1e9)
    found.append(scorer.scores(history, length))
  assert found[0].any()
  np.testing.assert_array_equal(found[1], found[0])
