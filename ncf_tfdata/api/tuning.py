"""A search as a call: `tune`, and what it returns."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from ncf_tfdata import dataset as dataset_lib
from ncf_tfdata.models.configs import ModelConfig, NeuMFConfig
from ncf_tfdata.tables import Table
from ncf_tfdata.training.config import TrainConfig
from ncf_tfdata.training.recipe import Recipe
from ncf_tfdata.tuning import outcome, search
from ncf_tfdata.tuning import space as space_lib
from ncf_tfdata.tuning.config import TuneConfig
from ncf_tfdata.tuning.directory import Directory
from ncf_tfdata.tuning.trials import Trial


class Tuned:
  """What a search has found.

  Attributes:
    directory: Where it is kept.
    trials: All trials that have ended, in order.
    best: The one that was chosen: its `value`, `epoch` and `values` of settings.
    recipe: Its whole recipe, `model` and `train`.
    flagfile: The same as best.cfg, for the command `train`.
  """

  def __init__(self, found: outcome.Outcome):
    """Takes what a search has found."""
    self._found = found
    self.directory: pathlib.Path = found.directory.path
    self.trials: tuple[Trial, ...] = tuple(found.trials)
    self.best: Trial = found.best
    self.recipe: Recipe = found.recipe()
    self.flagfile: pathlib.Path = found.best_flagfile

  def __repr__(self) -> str:
    return f'Tuned({str(self.directory)!r})'

  def table(self) -> Table:
    """The trials with the best values, aligned for the screen."""
    return Table(self._found.table())


def tune(
  dataset: dataset_lib.Dataset,
  space: str | Mapping[str, str | Sequence[Any]] | None = None,
  model: ModelConfig | None = None,
  train: TrainConfig | None = None,
  *,
  output: str | os.PathLike[str],
  overwrite: bool = False,
  progress: bool = True,
  **settings: Any,
) -> Tuned:
  """Searches for a better recipe, by validation alone.

      dataset = ncf.Dataset('data/mine')
      tuned = ncf.tune(
        dataset,
        {'learning_rate': '0.0005..0.01:log', 'history_dim': [32, 64]},
        ncf.HistoryConfig(),
        ncf.TrainConfig(epochs=8),
        output='tuned/mine',
        trials=20,
      )
      ncf.train(dataset, *tuned.recipe, run_dir='runs/tuned')

  The same call again goes on where an earlier one was ended. A trial is trained in a
  process of its own, which knows models of installed packages and not those that were
  registered here.

  Args:
    dataset: What to train on.
    space: What is searched, by name of the flag: a range or a sequence of values; or
      all of it as the text that the command takes. The model's own by default.
    model: What the search starts from; a NeuMF by default.
    train: How that is trained.
    output: Directory of the search: new, empty, or one of the same search.
    overwrite: Whether to remove an earlier search first.
    progress: Whether to show it.
    **settings: Other settings of `TuneConfig`: `trials`, `time_budget` and so on.

  Raises:
    ArgumentError: There is no such setting, a value is not one that it takes, or the
      space does not suit the recipe.
    UserError: The dataset has no validation interactions, the directory holds something
      else or is in use, the recipe cannot be trained, or Optuna is not installed.
  """
  text = (
    space if space is None or isinstance(space, str) else space_lib.of_mapping(space)
  )
  recipe = Recipe.resolved(model or NeuMFConfig(), train or TrainConfig())
  config = TuneConfig(**{'search': text, **settings})
  made = search.Search(dataset, recipe, config, Directory(output))
  return Tuned(made.run(overwrite, say=_say if progress else lambda line: None))


def _say(line: str) -> None:
  print(line, flush=True)
