"""Ctrl-C ends a command in one line, and what it leaves is whole."""

import os
import pathlib
import signal
import subprocess
import sys
import time

import prepared
import pytest
import toy_run
import trained


def _end(process: subprocess.Popen) -> None:
  """Waits for the end, which must be one line on stderr."""
  _, errors = process.communicate(timeout=60)
  # A shell takes both for 130.
  assert process.returncode in (130, -signal.SIGINT), errors
  assert [line for line in errors.split('\n') if 'Traceback' in line] == []
  assert errors.strip().split('\n')[-1] == 'error: stopped by Ctrl-C.'


def test_a_training_goes_on_from_its_last_checkpoint(dataset, tmp_path):
  data, run_dir = dataset.directory, tmp_path / 'run'
  # Calls of one step, or a toy training is over before the signal comes. What follows
  # need not be as slow: neither flag has a part in the numbers.
  slow = ('--steps_per_call=1', '--checkpoint_every_steps=5')
  process = subprocess.Popen(
    trained.command(data, run_dir, '--batch_size=4', *slow),
    cwd=prepared.ROOT,
    env=trained.environment(),
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
    start_new_session=True,
  )
  while not (run_dir / 'epochs.csv').exists() and process.poll() is None:
    time.sleep(0.01)
  os.killpg(process.pid, signal.SIGINT)
  _end(process)
  assert not (run_dir / 'metrics.json').exists()
  trained.train(data, run_dir, '--batch_size=4')
  whole = trained.train(data, tmp_path / 'whole', '--batch_size=4')
  assert trained.numbers(run_dir) == trained.numbers(whole)
  assert trained.metrics(run_dir) == trained.metrics(whole)


@pytest.fixture
def run(dataset, tmp_path) -> pathlib.Path:
  return pathlib.Path(toy_run.write(tmp_path / 'run', dataset, 0).directory)


def _files(directory: pathlib.Path) -> dict[str, bytes]:
  paths = sorted(path for path in directory.rglob('*') if path.is_file())
  return {str(path): path.read_bytes() for path in paths}


def test_an_evaluation_leaves_a_run_as_it_was(run):
  before = _files(run)
  program = (
    'import os, signal, time\n'
    'from ncf_tfdata import command\n'
    'from ncf_tfdata.evaluate import CONFIGS, main\n'
    'from ncf_tfdata.evaluation import ranking\n'
    'def interrupted(*args, **named):\n'
    '  os.kill(os.getpid(), signal.SIGINT)\n'
    '  time.sleep(60)\n'
    'ranking.rank_split = interrupted\n'
    'command.run(main, *CONFIGS)\n'
  )
  process = subprocess.Popen(
    [sys.executable, '-c', program, f'--run_dir={run}', '--baselines=popularity'],
    cwd=prepared.ROOT,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )
  _end(process)
  assert _files(run) == before
