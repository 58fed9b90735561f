"""A training step with its real input, and with one batch over and over, in turn.

    python benchmarks/step_input.py --flagfile=configs/sample.cfg --data_dir=data/sample

Prints one line of JSON: milliseconds a step of each, by turn. All flags of
`ncf_tfdata.train` are taken; nothing is written.
"""

import dataclasses
import json
import time

from ncf_tfdata import command, config
from ncf_tfdata import dataset as dataset_lib
from ncf_tfdata.config import setting
from ncf_tfdata.models import registry
from ncf_tfdata.training import recipe
from ncf_tfdata.training.config import TrainConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class Turns(config.Config):
  """How long to measure."""

  turns: int = setting(5, 'Counted turns of each, after a warm-up.', minimum=1)
  turn_steps: int = setting(100, 'Steps a turn.', minimum=1)


def main():
  import tensorflow as tf

  from ncf_tfdata.training import trainer

  measured, options = config.read(Turns), config.read(recipe.TrainCommand)
  made = trainer.Trainer(
    dataset_lib.Dataset(options.data_dir),
    config.read(registry.by_name(options.model).config),
    config.read(TrainConfig),
  )
  task, steps = made.task, made.steps()
  batches = task.batches(0, 0)
  inputs = {'real': batches, 'one_batch': batches.take(1).cache().repeat()}
  iterators = {name: iter(stream) for name, stream in inputs.items()}
  times: dict[str, list[float]] = {name: [] for name in inputs}
  count = tf.constant(measured.turn_steps, tf.int64)
  for turn in range(measured.turns + 1):
    first = tf.constant(turn * measured.turn_steps, tf.int64)
    epoch, loss = tf.constant(0, tf.int64), tf.constant(0.0, tf.float64)
    for name, iterator in iterators.items():
      begin = time.perf_counter()
      float(steps.run(iterator, epoch, first, count, loss))
      if turn:
        seconds = time.perf_counter() - begin
        times[name].append(1000 * seconds / measured.turn_steps)
  print(json.dumps({'model': task.model.name, **times}))


if __name__ == '__main__':
  command.run(main, Turns, *recipe.command_configs())
