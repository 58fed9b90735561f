"""Trials in forks of a process that has TensorFlow imported; see `commands`."""

import os
import pathlib
import runpy
import subprocess
import sys

import commands
import trained

from ncf_tfdata.tuning import process

_WORKER = 'ncf_tfdata.tuning.worker'


class _Fork:
  """What `process.Process` asks of a `subprocess.Popen`."""

  stdin = None

  def __init__(self, lines: list[str], log: pathlib.Path):
    environment = os.environ | trained.ONE_THREAD
    self._fork = commands.fork(_main, lines, str(log), environment)
    self.kill, self.terminate = self._fork.kill, self._fork.terminate

  @property
  def returncode(self) -> int | None:
    return self._fork.exitcode

  def poll(self) -> int | None:
    return self._fork.exitcode

  def wait(self, timeout: float | None = None) -> None:
    self._fork.join(timeout)
    if self._fork.exitcode is None:
      raise subprocess.TimeoutExpired(_WORKER, timeout or 0)


class Process(process.Process):
  """A trial's process, begun in an instant."""

  def __init__(self, lines: list[str], log: pathlib.Path, lock: int):
    self._log, self._process = log, _Fork(list(lines), log)


def _main(lines: list[str], log: str, environment: dict[str, str]) -> None:
  opened = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
  # A standard input that stays open as long as this process.
  os.dup2(os.pipe()[0], 0)
  for descriptor in (1, 2):
    os.dup2(opened, descriptor)
  os.environ.clear()
  os.environ.update(environment)
  sys.path.insert(0, str(commands.ROOT))
  sys.argv = [_WORKER, *lines]
  runpy.run_module(_WORKER, run_name='__main__', alter_sys=True)
