"""Which Beam runner does the work, and with which options."""

import argparse
import difflib
import os
import re

from absl import flags
from apache_beam.options import pipeline_options, pipeline_options_validator
from apache_beam.runners import runner

from ncf_tfdata.errors import UserError

# In Beam 2.77 `DirectRunner` tries to download Prism first; this names the
# runner that it falls back to, so that the same command always means the same.
_DIRECT = 'FnApiRunner'
_DASK = 'beam_pipelines.dask_runner.DaskRunner'
_SHORT_NAMES = {
  'DirectRunner': _DIRECT,
  'DaskRunner': _DASK,
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
  result = pipeline_options.PipelineOptions(arguments)
  standard = result.view_as(pipeline_options.StandardOptions)
  standard.runner = _SHORT_NAMES.get(name, name)
  faults = pipeline_options_validator.PipelineOptionsValidator(
    result, chosen_runner
  ).validate()
  if faults:
    raise UserError(f'--runner={name}: {" ".join(faults)}')
  # Everything that workers need is importable; a pickled session would only
  # carry the launcher's flags to them.
  result.view_as(pipeline_options.SetupOptions).save_main_session = False
  if standard.runner == _DIRECT:
    _flush_by_size()
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


def _runner(name: str) -> runner.PipelineRunner:
  try:
    return runner.create_runner(_SHORT_NAMES.get(name, name))
  except (AttributeError, ImportError, ValueError) as error:
    hint = ''
    if name == 'DaskRunner':
      hint = " Run pip install 'ncf-tfdata[dask]'."
    raise UserError(f'--runner={name}: {error}.{hint}') from error


def _flush_by_size() -> None:
  """Keeps the direct runner's threads from losing rows.

  Every second a thread of Beam 2.77 flushes the stream that a worker writes to, without
  a lock that the writer would take: what is written between the flush's copy and its
  reset is gone. Streams that are flushed at 10 MB by their writers only are safe.
  """
  from apache_beam.runners.portability.fn_api_runner import worker_handlers

  worker_handlers.DATA_BUFFER_TIME_LIMIT_MS = 0


def _choose_workers(result, arguments, text_bytes: int, workers: int | None) -> None:
  direct = result.view_as(pipeline_options.DirectOptions)
  given = [text for text in arguments if text.startswith('--direct_')]
  if given and workers is not None:
    raise UserError(f'--workers={workers} and {given[0]} are given. Pass one of them.')
  if not given and workers is None:
    workers = (os.cpu_count() or 1) if text_bytes >= _PARALLEL_BYTES else 1
  if workers is not None:
    direct.direct_num_workers = workers
    direct.direct_running_mode = 'multi_threading' if workers > 1 else 'in_memory'


def _choose_partitions(result, text_bytes: int) -> None:
  from apache_beam.runners.dask import dask_runner

  dask = result.view_as(dask_runner.DaskOptions)
  if not dask.npartitions:
    dask.npartitions = max(_MIN_PARTITIONS, -(-text_bytes // _DASK_PARTITION_BYTES))


def _refuse_unknown(arguments: list[str]) -> None:
  parser = argparse.ArgumentParser(
    allow_abbrev=False, add_help=False, exit_on_error=False
  )
  for kind in _subclasses(pipeline_options.PipelineOptions):
    try:
      kind._add_argparse_args(parser)  # pylint: disable=protected-access
    except argparse.ArgumentError:
      continue  # the same option, declared by two kinds
  try:
    _, unknown = parser.parse_known_args(arguments)
  except argparse.ArgumentError as error:
    raise UserError(f'{error}.') from error
  if unknown:
    known = [text for action in parser._actions for text in action.option_strings]
    known += [f'--{name}' for name in flags.FLAGS]
    name = unknown[0].split('=')[0]
    close = difflib.get_close_matches(name, known, 1)
    hint = f'Did you mean {close[0]}?' if close else "See --help, and Beam's options."
    raise UserError(f'unknown flag {unknown[0]}. {hint}')


def _subclasses(kind):
  found = []
  for child in kind.__subclasses__():
    found += [child, *_subclasses(child)]
  return found


def user_error(error: BaseException) -> UserError | None:
  """The `UserError` that a worker raised, out of what a runner made of it."""
  seen: BaseException | None = error
  while seen is not None:
    if isinstance(seen, UserError):
      return UserError(_STEP.sub('', str(seen)))
    found = _USER_ERROR.search(str(seen))
    if found:
      return UserError(found[1].strip('"\''))
    seen = seen.__cause__ or seen.__context__
  return None
