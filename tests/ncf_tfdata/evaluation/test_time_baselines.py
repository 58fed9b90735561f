"""Baselines that look at times, against plain loops."""

import math

import commands
import numpy as np
import prepared
import pytest

from ncf_tfdata import dataset as dataset_lib
from ncf_tfdata.data import records
from ncf_tfdata.evaluation import baselines

DAY = 86_400


@pytest.fixture(scope='module')
def cut(sample_log, tmp_path_factory):
  output = tmp_path_factory.mktemp('times') / 'data'
  return prepared.prepare_here(
    sample_log, output, '--split=time', '--targets=successive', '--time_quantile=.8'
  )


@pytest.fixture(scope='module')
def rows(cut):
  return (*records.train_rows(cut), cut.num_users, cut.num_items)


@pytest.fixture(scope='module')
def times(cut):
  return records.row_times(cut, dataset_lib.TRAIN)


def test_times_are_those_of_the_rows(cut, rows, times, sample_log):
  users, items = (
    cut.vocabulary(name).keys for name in (dataset_lib.USERS, dataset_lib.ITEMS)
  )
  when = {}
  for line in sample_log.read_text().splitlines():
    user, item, _, time = line.split('::')
    when[user, item] = int(time) - cut.manifest.cuts.first
  user, item, *_ = rows
  assert times.tolist() == [
    when[users[u], items[i]] for u, i in zip(user, item, strict=True)
  ]


@pytest.mark.parametrize('days', [1.0, 30.0])
def test_recent_popularity_counts_the_last_days(cut, rows, times, days):
  scorer = baselines.create(f'recent-popularity:days={days}')(
    *rows, time=times, day=DAY
  )
  _, item, *_ = rows
  expected = [0] * cut.num_items
  for one, time in zip(item, times, strict=True):
    expected[one] += time > max(times) - days * DAY
  assert 0 < sum(expected) < len(item)
  (batch,) = list(records.evaluation_batches(cut, 'test', 3))[:1]
  np.testing.assert_array_equal(scorer.score_all(batch), [expected] * len(batch.user))


def test_what_was_long_ago_counts_less(cut, rows, times):
  decayed = baselines.create('item-knn-decay:half_life=20:neighbours=30')(
    *rows, time=times, day=DAY
  )
  plain = baselines.create('item-knn:neighbours=30')(*rows)
  for batch in list(records.evaluation_batches(cut, 'test', 5))[:3]:
    found, ends = decayed.score_all(batch), np.cumsum(batch.history_length)
    for row, end in enumerate(ends):
      expected = np.zeros(cut.num_items)
      for place in range(end - batch.history_length[row], end):
        alone = batch._replace(
          user=batch.user[:1],
          history=batch.history[place : place + 1],
          history_length=np.array([1]),
        )
        age = (batch.time[row] - batch.history_time[place]) / DAY
        expected += math.pow(2, -age / 20) * plain.score_all(alone)[0]
      np.testing.assert_allclose(found[row], expected, rtol=1e-4, atol=1e-6)


def test_the_command_judges_them(cut):
  done = commands.run(
    'ncf_tfdata.evaluate', f'--data_dir={cut.directory}', '--candidates=seen_before',
    '--baselines=popularity,recent-popularity:days=3,item-knn-decay:half_life=9',
  )  # fmt: skip
  assert done.returncode == 0, done.stderr
  assert 'items seen before' in done.stdout
  for name in ('popularity', 'recent-popularity:days=3', 'item-knn-decay:half_life=9'):
    assert f'\n{name} ' in done.stdout


def test_a_dataset_without_times_is_refused(sample_dataset):
  done = commands.run(
    'ncf_tfdata.evaluate', f'--data_dir={sample_dataset.directory}',
    '--baselines=recent-popularity',
  )  # fmt: skip
  assert done.returncode == 1
  assert 'baseline recent-popularity needs times' in done.stderr
