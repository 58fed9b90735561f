"""Turn a ratings log of any size into a dataset directory, with Apache Beam.

    from beam_pipelines import PrepareConfig, prepare

    made = prepare(PrepareConfig(input='ratings.csv', output='data/mine'))
    made.counts['train']

Names are imported when they are first asked for, Beam when a job is set up.
"""

import importlib
from typing import TYPE_CHECKING, Any

from ncf_tfdata._version import __version__ as __version__

if TYPE_CHECKING:
  from beam_pipelines.config import FilterConfig as FilterConfig
  from beam_pipelines.config import LogConfig as LogConfig
  from beam_pipelines.config import PrepareConfig as PrepareConfig
  from beam_pipelines.config import SplitConfig as SplitConfig
  from beam_pipelines.preparation import Prepared as Prepared
  from beam_pipelines.preparation import prepare as prepare

_HOMES = {
  'config': ('FilterConfig', 'LogConfig', 'PrepareConfig', 'SplitConfig'),
  'preparation': ('Prepared', 'prepare'),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = ['__version__', *_HOME]


def __getattr__(name: str) -> Any:
  if name not in _HOME:
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
  value = getattr(importlib.import_module(f'{__name__}.{_HOME[name]}'), name)
  globals()[name] = value
  return value


def __dir__() -> list[str]:
  return sorted({*globals(), *_HOME})
