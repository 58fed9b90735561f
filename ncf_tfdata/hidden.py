"""Packages that another one imports where they are there, and that no command needs."""

import contextlib
import sys
from collections.abc import Iterator, Sequence


@contextlib.contextmanager
def hidden(names: Sequence[str]) -> Iterator[None]:
  """Has imports of packages fail as if they were not installed, but of those loaded.

  Args:
    names: Of packages without which the modules that are imported meanwhile do.
  """
  absent = [name for name in names if name not in sys.modules]
  # What Python itself has for a module that is not to be found.
  sys.modules.update(dict.fromkeys(absent))  # type: ignore[arg-type]
  try:
    yield
  finally:
    for name in absent:
      del sys.modules[name]
