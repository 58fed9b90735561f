"""Names of a package that are imported when they are first asked for."""

import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any


def names(
  package: str, homes: Mapping[str, Sequence[str]]
) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
  """Makes what the `__init__` of a package needs; see PEP 562.

  Args:
    package: Its `__name__`.
    homes: Names by the module of the package that defines them.

  Returns:
    `__getattr__`, `__dir__` and `__all__`.
  """
  home = {name: module for module, found in homes.items() for name in found}

  def get(name: str) -> Any:
    if name not in home:
      raise AttributeError(f'module {package!r} has no attribute {name!r}')
    value = getattr(importlib.import_module(f'{package}.{home[name]}'), name)
    setattr(sys.modules[package], name, value)
    return value

  def everything() -> list[str]:
    return sorted({*vars(sys.modules[package]), *home})

  return get, everything, ['__version__', *home]
