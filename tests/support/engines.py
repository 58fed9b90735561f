"""Starts the engines that `prepare` is proven on: Prism, and a Dask cluster."""

import contextlib
import itertools
import json
import os
import pathlib
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator

import prepared
import pytest

# Where `make prism` builds it.
_PRISM = pathlib.Path(sys.prefix) / 'bin' / 'prism'
_START_SECONDS = 60


def prism() -> tuple[str, ...]:
  """Flags for Prism; skips the test where there is no binary."""
  path = os.environ.get('PRISM', str(_PRISM))
  if shutil.which(path) is None:
    pytest.skip(f'no Prism at {path}: `make prism` builds it with Go, or set PRISM')
  return ('--runner=PrismRunner', f'--prism_location={path}')


class Dask:
  """A running cluster; each worker is a process of one thread.

  Attributes:
    address: The scheduler's.
    workers: Processes by the names that they have in the cluster.
  """

  def __init__(self, stack: contextlib.ExitStack, directory: pathlib.Path):
    self._stack = stack
    self._directory = directory
    self._contact = directory / 'scheduler.json'
    self._start('scheduler', '--port', '0')
    end = time.monotonic() + _START_SECONDS
    while not self._contact.exists():
      assert time.monotonic() < end, 'no scheduler'
      time.sleep(0.05)
    self.address: str = json.loads(self._contact.read_text())['address']
    self.workers: dict[str, subprocess.Popen] = {}
    self._names = itertools.count()

  @property
  def flags(self) -> tuple[str, ...]:
    return ('--runner=DaskRunner', f'--dask_client_address={self.address}')

  def start_worker(self) -> None:
    name = str(next(self._names))
    place = ('--local-directory', str(self._directory / f'worker-{name}'))
    options = ('--nthreads', '1', '--no-nanny', '--name', name, *place)
    self.workers[name] = self._start('worker', *options)

  def kill_worker(self, name: str) -> None:
    process = self.workers.pop(name)
    process.kill()
    process.wait()

  def _start(self, kind: str, *options: str) -> subprocess.Popen:
    contact = ('--scheduler-file', str(self._contact))
    place = ('--no-dashboard', '--host', '127.0.0.1')
    return self._stack.enter_context(_process(kind, *options, *contact, *place))


@contextlib.contextmanager
def dask(directory: pathlib.Path, num_workers: int = 2) -> Iterator[Dask]:
  """A scheduler and some workers, each a process; skips where Dask is missing."""
  distributed = pytest.importorskip('distributed', reason='no Dask: extra `dask`')
  with contextlib.ExitStack() as stack:
    cluster = Dask(stack, directory)
    for _ in range(num_workers):
      cluster.start_worker()
    with distributed.Client(cluster.address) as client:
      client.wait_for_workers(num_workers, timeout=_START_SECONDS)
    yield cluster


@contextlib.contextmanager
def _process(kind: str, *arguments: str) -> Iterator[subprocess.Popen]:
  process = subprocess.Popen(
    [sys.executable, '-m', f'distributed.cli.dask_{kind}', *arguments],
    cwd=prepared.ROOT,
    # Workers import what the tests make them do.
    env={**os.environ, 'PYTHONPATH': str(pathlib.Path(__file__).parent)},
    stdout=subprocess.DEVNULL,
    stderr=subprocess.DEVNULL,
  )
  try:
    yield process
  finally:
    process.kill()
    process.wait()


def cut_log(log: pathlib.Path, folder: pathlib.Path, parts: int) -> pathlib.Path:
  """The lines of a log as several files, so that reading spreads as well."""
  folder.mkdir()
  lines = log.read_bytes().splitlines(keepends=True)
  size = -(-len(lines) // parts)
  for number in range(parts):
    part = b''.join(lines[number * size : (number + 1) * size])
    (folder / f'part-{number}.dat').write_bytes(part)
  return folder
