"""All that this package uses of the private parts of Keras and TensorFlow.

No other module touches a name with a leading underscore that is not our own; a test
looks. Each part here says why there is no public way, and
`test_compat.py` fails where an upgrade changes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
  import keras
  import tensorflow as tf


def kept_apart(x: tf.Tensor) -> tf.Tensor:
  """The same, of which XLA merges nothing before with anything after; XLA alone.

  Of XLA's optimisation barrier JAX has a public name (`jax.lax.optimization_barrier`),
  TensorFlow has none; last looked at in TensorFlow 2.21.
  """
  from tensorflow.compiler.tf2xla.ops import gen_xla_ops

  (same,) = gen_xla_ops.xla_optimization_barrier([x])
  return same


def drop_health_check(strategy: tf.distribute.MultiWorkerMirroredStrategy) -> None:
  """Has a strategy's end not wait for its health check.

  `CollectiveAllReduceExtended.__del__` joins the thread, which sleeps for up to 30 s;
  its interval has no public setting. The thread is a daemon's, and may outlive its
  strategy. There is none where TensorFlow's coordination service watches the workers.
  No issue is open upstream; last looked at in TensorFlow 2.21.

  Raises:
    AttributeError: There is no such check any more.
  """
  extended = strategy.extended
  if extended._enable_check_health:
    assert extended._check_health_thread is not None
    extended._check_health_thread = None


def adam_moments(
  optimizer: keras.optimizers.Adam, variable: keras.Variable
) -> tuple[tf.Variable, tf.Variable]:
  """The first and the second moment that Adam keeps of a variable.

  Keras's optimizers have a flat list of all variables, in an order of their own, and no
  public way from a weight to its moments (keras-team/keras has no issue of it); last
  looked at in Keras 3.15.
  """
  index = optimizer._get_variable_index(variable)
  return optimizer._momentums[index].value, optimizer._velocities[index].value


# What optimizers keep of each weight, and the moving average of the weight itself.
_SLOTS = {
  'momentum': '_momentums',
  'velocity': '_velocities',
  'accumulator': '_accumulators',
  'average': '_model_variables_moving_average',
}


def optimizer_slots(
  optimizer: keras.optimizers.Optimizer,
) -> Mapping[str, list[keras.Variable]]:
  """What a built optimizer keeps of each weight: lists in the order of the weights.

  By `momentum`, `velocity`, `accumulator` and `average`, as far as there are any. As
  with `adam_moments`, there is no public way from a weight to them.
  """
  found = {name: getattr(optimizer, private, []) for name, private in _SLOTS.items()}
  return {name: variables for name, variables in found.items() if variables}
