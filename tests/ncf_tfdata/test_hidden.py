"""Packages that are not imported where nothing needs them."""

import subprocess
import sys

import commands
import pytest

from ncf_tfdata import hidden


def test_a_hidden_package_is_as_if_it_were_not_installed():
  sys.modules.pop('this', None)
  with hidden.hidden(['this', 'json']):
    with pytest.raises(ImportError):
      import this  # noqa: F401
    import json  # It was there already.
  assert json.dumps([1]) == '[1]'
  assert 'this' not in sys.modules


_KERAS = """
import gc, sys
from ncf_tfdata import tensorflow_messages
tensorflow_messages.quieten()
before = gc.get_freeze_count(), gc.get_stats()[2]['collections']
if sys.argv[1] == 'keras':
  import keras
import tensorflow, keras
assert 'matplotlib' not in sys.modules
# No garbage was looked for meanwhile; from now on it is.
assert gc.get_stats()[2]['collections'] == before[1]
assert gc.get_freeze_count() > before[0] + 100_000
assert gc.isenabled()
import matplotlib.pyplot
print(keras.ops.sum(tensorflow.ones(3)).numpy())
"""


@pytest.mark.slow
@pytest.mark.parametrize('first', ['keras', 'tensorflow'])
def test_keras_comes_without_matplotlib_which_is_there_all_the_same(first):
  done = subprocess.run(
    [sys.executable, '-c', _KERAS, first], capture_output=True, text=True, check=False
  )
  assert done.returncode == 0, done.stderr
  assert done.stdout == '3.0\n'


_BEAM = """
import sys
sys.argv = ['prepare', *sys.argv[1:]]
from absl import flags
from beam_pipelines import command
def main(argv):
  import apache_beam
  print('pymongo' in sys.modules, 'boto3' in sys.modules)
command.run(main)
"""


@pytest.mark.parametrize('path', ['s3://bucket/log', 'log'])
def test_a_job_finds_what_reads_stores_where_a_store_is_named(path):
  pytest.importorskip('boto3')
  done = subprocess.run(
    [sys.executable, '-c', _BEAM, f'--temp_location={path}'],
    capture_output=True,
    text=True,
    check=False,
    cwd=commands.ROOT,
  )
  assert done.returncode == 0, done.stderr
  assert done.stdout.split() == ['False', str(path.startswith('s3'))]
