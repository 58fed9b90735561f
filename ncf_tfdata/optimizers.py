"""Keras optimizers by name, their learning rate, and a row-wise Adam."""

from collections.abc import Mapping

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable('ncf_tfdata')
class EpochDecay(keras.optimizers.schedules.LearningRateSchedule):
  """rate · decay ** epochs done · min(1, (step + 1) / warmup_steps)."""

  def __init__(
    self, rate: float, decay: float, steps_per_epoch: int, warmup_steps: int
  ):
    self._config = {
      'rate': rate,
      'decay': decay,
      'steps_per_epoch': steps_per_epoch,
      'warmup_steps': warmup_steps,
    }

  def __call__(self, step: tf.Tensor) -> tf.Tensor:
    """The learning rate float32 [] of a step, counted over all epochs."""
    epoch = tf.cast(step // self._config['steps_per_epoch'], tf.float32)
    rate = self._config['rate'] * tf.pow(self._config['decay'], epoch)
    warmup = self._config['warmup_steps']
    if warmup:
      rate *= tf.minimum(1.0, tf.cast(step + 1, tf.float32) / warmup)
    return rate

  def get_config(self) -> dict:
    return self._config


@keras.saving.register_keras_serializable('ncf_tfdata')
class LazyAdam(keras.optimizers.Adam):
  """Adam that touches only the rows of a table that have a gradient.

  Kingma and Ba, Adam (ICLR 2015), algorithm 1, row by row: the moments of a row decay
  when it is used, not at every step, so that a step's cost does not depend on the
  size of the vocabulary. Gradients that are not sparse are applied as by Adam.
  """

  row_wise = True

  def update_step(self, gradient, variable, learning_rate):
    if not isinstance(gradient, tf.IndexedSlices):
      super().update_step(gradient, variable, learning_rate)
      return
    index = self._get_variable_index(variable)
    if isinstance(variable, keras.Variable):
      variable = variable.value
    rows, position = tf.unique(gradient.indices)
    gradient = tf.math.unsorted_segment_sum(
      tf.cast(gradient.values, variable.dtype), position, tf.size(rows)
    )
    step = tf.cast(self.iterations + 1, variable.dtype)
    rate = tf.cast(learning_rate, variable.dtype)
    rate *= tf.sqrt(1 - tf.pow(self.beta_2, step)) / (1 - tf.pow(self.beta_1, step))
    momentum = self._momentums[index].value
    velocity = self._velocities[index].value
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
