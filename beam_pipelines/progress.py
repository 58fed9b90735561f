"""A progress line for jobs that run in this process; silent in remote workers."""

import contextlib
import os
import sys
import threading
from collections.abc import Iterator

from tqdm import tqdm

_lock = threading.Lock()
_bar: tqdm | None = None
_step: str | None = None


@contextlib.contextmanager
def shown(unit: str = 'ratings') -> Iterator[None]:
  """Shows what workers of this process report, on a terminal, while it lasts."""
  global _bar
  if not sys.stderr.isatty():
    yield
    return
  # Of its own, since a job's stderr may be held back.
  with (
    open(os.dup(sys.stderr.fileno()), 'w') as terminal,
    tqdm(unit=f' {unit}', unit_scale=True, leave=False, file=terminal) as _bar,
  ):
    try:
      yield
    finally:
      _bar = None


def advance(step: str, count: int) -> None:
  """Reports that a step is done with some more of the unit."""
  global _step
  with _lock:
    if _bar is None:
      return
    if step != _step:
      _bar.reset()
      _bar.set_description(step, refresh=False)
      _step = step
    _bar.update(count)
