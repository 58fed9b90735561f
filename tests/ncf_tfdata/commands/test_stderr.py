"""TensorFlow's start-up lines stay off stderr; what a user needs does not."""

import os
import subprocess
import sys

import prepared
import pytest

from ncf_tfdata import tensorflow_messages

_INFO = 'I0000 00:00:1795601341.436352 7832 cudart_stub.cc:31] Could not find cuda'
_NOTICE = 'WARNING: All log messages before absl::InitializeLog() is called are …'
_FATAL = 'F0000 00:00:1795601341.436352 7832 cpu_feature_guard.cc:1] needs AVX'


@pytest.fixture
def start(tmp_path):
  """Runs a command that imports a TensorFlow whose import is the given program."""

  def started(program: str, *arguments: str, **environment: str):
    package = tmp_path / 'tensorflow'
    package.mkdir()
    (package / '__init__.py').write_text(f'import os, sys\n{program}\n')
    command = (
      'from ncf_tfdata import command\n'
      'def main():\n'
      '  import tensorflow\n'
      '  print(type(tensorflow.__loader__).__name__)\n'
      '  os.write(2, b"I0000 later\\n")\n'
      'command.run(main)\n'
    )
    given = {key: os.environ[key] for key in os.environ if 'TF_' not in key}
    paths = os.pathsep.join([str(tmp_path), str(prepared.ROOT)])
    return subprocess.run(
      [sys.executable, '-c', f'import os\n{command}', *arguments],
      env={**given, 'PYTHONPATH': paths, **environment},
      capture_output=True,
      text=True,
      check=False,
    )

  return started


def says(*lines: str) -> str:
  text = '\n'.join([*lines, ''])
  return f'os.write(2, {text.encode()!r})'


def test_only_informing_lines_of_the_import_are_dropped(start):
  warning = _INFO.replace('I0000', 'W0000')
  done = start(says(_NOTICE, _INFO, warning, 'I am no line of a log', _INFO))
  assert done.returncode == 0, done.stderr
  assert done.stderr.splitlines() == [warning, 'I am no line of a log', 'I0000 later']
  assert done.stdout == 'SourceFileLoader\n'


def test_the_last_words_of_an_import_that_aborts_get_through(start):
  done = start(f'{says(_INFO, _FATAL)}\nos.abort()')
  assert done.returncode < 0
  assert _FATAL in done.stderr.splitlines()
  assert _INFO not in done.stderr


def test_an_import_that_fails_says_why(start):
  done = start('raise ImportError("no libcuda")')
  assert done.returncode == 1
  assert done.stderr.splitlines()[-1] == 'ImportError: no libcuda'


@pytest.mark.parametrize(
  ('arguments', 'environment'),
  [(('--verbosity=0',), {}), ((), {'TF_CPP_MIN_LOG_LEVEL': '0'})],
)
def test_who_asks_for_all_gets_all(start, arguments, environment):
  done = start(says(_INFO), *arguments, **environment)
  assert _INFO in done.stderr.splitlines()


@pytest.mark.parametrize(('has_gpu', 'level'), [(True, '1'), (False, '3')])
def test_warnings_of_the_gpu_are_kept_where_there_is_one(
  has_gpu, level, tmp_path, monkeypatch
):
  driver = tmp_path / 'nvidia'
  if has_gpu:
    driver.mkdir()
  monkeypatch.setattr(tensorflow_messages, '_DRIVER', driver)
  monkeypatch.setattr(sys, 'meta_path', list(sys.meta_path))
  monkeypatch.setenv(tensorflow_messages.LEVEL, 'x')
  monkeypatch.delenv(tensorflow_messages.LEVEL)
  tensorflow_messages.quieten()
  assert os.environ[tensorflow_messages.LEVEL] == level
