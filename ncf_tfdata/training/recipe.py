"""A recipe: the configuration that makes a run, as flags.cfg keeps it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple, Self

from ncf_tfdata import config
from ncf_tfdata.config import Config, setting
from ncf_tfdata.models import registry
from ncf_tfdata.models.configs import ModelConfig
from ncf_tfdata.training.config import OPERATIONAL, TrainConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunConfig(Config):
  """What is trained, on what, and where the run is kept."""

  data_dir: str = setting(
    'data/sample', 'Dataset directory, made by beam_pipelines.prepare.'
  )
  run_dir: str | None = setting(
    None, 'Run directory. Default: runs/ and the name of --data_dir.'
  )
  model: str = setting(
    'neumf',
    'NeuMF (He et al. 2017), one of its halves alone, or a model that reads the '
    "user's last items.",
    choices=lambda: [entry.name for entry in registry.entries()],
  )


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainCommand(RunConfig):
  """What the command `train` takes beside what a run keeps."""

  overwrite: bool = setting(False, 'Removes what an earlier run left in --run_dir.')
  dry_run: bool = setting(False, 'Prints configuration and shapes, and stops.')


def configs() -> tuple[type[Config], ...]:
  """The classes whose flags stand in a flags.cfg."""
  return (RunConfig, *content_configs())


def command_configs() -> tuple[type[Config], ...]:
  """The classes that the command `train` takes its flags from."""
  return (TrainCommand, *content_configs())


def content_configs() -> tuple[type[Config], ...]:
  """The classes of a training and of all models."""
  return (TrainConfig, *(entry.config for entry in registry.entries()))


class Recipe(NamedTuple):
  """A model's configuration, and its training's."""

  model: ModelConfig
  train: TrainConfig

  @classmethod
  def resolved(cls, model: ModelConfig, train: TrainConfig) -> Self:
    """A recipe whose loss is the model's, where none is given.

    Raises:
      ArgumentError: The model does not take the loss.
    """
    return cls(model, train.replace(objective=model.resolved(train.objective)))

  def lines(self, data_dir: str, run_dir: str) -> dict[str, str]:
    """A flagfile's line by name of the flag, which together repeat the run."""
    name = registry.of(self.model).name
    where = RunConfig(data_dir=data_dir, run_dir=run_dir, model=name)
    return config.lines(where, self.model, self.train)

  @classmethod
  def parse(cls, lines: Sequence[str]) -> Self:
    """The recipe of a flags.cfg's lines; flags that are not there have their defaults.

    Raises:
      UserError: The lines are not flags of this version, or not what they expect.
      ArgumentError: They contradict each other.
    """
    values = config.parse(lines, *configs())
    model = registry.by_name(config.read(RunConfig, values).model).config
    return cls.resolved(config.read(model, values), config.read(TrainConfig, values))

  def differences(self, earlier: Recipe) -> tuple[list[str], list[str]]:
    """Flags that this recipe has and another has not, and the other way round.

    What has no part in the numbers of a run does not count; a flag that is not given
    is one of its default.
    """
    if registry.of(self.model) != registry.of(earlier.model):
      names = [registry.of(recipe.model).name for recipe in (self, earlier)]
      return [f'--model={names[0]}'], [f'--model={names[1]}']
    here, there = (set(recipe._content()) for recipe in (self, earlier))
    return sorted(here - there), sorted(there - here)

  def _content(self) -> list[str]:
    lines = config.lines(self.model, self.train)
    return [line for name, line in lines.items() if name not in OPERATIONAL]
