"""Which Beam runner does the work, and with which options."""

import argparse
import difflib
import os
import re
from collections.abc import Iterator

from absl import flags
from apache_beam.options import pipeline_options
from apache_beam.runners import runner

from beam_pipelines import _compat
from ncf_tfdata.errors import UserError

# In Beam 2.77 `DirectRunner` tries to download Prism first; this names the
# runner that it falls back to, so that the same command always means the same.
_DIRECT = 'FnApiRunner'
_DASK = 'beam_pipelines.dask_runner.DaskRunner'
_SHORT_NAMES = {
  'DirectRunner': _DIRECT,
  'DaskRunner': _DASK,
}
# How to get what starts an engine.
_SERVER_HINTS = {
  'PrismRunner': 'Run `make prism`, and pass --prism_location=.venv/bin/prism.',
}
# Two threads take a fifth less time at this size.
_PARALLEL_BYTES = 100 << 20
# A shuffle of n partitions is n² tasks, each about a millisecond of the scheduler.
_MIN_PARTITIONS = 8
_DASK_PARTITION_BYTES = 128 << 20
_USER_ERROR = re.compile(r'UserError: (.*?)(?: \[while running |\\n|\n|$)')
_STEP = re.compile(r' \[while running .*', re.DOTALL)


def options(
  arguments: list[str], text_bytes: int, workers: int | None = None
) -> pipeline_options.PipelineOptions:
  """Pipeline options from what absl left of the command line.

  Args:
    arguments: `--name=value` of Beam's own flags.
    text_bytes: Size of the input, from which the number of threads follows where
      the flags leave it open.
    workers: Threads of the direct runner, whatever the size.

  Raises:
    UserError: A flag is neither the command's nor Beam's, or `workers` is given to
      a runner that has its own.
  """
  name = pipeline_options.StandardOptions(arguments).runner or 'DirectRunner'
  chosen_runner = _runner(name)
  # Only now, since some options come with the runner's module.
  _refuse_unknown(arguments)
  result = _compat.Options(arguments)
  _compat.read_signatures_once()
  standard = result.view_as(pipeline_options.StandardOptions)
  standard.runner = _SHORT_NAMES.get(name, name)
  if faults := _compat.option_faults(result, chosen_runner):
    raise UserError(f'--runner={name}: {" ".join(faults)}')
  # Everything that workers need is importable; a pickled session would only
  # carry the launcher's flags to them.
  result.view_as(pipeline_options.SetupOptions).save_main_session = False
  if standard.runner == _DIRECT:
    _compat.flush_by_size()
    _choose_workers(result, arguments, text_bytes, workers)
  elif workers is not None:
    raise UserError(
      f'--workers={workers} is for the direct runner, and --runner={name} is given. '
      "Pass that runner's own option."
    )
  if standard.runner == _DASK:
    _choose_partitions(result, text_bytes)
  return result


def describe(options: pipeline_options.PipelineOptions) -> str:
  """What the job runs with, in a line."""
  name = options.view_as(pipeline_options.StandardOptions).runner
  if name != _DIRECT:
    return f'Running with {name}'
  direct = options.view_as(pipeline_options.DirectOptions)
  used = f'{direct.direct_num_workers} × {direct.direct_running_mode}'
  return f'Running with {name}, {used}'


def in_this_process(options: pipeline_options.PipelineOptions) -> bool:
  """Tells whether a runner works in this process, or in children that it starts."""
  standard = options.view_as(pipeline_options.StandardOptions)
  portable = options.view_as(pipeline_options.PortableOptions)
  return standard.runner == _DIRECT or portable.job_endpoint == 'embed'


def share_a_disk(options: pipeline_options.PipelineOptions) -> bool:
  """Tells whether all workers of a runner are on this machine."""
  return options.view_as(pipeline_options.StandardOptions).runner == _DIRECT


def _runner(name: str) -> runner.PipelineRunner:
  try:
    return _compat.create_runner(_SHORT_NAMES.get(name, name))
  except (AttributeError, ImportError, ValueError) as error:
    hint = ''
    if name == 'DaskRunner':
      hint = " Run pip install 'ncf-tfdata[dask]'."
    raise UserError(f'--runner={name}: {error}.{hint}') from error


def _choose_workers(
  result: pipeline_options.PipelineOptions,
  arguments: list[str],
  text_bytes: int,
  workers: int | None,
) -> None:
  direct = result.view_as(pipeline_options.DirectOptions)
  given = [text for text in arguments if text.startswith('--direct_')]
  if given and workers is not None:
    raise UserError(f'--workers={workers} and {given[0]} are given. Pass one of them.')
  if not given and workers is None:
    workers = (os.cpu_count() or 1) if text_bytes >= _PARALLEL_BYTES else 1
  if workers is not None:
    direct.direct_num_workers = workers
    direct.direct_running_mode = 'multi_threading' if workers > 1 else 'in_memory'


def _choose_partitions(
  result: pipeline_options.PipelineOptions, text_bytes: int
) -> None:
  from apache_beam.runners.dask import dask_runner

  dask = result.view_as(dask_runner.DaskOptions)
  if not dask.npartitions:
    dask.npartitions = max(_MIN_PARTITIONS, -(-text_bytes // _DASK_PARTITION_BYTES))


def _refuse_unknown(arguments: list[str]) -> None:
  try:
    unknown, known = _compat.unknown_options(arguments)
  except argparse.ArgumentError as error:
    raise UserError(f'{error}.') from error
  if unknown:
    known += [f'--{name}' for name in flags.FLAGS]
    name = unknown[0].split('=')[0]
    close = difflib.get_close_matches(name, known, 1)
    hint = f'Did you mean {close[0]}?' if close else "See --help, and Beam's options."
    raise UserError(f'unknown flag {unknown[0]}. {hint}')


def start_error(
  options: pipeline_options.PipelineOptions, error: BaseException
) -> UserError | None:
  """What to say where Beam could not start an engine's job server; None for others."""
  if not _compat.in_job_server(error):
    return None
  name = options.view_as(pipeline_options.StandardOptions).runner
  reason = str(error).partition('\n')[0] or type(error).__name__
  hint = _SERVER_HINTS.get(name, 'See docs/guides/many-machines.md.')
  return UserError(f'--runner={name} cannot be started: {reason.rstrip(".")}. {hint}')


def interrupted(error: BaseException) -> bool:
  """Tells whether it was Ctrl-C that ended a job, whatever Beam made of it.

  A step that is interrupted in this process is raised again as a RuntimeError.
  """
  return any(
    isinstance(seen, KeyboardInterrupt) or str(seen).startswith('KeyboardInterrupt')
    for seen in _causes(error)
  )


def _causes(error: BaseException) -> Iterator[BaseException]:
  seen: BaseException | None = error
  while seen is not None:
    yield seen
    seen = seen.__cause__ or seen.__context__


def user_error(error: BaseException) -> UserError | None:
  """The `UserError` that a worker raised, out of what a runner made of it."""
  for seen in _causes(error):
    if isinstance(seen, UserError):
      return UserError(_STEP.sub('', str(seen)))
    found = _USER_ERROR.search(str(seen))
    if found:
      return UserError(found[1].strip('"\''))
  return None
