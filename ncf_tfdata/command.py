"""The frame of every command: its flags, and its errors in one line."""

import pkgutil
import signal
import sys
import types
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from absl import app, flags, logging

from ncf_tfdata import config, tensorflow_messages
from ncf_tfdata.errors import ArgumentError, UserError

# Flags belong to the command's own module; see `config`.
flags.disclaim_key_flags()

# What a shell takes for an end by SIGINT.
_CTRL_C = 128 + signal.SIGINT


def run(
  main: Callable[[], None] | Callable[[Sequence[str]], None],
  *configs: type[config.Config],
  takes_arguments: bool = False,
  **app_options: Any,
) -> NoReturn:
  """Runs a command under absl; what a user can mend becomes one line.

  Flags are defined here, and not when the command's module is imported: who imports it
  may have flags of the same names.

  Args:
    main: The command.
    *configs: What its flags are made from; `config.read` gives their values.
    takes_arguments: Whether `main` takes what `app.run` would give it.
    **app_options: Passed to `absl.app.run`.
  """
  config.define(*configs)

  def guarded(argv: Sequence[str]) -> None:
    # TensorFlow tells of every checkpoint at the level of absl's default.
    # (`app.run` has set the default by now, so only `present` tells a user's choice.)
    if not flags.FLAGS['verbosity'].present:
      logging.set_verbosity(logging.WARNING)
    if logging.get_verbosity() < logging.INFO:
      tensorflow_messages.quieten()
    try:
      if takes_arguments:
        main(argv)  # type: ignore[call-arg]
      elif len(argv) > 1:
        raise UserError(f'unexpected argument {argv[1]!r}: flags begin with --.')
      else:
        main()  # type: ignore[call-arg]
    except UserError as error:
      _end(str(error), error.exit_code)
    except ArgumentError as error:
      _end(error.as_flags(), UserError.exit_code)

  try:
    app.run(guarded, **app_options)
  except KeyboardInterrupt:
    # What was begun has been cleared up on the way here; files appear whole or not.
    _end('stopped by Ctrl-C.', _CTRL_C)


def _end(reason: str, exit_code: int) -> NoReturn:
  logging.flush()
  print(f'error: {reason}', file=sys.stderr)
  sys.exit(exit_code)


def make_callable(module: str, function: str) -> None:
  """Lets an imported command's module be called as the function of the same name.

  `ncf_tfdata.train` is a function of the API and a command. An import of the command
  puts the module in the function's place, where it must not be in the way.

  Args:
    module: The command's `__name__`.
    function: `module:name`, imported when it is called.
  """

  class Command(types.ModuleType):
    def __call__(self, *arguments: Any, **named: Any) -> Any:
      return pkgutil.resolve_name(function)(*arguments, **named)

  sys.modules[module].__class__ = Command
