"""A job while it runs, as its user sees it: a progress line, or one line of error."""

import contextlib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

from beam_pipelines import command, progress, runners

# Threads that lose their job to Ctrl-C say so meanwhile.
_LAST_WORDS_SECONDS = 0.2


@contextlib.contextmanager
def pipeline(
  options: PipelineOptions, unit: str = 'ratings', shown: bool = True
) -> Iterator[beam.Pipeline]:
  """Opens a pipeline, which runs when the context ends.

  Args:
    options: Of the runner.
    unit: What the progress line counts.
    shown: Whether there is one.
  """
  # A remote engine's log is news of the job, and comes as it is.
  held = runners.in_this_process(options) and not command.verbose()
  with (
    progress.shown(unit) if shown else contextlib.nullcontext(),
    _held_back() if held else contextlib.nullcontext(),
    _of_engine(options),
    beam.Pipeline(options=options) as root,
  ):
    yield root


@contextlib.contextmanager
def _of_engine(options: PipelineOptions) -> Iterator[None]:
  """Tells in a line where an engine could not be started."""
  try:
    yield
  except Exception as error:
    told = runners.start_error(options, error)
    if told is None:
      raise
    raise told from error


@contextlib.contextmanager
def _held_back() -> Iterator[None]:
  """Shows at the end what was written to stderr, unless a line of error says it all.

  Beam's threads print the traceback of a step that fails, and its worker processes
  log to the stderr that they inherit: only the file descriptor is common to them.
  """
  if sys.stderr is None:
    yield
    return
  sys.stderr.flush()
  with tempfile.TemporaryFile() as held, os.fdopen(os.dup(2), 'wb') as terminal:
    os.dup2(held.fileno(), 2)
    shown = True
    try:
      yield
    except BaseException as error:
      interrupted = runners.interrupted(error)
      if interrupted:
        time.sleep(_LAST_WORDS_SECONDS)
      shown = not interrupted and runners.user_error(error) is None
      raise
    finally:
      sys.stderr.flush()
      os.dup2(terminal.fileno(), 2)
      if shown:
        held.seek(0)
        shutil.copyfileobj(held, terminal)
