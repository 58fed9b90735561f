"""Users become held-out rows and negatives, and rows become bytes that parse."""

import numpy as np
import prepared
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_pipelines import shards, splits
from beam_pipelines.histories import Users
from ncf_tfdata import dataset
from ncf_tfdata.dataset import TEST, TRAIN, VALIDATION
from ncf_tfdata.manifest import Cuts

NUM_ITEMS = 30
HISTORIES = st.lists(
  st.lists(st.integers(0, NUM_ITEMS - 1), min_size=1, max_size=20),
  min_size=1,
  max_size=6,
)


# Of the test row and of the validation row, a user each.
GAPS = np.array([[10 * user, 10 * user + 1] for user in range(8)], np.uint8)


def split(histories, holdout=2, first_user=100, eval_negatives=5, **options):
  users = Users(
    pa.array([f'u{number}' for number in range(len(histories))]),
    np.array([len(items) for items in histories]),
    np.concatenate(histories).astype(np.int32),
    {},
    GAPS[: len(histories)],
  )
  options = {'train_negatives': 3, 'seed': 0} | options
  recipe = splits.Recipe(holdout=holdout, eval_negatives=eval_negatives, **options)
  items = users.item.astype(np.int64)
  return shards.make(users, first_user, items, NUM_ITEMS, recipe)


def timed(histories, times, holdout, **options):
  """The same of users whose rows have times, unsigned [rows] since 1000."""
  length = np.array([len(items) for items in histories])
  keys = pa.array([f'u{number}' for number in range(len(histories))])
  item = np.concatenate(histories).astype(np.int32)
  users = Users(keys, length, item, {}, time=times, epoch=1000)
  recipe = splits.Recipe(
    holdout, train_negatives=3, eval_negatives=5, seed=0, **options
  )
  # As a group that is not the first: another has the log's earliest row.
  cuts = Cuts(first=990, last=1000 + int(times.max()))
  return shards.make(users, 100, item.astype(np.int64), NUM_ITEMS, recipe, cuts)


def oracle(histories, holdout, first_user=100, eval_negatives=5):
  """(user, item, history) of each row of each split, and users in train only."""
  found = {TRAIN: [], VALIDATION: [], TEST: []}
  short = crowded = 0
  for user, items in enumerate(histories, first_user):
    judged = len(items) >= 3 and NUM_ITEMS - len(set(items)) >= eval_negatives
    short += len(items) < 3
    crowded += len(items) >= 3 and not judged
    train = items[:-holdout] if judged else items
    found[TRAIN] += [(user, item) for item in train]
    if judged:
      found[TEST].append((user, items[-1], items[:-1]))
      if holdout == 2:
        found[VALIDATION].append((user, items[-2], items[:-2]))
  return found, short, crowded


@settings(max_examples=30)
@given(HISTORIES, st.integers(1, 40), st.sampled_from([1, 2]))
def test_a_group_is_split_as_its_parts_are(histories, part_rows, holdout):
  whole = split(histories, holdout)
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(shards, '_PART_ROWS', part_rows)
    parts = split(histories, holdout)
  for name, rows in whole.rows.items():
    assert shards.encode(parts.rows[name]) == shards.encode(rows)
    targets = parts.split.targets.get(name, ())
    assert list(targets) == list(whole.split.targets.get(name, ()))
  assert parts.split.counts == whole.split.counts
  assert parts.split.train_rows.tolist() == whole.split.train_rows.tolist()
  assert parts.train_count.tolist() == whole.train_count.tolist()
  assert parts.redrawn == whole.redrawn


def listed(rows: shards.Rows):
  if rows.history is None:
    return list(zip(rows.user.tolist(), rows.positive.tolist(), strict=True))
  ends = np.cumsum(rows.history_length)
  history = [part.tolist() for part in np.split(rows.history, ends)[:-1]]
  return list(zip(rows.user.tolist(), rows.positive.tolist(), history, strict=True))


@given(HISTORIES, st.sampled_from([1, 2]), st.sampled_from([5, 15, 28]))
def test_leave_last_out_is_that_of_the_oracle(histories, holdout, eval_negatives):
  shard = split(histories, holdout, eval_negatives=eval_negatives)
  expected, short, crowded = oracle(histories, holdout, eval_negatives=eval_negatives)
  if holdout == 1:
    assert VALIDATION not in shard.rows
  for name, rows in shard.rows.items():
    assert listed(rows) == expected[name]
    if name != TRAIN:
      column = (TEST, VALIDATION).index(name)
      assert rows.gap.tolist() == GAPS[rows.user - 100, column].tolist()
  assert shard.split.counts == {'users_too_short': short, 'users_too_crowded': crowded}
  train_users = [user for user, _ in expected[TRAIN]]
  assert shard.train_count.tolist() == [
    train_users.count(100 + user) for user in range(len(histories))
  ]


@given(HISTORIES, st.sampled_from([1, 2]), st.integers(1, 40), st.data())
def test_times_go_with_rows_and_change_nothing_else(histories, holdout, size, data):
  steps = st.lists(st.integers(0, 9), min_size=20, max_size=20)
  mine = [np.cumsum(data.draw(steps))[: len(items)] for items in histories]
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(shards, '_PART_ROWS', size)
    found = timed(histories, np.concatenate(mine).astype(np.uint8), holdout)
  plain = split(histories, holdout)
  for name, rows in found.rows.items():
    assert listed(rows) == listed(plain.rows[name])
    assert (rows.negatives == plain.rows[name].negatives).all()
    if name == TRAIN:
      expected = [
        time + 10
        for user, times in enumerate(mine, 100)
        for time in times[: (rows.user == user).sum()]
      ]
      assert rows.time.tolist() == expected
      assert rows.history_time is None
      continue
    last = -1 if name == TEST else -2
    assert rows.time.tolist() == [mine[user - 100][last] + 10 for user in rows.user]
    past = [time + 10 for user in rows.user for time in mine[user - 100][:last]]
    assert rows.history_time.tolist() == past
    gaps = [mine[user - 100][last] - mine[user - 100][last - 1] for user in rows.user]
    assert rows.gap.tolist() == gaps
  assert found.split.counts == plain.split.counts
  assert found.redrawn == plain.redrawn


@given(HISTORIES)
def test_negatives_are_items_that_the_user_never_touched(histories):
  shard = split(histories)
  for name, rows in shard.rows.items():
    for user, negatives in zip(rows.user, rows.negatives.tolist(), strict=True):
      items = histories[user - 100]
      if name == TRAIN:
        judged = int(user) in shard.rows[TEST].user
        assert not set(negatives) & set(items[:-2] if judged else items)
      else:
        assert len(set(negatives)) == 5
        assert not set(negatives) & set(items)


@given(HISTORIES, st.sampled_from([1, 2]), st.floats(0.01, 0.99))
def test_users_held_out_have_a_test_row_alone(histories, holdout, share):
  plain, shard = (
    split(histories, holdout),
    split(histories, holdout, held_out_users=share),
  )
  held_out = set(shard.rows[TEST].user.tolist())
  assert held_out <= set(plain.rows[TEST].user.tolist())
  for name, rows in shard.rows.items():
    mine = [(int(user) in held_out) == (name == TEST) for user in plain.rows[name].user]
    expected = [
      row for row, kept in zip(listed(plain.rows[name]), mine, strict=True) if kept
    ]
    assert listed(rows) == expected
    assert (rows.negatives == plain.rows[name].negatives[mine]).all()
  in_train = shard.split.train_rows.sum()
  assert in_train == len(shard.rows[TRAIN]) == shard.train_count.sum()
  counts, in_splits = shard.split.counts, sum(map(len, shard.rows.values()))
  assert counts['users_held_out'] == len(held_out)
  in_none = counts['history_only'] + counts['untested']
  assert in_splits + in_none == sum(map(len, histories))


@given(HISTORIES)
def test_holdout_twins_have_the_same_test(histories):
  one, two = split(histories, 1), split(histories, 2)
  assert listed(one.rows[TEST]) == listed(two.rows[TEST])
  assert (one.rows[TEST].negatives == two.rows[TEST].negatives).all()


def test_a_user_is_split_the_same_in_any_shard():
  generator = np.random.default_rng(0)
  histories = [generator.permutation(NUM_ITEMS)[: 4 + n].tolist() for n in range(8)]
  whole = split(histories)
  for user, items in enumerate(histories):
    alone = split([items], first_user=100 + user)
    for name, rows in alone.rows.items():
      mine = whole.rows[name].user == 100 + user
      assert (whole.rows[name].negatives[mine] == rows.negatives).all()


def rows_of(lengths, history=None, k=2, base=0, gaps=True, times=False):
  """Rows of users with so many rows each, of distinct numbers."""
  user = base + np.repeat(np.arange(len(lengths)), lengths)
  n = len(user)
  size = None if history is None else np.array(history, np.int64)
  return shards.Rows(
    user,
    base + np.arange(n) % 100,
    base + np.arange(n * k).reshape(n, k),
    None if size is None else base + np.arange(int(size.sum())),
    size,
    None if size is None or not gaps else base + np.arange(n) % 7,
    base + np.arange(n) % 11 if times else None,
    base + np.arange(int(size.sum())) % 13 if times and size is not None else None,
  )


def decoded(rows: shards.Rows, tmp_path):
  content, count = shards.encode(rows)
  path = tmp_path / 'shard'
  path.write_bytes(content)
  found = prepared.blocks(str(path))
  assert len(found) == count
  return found


def assert_same(blocks, rows: shards.Rows):
  def joined(name):
    return [value for block in blocks for value in block[name]]

  assert joined(dataset.USER) == rows.user.tolist()
  assert joined(dataset.POSITIVE) == rows.positive.tolist()
  assert joined(dataset.NEGATIVES) == rows.negatives.ravel().tolist()
  if rows.history is not None:
    assert joined(dataset.HISTORY) == rows.history.tolist()
    assert joined(dataset.HISTORY_LENGTH) == rows.history_length.tolist()
    gap = [] if rows.gap is None else rows.gap.tolist()
    assert joined(dataset.GAP) == gap
  for name, column in (
    (dataset.TIME, rows.time),
    (dataset.HISTORY_TIME, rows.history_time),
  ):
    assert column is None or joined(name) == column.tolist()


@pytest.mark.parametrize(
  'value', [0, 1, 127, 128, 2**14 - 1, 2**14, 2**21, 2**28 - 1, 2**35, 2**56, 2**63 - 1]
)
def test_varints_at_their_boundaries(tmp_path, value):
  values = np.array([[value, 0, value - 1 if value else 0, 127, value]])
  rows = shards.Rows(np.array([value]), np.array([value]), values)
  (block,) = decoded(rows, tmp_path)
  assert block == {'user': [value], 'pos': [value], 'negs': values[0].tolist()}


@pytest.mark.parametrize(
  'lengths, sizes',
  [
    ([1024], [1024]),
    ([1025], [1025]),
    ([1000, 24], [1024]),
    ([1000, 25], [1000, 25]),
    ([2000, 1, 1], [2000, 2]),
    ([1, 2000, 1], [1, 2000, 1]),
    ([500] * 5, [1000, 1000, 500]),
    ([1] * 2050, [1024, 1024, 2]),
    ([], []),
  ],
)
def test_train_blocks_hold_whole_users(tmp_path, lengths, sizes):
  rows = rows_of(lengths)
  blocks = decoded(rows, tmp_path)
  assert [len(block['user']) for block in blocks] == sizes
  assert_same(blocks, rows)


@pytest.mark.parametrize(
  'history, sizes',
  [
    ([65_536, 1], [1, 1]),
    ([65_535, 1, 1], [2, 1]),
    ([70_000, 1, 70_000], [1, 1, 1]),
    ([64] * 1025, [1024, 1]),
    ([65] * 1009, [1008, 1]),
    ([0, 0], [2]),
  ],
)
def test_evaluation_blocks_close_by_rows_or_by_history(tmp_path, history, sizes):
  rows = rows_of([1] * len(history), history)
  blocks = decoded(rows, tmp_path)
  assert [len(block['user']) for block in blocks] == sizes
  assert_same(blocks, rows)


@settings(max_examples=25)
@given(
  st.lists(st.integers(1, 700), max_size=6),
  st.integers(0, 3),
  st.booleans(),
  st.sampled_from([0, 126, 2**21, 2**40]),
  st.booleans(),
)
def test_any_rows_come_back(tmp_path_factory, lengths, k, judged, base, times):
  history = [length * 150 for length in lengths] if judged else None
  users = [1] * len(lengths) if judged else lengths
  rows = rows_of(users, history, k, base, k > 0, times)
  blocks = decoded(rows, tmp_path_factory.mktemp('shard'))
  assert_same(blocks, rows)
  owners = [set(block['user']) for block in blocks]
  assert sum(map(len, owners)) == len(set().union(*owners))  # no user in two blocks
  for block, owner in zip(blocks, owners, strict=True):
    if len(owner) > 1:
      assert len(block['user']) <= dataset.BLOCK_ROWS
      assert len(block.get('history', [])) <= dataset.BLOCK_HISTORY


def test_equal_rows_give_equal_bytes():
  assert shards.encode(rows_of([3, 4])) == shards.encode(rows_of([3, 4]))


def test_tfds_reads_a_prepared_dataset(sample_dataset):
  tfds = pytest.importorskip('tensorflow_datasets')
  builder = tfds.builder_from_directory(str(sample_dataset.directory))
  counts = sample_dataset.manifest.counts
  for split_name in dataset.SPLITS:
    blocks = list(tfds.as_numpy(builder.as_dataset(split=split_name)))
    records = [
      f.records for f in sample_dataset.manifest.files if f.split == split_name
    ]
    assert builder.info.splits[split_name].num_examples == sum(records) == len(blocks)
    assert sum(len(block['user']) for block in blocks) == counts[split_name]
    for block in blocks:
      # TFDS needs one shape for all splits, so a train block has empty histories.
      k = sample_dataset.negatives(split_name)
      assert len(block['pos']) == len(block['user']) == len(block['negs']) / k
      assert len(block['history']) == block['history_length'].sum()


def test_tf_data_parses_a_prepared_dataset(sample_dataset):
  import tensorflow as tf

  rows = 0
  for name in dataset.SPLITS:
    ragged = {c: tf.io.RaggedFeature(tf.int64) for c in dataset.features(name)}
    records = tf.data.TFRecordDataset(sample_dataset.shards(name)).batch(8)
    for batch in records.map(lambda b, ragged=ragged: tf.io.parse_example(b, ragged)):
      rows += int(batch['user'].flat_values.shape[0])
      for user in batch['user'].to_list():
        changes = [b for a, b in zip([None, *user], user, strict=False) if a != b]
        assert len(changes) == len(set(changes))  # a user's rows are contiguous
  assert rows == sample_dataset.manifest.counts['kept']
