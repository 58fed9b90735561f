"""The launcher, where training itself does not begin; see test_workers for the rest."""

import pathlib
import re
import subprocess
import sys
import time

import commands
import pytest

from ncf_tfdata import launch


def test_addresses_are_distinct():
  assert len(set(launch.free_addresses(20))) == 20


def test_one_failure_ends_all_with_its_reason(tmp_path):
  done = commands.run(
    'ncf_tfdata.launch', '--workers=2', f'--log_dir={tmp_path}', '--', '--data_dir=none'
  )
  assert done.returncode == 1
  assert 'prepare' in done.stderr
  last = done.stderr.strip().split('\n')[-1]
  assert last.startswith('error: worker ')
  assert 'exit code 1' in last
  assert {path.name for path in tmp_path.iterdir()} == {'worker-1.log'}
  assert 'Traceback' not in done.stderr


def test_a_flag_that_does_not_exist_is_told(tmp_path):
  done = commands.run(
    'ncf_tfdata.launch', f'--log_dir={tmp_path}', '--', '--no_such_flag=1'
  )
  assert done.returncode == 1
  assert 'no_such_flag' in done.stderr + done.stdout


def _ended(pid: int) -> bool:
  try:
    stat = pathlib.Path(f'/proc/{pid}/stat').read_text()
  except OSError:
    return True
  return stat.rpartition(')')[2].split()[0] == 'Z'


@pytest.mark.skipif(sys.platform != 'linux', reason='Linux alone tells a process')
def test_workers_end_with_a_launcher_that_is_killed(tmp_path):
  """Started again, the training would else have two chiefs."""
  module = [sys.executable, '-m', 'ncf_tfdata.launch', '--workers=2']
  process = subprocess.Popen(
    [*module, f'--log_dir={tmp_path}', '--', '--data_dir=none'],
    cwd=commands.ROOT,
    stdout=subprocess.PIPE,
    text=True,
  )
  lines = [process.stdout.readline() for _ in range(2)]
  pids = [int(re.match(r'worker \d: process (\d+)', line)[1]) for line in lines]
  process.kill()
  process.wait()
  # They would take seconds to find that there is no such dataset.
  deadline = time.monotonic() + 1
  while not all(map(_ended, pids)) and time.monotonic() < deadline:
    time.sleep(0.01)
  assert all(map(_ended, pids))
