"""A run directory is held by one training at a time."""

import signal
import subprocess
import sys

import pytest

from ncf_tfdata.errors import UserError
from ncf_tfdata.run_lock import RunLock

_HOLDER = """
import pathlib, sys, time
from ncf_tfdata.run_lock import RunLock
lock = RunLock()
lock.take(pathlib.Path(sys.argv[1]))
print('held', flush=True)
time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
  """Another process that holds a directory of a run."""
  (tmp_path / 'run').mkdir()
  (tmp_path / 'run' / 'flags.cfg').touch()
  other = subprocess.Popen(
    [sys.executable, '-c', _HOLDER, str(tmp_path / 'run')], stdout=subprocess.PIPE
  )
  assert other.stdout.readline() == b'held\n'
  yield other
  other.kill()
  other.wait()


def test_a_second_training_is_refused_until_the_first_is_killed(tmp_path, holder):
  lock = RunLock()
  with pytest.raises(UserError, match='another training is at work') as raised:
    lock.take(tmp_path / 'run')
  assert '\n' not in str(raised.value)
  holder.send_signal(signal.SIGKILL)
  holder.wait()
  lock.take(tmp_path / 'run')
  lock.release()
  assert [path.name for path in (tmp_path / 'run').iterdir()] == ['flags.cfg']


def test_a_directory_that_stays_empty_is_not_left_behind(tmp_path):
  lock = RunLock()
  lock.take(tmp_path / 'some' / 'run')
  lock.release()
  assert not (tmp_path / 'some' / 'run').exists()
  lock.take(tmp_path / 'run')
  (tmp_path / 'run' / 'flags.cfg').touch()
  lock.release()
  assert (tmp_path / 'run' / 'flags.cfg').exists()


def test_a_directory_that_cannot_be_made_is_one_line(tmp_path):
  (tmp_path / 'file').touch()
  with pytest.raises(UserError, match=r'cannot write .* another --run_dir'):
    RunLock().take(tmp_path / 'file' / 'run')
