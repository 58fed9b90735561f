"""A trial's own process: trains a recipe, and never opens the test split.

    python -m ncf_tfdata.tuning.worker --data_dir=… --run_dir=… --model=… …

The flags are those of a run's flags.cfg. It ends when its standard input does: whoever
began it is then gone, and the next search must find no one at work.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Sequence

from absl import logging

from ncf_tfdata import config, tensorflow_messages
from ncf_tfdata import dataset as dataset_lib
from ncf_tfdata import run as run_lib
from ncf_tfdata.errors import ArgumentError, UserError
from ncf_tfdata.training import preemption
from ncf_tfdata.training.recipe import Recipe, RunConfig, configs


class WithoutTest(dataset_lib.Dataset):
  """A dataset of which nothing that is tested can be opened."""

  def shards(self, split: str) -> list[str]:
    if split == dataset_lib.TEST:
      raise AssertionError('a search has asked for the test split')
    return super().shards(split)


def train(lines: Sequence[str]) -> None:
  """Trains to the end, from where an earlier process was stopped.

  Args:
    lines: Of a flagfile.

  Raises:
    ArgumentError: They contradict each other, or the dataset.
    UserError: The training failed for a reason that can be mended.
    Terminated: SIGTERM came; the state is saved.
  """
  where = config.read(RunConfig, config.parse(lines, *configs()))
  recipe = Recipe.parse(lines)
  dataset = WithoutTest(where.data_dir)
  run = run_lib.Run(str(where.run_dir))

  from ncf_tfdata.training import trainer  # TensorFlow takes seconds to import.

  made = trainer.Trainer(dataset, *recipe, run)
  with preemption.Sigterm(signal.SIGTERM) as sigterm:
    made.fit(run, sigterm=sigterm)


def _end_with_input() -> None:
  # Not `sys.stdin`, whose lock would be held when Python ends.
  while os.read(0, 1):
    pass
  # At once: a state that is saved now could be in the way of the next search's.
  os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
  """The process."""
  threading.Thread(target=_end_with_input, daemon=True).start()
  logging.set_verbosity(logging.WARNING)
  tensorflow_messages.quieten()
  try:
    train(sys.argv[1:])
  except UserError as error:
    sys.exit(f'error: {error}')
  except ArgumentError as error:
    sys.exit(f'error: {error.as_flags()}')


if __name__ == '__main__':
  main()
