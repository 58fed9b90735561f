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
_SHORT_NAMES = {
  'DirectRunner': _DIRECT,
  'DaskRunner': 'apache_beam.runners.dask.dask_runner.DaskRunner',
}
# Two threads take a tenth less time at this size.
_PARALLEL_BYTES = 100 << 20
_USER_ERROR = re.compile(r'UserError: (.*?)(?: \[while running |\\n|\n|$)')
_STEP = re.compile(r' \[while running .*', re.DOTALL)


def options(arguments: list[str], text_bytes: int) -> pipeline_options.PipelineOptions:
  """Pipeline options from what absl left of the command line.

  Args:
    arguments: `--name=value` of Beam's own flags.
    text_bytes: Size of the input, from which the number of threads follows where
      the flags leave it open.

  Raises:
    UserError: A flag is neither the command's nor Beam's.
  """
  _refuse_unknown(arguments)
  result = pipeline_options.PipelineOptions(arguments)
  standard = result.view_as(pipeline_options.StandardOptions)
  name = standard.runner or 'DirectRunner'
  standard.runner = _SHORT_NAMES.get(name, name)
  try:
    chosen_runner = runner.create_runner(standard.runner)
  except (AttributeError, ImportError, ValueError) as error:
    raise UserError(f'--runner={name}: {error}') from error
  faults = pipeline_options_validator.PipelineOptionsValidator(
    result, chosen_runner
  ).validate()
  if faults:
    raise UserError(f'--runner={name}: {" ".join(faults)}')
  # Everything that workers need is importable; a pickled session would only
  # carry the launcher's flags to them.
  result.view_as(pipeline_options.SetupOptions).save_main_session = False
  direct = result.view_as(pipeline_options.DirectOptions)
  chosen = any(argument.startswith('--direct_') for argument in arguments)
  if standard.runner == _DIRECT and not chosen and text_bytes >= _PARALLEL_BYTES:
    direct.direct_running_mode = 'multi_threading'
    direct.direct_num_workers = os.cpu_count() or 1
  if standard.runner == _DIRECT:
    workers = f'{direct.direct_num_workers} × {direct.direct_running_mode}'
    print(f'Running with {_DIRECT}, {workers}')
  return result


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
