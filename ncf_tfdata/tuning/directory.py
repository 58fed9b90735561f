"""The directory of a search: what it holds, and who may work in it.

search.json   what is searched on what; a search of something else is refused
trials.csv    a line a trial that has ended: all that the search goes on from
trials.png    their values, and how much each setting mattered
best.cfg      the best trial's whole recipe, a flagfile of `train`
trials/       a run directory for each trial, NNNN, and what it printed, NNNN.log
lock          held by the search at work, and by the training that it began
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pathlib
import shutil
import time
from collections.abc import Iterator, Mapping
from typing import Any

from ncf_tfdata import atomic, object_store
from ncf_tfdata import run as run_lib
from ncf_tfdata.errors import UserError

SEARCH = 'search.json'
TRIALS = 'trials.csv'
PICTURE = 'trials.png'
BEST = 'best.cfg'
RUNS = 'trials'
LOCK = 'lock'

# A killed search's training ends within a moment.
_WAIT_SECONDS = 3.0


class Directory:
  """Where a search is kept.

  Attributes:
    path: Of the directory.
    table: Of trials.csv.
  """

  def __init__(self, path: str | os.PathLike[str]):
    """Names a directory, there or not.

    Raises:
      UserError: It is on an object store, where no weights can be written.
    """
    object_store.refuse(path)
    self.path = pathlib.Path(path)
    self.table = self.path / TRIALS

  def run(self, number: int) -> run_lib.Run:
    """The run directory of a trial."""
    return run_lib.Run(self.path / RUNS / f'{number:04d}')

  def log(self, number: int) -> pathlib.Path:
    """What a trial's training printed."""
    return self.path / RUNS / f'{number:04d}.log'

  @contextlib.contextmanager
  def held(self) -> Iterator[int]:
    """Makes the directory, and keeps others from working in it.

    Yields:
      The lock's file descriptor: who inherits it keeps the directory as well.

    Raises:
      UserError: Another search works in it, or it holds something else.
    """
    try:
      self.path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
      raise UserError(f'cannot make {self.path}: {error.strerror}.') from error
    found = {each.name for each in self.path.iterdir()}
    if found - {LOCK} and SEARCH not in found:
      raise UserError(
        f'{self.path} is not empty and holds no search (no {SEARCH}). '
        'Name another --output.'
      )
    with (self.path / LOCK).open('ab') as stream:
      self._take(stream.fileno())
      yield stream.fileno()

  def _take(self, lock: int) -> None:
    end = time.monotonic() + _WAIT_SECONDS
    while True:
      try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return
      except OSError as error:
        if time.monotonic() > end:
          raise UserError(
            f'{self.path} is in use by another search. Wait for its end, or name '
            'another --output.'
          ) from error
      time.sleep(0.05)

  def begin(self, search: Mapping[str, Any], overwrite: bool) -> None:
    """Takes up the search that is there, or begins one.

    Args:
      search: What it is of, by name; JSON.
      overwrite: Whether to remove an earlier one first.

    Raises:
      UserError: There is another search, or it is damaged.
    """
    path = self.path / SEARCH
    if path.exists() and overwrite:
      for name in (BEST, PICTURE, TRIALS):
        (self.path / name).unlink(missing_ok=True)
      if (self.path / RUNS).exists():
        shutil.rmtree(self.path / RUNS)
      path.unlink()
    if path.exists():
      self._check_same(path, search)
    (self.path / RUNS).mkdir(exist_ok=True)
    text = json.dumps(search, indent=2, sort_keys=True)
    atomic.write_text(path, text + '\n')

  def _check_same(self, path: pathlib.Path, search: Mapping[str, Any]) -> None:
    try:
      found = json.loads(path.read_text(encoding='utf8'))
      differing = [name for name in search if found[name] != search[name]]
    except (KeyError, TypeError, ValueError) as error:
      raise UserError(
        f'{path} is damaged ({error}). Start again with --overwrite.'
      ) from error
    for name in differing:
      before, now = _apart(found[name], search[name])
      raise UserError(
        f'{self.path} holds a search of another {name}: it was started with {before}, '
        f'and is now asked for {now}. Name another --output, or start again with '
        '--overwrite.'
      )

  def tidy(self, number: int, best: int) -> None:
    """Removes the weights of all trials up to one, but the best one's.

    A run that was judged is its user's, and stays.
    """
    for each in range(number + 1):
      run = self.run(each)
      if each != best and run.checkpoints.exists() and run.metrics() is None:
        shutil.rmtree(run.checkpoints)


def _apart(before: Any, now: Any) -> tuple[str, str]:
  """Two values in words; of lists of lines, those that the other has not."""
  if not isinstance(before, list):
    return str(before), str(now)
  return _without(before, now), _without(now, before)


def _without(lines: list[str], others: list[str]) -> str:
  return ' '.join(line for line in lines if line not in others) or 'none of these'
