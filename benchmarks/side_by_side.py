"""Runs whole commands in turn, A B A B, and writes down what each took.

A figure of one machine means little; the ratio of two programs run in turn on the
same machine, within minutes, means more. So every claim of speed is such a ratio.
"""

import dataclasses
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile
import time

RESULTS = pathlib.Path(__file__).parent / 'results'


@dataclasses.dataclass(frozen=True)
class Run:
  """One run of a command as a whole process.

  Attributes:
    seconds: Wall time, from start to exit.
    peak_mib: Largest resident memory, in MiB.
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
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - begin
    process.returncode = os.waitstatus_to_exitcode(status)
    output.seek(0)
    text = output.read()
  if process.returncode:
    raise RuntimeError(f'{" ".join(command)} failed:\n{text[-2000:]}')
  cpu_seconds = usage.ru_utime + usage.ru_stime
  return Run(seconds, usage.ru_maxrss / 1024, text, cpu_seconds)


def module(name: str, *arguments: str) -> float:
  """Runs a module of the project, which prints as ever; returns its seconds.

  Raises:
    subprocess.CalledProcessError: It failed.
  """
  begin = time.perf_counter()
  subprocess.run([sys.executable, '-m', name, *arguments], check=True)
  return time.perf_counter() - begin


def ratio(ours: list[float], theirs: list[float]) -> float:
  """The median of the pairwise ratios."""
  return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))


def save(name: str, result: dict) -> None:
  """Writes a result to benchmarks/results/NAME.json, with the machine it is of."""
  RESULTS.mkdir(exist_ok=True)
  content = {
    'machine': {
      'cores': os.cpu_count(),
      'architecture': platform.machine(),
      'python': platform.python_version(),
    },
    **result,
  }
  text = json.dumps(content, indent=2) + '\n'
  (RESULTS / f'{name}.json').write_text(text)
  print(text, end='')
