"""The daily job on ten days of MovieLens-1M, each judged as it comes.

Of the log are the ten days before the first, so that a day takes a second.
"""

import datetime
import itertools
from typing import NamedTuple

import commands
import numpy as np
import prepared
import pytest
import tensorflow as tf

from ncf_tfdata import api
from ncf_tfdata.data import train_part
from ncf_tfdata.dataset import ITEMS, USERS, Dataset
from ncf_tfdata.models.configs import NeuMFConfig
from ncf_tfdata.training.config import TrainConfig

# Minutes: `make test-scale`.
pytestmark = pytest.mark.scale

_DAYS = [datetime.date(2000, 12, day) for day in range(20, 30)]
_BEFORE = 10
_PREPARE = (
  '--split=time', '--targets=successive', '--holdout=1', '--min_item_count=1',
  '--eval_negatives=10', '--num_shards=1',
)  # fmt: skip
_MODEL = NeuMFConfig(gmf_dim=4, mlp_dim=4, mlp_layers=(8,))
_TRAIN = TrainConfig(epochs=1, batch_size=1024, jit_compile=False)
# Columns of the log.
_USER, _ITEM, _TIME = 0, 1, 3


def _number(day: datetime.date) -> int:
  return (day - datetime.date(1970, 1, 1)).days


class _Log(NamedTuple):
  """The part of the log that is used: int64 [rows, 4], and the day of each row."""

  rows: np.ndarray
  day: np.ndarray

  def before(self, day: datetime.date) -> np.ndarray:
    return self.rows[self.day < _number(day)]

  def of(self, day: datetime.date) -> np.ndarray:
    return self.rows[self.day == _number(day)]


class _Made(NamedTuple):
  """What a day's job has made."""

  dataset: Dataset
  run: api.Run


@pytest.fixture(scope='module')
def log(shared_data):
  text = (shared_data / 'ml-1m' / 'ratings.dat').read_bytes().replace(b'::', b' ')
  rows = np.fromstring(text, np.int64, sep=' ').reshape(-1, 4)
  day = rows[:, _TIME] // 86_400
  used = (day >= _number(_DAYS[0]) - _BEFORE) & (day <= _number(_DAYS[-1]))
  return _Log(rows[used], day[used])


@pytest.fixture(scope='module')
def work(tmp_path_factory):
  return tmp_path_factory.mktemp('daily')


@pytest.fixture(scope='module')
def days(log, work):
  """What the job makes, by day."""
  folder = work / 'log'
  folder.mkdir()
  prepared.write_log(folder / 'before.dat', log.before(_DAYS[0]).tolist())
  made: dict[datetime.date, _Made] = {}
  yesterday = None
  for day in _DAYS:
    prepared.write_log(folder / f'{day}.dat', log.of(day).tolist())
    flags, config = [*_PREPARE, f'--time_at={day}'], _TRAIN
    if yesterday:
      before = made[yesterday]
      flags.append(f'--ids_from={before.dataset.directory}')
      start = {'warm_start': str(before.run.directory), 'train_since': str(yesterday)}
      config = config.replace(**start)
    dataset = prepared.prepare_here(folder, work / 'data' / str(day), *flags)
    where = work / 'runs' / str(day)
    run = api.train(dataset, _MODEL, config, run_dir=where, progress=False)
    made[day], yesterday = _Made(dataset, run), day
  return made


def test_a_day_is_asked_for_and_all_before_it_trains(days, log):
  for day, (dataset, _) in days.items():
    counts = dataset.manifest.counts
    assert counts['train'] == len(log.before(day))
    assert counts['kept'] == counts['train'] + len(log.of(day))


def test_the_day_before_is_what_is_fitted(days, log):
  for yesterday, day in itertools.pairwise(_DAYS):
    part = train_part.since(days[day].dataset, str(yesterday))
    assert part.rows == len(log.of(yesterday)) > 500


@pytest.mark.parametrize(('name', 'column'), [(USERS, _USER), (ITEMS, _ITEM)])
def test_ids_and_rows_stay_and_new_ones_are_those_of_the_day(days, log, name, column):
  grown = 0
  for yesterday, day in itertools.pairwise(_DAYS):
    before, now = (
      list(days[each].dataset.vocabulary(name).keys) for each in (yesterday, day)
    )
    known = {str(key) for key in log.before(day)[:, column]}
    new = {str(key) for key in log.of(day)[:, column]} - known
    assert now[: len(before)] == before
    assert set(now[len(before) :]) == new
    noted = days[day].run.metrics['warm_start'][name.removesuffix('.tsv')]
    assert noted == {'kept': len(before), 'new': len(new), 'dropped': 0}
    grown += len(new)
  assert grown > 50


def test_the_last_day_is_judged_and_its_export_knows_the_newest_users(
  days, log, tmp_path
):
  day, before = _DAYS[-1], _DAYS[-2]
  run = days[day].run
  required = '--require=hr@10>0,hr@10<.9'
  done = commands.run('ncf_tfdata.evaluate', f'--run_dir={run.directory}', required)
  assert done.returncode == 0, done.stderr

  known = set(log.before(before)[:, _USER].tolist())
  (user, *_) = [str(row[_USER]) for row in log.of(before) if row[_USER] not in known]
  run.export(tmp_path / 'served')
  served = tf.saved_model.load(str(tmp_path / 'served')).signatures['recommend']
  found = served(user=tf.constant([user]), k=tf.constant(10))
  (expected,) = run.recommend([user], k=10)
  assert expected.source == 'model'
  assert [item.decode() for item in found['items'].numpy()[0]] == expected.items
