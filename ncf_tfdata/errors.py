"""Errors that a user can mend, told in one line."""

import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from absl import app, flags, logging


class UserError(Exception):
  """What was received, what was expected, and what to run next, in one line."""

  exit_code = 1


class LostWorkerError(UserError):
  """Another worker is gone, and this one cannot go on without it."""

  exit_code = 3  # By which `launch` tells it from the failure that caused it.

  def __init__(self):
    super().__init__(
      'another worker has stopped, and its own output says why. Start all workers '
      'again, without --overwrite: they go on from the last checkpoint.'
    )


def run(main: Callable[[Sequence[str]], None], **app_options) -> NoReturn:
  """Runs a command under absl; a `UserError` becomes one line and its exit code.

  Args:
    main: The command; takes what `app.run` would give it.
    **app_options: Passed to `absl.app.run`.
  """

  def guarded(argv: Sequence[str]) -> None:
    # TensorFlow tells of every checkpoint at the level of absl's default.
    # (`app.run` has set the default by now, so only `present` tells a user's choice.)
    if not flags.FLAGS['verbosity'].present:
      logging.set_verbosity(logging.WARNING)
    try:
      main(argv)
    except UserError as error:
      logging.flush()
      print(f'error: {error}', file=sys.stderr)
      sys.exit(error.exit_code)

  app.run(guarded, **app_options)
