"""Fixtures that several test files share."""

import collections
import os
import pathlib
import signal

import hypothesis
import prepared
import pytest

from ncf_tfdata import tensorflow_messages

# Without what Keras takes along for nothing, as in a command.
tensorflow_messages.quieten()

# XLA compiles in less time without them. TensorFlow reads it when it is imported.
os.environ.setdefault('XLA_FLAGS', '--xla_cpu_use_fusion_emitters=false')

# No deadlines on a shared machine, and the same examples on every one.
hypothesis.settings.register_profile('tests', deadline=None, derandomize=True)
hypothesis.settings.load_profile('tests')

# Tests are marked by where they stand and by what they ask for; a file or a test with
# reasons of its own says `pytestmark` or `@pytest.mark`.
_MARKS_OF_FOLDERS = {'commands': pytest.mark.slow}
_MARKS_OF_FIXTURES = {
  'shared_data': pytest.mark.realdata,
  'desk': pytest.mark.slow,
  'cluster': pytest.mark.engine,
  'store': pytest.mark.engine,
}


# A shell's background job ignores Ctrl-C, and so would every command that tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
  signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
  for item in items:
    for folder in item.path.parts:
      if folder in _MARKS_OF_FOLDERS:
        item.add_marker(_MARKS_OF_FOLDERS[folder])
    for fixture in getattr(item, 'fixturenames', ()):
      if fixture in _MARKS_OF_FIXTURES:
        item.add_marker(_MARKS_OF_FIXTURES[fixture])
  _long_files_first(items)


def _long_files_first(items: list[pytest.Item]) -> None:
  """Orders files by how many of their tests take long.

  A file is run by one process. Begun as the last, a long one would run by itself.
  """
  long = collections.Counter(
    item.path
    for item in items
    if any(item.get_closest_marker(mark) for mark in ('slow', 'engine', 'realdata'))
  )
  items.sort(key=lambda item: -long[item.path])


@pytest.fixture(scope='session')
def shared_data() -> pathlib.Path:
  """Real datasets, which the repository does not hold."""
  path = prepared.ROOT.parent / 'shared' / 'data'
  if not path.is_dir():
    pytest.skip('no ../shared/data')
  return path


@pytest.fixture(scope='session')
def sample_log(tmp_path_factory) -> pathlib.Path:
  """The built-in log, small."""
  from beam_pipelines import sample

  path = tmp_path_factory.mktemp('sample') / 'ratings.dat'
  sample.write(str(path), sample.Spec(ratings=6000, seed=0))
  return path


@pytest.fixture(scope='session')
def sample_dataset(sample_log, tmp_path_factory):
  """The dataset that default flags make of `sample_log`."""
  return prepared.prepare(sample_log, tmp_path_factory.mktemp('prepared') / 'sample')


@pytest.fixture(scope='session')
def first_day(tmp_path_factory):
  """The dataset of the first of `growing`'s days."""
  import growing

  directory = tmp_path_factory.mktemp('first_day')
  log = growing.write(directory, 1)
  return prepared.prepare_here(log, directory / 'out', *growing.FLAGS)


@pytest.fixture(scope='session')
def second_day(first_day, tmp_path_factory):
  """The dataset of the second, which keeps the ids of the first."""
  import growing

  directory = tmp_path_factory.mktemp('second_day')
  flags = (f'--ids_from={first_day.directory}', *growing.FLAGS)
  return prepared.prepare_here(growing.write(directory, 2), directory / 'out', *flags)


@pytest.fixture(scope='session')
def forgetful_day(first_day, tmp_path_factory):
  """As `second_day`, without `growing.FORGOTTEN`."""
  import growing

  directory = tmp_path_factory.mktemp('forgetful_day')
  flags = (f'--ids_from={first_day.directory}', *growing.forget(directory))
  log = growing.write(directory, 2)
  return prepared.prepare_here(log, directory / 'out', *flags, *growing.FLAGS)


@pytest.fixture(scope='session')
def cut(sample_log, tmp_path_factory):
  """The dataset of `sample_log` that is split by time, and so holds times."""
  output = tmp_path_factory.mktemp('cut') / 'data'
  return prepared.prepare_here(
    sample_log, output, '--split=time', '--targets=successive', '--time_quantile=.8'
  )


@pytest.fixture(scope='module')
def dataset(tmp_path_factory):
  """A toy dataset of 40 items, written without Beam; users have tastes."""
  import toy_dataset

  directory = tmp_path_factory.mktemp('toy')
  return toy_dataset.write(directory, toy_dataset.tastes(), num_items=40)


@pytest.fixture(scope='module')
def made(dataset, tmp_path_factory):
  """A run on `dataset` of a history model that was not trained."""
  import toy_answers

  directory = tmp_path_factory.mktemp('history') / 'run'
  return toy_answers.history_run(directory, dataset, weight=0.0)
