"""The models there are: the one place at which a model plugs in.

A model is a name, a configuration and a builder. Ours stand below; others come by
`register`, or of installed packages by an entry point of group `ncf_tfdata.models`:

    [project.entry-points.'ncf_tfdata.models']
    toy = 'my_package.toy:ENTRY'

The commands' --model and flags are made from what is here. No TensorFlow is imported
before a model is built.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.metadata
import pkgutil
from collections.abc import Callable
from typing import Any

from ncf_tfdata import dataset as dataset_lib
from ncf_tfdata.models import configs
from ncf_tfdata.models.configs import ModelConfig, ObjectiveConfig
from ncf_tfdata.models.task import Context, Task

GROUP = 'ncf_tfdata.models'

Builder = Callable[[ModelConfig, Context], Task]


@dataclasses.dataclass(frozen=True)
class Entry:
  """A model.

  Attributes:
    name: What --model calls it.
    config: Its configuration; no two models share a class.
    builder: `module:function` of a `Builder`, imported when it is asked for. It runs
      in the scope of the strategy.
    settler: `module:function` that tells what settings left open come to; see
      `settled`. None where none is ever open.
  """

  name: str
  config: type[ModelConfig]
  builder: str
  settler: str | None = None

  def build(self, config: ModelConfig, context: Context) -> Task:
    """Makes the model and its task.

    Raises:
      ArgumentError: The configuration does not suit the dataset.
      UserError: Likewise.
    """
    builder: Builder = pkgutil.resolve_name(self.builder)
    return builder(config, context)

  def settled(
    self,
    config: ModelConfig,
    objective: ObjectiveConfig,
    dataset: dataset_lib.Dataset,
  ) -> dict[str, Any]:
    """What settings that are None come to on a dataset, by name of the flag."""
    if self.settler is None:
      return {}
    found: dict[str, Any] = pkgutil.resolve_name(self.settler)(
      config, objective, dataset
    )
    return found


_NEUMF = 'ncf_tfdata.models.neumf_task:create'
_ENTRIES: dict[str, Entry] = {}


def register(entry: Entry) -> Entry:
  """Adds a model.

  Raises:
    ValueError: Its name or its configuration is taken by another one.
  """
  for known in _ENTRIES.values():
    if known != entry and (known.name == entry.name or known.config is entry.config):
      raise ValueError(f'there is a model {known} already. Received: {entry}')
  _ENTRIES[entry.name] = entry
  return entry


register(Entry('neumf', configs.NeuMFConfig, _NEUMF))
register(Entry('gmf', configs.GMFConfig, _NEUMF))
register(Entry('mlp', configs.MLPConfig, _NEUMF))
register(
  Entry(
    'history',
    configs.HistoryConfig,
    'ncf_tfdata.models.history_task:create',
    'ncf_tfdata.models.history_defaults:settled',
  )
)


@functools.cache
def _load_plugins() -> None:
  for point in importlib.metadata.entry_points(group=GROUP):
    register(point.load())


def entries() -> tuple[Entry, ...]:
  """All models, ours first."""
  _load_plugins()
  return tuple(_ENTRIES.values())


def import_all() -> None:
  """Imports the builders of all models, which registers their classes with Keras.

  Keras makes a saved model again only of a class that it knows.
  """
  for entry in entries():
    pkgutil.resolve_name(entry.builder)


def by_name(name: str) -> Entry:
  """The model of a name.

  Raises:
    ValueError: There is none.
  """
  _load_plugins()
  if name not in _ENTRIES:
    raise ValueError(f'`name` must be one of {", ".join(_ENTRIES)}. Received: {name}')
  return _ENTRIES[name]


def of(config: ModelConfig) -> Entry:
  """The model that a configuration is of.

  Raises:
    ValueError: There is none.
  """
  for entry in entries():
    if entry.config is type(config):
      return entry
  known = ', '.join(entry.config.__name__ for entry in entries())
  raise ValueError(f'`model` must be one of {known}. Received: {config!r}')
