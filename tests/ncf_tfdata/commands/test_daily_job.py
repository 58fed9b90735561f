"""The daily job of docs/guides/growing-log.md, on ten days of the built-in sample.

Day by day the log grows by a day, which is the test of that day's model; the day before
is what it fits. A user is forgotten on day 6, is removed from the log before day 9, and
comes back then.
"""

import datetime
import gzip
import io
import itertools
import pathlib
import zipfile
from typing import NamedTuple

import commands
import numpy as np
import prepared
import pytest

from beam_pipelines import sample
from ncf_tfdata import api
from ncf_tfdata.data import train_part
from ncf_tfdata.dataset import ITEMS, USERS, Dataset
from ncf_tfdata.errors import UserError
from ncf_tfdata.models.configs import NeuMFConfig
from ncf_tfdata.training.config import TrainConfig
from ncf_tfdata.training.trainer import Trainer

_DAYS = range(1, 11)
_FORGOTTEN_ON, _BACK_ON = 6, 9
# Nothing spells it by chance.
_USER = 'Žofie ⋅ 0c7b1e55'
_FIRST = datetime.datetime(2026, 11, 16, tzinfo=datetime.UTC)
_PREPARE = (
  '--split=time', '--targets=successive', '--holdout=1', '--min_item_count=1',
  '--eval_negatives=10', '--num_shards=1',
)  # fmt: skip
_MODEL = NeuMFConfig(gmf_dim=4, mlp_dim=4, mlp_layers=(8,))


class Day(NamedTuple):
  """What a day's job has made."""

  dataset: Dataset
  run: api.Run

  def keys(self, name: str) -> list[str]:
    return list(self.dataset.vocabulary(name).keys)

  def tables(self) -> list[np.ndarray]:
    """The model's tables of users."""
    weights = self.run.model.vocabulary_weights()[USERS]
    return [weight.numpy() for weight in weights]


def _date(day: int) -> str:
  return f'{_FIRST + datetime.timedelta(days=day - 1):%Y-%m-%d}'


def _log(path: pathlib.Path) -> list[list[tuple]]:
  """The sample in order of time: what was before day 1, and the rows of each day."""
  sample.write(str(path), sample.Spec(ratings=1500))
  lines = [line.split('::') for line in path.read_text().splitlines()]
  lines.sort(key=lambda line: int(line[3]))
  bounds = [0, *np.linspace(1000, len(lines), len(_DAYS) + 1).astype(int)]
  found = []
  for day, (first, end) in enumerate(itertools.pairwise(bounds)):
    begin = int(_FIRST.timestamp()) + (day - 1) * 86_400
    rows = [
      (user, item, rating, begin + 1 + place)
      for place, (user, item, rating, _) in enumerate(lines[first:end])
    ]
    # One a day, and eight before.
    items = dict.fromkeys(line[1] for line in lines)
    mine = list(items)[:8] if not day else [list(items)[7 + day]]
    rows += [(_USER, item, 4, begin + 5000 + place) for place, item in enumerate(mine)]
    found.append(rows)
  return found


def _config(day: int, base: api.Run | None = None, **settings) -> TrainConfig:
  if base is not None:
    settings = {'train_since': _date(day - 1)} | settings
    settings['warm_start'] = str(base.directory)
  return TrainConfig(
    **{'epochs': 1, 'batch_size': 1024, 'jit_compile': False} | settings
  )


@pytest.fixture(scope='module')
def work(tmp_path_factory):
  return tmp_path_factory.mktemp('daily')


@pytest.fixture(scope='module')
def days(work):
  """What the job makes, by day."""
  log, forget = work / 'log', work / 'forget.txt'
  log.mkdir()
  made: dict[int, Day] = {}
  parts = _log(work / 'sample.dat')
  for day, rows in enumerate(parts):
    prepared.write_log(log / f'{day:02d}.dat', rows)
    if not day:
      continue
    if day == _BACK_ON:
      for earlier in range(day):
        others = [row for row in parts[earlier] if row[0] != _USER]
        prepared.write_log(log / f'{earlier:02d}.dat', others)
    forgotten = _FORGOTTEN_ON <= day < _BACK_ON
    forget.write_text(f'{_USER}\n' if forgotten else '')
    before = made.get(day - 1)
    flags = [*_PREPARE, f'--time_at={_date(day)}', f'--forget={forget}']
    if before is not None:
      flags.append(f'--ids_from={before.dataset.directory}')
    dataset = prepared.prepare_here(log, work / 'data' / str(day), *flags)
    config = _config(day, before and before.run)
    where = work / 'runs' / str(day)
    run = api.train(dataset, _MODEL, config, run_dir=where, progress=False)
    made[day] = Day(dataset, run)
  return made


@pytest.mark.parametrize('name', [USERS, ITEMS])
def test_ids_of_every_day_are_those_of_the_day_before(days, name):
  for day in _DAYS[1:]:
    before, now = (days[each].keys(name) for each in (day - 1, day))
    if name == USERS and day == _FORGOTTEN_ON:
      before[before.index(_USER)] = ''
    assert now[: len(before)] == before
  assert len(now) > len(days[1].keys(name)) + 5


def test_the_day_is_asked_for_and_all_before_it_trains(days):
  for day in _DAYS:
    forgotten = _FORGOTTEN_ON <= day < _BACK_ON
    # 1,000 of the sample, 50 a day; the user's 8, and one a day until they are gone.
    mine = 0 if forgotten or day >= _BACK_ON else 8 + day - 1
    mine += max(0, day - _BACK_ON)
    counts = days[day].dataset.manifest.counts
    assert counts['train'] == 1000 + 50 * (day - 1) + mine
    assert counts['kept'] - counts['train'] == 50 + (not forgotten)
    assert 40 < counts['test'] <= 50 + (not forgotten)


def test_rows_of_the_day_before_are_kept(days):
  for day in _DAYS[1:]:
    for name in (USERS, ITEMS):
      before, now = (set(days[each].keys(name)) - {''} for each in (day - 1, day))
      here, there = (len(days[each].keys(name)) for each in (day, day - 1))
      kept = len(before & now)
      noted = days[day].run.metrics['warm_start'][name.removesuffix('.tsv')]
      assert noted == {'kept': kept, 'new': here - kept, 'dropped': there - kept}
      assert kept > 30


@pytest.mark.parametrize('day', [2, _FORGOTTEN_ON])
def test_who_did_nothing_has_the_row_of_the_day_before(days, day):
  part = train_part.since(days[day].dataset, _date(day - 1))
  before = np.array(days[day - 1].keys(USERS))
  idle = (part.user_rows[: len(before)] == 0) & (before != _USER)
  assert 10 < idle.sum() < len(before) - 2
  for old, new in zip(days[day - 1].tables(), days[day].tables(), strict=True):
    same = (old[: len(before)] == new[: len(before)]).all(axis=1)
    # Who was forgotten did nothing either, and yet has another row.
    np.testing.assert_array_equal(same, idle)


@pytest.fixture(scope='module')
def judged(days, work):
  """Exit codes of `evaluate` on day 6, by what is required."""
  day = days[_FORGOTTEN_ON]
  before = _config(_FORGOTTEN_ON, days[_FORGOTTEN_ON - 1].run)
  config = before.replace(epochs=0, train_since=None)
  where = work / 'runs' / 'before'
  api.train(day.dataset, _MODEL, config, run_dir=where, progress=False)
  found = {}
  for required in ('ndcg@10>=0,hr@10<=1', 'hr@10<=1,hr@10>1'):
    flags = (f'--compare_to={where}', f'--require={required}')
    done = commands.run('ncf_tfdata.evaluate', f'--run_dir={day.run.directory}', *flags)
    found[required] = done
  return found


def test_a_scheduler_is_told_by_the_exit_code(days, judged):
  met, missed = judged.values()
  assert met.returncode == 0, met.stderr
  assert missed.returncode == 4, missed.stderr
  value = days[_FORGOTTEN_ON].run.metrics['test']['full']['hr@10']
  line = f'error: test/full/hr@10 of neumf is {value:.4f}, required > 1'
  assert missed.stderr.splitlines() == [line]
  assert 'before' in met.stdout


def _contents(content: bytes):
  """A file's bytes, and those that are packed in them."""
  yield content
  if content[:2] == b'\x1f\x8b':
    yield from _contents(gzip.decompress(content))
  if zipfile.is_zipfile(io.BytesIO(content)):
    with zipfile.ZipFile(io.BytesIO(content)) as packed:
      for name in packed.namelist():
        yield from _contents(packed.read(name))


def _files_with(key: str, directory: pathlib.Path) -> set[str]:
  """Names of the files below a directory that hold a key in any spelling."""
  spelt = (
    key.encode(), key.encode('utf-16-le'), key.encode('utf-32-le'),
    key.encode('ascii', 'backslashreplace'), key[-8:].encode(),
  )  # fmt: skip
  files = [path for path in directory.rglob('*') if path.is_file()]
  assert len(files) >= 4
  return {
    path.name
    for path in files
    if any(one in each for each in _contents(path.read_bytes()) for one in spelt)
  }


def test_of_who_is_forgotten_nothing_is_in_any_byte(days, judged, tmp_path):
  day = days[_FORGOTTEN_ON]
  assert judged
  assert (day.run.directory / 'report.html').exists()
  day.run.export(tmp_path / '6')
  for where in (day.dataset.directory, day.run.directory, tmp_path / '6'):
    assert not _files_with(_USER, pathlib.Path(where))
  # The day before, and once they are back, they are where they should be.
  assert _files_with(_USER, days[_FORGOTTEN_ON - 1].dataset.directory) == {USERS}
  days[_DAYS[-1]].run.export(tmp_path / '10')
  assert _files_with(_USER, tmp_path / '10')


def test_who_returns_has_a_new_id_and_a_new_row(days):
  number = days[_FORGOTTEN_ON - 1].keys(USERS).index(_USER)
  earlier, now = days[_BACK_ON - 1], days[_BACK_ON]
  assert _USER not in earlier.keys(USERS)
  found = now.keys(USERS)
  assert found.count(_USER) == 1
  assert found.index(_USER) >= len(earlier.keys(USERS))
  assert found[number] == ''
  for old, new in zip(
    days[_FORGOTTEN_ON - 1].tables(), days[_DAYS[-1]].tables(), strict=True
  ):
    assert (old[number] != new[found.index(_USER)]).all()


def test_days_that_overlap_are_refused(days):
  with pytest.raises(UserError, match='has learnt what it is asked for') as raised:
    Trainer(days[3].dataset, _MODEL, _config(3, days[5].run))
  assert '\n' not in str(raised.value)
  for day in (3, 5):
    assert f'({_date(day)} 00:00:00)' in str(raised.value)
  # The same day again is fair: its test is what nobody has learnt.
  Trainer(days[3].dataset, _MODEL, _config(3, days[3].run))


def test_a_day_that_is_missing_is_told(days):
  made = Trainer(days[5].dataset, _MODEL, _config(5, days[3].run))
  (line,) = (
    line
    for line in made.describe(days[5].run.files).splitlines()
    if line.startswith('warning ')
  )
  for day in (3, 4):
    assert f'({_date(day)} 00:00:00)' in line
  whole = Trainer(
    days[5].dataset, _MODEL, _config(5, days[3].run, train_since=_date(3))
  )
  assert 'warning' not in whole.describe(days[5].run.files)
