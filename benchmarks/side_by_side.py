"""Runs whole commands in turn, A B A B, and writes down what each took.

A figure of one machine means little; the ratio of two programs run in turn on the
same machine, within minutes, means more. So every claim of speed is such a ratio.
"""

import contextlib
import dataclasses
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator

import record

RESULTS = pathlib.Path(__file__).parent / 'results'
# The plots are part of the documentation.
IMAGES = pathlib.Path(__file__).parents[1] / 'docs' / 'images'


@dataclasses.dataclass(frozen=True)
class Run:
  """One run of a command as a whole process.

  Attributes:
    seconds: Wall time, from start to exit.
    peak_mib: Largest resident memory, in MiB, with that of its children.
    output: What it printed.
    cpu_seconds: Processor time of all its threads, and of children it waited for;
      noise of other programs is in it too, but less than in wall time.
  """

  seconds: float
  peak_mib: float
  output: str
  cpu_seconds: float = 0.0


def run(command: list[str], **environment: str) -> Run:
  """Runs a command to its end.

  Raises:
    RuntimeError: It failed; the end of what it printed is in the message.
  """
  with tempfile.TemporaryFile('w+') as output:
    begin = time.perf_counter()
    process = subprocess.Popen(
      command,
      stdout=output,
      stderr=subprocess.STDOUT,
      env={**os.environ, **environment},
    )
    with _watched(process.pid) as peaks:
      _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - begin
    process.returncode = os.waitstatus_to_exitcode(status)
    output.seek(0)
    text = output.read()
  if process.returncode:
    raise RuntimeError(f'{" ".join(command)} failed:\n{text[-2000:]}')
  cpu_seconds = usage.ru_utime + usage.ru_stime
  peak = max(peaks) or usage.ru_maxrss
  return Run(seconds, peak / 1024, text, cpu_seconds)


@contextlib.contextmanager
def _watched(pid: int) -> Iterator[list[int]]:
  """Collects `_resident_kib` every 50 ms; on Linux only, else zeros."""
  peaks, ended = [0], threading.Event()

  def watch():
    while not ended.wait(0.05):
      peaks.append(_resident_kib(pid))

  thread = threading.Thread(target=watch, daemon=True)
  thread.start()
  try:
    yield peaks
  finally:
    ended.set()
    thread.join()


def _resident_kib(pid: int | str) -> int:
  """Largest resident memory so far of a process and of each of its descendants.

  The usage that `wait4` tells begins with what the parent had when it forked.
  """
  process = pathlib.Path(f'/proc/{pid}')
  try:
    status = (process / 'status').read_text()
    children = [path.read_text() for path in process.glob('task/*/children')]
  except OSError:
    return 0
  own = re.search(r'^VmHWM:\s*(\d+) kB', status, re.MULTILINE)
  others = [_resident_kib(child) for child in ' '.join(children).split()]
  return (int(own[1]) if own else 0) + sum(others)


def module(name: str, *arguments: str) -> float:
  """Runs a module of the project, which prints as ever; returns its seconds.

  Raises:
    subprocess.CalledProcessError: It failed.
  """
  begin = time.perf_counter()
  subprocess.run([sys.executable, '-m', name, *arguments], check=True)
  return time.perf_counter() - begin


def once(note: pathlib.Path, name: str, *arguments: str) -> float:
  """Runs a module unless a note says that it ended; returns its seconds."""
  if not note.exists():
    note.parent.mkdir(parents=True, exist_ok=True)
    note.write_text(json.dumps(module(name, *arguments)))
  return json.loads(note.read_text())


def ratio(ours: list[float], theirs: list[float]) -> float:
  """The median of the pairwise ratios."""
  return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))


def save(name: str, result: dict) -> None:
  """Writes a result to benchmarks/results/NAME.json, and what it is of with it."""
  RESULTS.mkdir(exist_ok=True)
  text = json.dumps({'record': record.now(), **result}, indent=2) + '\n'
  (RESULTS / f'{name}.json').write_text(text)
  print(text, end='')
