"""Keras optimizers by name, their learning rate, and a row-wise Adam."""

import math
from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

from ncf_tfdata import _compat
from ncf_tfdata.models.task import Task
from ncf_tfdata.training.config import TrainConfig


@keras.saving.register_keras_serializable('ncf_tfdata')
class LearningRate(keras.optimizers.schedules.LearningRateSchedule):  # type: ignore[misc]
  """A rate with warm-up, a factor after each epoch, and a half cosine to zero.

  rate · min(1, (step + 1) / warmup_steps) · decay ** epochs done
       · (1 + cos(π step / cosine_steps)) / 2

  Source of the cosine: Loshchilov and Hutter, SGDR (ICLR 2017), equation 5, without
  restarts.
  """

  def __init__(
    self,
    rate: float,
    *,
    steps_per_epoch: int,
    decay: float = 1.0,
    warmup_steps: int = 0,
    cosine_steps: int = 0,
    first_step: int = 0,
  ):
    """Makes a schedule; 0 `warmup_steps` or `cosine_steps` leave that factor out.

    Steps are counted from `first_step`.
    """
    self._first_step = first_step
    self._config = {
      'rate': rate,
      'steps_per_epoch': steps_per_epoch,
      'decay': decay,
      'warmup_steps': warmup_steps,
      'cosine_steps': cosine_steps,
      **({'first_step': first_step} if first_step else {}),
    }

  def __call__(self, step: tf.Tensor) -> tf.Tensor:
    """The learning rate float32 [] of a step, counted over all epochs."""
    config = self._config
    step = step - self._first_step
    epoch = tf.cast(step // config['steps_per_epoch'], tf.float32)
    rate = config['rate'] * tf.pow(config['decay'], epoch)
    done = tf.cast(step, tf.float32)
    if config['warmup_steps']:
      rate *= tf.minimum(1.0, (done + 1) / config['warmup_steps'])
    if config['cosine_steps']:
      share = tf.minimum(1.0, done / config['cosine_steps'])
      rate *= (1 + tf.cos(math.pi * share)) / 2
    return rate

  def get_config(self) -> dict[str, Any]:
    return self._config


@keras.saving.register_keras_serializable('ncf_tfdata')
class LazyAdam(keras.optimizers.Adam):  # type: ignore[misc]
  """Adam that touches only the rows of a table that have a gradient.

  Kingma and Ba, Adam (ICLR 2015), algorithm 1, row by row: the moments of a row decay
  when it is used, not at every step, so that a step's cost does not depend on the
  size of the vocabulary. Gradients that are not sparse are applied as by Adam.
  """

  row_wise = True

  def update_step(
    self,
    gradient: tf.Tensor | tf.IndexedSlices,
    variable: keras.Variable,
    learning_rate: tf.Tensor,
  ) -> None:
    if not isinstance(gradient, tf.IndexedSlices):
      super().update_step(gradient, variable, learning_rate)
      return
    momentum, velocity = _compat.adam_moments(self, variable)
    if isinstance(variable, keras.Variable):
      variable = variable.value
    rows, position = tf.unique(gradient.indices)
    gradient = tf.math.unsorted_segment_sum(
      tf.cast(gradient.values, variable.dtype), position, tf.size(rows)
    )
    step = tf.cast(self.iterations + 1, variable.dtype)
    rate = tf.cast(learning_rate, variable.dtype)
    rate *= tf.sqrt(1 - tf.pow(self.beta_2, step)) / (1 - tf.pow(self.beta_1, step))
    first = tf.gather(momentum, rows)
    first += (1 - self.beta_1) * (gradient - first)
    second = tf.gather(velocity, rows)
    second += (1 - self.beta_2) * (tf.square(gradient) - second)
    momentum.scatter_update(tf.IndexedSlices(first, rows))
    velocity.scatter_update(tf.IndexedSlices(second, rows))
    change = rate * first / (tf.sqrt(second) + self.epsilon)
    variable.scatter_sub(tf.IndexedSlices(change, rows))


OPTIMIZERS: Mapping[str, type[keras.optimizers.Optimizer]] = {
  'adam': keras.optimizers.Adam,
  'lazy_adam': LazyAdam,
  'adagrad': keras.optimizers.Adagrad,
  'rmsprop': keras.optimizers.RMSprop,
  'sgd': keras.optimizers.SGD,
}


def create(
  name: str,
  learning_rate: keras.optimizers.schedules.LearningRateSchedule,
  *,
  beta_2: float,
  average: float,
) -> keras.optimizers.Optimizer:
  """Makes an optimizer.

  Args:
    name: A name of `OPTIMIZERS`.
    learning_rate: Its schedule.
    beta_2: Decay of the second moment, of the Adams.
    average: Momentum of an exponential moving average of the weights, 0 for none.
  """
  kind = OPTIMIZERS[name]
  options = {'use_ema': True, 'ema_momentum': average} if average else {}
  if issubclass(kind, keras.optimizers.Adam):
    options['beta_2'] = beta_2
  return kind(learning_rate, **options)


def of_config(
  config: TrainConfig, task: Task, first_step: int = 0
) -> keras.optimizers.Optimizer:
  """The optimizer of a training, built for its model, in the scope of the strategy.

  Args:
    config: Of the training.
    task: Whose model is trained.
    first_step: Where the count of steps begins; see `warm_start.FIRST_STEP`.
  """
  made, cosine_steps = config.optimizer, config.epochs * task.steps
  result = create(
    made.name,
    LearningRate(
      made.learning_rate,
      steps_per_epoch=task.steps,
      decay=made.learning_rate_decay,
      warmup_steps=made.warmup_steps,
      cosine_steps=cosine_steps if made.cosine_decay else 0,
      first_step=first_step,
    ),
    beta_2=made.beta_2,
    average=made.average_weights,
  )
  if config.mixed_precision == 'float16':
    result = keras.optimizers.LossScaleOptimizer(result)
  result.build(task.model.trainable_variables)
  return result
