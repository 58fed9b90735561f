"""Errors that a user can mend, told in one line."""

import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from absl import app, flags, logging


class UserError(Exception):
  """What was received, what was expected, and what to run next, in one line."""


def run(main: Callable[[Sequence[str]], None], **app_options) -> NoReturn:
  """Runs a command under absl; a `UserError` becomes one line and exit code 1.

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
      sys.exit(1)

  app.run(guarded, **app_options)
