"""Lines that a running command prints, with the wall and CPU seconds before each."""

import os
import pathlib
import subprocess
import tempfile
import time
from collections.abc import Iterator
from typing import NamedTuple


class Line(NamedTuple):
  """A line of a command's output, and seconds since its start, all threads' for CPU."""

  wall_seconds: float
  cpu_seconds: float
  text: str


def _cpu_seconds(process: int) -> float:
  text = pathlib.Path(f'/proc/{process}/stat').read_text()
  # After the name, which may hold anything, in parentheses.
  user, system = text.rpartition(')')[2].split()[11:13]
  return (int(user) + int(system)) / os.sysconf('SC_CLK_TCK')


def lines(
  command: list[str], directory: str = '.', **environment: str
) -> Iterator[Line]:
  """Runs a command in a directory; Linux only. Left early, it ends the command.

  Raises:
    RuntimeError: It failed; the end of what it said of that is in the message.
  """
  with tempfile.TemporaryFile('w+') as errors:
    begin = time.perf_counter()
    process = subprocess.Popen(
      command,
      cwd=directory,
      stdout=subprocess.PIPE,
      stderr=errors,
      env={**os.environ, 'PYTHONUNBUFFERED': '1', **environment},
      text=True,
    )
    try:
      for text in process.stdout:
        yield Line(time.perf_counter() - begin, _cpu_seconds(process.pid), text)
    except GeneratorExit:
      process.kill()
      raise
    finally:
      status = process.wait()
    if status:
      errors.seek(0)
      raise RuntimeError(f'{" ".join(command)} failed:\n{errors.read()[-2000:]}')
