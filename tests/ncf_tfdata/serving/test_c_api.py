"""An export is asked by a C program, through TensorFlow's C API."""

import pathlib
import shutil
import subprocess

import numpy as np
import prepared
import pytest
import tensorflow as tf
import toy_answers
from tensorflow.core.protobuf import saved_model_pb2

from ncf_tfdata import dataset as dataset_lib
from ncf_tfdata.models import saved
from ncf_tfdata.serving import export

pytestmark = pytest.mark.engine

_K = 7


@pytest.fixture(scope='module')
def program(tmp_path_factory) -> pathlib.Path:
  """The C program, built against the libraries that TensorFlow's wheel brings."""
  compiler = shutil.which('gcc') or shutil.which('cc')
  libraries = pathlib.Path(tf.sysconfig.get_lib())
  if compiler is None or not (libraries / 'libtensorflow_cc.so.2').exists():
    pytest.skip('no C compiler, or no libtensorflow_cc.so.2')
  path = tmp_path_factory.mktemp('program') / 'lists'
  done = subprocess.run(
    [
      compiler,
      str(prepared.ROOT / 'tests' / 'support' / 'lists.c'),
      '-D_GNU_SOURCE',
      '-Wall',
      '-Werror',
      f'-I{tf.sysconfig.get_include()}',
      f'-L{libraries}',
      f'-Wl,-rpath,{libraries}',
      '-l:libtensorflow_cc.so.2',
      '-l:libtensorflow_framework.so.2',
      '-o',
      str(path),
    ],
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 0, done.stderr
  return path


def test_a_c_program_gets_the_lists_of_the_library(program, made, dataset, tmp_path):
  model = saved.load(made, dataset)
  export.save(model, dataset, tmp_path / 'served')
  proto = saved_model_pb2.SavedModel()
  proto.ParseFromString((tmp_path / 'served' / 'saved_model.pb').read_bytes())
  signature = proto.meta_graphs[0].signature_def['recommend']
  names = [signature.inputs[name].name for name in ('user', 'k')]
  names += [signature.outputs[name].name for name in ('items', 'scores')]
  people = list(toy_answers.histories(dataset).items())
  users = [*(user for user, _ in people), 'ключ']
  done = subprocess.run(
    [program, tmp_path / 'served', str(_K), *names],
    input='\n'.join(users),
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 0, done.stderr
  lines = [line.split('\t') for line in done.stdout.splitlines()]
  assert [line[0] for line in lines] == users
  expected = toy_answers.model_lists(made, dataset, people, k=_K)
  assert [line[1::2] for line in lines[:-1]] == [items for items, _ in expected]
  np.testing.assert_allclose(
    [[float(score) for score in line[2::2]] for line in lines[:-1]],
    [scores for _, scores in expected],
    rtol=1e-4,
    atol=1e-4,
  )
  assert lines[-1][1::2] == toy_answers.popular(dataset, k=_K)
  assert len(users) > dataset.vocabulary(dataset_lib.USERS).counts.size
