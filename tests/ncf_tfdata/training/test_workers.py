"""Several workers: the weights of one, one writer, and what they survive."""

import json
import multiprocessing
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import commands
import h5py
import numpy as np
import prepared
import pytest
import trained

from ncf_tfdata import launch
from ncf_tfdata.errors import UserError
from ncf_tfdata.training import workers
from ncf_tfdata.training.preemption import EXIT_CODE

pytestmark = pytest.mark.slow

# Without dropout, which each replica draws apart; the last epoch's weights are kept.
_FLAGS = (
  '--dropout=0',
  '--optimizer=sgd',
  '--learning_rate=0.5',
  '--monitor=loss',
)


def _command(data_dir, run_dir, logs, *arguments) -> list[str]:
  """The words of a training on two workers."""
  _, _, _, *words = trained.command(data_dir, run_dir, *_FLAGS, *arguments)
  launch = [sys.executable, '-m', 'ncf_tfdata.launch', '--workers=2']
  return [*launch, f'--log_dir={logs}', '--', *words]


def _start(command: list[str]) -> subprocess.Popen:
  return subprocess.Popen(
    command,
    cwd=prepared.ROOT,
    env=trained.environment(),
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )


def _train(*arguments) -> str:
  process = _start(_command(*arguments))
  output, errors = process.communicate()
  assert process.returncode == 0, output + errors
  return output


def _weights(run_dir: pathlib.Path) -> dict[str, np.ndarray]:
  found = {}

  def keep(name, node):
    if isinstance(node, h5py.Dataset):
      found[name] = node[()]

  with h5py.File(run_dir / 'checkpoints' / 'best.weights.h5') as file:
    file.visititems(keep)
  return found


def _close(first: pathlib.Path, second: pathlib.Path) -> None:
  one, other = _weights(first), _weights(second)
  assert one.keys() == other.keys()
  for name, weight in one.items():
    np.testing.assert_allclose(weight, other[name], rtol=1e-4, atol=1e-6)
  for a, b in zip(trained.numbers(first), trained.numbers(second), strict=True):
    assert float(a['loss']) == pytest.approx(float(b['loss']), rel=1e-5)


@pytest.fixture(scope='module')
def one(sample_dataset, tmp_path_factory):
  """The run of one process that has the same flags."""
  directory = tmp_path_factory.mktemp('one') / 'run'
  return trained.train(sample_dataset.directory, directory, *_FLAGS)


@pytest.fixture(scope='module')
def two(sample_dataset, tmp_path_factory):
  """A run of two workers that nothing disturbed."""
  directory = tmp_path_factory.mktemp('two')
  data, run_dir, logs = sample_dataset.directory, directory / 'run', directory / 'logs'
  output = _train(data, run_dir, logs)
  return run_dir, output, logs


def test_two_workers_give_the_weights_of_one(one, two, sample_dataset):
  run_dir, output, _ = two
  # 256 rows do not divide the log: the last batch is an uneven one.
  assert sample_dataset.rows('train') % 256
  assert '2 replicas' in output
  _close(one, run_dir)
  losses = [float(row['loss']) for row in trained.numbers(one)]
  assert losses[-1] < losses[0]


def test_two_workers_give_the_history_models_weights_of_one(sample_dataset, tmp_path):
  shape = '--members=1', '--learning_rate=1', '--epochs=2', '--jit_compile'
  flags = (*trained.HISTORY, *shape)
  data = sample_dataset.directory
  one = trained.train(data, tmp_path / 'one', *_FLAGS, *flags)
  _, _, *words = trained.command(data, tmp_path / 'two', *_FLAGS, *flags)
  started = _start_workers(2, tmp_path / 'said', words)
  for each in started:
    each.join()
  assert [each.exitcode for each in started] == [0, 0]
  _close(one, tmp_path / 'two')
  losses = [float(row['loss']) for row in trained.numbers(one)]
  assert losses[-1] < losses[0]


def test_only_the_chief_speaks_and_writes(two):
  run_dir, output, logs = two
  assert 'epoch 3/3' in output
  assert [path.name for path in logs.iterdir()] == ['worker-1.log']
  assert 'epoch' not in (logs / 'worker-1.log').read_text()
  events = list((run_dir / 'logs').rglob('events.*'))
  assert len(events) == 1
  assert {path.name for path in run_dir.parent.iterdir()} == {'run', 'logs'}


def test_one_process_stopped_goes_on_to_the_same_bits(one, sample_dataset, tmp_path):
  data, run_dir = sample_dataset.directory, tmp_path / 'run'
  flags = (*_FLAGS, '--steps_per_call=1', '--checkpoint_every_steps=5')
  process = trained.start(data, run_dir, tmp_path, *flags)
  while not (run_dir / 'epochs.csv').exists() and process.is_alive():
    time.sleep(0.01)
  process.terminate()
  process.join()
  assert process.exitcode == EXIT_CODE == 143
  output = (tmp_path / '1').read_text()
  assert 'the same command goes on' in output.splitlines()[-1]
  assert not (run_dir / 'metrics.json').exists()
  trained.train(data, run_dir, *flags)
  assert trained.metrics(run_dir) == trained.metrics(one)
  assert trained.numbers(run_dir) == trained.numbers(one)


def test_stopped_then_killed_they_end_with_the_same_bits(two, sample_dataset, tmp_path):
  """SIGTERM to all, SIGKILL to the worker that is not the chief, and then the rest."""
  run_dir = tmp_path / 'run'
  flags = ('--steps_per_call=1', '--checkpoint_every_steps=5')
  command = _command(sample_dataset.directory, run_dir, tmp_path / 'logs', *flags)

  process = _start(command)
  pids = []
  for line in process.stdout:
    pids += map(int, re.findall(r'process (\d+)', line))
    if line.startswith('epoch 1/'):
      break
  process.send_signal(signal.SIGINT)
  output, _ = process.communicate()
  assert process.returncode == EXIT_CODE
  assert 'the same command goes on' in output
  assert len(pids) == 2
  assert not any(pathlib.Path(f'/proc/{pid}').exists() for pid in pids)
  assert not (run_dir / 'metrics.json').exists()

  process = _start(command)
  pids = []
  for line in process.stdout:
    pids += map(int, re.findall(r'process (\d+)', line))
    if line.startswith('resuming'):
      break
  time.sleep(0.2)
  os.kill(pids[1], signal.SIGKILL)
  _, errors = process.communicate()
  assert process.returncode == 1
  assert 'error: worker 1 was killed by SIGKILL' in errors
  assert not (run_dir / 'metrics.json').exists()

  _train(sample_dataset.directory, run_dir, tmp_path / 'logs', *flags)
  assert trained.metrics(run_dir) == trained.metrics(two[0])
  assert trained.numbers(run_dir) == trained.numbers(two[0])


def _start_workers(count, folder, words) -> list[multiprocessing.Process]:
  """Starts processes that share a training, in forks; the chief is the first."""
  addresses = launch.free_addresses(count)
  started = []
  for index in range(count):
    output = folder / str(index)
    output.mkdir(parents=True)
    place = {
      'cluster': {'worker': addresses},
      'task': {'type': 'worker', 'index': index},
    }
    environment = {'TF_CONFIG': json.dumps(place), **trained.ONE_THREAD}
    started.append(commands.start(words, str(output), **environment))
  return started


def test_two_workers_start_from_another_run(one, sample_dataset, tmp_path):
  start = f'--warm_start={one}'
  flags = (*_FLAGS, '--epochs=1', '--learning_rate=0.1', start)
  for count in (1, 2):
    run_dir = tmp_path / f'of-{count}'
    _, _, *words = trained.command(sample_dataset.directory, run_dir, *flags)
    started = _start_workers(count, tmp_path / str(count), words)
    for each in started:
      each.join()
    assert {each.exitcode for each in started} == {0}
  _close(tmp_path / 'of-1', tmp_path / 'of-2')
  (first, *_), (later,) = trained.numbers(one), trained.numbers(tmp_path / 'of-2')
  assert float(later['loss']) < float(first['loss'])
  noted = trained.metrics(tmp_path / 'of-2')['warm_start']
  assert noted == trained.metrics(tmp_path / 'of-1')['warm_start']
  assert noted['users']['new'] == noted['items']['new'] == 0


def _saves(run_dir: pathlib.Path) -> int:
  """How many states have been saved, of all starts."""
  path = run_dir / 'checkpoints' / 'checkpoint'
  return int(path.read_text().split('"')[1].split('-')[1]) if path.exists() else 0


def test_killed_under_one_stopped_under_four_killed_under_two(
  one, sample_dataset, tmp_path
):
  """Any number of workers goes on where another stopped, within an epoch of 21 steps.

  A state is saved after each step, so that the number of states is that of steps.
  """
  run_dir = tmp_path / 'run'
  flags = (*_FLAGS, '--steps_per_call=1')
  _, _, *words = trained.command(
    sample_dataset.directory, run_dir, *flags, '--checkpoint_every_steps=1'
  )
  lives = [
    (1, signal.SIGKILL, 5),
    (4, signal.SIGTERM, 10),
    (2, signal.SIGKILL, 28),
    (1, None, 63),
  ]
  for count, number, saves in lives:
    started = _start_workers(count, tmp_path / f'{saves}', words)
    while number and _saves(run_dir) < saves and started[0].is_alive():
      time.sleep(0.005)
    for each in started if number else ():
      os.kill(each.pid, number)
    for each in started:
      each.join()
    codes = {each.exitcode for each in started}
    assert codes == {{signal.SIGTERM: EXIT_CODE, None: 0}.get(number, -signal.SIGKILL)}
    assert _saves(run_dir) >= saves
  # Nothing was repeated that was saved: a kill may lose the step under way, no more.
  assert _saves(run_dir) - 63 in range(2)
  _close(one, run_dir)


@pytest.mark.parametrize(
  ('config', 'place'),
  [
    (None, (0, 1)),
    ({}, (0, 1)),
    ({'cluster': {'worker': ['a:1']}, 'task': {'type': 'worker', 'index': 0}}, (0, 1)),
    (
      {'cluster': {'worker': ['a:1', 'b:1']}, 'task': {'type': 'worker', 'index': 1}},
      (1, 2),
    ),
    (
      {
        'cluster': {'worker': ['a:1', 'b:1'], 'chief': ['c:1']},
        'task': {'type': 'worker', 'index': '1'},
      },
      (2, 3),
    ),
  ],
)
def test_the_place_of_a_worker(config, place, monkeypatch):
  monkeypatch.delenv('TF_CONFIG', raising=False)
  if config is not None:
    monkeypatch.setenv('TF_CONFIG', json.dumps(config))
  assert workers.place() == place


@pytest.mark.parametrize(
  'text',
  [
    '{',
    '[1]',
    '{"cluster": {"ps": ["a:1"]}}',
    '{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 2}}',
    '{"cluster": {"worker": ["a:1"], "evaluator": ["b:1"]}}',
  ],
)
def test_a_cluster_that_is_none_is_told_in_one_line(text, monkeypatch):
  monkeypatch.setenv('TF_CONFIG', text)
  with pytest.raises(UserError, match='TF_CONFIG'):
    workers.place()
