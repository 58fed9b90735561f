"""A small NeuMF and its training, in this process."""

import keras
import tensorflow as tf

from ncf_tfdata import run as run_lib
from ncf_tfdata.data import row_batches, sampling
from ncf_tfdata.models import losses, neumf, saved
from ncf_tfdata.models.task import Task
from ncf_tfdata.training import loop, optimizers
from ncf_tfdata.training.config import TrainConfig

BATCH = 128


def make_task(
  dataset, *, loss='bce', shared=0, l2=0.0, batches=lambda stream: stream
) -> Task:
  """A small NeuMF; `batches` may change its stream."""
  model = neumf.NeuMF(
    dataset.num_users, dataset.num_items, gmf_dim=4, mlp_dim=4, mlp_layers=(8,)
  )
  sampler = sampling.Sampler(dataset.num_items)
  objective = losses.Objective(
    model,
    loss,
    batch_size=BATCH,
    seed=0,
    sampler=sampler,
    num_negatives=2,
    shared_negatives=shared,
    l2=l2,
  )
  return Task(
    model,
    objective,
    batches=lambda epoch, step: batches(
      row_batches.train_batches(
        dataset,
        batch_size=BATCH,
        seed=0,
        negatives='none' if shared else 'fresh',
        num_negatives=2,
        sampler=sampler,
        first_epoch=epoch,
        first_step=step,
      )
    ),
    steps=row_batches.steps_per_epoch(dataset, BATCH),
    rows=dataset.rows('train'),
    scorer=model,
  )


def fit(
  dataset,
  directory,
  *,
  epochs=3,
  validate=dict,
  task=None,
  optimizer='adam',
  rate=0.02,
  average=0.0,
  scaled=False,
  sigterm=None,
  **options,
):
  """Trains; returns the lines of the epochs, the task and the run."""
  task = task or make_task(dataset)
  schedule = optimizers.LearningRate(rate, steps_per_epoch=task.steps)
  made = optimizers.create(optimizer, schedule, beta_2=0.999, average=average)
  if scaled:
    made = keras.optimizers.LossScaleOptimizer(made)
  made.build(task.model.trainable_variables)
  run = run_lib.Run(directory)
  run.start({}, dataset, saved.serialize(task.model), overwrite=False)
  options = {
    'steps_per_call': 4,
    'checkpoint_every_steps': 1000,
    'jit_compile': False,
    **options,
  }
  history = loop.fit(
    task,
    made,
    tf.distribute.get_strategy(),
    run,
    dataset,
    TrainConfig(epochs=epochs, **options),
    validate,
    sigterm=sigterm,
  )
  return history, task, run
