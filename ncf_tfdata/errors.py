"""Errors that a user can mend, told in one line."""

import re
from collections.abc import Mapping, Sequence
from typing import Any


class UserError(Exception):
  """What was received, what was expected, and what to run next, in one line."""

  exit_code = 1


class LostWorkerError(UserError):
  """Another worker is gone, and this one cannot go on without it."""

  exit_code = 3  # By which `launch` tells it from the failure that caused it.

  def __init__(self) -> None:
    super().__init__(
      'another worker has stopped, and its own output says why. Start all workers '
      'again, without --overwrite: they go on from the last checkpoint.'
    )


class RequirementError(UserError):
  """What was judged has not reached what was required of it; a line each."""

  exit_code = 4  # So that a scheduler tells it from a job that failed.

  def __init__(self, missed: Sequence[str]) -> None:
    super().__init__('\nerror: '.join(missed))


class ArgumentError(ValueError):
  """Arguments that cannot be, or cannot be together.

  Its text names them: '`heads` must divide `dim`. Received: heads=3, dim=128'. A
  command says the same of its flags, by `as_flags`.

  Attributes:
    flags: Name of the flag by name of the argument, where the two differ or not.
  """

  def __init__(
    self, expected: str, flags: Mapping[str, str] | None = None, /, **received: Any
  ):
    """Makes an error.

    Args:
      expected: A sentence or two; arguments stand between backticks.
      flags: See above.
      **received: The arguments in question.
    """
    self.flags = dict(flags or {})
    self._expected, self._received = expected, received
    values = ', '.join(f'{name}={value!r}' for name, value in received.items())
    super().__init__(f'{expected} Received: {values}' if values else expected)

  def as_flags(self) -> str:
    """The same in one line, of flags."""
    received = ' '.join(
      _flag(self.flags.get(name, name), value)
      for name, value in self._received.items()
      if value is not None
    )
    expected = re.sub(
      r'`(\w+)`', lambda name: f'--{self.flags.get(name[1], name[1])}', self._expected
    )
    return f'received {received}: {expected}' if received else expected


def _flag(name: str, value: Any) -> str:
  """An argument as a flag with its value."""
  if isinstance(value, bool):
    return f'--{name}' if value else f'--no{name}'
  if isinstance(value, tuple | list):
    value = ','.join(map(str, value))
  return f'--{name}={value}'
