"""`--held_out_items`: items that nothing learns from, against plain Python."""

import collections
import random

import growing
import numpy as np
import prepared
import pyarrow as pa
import pytest
import tensorflow as tf

import ncf_tfdata as ncf
from beam_pipelines import splits
from ncf_tfdata import dataset as dataset_lib
from ncf_tfdata.data import sampling
from ncf_tfdata.dataset import ITEMS, SUCCESSORS, TEST, TRAIN, VALIDATION
from ncf_tfdata.errors import UserError
from ncf_tfdata.models import task

pytestmark = pytest.mark.slow

_SEED = 3
_FLAGS = (*prepared.TOY, f'--seed={_SEED}', '--held_out_items=.3', '--successors=20')


def _log(seed: int) -> list[tuple[str, str, int, int]]:
  """40 users of 2 to 14 rows over 30 items, each time once."""
  draw = random.Random(seed)
  rows = [
    (f'u{user}', f'i{item}')
    for user in range(40)
    for item in draw.sample(range(30), draw.randint(2, 14))
  ]
  times = draw.sample(range(10_000), len(rows))
  return [(user, item, 5, time) for (user, item), time in zip(rows, times, strict=True)]


def _by_user(log) -> dict[str, list[tuple[str, int]]]:
  found = collections.defaultdict(list)
  for user, item, _, time in sorted(log, key=lambda row: row[3]):
    found[user].append((item, time))
  return found


def _held_out(log, share: float = 0.3) -> set[str]:
  names = sorted({row[1] for row in log})
  drawn = splits.items_held_out(pa.array(names), share, _SEED)
  return {name for name, mine in zip(names, drawn, strict=True) if mine}


def _prepare(tmp_path, log, *flags):
  path = prepared.write_log(tmp_path / 'log.dat', log)
  return prepared.prepare_here(path, tmp_path / 'out', *_FLAGS, *flags)


def _check(dataset, log, train, held):
  """Compares a dataset with what a loop makes of a log, and all that follows from it.

  Args:
    dataset: That was prepared.
    log: Of which.
    train: Items of each user that train, in order.
    held: By split, of each user (item, history) of each row that is asked for.
  """
  gone = _held_out(log)
  assert prepared.by_user(dataset, TRAIN) == train
  mine = {user: {item for item, _ in rows} for user, rows in _by_user(log).items()}
  for row in prepared.rows(dataset, TRAIN):
    assert not set(row.negatives) & (gone | set(train[row.user]))
  for split, expected in held.items():
    found = collections.defaultdict(list)
    for row in prepared.rows(dataset, split):
      found[row.user].append((row.item, row.history))
      assert not set(row.negatives) & mine[row.user]
    assert found == expected
  items = dataset.vocabulary(ITEMS)
  # Whatever counts train rows counts none of theirs, and yet they are in the catalogue.
  taken = collections.Counter(item for items in train.values() for item in items)
  assert dict(zip(items.keys, items.counts.tolist(), strict=True)) == {
    item: taken[item] for item in {row[1] for row in log}
  }
  assert dataset.catalogue_size == len(items.keys)
  untrained = dataset.untrained_items()
  assert {items.keys[i] for i in np.flatnonzero(untrained)} >= gone
  for path in dataset.shards(SUCCESSORS):
    for block in prepared.blocks(path):
      for item in (*block['item'], *block['successor']):
        assert items.keys[item] not in gone
  counts = dataset.manifest.counts
  assert counts['items_held_out'] == len(gone)
  targets = {
    split: [item for rows in expected.values() for item, _ in rows]
    for split, expected in held.items()
  }
  for split, positives in targets.items():
    assert counts[f'{split}_held_out_items'] == sum(item in gone for item in positives)
    assert counts[split] == len(positives)
  in_no_split = ('history_only', 'held_out_item_rows', 'rows_without_negatives')
  assert sum(counts.get(name, 0) for name in in_no_split) == (
    counts['kept'] - counts[TRAIN] - sum(map(len, targets.values()))
  )
  return counts


@pytest.mark.parametrize('holdout', [1, 2])
@pytest.mark.parametrize('seed', [0, 1])
def test_last_rows_against_a_loop(tmp_path, seed, holdout):
  log = _log(seed)
  gone = _held_out(log)
  assert 3 < len(gone) < 16
  train, held, too_short, not_trained = {}, {TEST: {}, VALIDATION: {}}, 0, 0
  for user, rows in _by_user(log).items():
    items = [item for item, _ in rows]
    if set(items[:-2]) <= gone:  # Nothing, or nothing to train on.
      too_short += 1
      end = len(items)
    else:
      end = len(items) - holdout
      held[TEST][user] = [(items[-1], tuple(items[:-1]))]
      if holdout == 2:
        held[VALIDATION][user] = [(items[-2], tuple(items[:-2]))]
    train[user] = [item for item in items[:end] if item not in gone]
    not_trained += end - len(train[user])
  if holdout == 1:
    del held[VALIDATION]
  train = {user: items for user, items in train.items() if items}
  dataset = _prepare(tmp_path, log, f'--holdout={holdout}')
  counts = _check(dataset, log, train, held)
  assert too_short > sum(len(rows) < 3 for rows in _by_user(log).values())
  assert counts['users_too_short'] == too_short
  assert counts['held_out_item_rows'] == not_trained


@pytest.mark.parametrize('targets', ['last', 'successive'])
def test_rows_of_a_split_by_time_against_a_loop(tmp_path, targets):
  log = _log(5)
  gone = _held_out(log)
  dataset = _prepare(tmp_path, log, '--split=time', f'--targets={targets}')
  cuts = dataset.manifest.cuts
  train, held = {}, {TEST: {}, VALIDATION: {}}
  for user, rows in _by_user(log).items():
    train[user] = [
      item for item, time in rows if time <= cuts.validation and item not in gone
    ]
    for split, begin, end in (
      (VALIDATION, cuts.validation, cuts.test),
      (TEST, cuts.test, cuts.last),
    ):
      asked = [
        (item, tuple(earlier for earlier, _ in rows[:place]))
        for place, (item, time) in enumerate(rows)
        if place and begin < time <= end
      ]
      if asked:
        held[split][user] = asked[-1:] if targets == 'last' else asked
  train = {user: items for user, items in train.items() if items}
  counts = _check(dataset, log, train, held)
  assert counts['held_out_item_rows'] == sum(
    time <= cuts.validation and item in gone
    for rows in _by_user(log).values()
    for item, time in rows
  )


def test_items_and_users_may_both_be_held_out(tmp_path):
  log = _log(2)
  gone = _held_out(log)
  dataset = _prepare(tmp_path, log, '--held_out_users=.4')
  tested = {row.user for row in prepared.rows(dataset, TEST)}
  assert 5 < len(tested) == dataset.manifest.counts['users_held_out']
  train = prepared.by_user(dataset, TRAIN)
  assert train and not tested & set(train)
  for items in train.values():
    assert not gone & set(items)


def test_an_item_is_held_out_by_its_key(tmp_path, first_day):
  """So that tomorrow's dataset, which keeps its ids, holds the same ones out."""
  flags = (f'--ids_from={first_day.directory}', '--held_out_items=.3', *growing.FLAGS)
  made = prepared.prepare_here(growing.write(tmp_path, 2), tmp_path / 'out', *flags)
  items = made.vocabulary(ITEMS)
  drawn = splits.items_held_out(pa.array(items.keys), 0.3, 0) & (items.rows > 0)
  assert made.manifest.counts['items_held_out'] == drawn.sum() > 3
  assert drawn[: first_day.num_items].any() and drawn[first_day.num_items :].any()
  assert not items.counts[drawn].any()
  assert (made.untrained_items() >= (drawn | made.unused_items())).all()


def test_a_user_of_all_other_items_is_in_no_split(tmp_path):
  """No train negative is left for them, whatever they leave of the held-out ones."""
  log = [
    (f'u{user}', f'i{item}', 5, item) for user in range(3) for item in range(user, 30)
  ]
  gone = _held_out(log)
  log += [('all', item, 5, 1) for item in {row[1] for row in log} - gone]
  dataset = _prepare(tmp_path, log)
  counts = dataset.manifest.counts
  assert 'all' not in prepared.by_user(dataset, TRAIN)
  assert counts['users_without_negatives'] >= 1
  assert counts['kept'] == sum(
    counts.get(name, 0)
    for name in (TRAIN, VALIDATION, TEST, 'held_out_item_rows', 'history_only',
                 'rows_without_negatives')
  )  # fmt: skip


def test_training_draws_none_of_them(tmp_path):
  dataset = _prepare(tmp_path, _log(3))
  context = task.Context(
    'neumf', dataset, ncf.ObjectiveConfig(), 64, _SEED, 1, load=lambda path: None
  )
  sampler = context.sampler()
  keys = np.array(dataset.vocabulary(ITEMS).keys)
  drawn = set(keys[sampler.draw(sampling.bits(0, tf.range(5000))).numpy()])
  assert drawn == set(keys) - _held_out(_log(3))


@pytest.mark.parametrize(
  'flag, message',
  [
    ('--held_out_items=1', 'expected a share of items from 0, and less than 1'),
    ('--held_out_items=1e-9', 'holds 0 of 30 items out. Pass another share'),
    ('--held_out_items=.999999', 'holds 30 of 30 items out'),
  ],
)
def test_shares_that_leave_nothing_are_refused(tmp_path, flag, message):
  with pytest.raises((UserError, ValueError), match=message):
    _prepare(tmp_path, _log(0), flag)
  assert not (tmp_path / 'out').exists()


def test_without_it_training_may_draw_every_item(sample_dataset):
  assert sample_dataset.untrained_items() is None
  content = (sample_dataset.directory / dataset_lib.MANIFEST).read_text()
  assert 'held_out_item' not in content
