"""Kills a training at random moments, and goes on with another number of workers.

    python benchmarks/elastic.py --kills=50

One process trains undisturbed. Then the same recipe is started with one of --workers,
ended at a drawn moment by SIGTERM or SIGKILL, of the launcher, the chief, another
worker or all, and started again with another number. Every step is a checkpoint, and
every checkpoint that this program sees is compared with that of the undisturbed one:
its position, and the sum of the losses up to there. Fails where a loss is another, a
step was lost, a process was left over, or one ended by an exit code that it should not.
SIGTERM to this program leaves the kills out that are still to come.
"""

import collections
import dataclasses
import itertools
import os
import pathlib
import random
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')

import side_by_side
import tensorflow as tf
from absl import app, flags

from ncf_tfdata.run import Run

_KILLS = flags.DEFINE_integer('kills', 50, 'How often a training is ended.')
_WORKERS = flags.DEFINE_list('workers', ['1', '2', '4'], 'Numbers of workers.')
_SEED = flags.DEFINE_integer('seed', 0, 'Of moments, signals and numbers.')
_RATINGS = flags.DEFINE_integer('ratings', 6000, 'Of the built-in sample.')
_FLAGS = flags.DEFINE_string(
  'train_flags',
  '--gmf_dim=8 --mlp_dim=8 --mlp_layers=16,8 --dropout=0 --batch_size=256 '
  '--learning_rate=.002 --epochs=12 --nojit_compile',
  'The recipe. Dropout is drawn by each replica for itself.',
)
_TOLERANCE = flags.DEFINE_float('tolerance', 1e-4, 'Relative, of a loss.')
_WORK = flags.DEFINE_string('work_dir', 'runs/elastic', 'Where data and runs go.')

# A checkpoint after each step is what makes each step visible from outside.
_EVERY_STEP = ('--steps_per_call=1', '--checkpoint_every_steps=1')
# Most steps from the start of a training to its kill, and what is drawn on top.
_MOST_STEPS, _MOST_SECONDS = 25, 0.1
# A share of the kills comes while a training starts, which takes so long.
_AT_START, _START_SECONDS = 0.2, 8.0
# Longer than any start or stop takes on a busy machine: what lasts longer hangs.
_PATIENCE = 1800.0

# Epochs done, steps of the next.
_Position = tuple[int, int]


class Watch:
  """Sees the checkpoints of a run, as another process writes them.

  Attributes:
    losses: By position, the sums of losses that were seen there.
    at: The last position.
  """

  def __init__(self, run: Run):
    self._run, self._states = run, run.checkpoints / 'checkpoint'
    self._stamp: Any = None
    self.losses: dict[_Position, set[float]] = collections.defaultdict(set)
    self.at: _Position = (0, 0)

  def look(self) -> bool:
    """Whether there is a checkpoint that was not there at the last look."""
    try:
      status = self._states.stat()
      stamp = status.st_mtime_ns, status.st_ino
      if stamp == self._stamp:
        return False
      # In one read: TensorFlow's own looks at the size first, and may get a part.
      name = self._states.read_text().split('"')[1]
      reader = tf.train.load_checkpoint(str(self._run.checkpoints / name))
      epoch, step, loss = (
        reader.get_tensor(f'{name}/.ATTRIBUTES/VARIABLE_VALUE').item()
        for name in ('epoch', 'step', 'loss')
      )
    except (OSError, ValueError, RuntimeError, tf.errors.OpError):
      return False  # It has made room for the next one.
    self._stamp, before = stamp, self.at
    self.at = epoch, step
    self.losses[self.at].add(loss)
    return self.at != before

  def finish(self, steps: int) -> None:
    """Takes the epochs' own losses, of so many steps, from epochs.csv."""
    for row in self._run.history():
      self.losses[int(row['epoch']) - 1, steps].add(row['loss'] * steps)


@dataclasses.dataclass(frozen=True)
class Plan:
  """What is drawn for one start of a training.

  Attributes:
    workers: How many.
    signal: What ends it.
    victim: Who gets the signal: launcher, chief, worker or all.
    steps: Checkpoints to wait for; none is at any moment of the start.
    seconds: To wait after that.
  """

  workers: int
  signal: signal.Signals
  victim: str
  steps: int
  seconds: float


def plans(kills: int, workers: list[int], seed: int) -> Iterator[Plan]:
  """Draws what happens; numbers of workers change every time."""
  draw, before = random.Random(seed), 0
  for _ in range(kills):
    count = draw.choice([each for each in workers if each != before] or workers)
    victims = ['chief'] if count == 1 else ['launcher', 'chief', 'worker', 'all']
    early = draw.random() < _AT_START
    before = count
    yield Plan(
      count,
      draw.choice([signal.SIGTERM, signal.SIGKILL]),
      draw.choice(victims),
      0 if early else draw.randint(1, _MOST_STEPS),
      draw.uniform(0, _START_SECONDS if early else _MOST_SECONDS),
    )


class Training:
  """A training under way: one process, or a launcher and its workers."""

  def __init__(self, workers: int, words: list[str], folder: pathlib.Path):
    launch = ['launch', f'--workers={workers}', f'--log_dir={folder / "logs"}', '--']
    module, *rest = ['train'] if workers == 1 else launch
    self._output = folder / 'output.txt'
    with self._output.open('w') as stream:
      self.process = subprocess.Popen(
        [sys.executable, '-m', f'ncf_tfdata.{module}', *rest, *words],
        stdout=stream,
        stderr=subprocess.STDOUT,
      )
    self._alone = workers == 1

  @property
  def output(self) -> str:
    return self._output.read_text(errors='replace')

  @property
  def workers(self) -> list[int]:
    """Process ids of the workers, the chief first."""
    if self._alone:
      return [self.process.pid]
    return [
      int(pid)
      for pid in re.findall(r'^worker \d+: process (\d+)', self.output, re.MULTILINE)
    ]

  def kill(self, plan: Plan) -> None:
    """Sends the signal to whom it is meant for, those who are there."""
    workers = self.workers
    chosen = {
      'launcher': [self.process.pid],
      'chief': workers[:1],
      'worker': workers[-1:],
      'all': [self.process.pid, *workers],
    }[plan.victim]
    for pid in chosen or [self.process.pid]:
      if _alive(pid):
        os.kill(pid, plan.signal)

  def left_over(self) -> list[int]:
    """Workers that outlive the launcher by seconds."""
    deadline = time.monotonic() + 5
    while (alive := [*filter(_alive, self.workers)]) and time.monotonic() < deadline:
      time.sleep(0.05)
    return alive

  def resumed(self) -> _Position | None:
    """Where it says that it went on."""
    found = re.search(
      r'^resuming after epoch (\d+), step ([\d,]+)', self.output, re.MULTILINE
    )
    return found and (int(found[1]), int(found[2].replace(',', '')))


def _alive(pid: int) -> bool:
  try:
    stat = pathlib.Path(f'/proc/{pid}/stat').read_text()
  except OSError:
    return False
  return stat.rpartition(')')[2].split()[0] != 'Z'


def expected(plan: Plan) -> set[int]:
  """Exit codes of what was started, by what befell it."""
  if plan.signal == signal.SIGTERM:
    return {143, -signal.SIGTERM}
  if plan.victim in ('launcher', 'all') or plan.workers == 1:
    return {-signal.SIGKILL}
  return {1}


def live(plan: Plan | None, words: list[str], watch: Watch) -> int:
  """Trains until the plan's end, or that of the training; the exit code.

  Raises:
    RuntimeError: Something is not as it should be.
  """
  before = watch.at
  folder = pathlib.Path(_WORK.value)
  training = Training(plan.workers if plan else 1, words, folder)
  steps, moment = plan.steps if plan else sys.maxsize, None
  deadline = time.monotonic() + _PATIENCE
  while training.process.poll() is None:
    if watch.look():
      steps, deadline = steps - 1, time.monotonic() + _PATIENCE
    now = time.monotonic()
    if steps <= 0 and moment is None:
      moment = now + plan.seconds
    if moment is not None and now >= moment:
      training.kill(plan)
      steps, moment = sys.maxsize, None
    if now > deadline:
      for pid in (training.process.pid, *training.workers):
        if _alive(pid):
          os.kill(pid, signal.SIGKILL)
      raise RuntimeError(f'{plan} hangs:\n{training.output}')
    time.sleep(0.001)
  watch.look()
  code, resumed = training.process.returncode, training.resumed()
  if left := training.left_over():
    raise RuntimeError(f'{plan} leaves processes {left}')
  if code and (plan is None or code not in expected(plan)):
    raise RuntimeError(f'{plan} ends by {code}:\n{training.output}')
  if watch.at < before or (resumed is not None and resumed < before):
    raise RuntimeError(f'{plan} goes on from {resumed}, after {before} was saved')
  return code


def differences(found: Watch, reference: Watch, steps: int) -> dict[int, list[float]]:
  """Relative differences of losses, by how many steps they are the sum of.

  Between two neighbours of the positions of an epoch that were seen in both trainings
  lies one step as a rule; every step lies between two.
  """
  result = collections.defaultdict(list)
  for epoch in sorted({epoch for epoch, step in found.losses if step == steps}):
    places = [
      step
      for step in range(steps + 1)
      if not step or {(epoch, step)} <= found.losses.keys() & reference.losses.keys()
    ]
    sums = {0: (0.0, 0.0)}
    for step in places[1:]:
      (right,) = reference.losses[epoch, step]
      seen = found.losses[epoch, step]
      sums[step] = max(seen, key=lambda loss, right=right: abs(loss - right)), right
    for first, last in itertools.pairwise(places):
      ours, right = (b - a for a, b in zip(sums[first], sums[last], strict=True))
      result[last - first].append(abs(ours - right) / right)
  return result


def _check_files(run: Run) -> None:
  """Refuses what a kill has left half written, beside the last state and the best."""
  state = (run.checkpoints / 'checkpoint').read_text().split('"')[1]
  whole = [f'{state}.data-00000-of-00001', f'{state}.index']
  found = sorted(path.name for path in run.checkpoints.iterdir())
  if found != ['best.weights.h5', 'checkpoint', *whole]:
    raise RuntimeError(f'{run.checkpoints} holds {found}')


def _disturbed(
  reference: Watch, steps: int, words: Callable[[Run], list[str]]
) -> tuple[list[tuple[Plan, _Position]], int, dict[int, list[float]]]:
  """Kills trainings, one after another, and lets each come to its end.

  Returns:
    The kills with the position that was reached, how many trainings it took, and all
    `differences`.
  """
  workers = [int(each) for each in _WORKERS.value]
  left = list(plans(_KILLS.value, workers, _SEED.value))
  signal.signal(signal.SIGTERM, lambda *unused: left.clear())
  kills, trainings, found = [], 0, collections.defaultdict(list)
  while left:
    trainings += 1
    run = Run(pathlib.Path(_WORK.value) / f'disturbed-{trainings}')
    watch = Watch(run)
    while run.metrics() is None:
      plan = left.pop(0) if left else None
      code = live(plan, words(run), watch)
      # One that came to its end before its moment was not killed.
      if plan and code:
        kills.append((plan, watch.at))
      print(len(kills), plan, code, watch.at, flush=True)
    watch.finish(steps)
    _check_files(run)
    for size, values in differences(watch, reference, steps).items():
      found[size] += values
  return kills, trainings, found


def main(unused_argv: list[str]) -> None:
  """The benchmark."""
  work = pathlib.Path(_WORK.value)
  shutil.rmtree(work, ignore_errors=True)
  work.mkdir(parents=True)
  sample = (f'--sample_ratings={_RATINGS.value}', f'--output={work / "data"}')
  side_by_side.module('beam_pipelines.prepare', *sample)

  def words(run: Run) -> list[str]:
    paths = (f'--data_dir={work / "data"}', f'--run_dir={run.directory}')
    return [*paths, '--monitor=loss', *_EVERY_STEP, *shlex.split(_FLAGS.value)]

  run = Run(work / 'undisturbed')
  reference = Watch(run)
  live(None, words(run), reference)
  # That of the last step is the first of the next epoch.
  steps = 1 + max(step for _, step in reference.losses)
  reference.finish(steps)
  kills, trainings, found = _disturbed(reference, steps, words)
  worst = max(max(values) for values in found.values())
  by = collections.Counter(
    f'{plan.workers} workers, {plan.signal.name} of {plan.victim}' for plan, _ in kills
  )
  result = {
    'recipe': _FLAGS.value,
    'kills': len(kills),
    'by': dict(sorted(by.items())),
    'while starting': sum(not plan.steps for plan, _ in kills),
    'within an epoch': sum(step > 0 for _, (_, step) in kills),
    'trainings': trainings,
    'steps': sum(size * len(values) for size, values in found.items()),
    'steps seen by themselves': len(found[1]),
    'largest relative difference of a loss': worst,
  }
  side_by_side.save('elastic', result)
  if worst > _TOLERANCE.value:
    sys.exit(f'a loss differs by {worst:.1e}, more than {_TOLERANCE.value:.1e}')


if __name__ == '__main__':
  app.run(main)
