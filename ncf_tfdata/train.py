"""Trains a model on a dataset directory and judges it once, on test.

    python -m ncf_tfdata.train --data_dir=data/sample --run_dir=runs/sample

The same command again takes up a run where it was killed, to the same end bit by bit.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ncf_tfdata import command, config
from ncf_tfdata import dataset as dataset_lib
from ncf_tfdata.models import registry
from ncf_tfdata.training import preemption, recipe
from ncf_tfdata.training.config import TrainConfig

if TYPE_CHECKING:
  from ncf_tfdata import run as run_lib


def main() -> None:
  """The command."""
  options, training = config.read(recipe.TrainCommand), config.read(TrainConfig)
  model = config.read(registry.by_name(options.model).config)
  dataset = dataset_lib.Dataset(options.data_dir)
  if training.patience and not dataset.rows(dataset_lib.VALIDATION):
    print(
      'the dataset has no validation interactions: '
      'trains for all epochs, keeps the last'
    )

  from ncf_tfdata import run as run_lib  # TensorFlow takes seconds to import.
  from ncf_tfdata.training import trainer, workers

  run = run_lib.Run(options.run_dir or os.path.join('runs', dataset.directory.name))
  place = workers.place()
  if place.workers > 1:
    print(f'worker {place.worker} of {place.workers}, waits for the rest', flush=True)
  made = trainer.Trainer(dataset, model, training, None if options.overwrite else run)
  if made.workers.chief:
    print(made.describe(run))
  if options.dry_run:
    print('\n'.join(made.lines(run).values()))
    return
  with preemption.told(options.overwrite, made.workers.chief) as sigterm:
    made.train(run, overwrite=options.overwrite, sigterm=sigterm)
  if made.workers.chief:
    _print_results(run, dataset, training.monitor)


def _print_results(
  run: run_lib.Run, dataset: dataset_lib.Dataset, monitor: str
) -> None:
  from ncf_tfdata.evaluation import protocol, summary
  from ncf_tfdata.reporting import table

  results = run.metrics() or {}
  systems = {
    results['model']: results['test'],
    **{name: splits['test'] for name, splits in results['baselines'].items()},
  }
  chosen = f'by {monitor} on validation' if 'validation' in results else 'the last'
  best = results['best_epoch']
  print(f'\nbest epoch: {f"{best}, {chosen}" if best else "none, the start is judged"}')
  for name in summary.RANKINGS:
    print(f'\ntest, {name} ranking, 95 % intervals\n')
    print(table.metrics_table(systems, name, (10,)))
  print(f'\n{protocol.describe(dataset, "test")}')
  print(
    f'\nnext: python -m ncf_tfdata.evaluate --run_dir={run.directory} '
    '--baselines=popularity,ease,transitions'
  )


if __name__ == '__main__':
  command.run(main, *recipe.command_configs())
else:
  command.make_callable(__name__, 'ncf_tfdata.api:train')
