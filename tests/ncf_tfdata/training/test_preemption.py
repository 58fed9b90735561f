"""SIGTERM: the state is saved, and the next start ends with the same bits."""

import os
import signal

import numpy as np
import pytest
import tensorflow as tf
import toy_training

from ncf_tfdata import run as run_lib
from ncf_tfdata.models import saved
from ncf_tfdata.training.preemption import EXIT_CODE, Sigterm, Terminated


def _signal():
  os.kill(os.getpid(), signal.SIGTERM)


def _fit(dataset, directory, validate=dict, batches=lambda stream: stream):
  """Trains with a moving average; returns losses, last and best weights."""
  task = toy_training.make_task(dataset, batches=batches)
  with Sigterm() as sigterm:
    rows, _, run = toy_training.fit(
      dataset,
      directory,
      epochs=2,
      monitor='loss',
      steps_per_call=1,
      average=0.9,
      task=task,
      validate=validate,
      sigterm=sigterm,
    )
  last = task.model.get_weights()
  saved.load_weights(run, task.model)
  return [row['loss'] for row in rows], last, task.model.get_weights()


def _equal(first, second):
  assert first[0] == second[0]
  for one, other in zip(first[1:], second[1:], strict=True):
    for a, b in zip(one, other, strict=True):
      np.testing.assert_array_equal(a, b)


@pytest.mark.slow
def test_in_the_middle_of_an_epoch(dataset, tmp_path):
  whole = _fit(dataset, tmp_path / 'whole')
  left = [3]

  def count():
    left[0] -= 1
    if left[0] == 0:
      _signal()
    return np.int64(0)

  def signalling(stream):
    # The pipeline reads ahead, so the signal comes in some step of the first epoch.
    return stream.map(
      lambda batch: (tf.numpy_function(count, [], tf.int64), batch)[1],
      num_parallel_calls=None,
    )

  with pytest.raises(Terminated) as end:
    _fit(dataset, tmp_path / 'stopped', batches=signalling)
  assert end.value.code == EXIT_CODE == 143
  assert run_lib.Run(tmp_path / 'stopped').history() == []
  assert list((tmp_path / 'stopped' / 'checkpoints').glob('state*'))
  _equal(_fit(dataset, tmp_path / 'stopped'), whole)


@pytest.mark.slow
def test_during_validation(dataset, tmp_path):
  whole = _fit(dataset, tmp_path / 'whole')
  beyond = []

  def validate():
    _signal()
    beyond.append('validation goes on')
    return {}

  with pytest.raises(Terminated):
    _fit(dataset, tmp_path / 'stopped', validate)
  assert not beyond
  assert run_lib.Run(tmp_path / 'stopped').history() == []
  _equal(_fit(dataset, tmp_path / 'stopped'), whole)


@pytest.mark.slow
def test_before_the_first_step(dataset, tmp_path):
  whole = _fit(dataset, tmp_path / 'whole')

  def at_once(stream):
    _signal()
    return stream

  with pytest.raises(Terminated):
    _fit(dataset, tmp_path / 'stopped', batches=at_once)
  _equal(_fit(dataset, tmp_path / 'stopped'), whole)


def test_a_second_ctrl_c_ends_at_once():
  with Sigterm(signal.SIGTERM, signal.SIGINT) as sigterm:
    os.kill(os.getpid(), signal.SIGINT)
    assert sigterm.asked and sigterm.interrupted
    with pytest.raises(KeyboardInterrupt):
      os.kill(os.getpid(), signal.SIGINT)


def test_the_handler_before_is_put_back():
  before = signal.getsignal(signal.SIGTERM)
  with Sigterm() as sigterm:
    assert sigterm.at_once(lambda: 5) == 5
    _signal()
    assert sigterm.asked
    with pytest.raises(Terminated):
      sigterm.at_once(lambda: 5)
  assert signal.getsignal(signal.SIGTERM) is before
