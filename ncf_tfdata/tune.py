"""Searches for a better recipe on your own log, by validation alone.

    python -m ncf_tfdata.tune --data_dir=data/mine --flagfile=configs/history.cfg \\
        --output=tuned/mine --trials=20 --time_budget=2h

The first trial is the recipe as it is given. Each trial is trained in a process of its
own, and given up where its first epochs are worse than those of others. The same
command goes on with a search that was stopped or killed. It ends in best.cfg, a
flagfile of `train`, in trials.csv and in trials.png. It never reads the test split.
"""

from __future__ import annotations

import os

from ncf_tfdata import command, config
from ncf_tfdata import dataset as dataset_lib
from ncf_tfdata.models import registry
from ncf_tfdata.training import preemption
from ncf_tfdata.training.config import TrainConfig
from ncf_tfdata.training.recipe import Recipe
from ncf_tfdata.tuning import config as tuning_config
from ncf_tfdata.tuning.config import TuneCommand, TuneConfig


def main() -> None:
  """The command."""
  options, asked = config.read(TuneCommand), config.read(TuneConfig)
  model = config.read(registry.by_name(options.model).config)
  recipe = Recipe.resolved(model, config.read(TrainConfig))
  dataset = dataset_lib.Dataset(options.data_dir)

  from ncf_tfdata.tuning import directory, search

  output = options.output or os.path.join('tuned', dataset.directory.name)
  made = search.Search(dataset, recipe, asked, directory.Directory(output))
  with preemption.told(options.overwrite) as sigterm:
    found = made.run(options.overwrite, sigterm, lambda line: print(line, flush=True))
  print(f'\n{found.table()}')
  print(f'\npicture: {found.picture}')
  print(f'best:    {found.best_flagfile}')
  print(
    f'\nnext: python -m ncf_tfdata.train --flagfile={found.best_flagfile}\n'
    'takes up its run, and judges it on test, once'
  )


if __name__ == '__main__':
  command.run(main, *tuning_config.command_configs())
else:
  command.make_callable(__name__, 'ncf_tfdata.api:tune')
