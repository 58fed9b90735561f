"""The frame of a command that starts a Beam job: its flags, Beam's, and its errors."""

import logging
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, TextIO, cast

from absl import flags

from ncf_tfdata import command, config, hidden

# Flags belong to the command's own module; see `ncf_tfdata.config`.
flags.disclaim_key_flags()


# What Beam imports for sources that we do not read: a sixth of its import.
_UNUSED = ('bson', 'pymongo')
# The same for what is read of s3:// alone.
_OF_S3 = ('boto3',)


def run(
  main: Callable[[Sequence[str]], None], *configs: type[config.Config]
) -> NoReturn:
  """Runs a command under absl; what a worker says to the user is its one line.

  Args:
    main: The command; takes its own name and what is no flag of it, which is Beam's.
    *configs: What its flags are made from.
  """

  def guarded(argv: Sequence[str]) -> None:
    if not verbose():
      # Beam says at each import that its Google Cloud part is not there.
      logging.getLogger().setLevel(logging.ERROR)
      # A step that fails raises its error here; its traceback need not come before it.
      for name in ('common', 'worker'):
        logging.getLogger(f'apache_beam.runners.{name}').setLevel(logging.CRITICAL)
    try:
      with hidden.hidden(() if verbose() else _unused(argv)):
        configure_file_systems(argv[1:])
      main(argv)
    except KeyboardInterrupt:
      _silence_threads()
      raise
    except Exception as error:
      # Beam takes most of a second to import, for which --help need not wait.
      from beam_pipelines import runners

      if runners.interrupted(error):
        _silence_threads()
        raise KeyboardInterrupt from error
      mendable = runners.user_error(error)
      if mendable is None:
        raise
      raise mendable from error

  command.run(guarded, *configs, takes_arguments=True, flags_parser=parse)


class _OfMainThread:
  """A stream that only the main thread writes to."""

  def __init__(self, stream: TextIO):
    self._stream = stream

  def __getattr__(self, name: str) -> Any:
    return getattr(self._stream, name)

  def write(self, text: str) -> int:
    if threading.current_thread() is threading.main_thread():
      return self._stream.write(text)
    return len(text)


def _silence_threads() -> None:
  """Has Beam's threads end without a word: each of them misses the job that is gone."""
  if sys.stderr is not None:
    sys.stderr = cast(TextIO, _OfMainThread(sys.stderr))


def _unused(argv: Sequence[str]) -> tuple[str, ...]:
  """Packages that Beam need not find, by all that the command was given."""
  given = [*argv, *map(str, flags.FLAGS.flag_values_dict().values())]
  return _UNUSED if any('s3:' in text for text in given) else _UNUSED + _OF_S3


def verbose() -> bool:
  """Tells whether Beam's own log is asked for: --verbosity=1."""
  return (flags.FLAGS['verbosity'].value or 0) >= 1


def configure_file_systems(beam_arguments: Sequence[str]) -> None:
  """Tells object stores where they are and who asks, as a pipeline would only later."""
  from apache_beam.io.filesystems import FileSystems
  from apache_beam.options import pipeline_options

  FileSystems.set_options(pipeline_options.PipelineOptions(list(beam_arguments)))


def parse(argv: Sequence[str]) -> list[str]:
  """Parses the command's flags; what they do not know is left for Beam."""
  try:
    return flags.FLAGS(argv, known_only=True)
  except flags.Error as error:
    sys.exit(f'error: {error}')
