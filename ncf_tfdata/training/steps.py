"""Training steps: `strategy.run` over a Keras model and a Keras optimizer.

Many steps a call, compiled by XLA inside the replica; the only place that knows of
replicas and of XLA.
"""

from collections.abc import Callable, Iterator
from typing import Any

import keras
import tensorflow as tf

from ncf_tfdata.models import products
from ncf_tfdata.models.task import Task

# What the objective reads, a tensor a column; of all replicas or of one.
_Batch = dict[str, tf.Tensor]


def _function(function: Callable[..., Any], jit_compile: bool) -> Callable[..., Any]:
  return tf.function(function, jit_compile=True) if jit_compile else function


class Steps:
  """Runs training steps."""

  def __init__(
    self,
    task: Task,
    optimizer: keras.optimizers.Optimizer,
    strategy: tf.distribute.Strategy,
    jit_compile: bool,
  ):
    self._objective, self._strategy = task.objective, strategy
    self._optimizer = optimizer
    self._variables = task.model.trainable_variables
    inner = getattr(optimizer, 'inner_optimizer', optimizer)  # Of a loss scale's.
    self._row_wise = getattr(inner, 'row_wise', False)
    # Sums over replicas cannot be compiled, nor updates of rows known at run time.
    compiled = jit_compile and strategy.num_replicas_in_sync == 1 and not self._row_wise
    self._size = task.objective.steps_per_program if compiled else 1
    self._for_cpu = jit_compile and not tf.config.list_logical_devices('GPU')
    # What is compiled is the widest part that can be.
    self._gradients = _function(self._objective_gradients, jit_compile and not compiled)
    self._update = _function(self._single_update, compiled and self._size == 1)
    self._updates = _function(self._stacked_updates, compiled and self._size > 1)

  def _objective_gradients(self, batch: _Batch) -> tuple[tf.Tensor, list[tf.Tensor]]:
    with products.compiled(self._for_cpu), tf.GradientTape() as tape:
      loss = self._objective(batch)
      scaled = self._optimizer.scale_loss(loss)
    found = tape.gradient(scaled, [v.value for v in self._variables])
    if not self._row_wise:
      found = [tf.convert_to_tensor(gradient) for gradient in found]
    return loss, found

  def _single_update(self, batch: _Batch) -> tf.Tensor:
    loss, found = self._gradients(batch)
    self._optimizer.apply(found, self._variables)
    return loss

  def _stacked_updates(self, batches: _Batch, count: tf.Tensor) -> tf.Tensor:
    """Of the first `count` of stacked batches."""
    losses = tf.zeros([self._size])
    for index in tf.range(count):
      batch = tf.nest.map_structure(lambda x, index=index: x[index], batches)
      losses += tf.one_hot(index, self._size) * self._update(batch)
    return losses

  def _replica(
    self, batches: list[_Batch], epoch: tf.Tensor, first: tf.Tensor, count: tf.Tensor
  ) -> tf.Tensor:
    """Losses of steps, float32 [size], 0 from `count` on."""
    batches = [
      self._objective.complete(batch, epoch, first + index)
      for index, batch in enumerate(batches)
    ]
    if self._size == 1:
      return self._update(batches[0])[None]
    return self._updates(tf.nest.map_structure(lambda *x: tf.stack(x), *batches), count)

  def _take(self, iterator: Iterator[_Batch], count: tf.Tensor) -> list[_Batch]:
    """`size` batches, of which `count` are new; whatever the others are."""
    batch = next(iterator)
    batches = [batch]
    for index in range(1, self._size):
      batches.append(tf.cond(index < count, lambda: next(iterator), lambda: batch))
    return batches

  @tf.function(reduce_retracing=True)  # type: ignore[untyped-decorator]
  def run(
    self,
    iterator: Iterator[_Batch],
    epoch: tf.Tensor,
    step: tf.Tensor,
    count: tf.Tensor,
    total: tf.Tensor,
  ) -> tf.Tensor:
    """Runs `count` steps from `step`; adds their losses to `total`, float64 []."""
    end = step + count
    for first in tf.range(step, end, self._size):
      steps = tf.minimum(end - first, self._size)
      batches = self._take(iterator, steps)
      losses = self._strategy.run(self._replica, args=(batches, epoch, first, steps))
      losses = self._strategy.reduce('SUM', losses, axis=None)
      # One by one, so that the sum does not depend on where a call begins.
      for loss in tf.unstack(tf.cast(losses, tf.float64)):
        total += loss
    return total
