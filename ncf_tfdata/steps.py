"""Training steps: `strategy.run` over a Keras model and a Keras optimizer.

Many steps a call, compiled by XLA inside the replica; the only place that knows of
replicas and of XLA.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Protocol

import keras
import tensorflow as tf

Batch = Any


class Objective(Protocol):
  """What is minimised. See `losses.Objective`."""

  def complete(self, batch: Batch, epoch: tf.Tensor, step: tf.Tensor) -> Batch:
    """Adds to a replica's batch what is drawn or looked up; never compiled."""

  def __call__(self, batch: Batch) -> tf.Tensor:
    """The replica's share of the objective, float32 []; compiled by XLA."""


@dataclasses.dataclass(frozen=True)
class Task:
  """A model and all that its training needs to know of it.

  Attributes:
    model: Built, in the strategy's scope.
    objective: What is minimised.
    batches: From (epoch, step) to the stream of batches from there on.
    steps: Steps an epoch.
    rows: Examples an epoch.
  """

  model: keras.Model
  objective: Objective
  batches: Callable[[int, int], tf.data.Dataset]
  steps: int
  rows: int


class Steps:
  """Runs training steps."""

  def __init__(
    self,
    task: Task,
    optimizer: keras.optimizers.Optimizer,
    strategy: tf.distribute.Strategy,
    jit_compile: bool,
  ):
    self._task, self._optimizer, self._strategy = task, optimizer, strategy
    self._variables = task.model.trainable_variables
    row_wise = getattr(optimizer, 'row_wise', False)
    # Sums over replicas cannot be compiled, nor updates of rows known at run time.
    fused = jit_compile and strategy.num_replicas_in_sync == 1 and not row_wise

    def gradients(batch):
      with tf.GradientTape() as tape:
        loss = task.objective(batch)
        scaled = optimizer.scale_loss(loss)
      found = tape.gradient(scaled, [v.value for v in self._variables])
      if not row_wise:
        found = [tf.convert_to_tensor(gradient) for gradient in found]
      return loss, found

    def update(batch):
      loss, found = gradients(batch)
      optimizer.apply(found, self._variables)
      return loss

    if fused:
      self._update = tf.function(update, jit_compile=True)
    else:
      if jit_compile:
        gradients = tf.function(gradients, jit_compile=True)
      self._update = update

  def _replica(self, batch, epoch, step):
    return self._update(self._task.objective.complete(batch, epoch, step))

  @tf.function(reduce_retracing=True)
  def run(self, iterator, epoch, step, count, total):
    """Runs `count` steps from `step`; adds their losses to `total`, float64 []."""
    for index in tf.range(step, step + count):
      losses = self._strategy.run(self._replica, args=(next(iterator), epoch, index))
      loss = self._strategy.reduce('SUM', losses, axis=None)
      total += tf.cast(loss, tf.float64)
    return total
