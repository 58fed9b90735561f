"""An export is asked by a Java program, through TensorFlow's own API for Java.

Maven downloads 160 MB of TensorFlow for it: JAVA=1, or `make test-java`, asks for that.
"""

import os
import shutil
import subprocess

import prepared
import pytest

import ncf_tfdata as ncf
from ncf_tfdata import dataset as dataset_lib
from ncf_tfdata.models import saved
from ncf_tfdata.serving import export

_PROJECT = prepared.ROOT / 'tests' / 'java'
_K = 7
# What Maven says where it is not reached.
_NO_NETWORK = ('Could not transfer', 'Unknown host', 'in offline mode')


def _maven(project, *arguments, **options) -> subprocess.CompletedProcess:
  return subprocess.run(
    ['mvn', '--batch-mode', '--quiet', *arguments],
    cwd=project,
    capture_output=True,
    encoding='utf8',
    check=False,
    **options,
  )


@pytest.fixture(scope='module')
def project(tmp_path_factory):
  """The Maven project, compiled; a copy, as Maven writes beside it."""
  if not os.environ.get('JAVA'):
    pytest.skip('downloads 160 MB by Maven; JAVA=1 asks for it')
  if shutil.which('mvn') is None:
    pytest.skip('no mvn')
  path = tmp_path_factory.mktemp('java') / 'lists'
  shutil.copytree(_PROJECT, path, ignore=shutil.ignore_patterns('target'))
  done = _maven(path, 'compile')
  said = done.stdout + done.stderr
  if done.returncode and any(words in said for words in _NO_NETWORK):
    pytest.skip('Maven reaches no repository')
  assert done.returncode == 0, said
  return path


@pytest.mark.slow
@pytest.mark.engine
def test_a_java_program_gets_the_lists_of_the_library(project, made, dataset, tmp_path):
  served = tmp_path / 'served'
  export.save(saved.load(made, dataset), dataset, served)
  users = [*dataset.vocabulary(dataset_lib.USERS).keys, 'ключ']
  asked = '\n'.join(users)
  done = _maven(project, 'exec:java', f'-Dexec.args={served} {_K}', input=asked)
  assert done.returncode == 0, done.stdout + done.stderr
  # Maven puts the terminal's colors back, on whatever its stdout is.
  printed = done.stdout.replace('\x1b[0m', '').splitlines()
  lines = [line.split('\t') for line in printed if '\t' in line]
  expected = ncf.Run(made, dataset).recommend(users, k=_K)
  assert [line[0] for line in lines] == users
  for line, each in zip(lines, expected, strict=True):
    assert line[1::2] == each.items
    scores = [float(score) for score in line[2::2]]
    assert scores == pytest.approx(each.scores, rel=1e-5, abs=1e-5)


def test_the_guide_shows_the_program():
  guide = (prepared.ROOT / 'docs' / 'guides' / 'serving.md').read_text()
  program = (_PROJECT / 'src' / 'main' / 'java' / 'Lists.java').read_text()
  assert f'```java\n{program}```\n' in guide
