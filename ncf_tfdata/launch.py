"""Trains on several workers of one machine.

    python -m ncf_tfdata.launch --workers=2 -- --flagfile=configs/sample.cfg

What follows `--` are the flags of `ncf_tfdata.train`. The chief's output is shown,
that of the others goes to a file each. When one worker fails all are ended; Ctrl-C and
SIGTERM have all of them save and stop.
"""

import ctypes
import dataclasses
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence

from absl import flags

from ncf_tfdata import command, config, errors
from ncf_tfdata.errors import UserError
from ncf_tfdata.training import preemption


@dataclasses.dataclass(frozen=True, kw_only=True)
class LaunchConfig(config.Config):
  """How many workers are started."""

  workers: int = config.setting(2, 'Worker processes.', minimum=1)


CONFIGS = (LaunchConfig,)

# TF_CONFIG, by which `ncf_tfdata.workers` finds its place; that module is TensorFlow's.
_CONFIG = 'TF_CONFIG'
_LOOK_SECONDS = 0.1
# From one failure to the end of the rest, in which others may tell of theirs.
_SETTLE_SECONDS = 1.0
# Ended by SIGTERM: with its state saved, or before there was any.
_STOPPED = {preemption.EXIT_CODE, -signal.SIGTERM}
# To save and stop, before those that still run are killed.
_GRACE_SECONDS = 60.0
# Of prctl(2): the signal that a process gets once its parent has ended.
_PR_SET_PDEATHSIG = 1


def free_addresses(count: int) -> list[str]:
  """Distinct addresses of this machine, free at the moment: host:port."""
  sockets = [socket.socket() for _ in range(count)]
  for each in sockets:
    each.bind(('localhost', 0))
  addresses = [f'localhost:{each.getsockname()[1]}' for each in sockets]
  for each in sockets:
    each.close()
  return addresses


def _ending_with_this() -> Callable[[], None] | None:
  """What a worker does first so that it does not outlive a launcher that is killed.

  Two trainings would else write to one run once it is started again. Linux alone has
  it.
  """
  if sys.platform != 'linux':
    return None
  launcher, libc = os.getpid(), ctypes.CDLL(None)

  def ask() -> None:
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != launcher:
      os.kill(os.getpid(), signal.SIGKILL)

  return ask


class _Worker:
  """A process of `train`."""

  def __init__(self, index: int, addresses: list[str], words: list[str], log: str):
    place = {
      'cluster': {'worker': addresses},
      'task': {'type': 'worker', 'index': index},
    }
    self.name, self._log = f'worker {index}', log
    with open(log or os.devnull, 'wb') as stream:
      self.process = subprocess.Popen(
        [sys.executable, '-m', 'ncf_tfdata.train', *words],
        env={**os.environ, _CONFIG: json.dumps(place)},
        stdin=subprocess.DEVNULL,
        stdout=stream if log else None,
        stderr=subprocess.STDOUT if log else None,
        # Ctrl-C is the launcher's to pass on, once.
        start_new_session=True,
        preexec_fn=_ending_with_this(),
      )

  def reason(self) -> str:
    """Why it failed, in one line."""
    code = self.process.returncode
    if code < 0:
      return (
        f'{self.name} was killed by {signal.Signals(-code).name}; started again, '
        'without --overwrite, the training goes on from its last checkpoint'
      )
    if not self._log:
      return f'{self.name}, the chief, failed with exit code {code}: see above'
    lines = pathlib.Path(self._log).read_text(errors='replace').strip().split('\n')
    return f'{self.name} failed with exit code {code}: {lines[-1]} (log: {self._log})'


def _ends(workers: Sequence[_Worker]) -> list[int | None]:
  return [worker.process.poll() for worker in workers]


def _failed(workers: Sequence[_Worker]) -> list[_Worker]:
  """Those that failed, the cause first: the killed, and last who only lost another."""
  found = [
    worker
    for worker in workers
    if worker.process.returncode not in {None, 0, *_STOPPED}
  ]
  lost = errors.LostWorkerError.exit_code
  codes = {worker: worker.process.returncode for worker in found}
  return sorted(found, key=lambda worker: (codes[worker] == lost, codes[worker] >= 0))


def _wait(workers: Sequence[_Worker], sigterm: preemption.Sigterm) -> None:
  """Waits until all have ended, or one has failed, or they do not stop when asked."""
  deadline = None
  while None in _ends(workers) and not _failed(workers):
    if deadline is None and (sigterm.asked or _STOPPED & set(_ends(workers))):
      deadline = time.monotonic() + _GRACE_SECONDS
      for worker in workers:
        worker.process.terminate()
    if deadline is not None and time.monotonic() > deadline:
      return
    time.sleep(_LOOK_SECONDS)


def main(argv: Sequence[str]) -> None:
  """The command."""
  count = config.read(LaunchConfig).workers
  directory = flags.FLAGS.log_dir or tempfile.mkdtemp(prefix='workers-')
  pathlib.Path(directory).mkdir(parents=True, exist_ok=True)
  addresses = free_addresses(count)
  workers: list[_Worker] = []
  with preemption.Sigterm(signal.SIGTERM, signal.SIGINT) as sigterm:
    try:
      for index in range(count):
        log = os.path.join(directory, f'worker-{index}.log') if index else ''
        workers.append(_Worker(index, addresses, list(argv[1:]), log))
        shown = f'log {log}' if log else 'shown here'
        print(f'worker {index}: process {workers[-1].process.pid}, {shown}', flush=True)
      _wait(workers, sigterm)
      if _failed(workers):
        time.sleep(_SETTLE_SECONDS)
        _ends(workers)
        raise UserError(f'{_failed(workers)[0].reason()}. All workers were ended.')
    finally:
      for worker in workers:
        worker.process.kill()
        worker.process.wait()
  if set(_ends(workers)) != {0}:
    raise preemption.Terminated


if __name__ == '__main__':
  flags.declare_key_flag('log_dir')
  command.run(main, *CONFIGS, takes_arguments=True)
