"""The wheel holds all that is needed where the repository is not."""

import ast
import importlib.util
import os
import shutil
import subprocess
import sys

import prepared
import pytest

import ncf_tfdata
from beam_pipelines import sample
from ncf_tfdata import console

pytestmark = pytest.mark.slow

_PACKAGES = ('beam_pipelines', 'ncf_tfdata')


def _run(*words: object, cwd, **environment: str) -> str:
  done = subprocess.run(
    [sys.executable, '-m', *map(str, words)],
    cwd=cwd,
    env={**os.environ, **environment},
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 0, done.stdout + done.stderr
  return done.stdout


def _files(directory) -> set[str]:
  """Of both packages, without what Python keeps beside them."""
  return {
    str(path.relative_to(directory))
    for package in _PACKAGES
    for path in (directory / package).rglob('*')
    if path.is_file() and '__pycache__' not in path.parts
  }


@pytest.fixture(scope='module')
def installed(tmp_path_factory):
  """A directory that the wheel was installed in, and nothing else."""
  directory = tmp_path_factory.mktemp('wheel')
  source = directory / 'source'  # Building leaves files beside it.
  source.mkdir()
  for name in ('setup.py', 'pyproject.toml', 'README.md', 'LICENSE'):
    shutil.copy(prepared.ROOT / name, source)
  for name in _PACKAGES:
    ignored = shutil.ignore_patterns('__pycache__')
    shutil.copytree(prepared.ROOT / name, source / name, ignore=ignored)
  offline = ('--quiet', '--no-deps', '--no-index')
  build = ('--no-build-isolation', '--wheel-dir', directory, source)
  _run('pip', 'wheel', *offline, *build, cwd=directory)
  (wheel,) = directory.glob('*.whl')
  target = directory / 'installed'
  _run('pip', 'install', *offline, '--target', target, wheel, cwd=directory)
  shutil.rmtree(source)
  return target


def test_it_holds_every_module_template_and_mark(installed):
  found = _files(installed)
  assert found == _files(prepared.ROOT)
  assert {f'{package}/py.typed' for package in _PACKAGES} <= found
  assert {'.html', '.py'} <= {os.path.splitext(name)[1] for name in found}


def test_its_commands_run_from_another_directory(installed, tmp_path):
  # What is installed stands before the repository, which tests have on their path.
  environment = {'PYTHONPATH': str(installed)}
  sample.write(str(tmp_path / 'log.dat'), sample.Spec(ratings=3000, seed=0))
  flags = ('--input=log.dat', '--output=data', '--eval_negatives=20')
  _run('beam_pipelines.prepare', *flags, cwd=tmp_path, **environment)
  flags = ('--data_dir=data', '--baselines=popularity')
  said = _run('ncf_tfdata.evaluate', *flags, cwd=tmp_path, **environment)
  assert 'popularity' in said
  program = 'import beam_pipelines, ncf_tfdata as n; print(n.__file__)\n'
  (tmp_path / 'where.py').write_text(program)
  said = _run('where', cwd=tmp_path, **environment)
  assert said.startswith(str(installed))


def test_its_scripts_are_the_commands(installed, tmp_path):
  environment = {**os.environ, 'PYTHONPATH': str(installed)}
  for name, module in console.MODULES.items():
    script = installed / 'bin' / f'ncf-{name}'
    done = subprocess.run(
      [script, '--help'], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    source = importlib.util.find_spec(module).loader.get_source(module)
    first = ast.get_docstring(ast.parse(source)).partition('\n')[0]
    assert first in done.stdout, done.stderr
    assert '\n  --' in done.stdout, name  # Flags of its own.
  done = subprocess.run(
    [installed / 'bin' / 'ncf-train', '--data_dir=none'],
    cwd=tmp_path,
    env=environment,
    capture_output=True,
    text=True,
  )
  assert done.returncode == 1
  assert done.stderr.startswith('error: no finished dataset at none')


def test_its_version_is_that_of_the_packages(installed):
  (metadata,) = installed.glob('ncf_tfdata-*.dist-info')
  assert metadata.name == f'ncf_tfdata-{ncf_tfdata.__version__}.dist-info'
