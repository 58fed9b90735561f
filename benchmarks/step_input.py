"""A training step with its real input, and with one batch over and over, in turn.

    python benchmarks/step_input.py --flagfile=configs/sample.cfg --data_dir=data/sample

Prints one line of JSON: milliseconds a step of each, by turn. All flags of
`ncf_tfdata.train` are taken; nothing is written.
"""

import json
import os
import time

from absl import app, flags

from ncf_tfdata import train
from ncf_tfdata.training import recipe

_TURNS = flags.DEFINE_integer('turns', 5, 'Counted turns of each, after a warm-up.', 1)
_STEPS = flags.DEFINE_integer('turn_steps', 100, 'Steps a turn.', 1)


def main(_):
  os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
  import tensorflow as tf

  from ncf_tfdata import dataset as dataset_lib
  from ncf_tfdata.training.steps import Steps

  dataset = dataset_lib.Dataset(flags.FLAGS.data_dir)
  strategy = recipe.create_strategy()
  with strategy.scope():
    task = recipe.create_task(dataset, strategy.num_replicas_in_sync)
    optimizer = recipe.create_optimizer(task)
  task.model.optimizer = optimizer
  steps = Steps(task, optimizer, strategy, flags.FLAGS.jit_compile)
  batches = task.batches(0, 0)
  inputs = {'real': batches, 'one_batch': batches.take(1).cache().repeat()}
  iterators = {name: iter(stream) for name, stream in inputs.items()}
  times: dict[str, list[float]] = {name: [] for name in inputs}
  count = tf.constant(_STEPS.value, tf.int64)
  for turn in range(_TURNS.value + 1):
    first = tf.constant(turn * _STEPS.value, tf.int64)
    epoch, loss = tf.constant(0, tf.int64), tf.constant(0.0, tf.float64)
    for name, iterator in iterators.items():
      begin = time.perf_counter()
      float(steps.run(iterator, epoch, first, count, loss))
      if turn:
        seconds = time.perf_counter() - begin
        times[name].append(1000 * seconds / _STEPS.value)
  print(json.dumps({'model': task.model.name, **times}))


if __name__ == '__main__':
  flags.adopt_module_key_flags(train)
  app.run(main)
