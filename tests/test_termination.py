"""SIGTERM: the state is saved, and the next start ends with the same bits."""

import os
import signal

import numpy as np
import pytest
import tensorflow as tf
import toy_dataset

from ncf_tfdata import input_pipeline, losses, neumf, optimizers, sampling, training
from ncf_tfdata import run as run_lib
from ncf_tfdata.steps import Task
from ncf_tfdata.termination import EXIT_CODE, Sigterm, Terminated

_BATCH = 128


def _signal():
  os.kill(os.getpid(), signal.SIGTERM)


@pytest.fixture(scope='module')
def dataset(tmp_path_factory):
  path = tmp_path_factory.mktemp('toy')
  return toy_dataset.write(path, toy_dataset.tastes(), num_items=40)


def _fit(dataset, directory, validate=dict, batches=lambda stream: stream):
  """Trains with a moving average; returns losses, last and best weights."""
  model = neumf.NeuMF(
    dataset.num_users, dataset.num_items, gmf_dim=4, mlp_dim=4, mlp_layers=(8,)
  )
  sampler = sampling.Sampler(dataset.num_items)
  objective = losses.Objective(
    model, 'bce', batch_size=_BATCH, seed=0, sampler=sampler, num_negatives=2
  )
  task = Task(
    model,
    objective,
    batches=lambda epoch, step: batches(
      input_pipeline.train_batches(
        dataset,
        batch_size=_BATCH,
        seed=0,
        negatives='fresh',
        num_negatives=2,
        sampler=sampler,
        first_epoch=epoch,
        first_step=step,
      )
    ),
    steps=input_pipeline.steps_per_epoch(dataset, _BATCH),
    rows=dataset.rows('train'),
  )
  rate = optimizers.LearningRate(0.02, steps_per_epoch=task.steps)
  optimizer = optimizers.create('adam', rate, beta_2=0.999, average=0.9)
  optimizer.build(model.trainable_variables)
  run = run_lib.Run(directory)
  run.start({}, dataset, model, overwrite=False)
  options = training.Options(
    epochs=2,
    monitor='loss',
    patience=0,
    steps_per_call=1,
    checkpoint_every_steps=1000,
    jit_compile=False,
  )
  strategy = tf.distribute.get_strategy()
  with Sigterm() as sigterm:
    rows = training.fit(
      task, optimizer, strategy, run, dataset, options, validate, sigterm=sigterm
    )
  last = model.get_weights()
  run.load_weights(model)
  return [row['loss'] for row in rows], last, model.get_weights()


def _equal(first, second):
  assert first[0] == second[0]
  for one, other in zip(first[1:], second[1:], strict=True):
    for a, b in zip(one, other, strict=True):
      np.testing.assert_array_equal(a, b)


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


def test_before_the_first_step(dataset, tmp_path):
  whole = _fit(dataset, tmp_path / 'whole')

  def at_once(stream):
    _signal()
    return stream

  with pytest.raises(Terminated):
    _fit(dataset, tmp_path / 'stopped', batches=at_once)
  _equal(_fit(dataset, tmp_path / 'stopped'), whole)


def test_the_handler_before_is_put_back():
  before = signal.getsignal(signal.SIGTERM)
  with Sigterm() as sigterm:
    assert sigterm.at_once(lambda: 5) == 5
    _signal()
    assert sigterm.asked
    with pytest.raises(Terminated):
      sigterm.at_once(lambda: 5)
  assert signal.getsignal(signal.SIGTERM) is before
