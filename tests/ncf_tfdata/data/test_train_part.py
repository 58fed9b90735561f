"""The train interactions from a moment on: what batches hold of them, and of others."""

import collections
import itertools

import numpy as np
import pytest

from ncf_tfdata import dataset as dataset_lib
from ncf_tfdata import times
from ncf_tfdata.data import records, row_batches, sampling, train_part, window_batches
from ncf_tfdata.errors import UserError

_BATCH, _LENGTH, _WINDOW = 64, 5, 16


@pytest.fixture(scope='module')
def rows(cut):
  """Users, items and times of all train rows, user by user."""
  return *records.train_rows(cut), records.row_times(cut, 'train')


@pytest.fixture(scope='module')
def part(cut, rows):
  """The last fifth or so of them."""
  moment = int(np.quantile(rows[2], 0.8)) + cut.manifest.cuts.first
  return train_part.since(cut, str(moment))


def _late(rows, part) -> collections.Counter:
  return collections.Counter(
    (user, item) for user, item, time in zip(*rows, strict=True) if time >= part.since
  )


def test_a_part_counts_what_came_from_the_moment_on(rows, part):
  late = _late(rows, part)
  assert 0 < part.rows == sum(late.values()) < len(rows[0]) / 3
  assert part.users == len({user for user, _ in late}) < len(set(rows[0]))


def _row_stream(cut, part, **options):
  batches = row_batches.train_batches(
    cut,
    batch_size=_BATCH,
    seed=3,
    num_negatives=2,
    sampler=sampling.Sampler(cut.num_items),
    part=part,
    **{'negatives': 'fresh', **options},
  )
  return batches.as_numpy_iterator()


def _taken(stream, steps):
  """User, items and weight of each row that weighs anything."""
  batches = list(itertools.islice(stream, steps))
  user, items, weight = (
    np.concatenate([batch[name] for batch in batches])
    for name in ('user', 'items', 'weight')
  )
  found = zip(user.tolist(), items.tolist(), weight.tolist(), strict=True)
  return [row for row in found if row[2]]


@pytest.mark.slow
@pytest.mark.parametrize(('by_user', 'window_ids'), [(False, 1 << 13), (True, 1 << 20)])
def test_batches_hold_just_these_rows_as_they_are_among_all(
  cut, rows, part, by_user, window_ids, monkeypatch
):
  monkeypatch.setattr(row_batches, '_WINDOW_IDS', window_ids)
  options = {'by_user': by_user, 'recency': 0.5}
  steps = row_batches.steps_per_epoch(cut, _BATCH, part)
  assert steps == -(-part.rows // _BATCH)
  found = _taken(_row_stream(cut, part, **options), steps)
  assert collections.Counter((u, items[0]) for u, items, _ in found) == _late(
    rows, part
  )
  # Negatives are none of all that the user has, and the weights those of all rows.
  everything = _taken(
    _row_stream(cut, None, **options), row_batches.steps_per_epoch(cut, _BATCH)
  )
  whole = {(user, tuple(items), weight) for user, items, weight in everything}
  assert {(user, tuple(items), weight) for user, items, weight in found} <= whole


@pytest.mark.slow
def test_rows_go_on_where_a_training_was_stopped(cut, part):
  whole = list(itertools.islice(_row_stream(cut, part), 9))
  for batch, again in zip(
    whole[4:], _row_stream(cut, part, first_step=4), strict=False
  ):
    for name, column in batch.items():
      np.testing.assert_array_equal(column, again[name])


def _windows(cut, part, **options):
  return window_batches.window_batches(
    cut,
    batch_size=_BATCH,
    history_length=_LENGTH,
    seed=3,
    window=_WINDOW,
    part=part,
    **options,
  ).as_numpy_iterator()


def _targets(cut, part, replicas=1):
  """User, history and item of each target of an epoch."""
  steps = window_batches.steps_per_epoch(cut, _BATCH, _LENGTH, _WINDOW, part)
  for batch in itertools.islice(_windows(cut, part, replicas=replicas), steps):
    for replica in range(replicas):
      tokens, row, user, weight = (
        batch[name][replica] for name in ('tokens', 'row', 'user', 'weight')
      )
      for place, who in zip(row[weight > 0], user[weight > 0], strict=True):
        line = tokens[place // _WINDOW, place % _WINDOW :]
        yield int(who), tuple(line[:_LENGTH].tolist()), int(line[_LENGTH])


@pytest.mark.parametrize(('chunk', 'replicas'), [(None, 1), (1, 2)])
def test_targets_are_these_rows_and_histories_are_whole(
  cut, rows, part, chunk, replicas, monkeypatch
):
  if chunk:
    monkeypatch.setattr(window_batches, '_CHUNK_BLOCKS', chunk)
  monkeypatch.setattr(window_batches, '_FILL', 0.5)  # Nothing is thinned out.
  history = collections.defaultdict(lambda: [cut.num_items] * _LENGTH)
  expected = collections.Counter()
  for user, item, time in zip(*(each.tolist() for each in rows), strict=True):
    if time >= part.since:
      expected[user, tuple(history[user][-_LENGTH:]), item] += 1
    history[user].append(item)
  assert collections.Counter(_targets(cut, part, replicas)) == expected


def test_an_epoch_is_as_short_as_its_part(cut, part):
  whole = window_batches.steps_per_epoch(cut, _BATCH, _LENGTH, _WINDOW)
  steps = window_batches.steps_per_epoch(cut, _BATCH, _LENGTH, _WINDOW, part)
  assert steps < whole / 2


@pytest.mark.slow
def test_chunks_without_any_are_passed_over(cut, rows, monkeypatch):
  monkeypatch.setattr(window_batches, '_CHUNK_BLOCKS', 1)
  monkeypatch.setattr(window_batches, '_FILL', 0.5)
  last = cut.manifest.cuts.first + int(rows[2].max())
  part = train_part.since(cut, str(last - 1))
  late = _late(rows, part)
  assert part.rows == sum(late.values()) < 9
  found = collections.Counter((user, item) for user, _, item in _targets(cut, part))
  assert found == late
  steps = row_batches.steps_per_epoch(cut, _BATCH, part)
  taken = _taken(_row_stream(cut, part), steps)
  assert collections.Counter((user, items[0]) for user, items, _ in taken) == late


def test_a_date_is_its_midnight(cut, rows):
  last = cut.manifest.cuts.first + int(rows[2].max())
  day = times.date(last, cut.manifest.cuts.last)[:10]
  moment = times.moment(day, last, 'train_since')
  assert times.date(moment, last) == f'{day} 00:00:00'
  found = train_part.since(cut, day)
  assert found.rows == int((rows[2] + cut.manifest.cuts.first > moment).sum()) > 0


def test_an_interaction_at_the_moment_is_of_the_day_before(cut, rows):
  moment = int(np.sort(rows[2])[-9])
  found = train_part.since(cut, str(cut.manifest.cuts.first + moment))
  assert found.rows == int((rows[2] > moment).sum()) < 9


@pytest.mark.parametrize(
  ('text', 'told'),
  [
    ('soon', '--train_since=soon is neither a date'),
    ('9999-01-01', 'leaves no train interaction .* add the days that are missing'),
  ],
)
def test_a_moment_that_cannot_be_is_refused_in_one_line(cut, text, told):
  with pytest.raises(UserError, match=told) as raised:
    train_part.since(cut, text)
  assert '\n' not in str(raised.value)


def test_a_dataset_without_times_says_what_to_run(sample_dataset):
  assert dataset_lib.TIME not in sample_dataset.features('train')
  with pytest.raises(UserError, match='by --split=time'):
    train_part.since(sample_dataset, '2001-01-01')
