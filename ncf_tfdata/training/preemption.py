"""SIGTERM and Ctrl-C as requests to stop where training can be taken up again."""

import contextlib
import signal
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

_T = TypeVar('_T')

# What a shell and a cluster's scheduler take for an end by SIGTERM, to be tried again.
EXIT_CODE = 128 + signal.SIGTERM


class Terminated(SystemExit):
  """Raised once the state is saved; ends the process with `EXIT_CODE`."""

  def __init__(self) -> None:
    super().__init__(EXIT_CODE)


class Sigterm:
  """Takes note of SIGTERM, or other signals, in a `with` block of the main thread.

  A second Ctrl-C ends at once. The first is a note as well, where SIGINT is among the
  signals: raised in the midst of TensorFlow, an interrupt may be lost.

  Attributes:
    asked: Whether a signal has come.
    interrupted: Whether it was Ctrl-C.
  """

  def __init__(self, *signals: signal.Signals):
    self.asked = self.interrupted = False
    self._at_once = False
    self._signals = signals or (signal.SIGTERM,)
    self._before: list[Any] = []

  def __enter__(self) -> 'Sigterm':
    self._before = [signal.signal(each, self._receive) for each in self._signals]
    return self

  def __exit__(self, *unused: object) -> None:
    for each, before in zip(self._signals, self._before, strict=True):
      signal.signal(each, before)

  def _receive(self, number: int, frame: object) -> None:
    self.asked = True
    if number == signal.SIGINT:
      if self.interrupted:
        raise KeyboardInterrupt
      self.interrupted = True
    if self._at_once:
      raise Terminated

  def at_once(self, work: Callable[[], _T]) -> _T:
    """Does work that may be left at any moment, for it is done again from the start.

    Raises:
      Terminated: The signal came before its end.
    """
    self._at_once = True
    try:
      self._check()
      result = work()
    finally:
      self._at_once = False
    self._check()  # Python drops what is raised within a destructor.
    return result

  def _check(self) -> None:
    if self.asked:
      raise Terminated


@contextlib.contextmanager
def told(overwrite: bool, tells: bool = True) -> Iterator[Sigterm]:
  """Has a command take SIGTERM and Ctrl-C, and says how to go on once it has saved.

  Args:
    overwrite: Whether the command was given --overwrite, with which it starts anew.
    tells: Whether this process is the one that prints.

  Raises:
    KeyboardInterrupt: It was stopped by Ctrl-C.
    Terminated: It was stopped by SIGTERM.
  """
  with Sigterm(signal.SIGTERM, signal.SIGINT) as sigterm:
    try:
      yield sigterm
    except Terminated:
      if tells:
        without = ' without --overwrite' if overwrite else ''
        by = 'Ctrl-C' if sigterm.interrupted else 'SIGTERM'
        print(f'stopped by {by}, saved: the same command{without} goes on from here')
      if sigterm.interrupted:
        raise KeyboardInterrupt from None
      raise
