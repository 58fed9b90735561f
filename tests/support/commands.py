"""Runs this project's commands as a user does.

Imports take longer than most commands that tests run. So a process that has them
behind it (`warm`), and nothing begun, is forked for each command; all else is as
`python -m` has it. `COLD_COMMANDS=1` starts a new Python for each instead.
"""

import functools
import multiprocessing
import multiprocessing.forkserver
import os
import pathlib
import runpy
import subprocess
import sys
import tempfile
import types
from collections.abc import Callable

ROOT = pathlib.Path(__file__).parents[2]

# A library's threads do not outlive the fork, and are waited for: BLAS gets none.
os.environ.setdefault('OPENBLAS_NUM_THREADS', '1')
# TensorFlow reads it at its import, which is before a command can set it.
os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
_WARM = multiprocessing.get_context('forkserver')
_WARM.set_forkserver_preload(['warm'])
_OURS = ('beam_pipelines.', 'ncf_tfdata.')
_COLD = sys.platform != 'linux' or bool(os.environ.get('COLD_COMMANDS'))


def run(
  module: str, *arguments: object, directory: os.PathLike = ROOT, **environment: str
):
  """`python -m module` with some arguments, in a directory, to its end."""
  words = [module, *map(str, arguments)]
  if module.startswith(_OURS) and not _COLD:
    return _run_warm(words, directory, environment)
  return _run_cold(['-m', *words], directory, environment)


def run_code(
  code: str, *arguments: object, directory: os.PathLike = ROOT, **environment: str
):
  """`python -c code` with some arguments, in a directory, to its end."""
  words = ['-c', code, *map(str, arguments)]
  return (_run_cold if _COLD else _run_warm)(words, directory, environment)


def _run_cold(words: list[str], directory: os.PathLike, environment: dict[str, str]):
  return subprocess.run(
    [sys.executable, *words],
    cwd=directory,
    env={**os.environ, **environment},
    capture_output=True,
    text=True,
    check=False,
  )


def start(
  words: list[str], output: str, directory: os.PathLike = ROOT, **environment: str
):
  """Starts a command in a fork; its process.

  Args:
    words: Its module and its arguments, or as after `python`, from `-c` on.
    output: Directory for what it says: `1`, its stdout, and `2`, its stderr.
    directory: Where it runs.
    **environment: Variables beside those of this process.
  """
  return fork(_main, words, output, str(directory), os.environ | environment)


def fork(function: Callable[..., None], *arguments: object):
  """Starts a function in a fork, with arguments that can be pickled; its process."""
  _begin()
  process = _WARM.Process(target=function, args=arguments)
  process.start()
  return process


@functools.cache
def _begin() -> None:
  """Starts the process that is forked, which finds `warm` by this variable alone."""
  before = os.environ.get('PYTHONPATH')
  os.environ['PYTHONPATH'] = f'{ROOT}{os.pathsep}{ROOT}/tests/support'
  multiprocessing.forkserver.ensure_running()
  if before is None:
    del os.environ['PYTHONPATH']
  else:
    os.environ['PYTHONPATH'] = before


def _run_warm(words: list[str], directory: os.PathLike, environment: dict[str, str]):
  with tempfile.TemporaryDirectory() as output:
    process = start(words, output, directory, **environment)
    process.join()
    said = [pathlib.Path(output, name).read_text() for name in ('1', '2')]
    return subprocess.CompletedProcess(words, process.exitcode, *said)


def _main(
  words: list[str], output: str, directory: str, environment: dict[str, str]
) -> None:
  """What `python -m` does, in the forked process."""
  for descriptor in (1, 2):
    opened = os.open(os.path.join(output, str(descriptor)), os.O_WRONLY | os.O_CREAT)
    os.dup2(opened, descriptor)
    os.close(opened)
  os.environ.clear()
  os.environ.update(environment)
  os.chdir(directory)
  sys.path.insert(0, str(ROOT))
  if words[0] != '-c':
    sys.argv = words
    runpy.run_module(words[0], run_name='__main__', alter_sys=True)
    return
  sys.argv = ['-c', *words[2:]]
  sys.modules['__main__'] = main = types.ModuleType('__main__')
  exec(words[1], vars(main))
