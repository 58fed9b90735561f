"""Logs of the built-in sample and datasets of them, made by whole commands."""

import pathlib
import sys

import side_by_side


def log(ratings: int, path: pathlib.Path) -> side_by_side.Run:
  """Writes so many ratings of the built-in sample to a file."""
  return side_by_side.run(
    [
      *(sys.executable, '-m', 'beam_pipelines.sample'),
      *(f'--ratings={ratings}', f'--output={path}'),
    ]
  )


def dataset(
  path: pathlib.Path, output: pathlib.Path, *options: str
) -> side_by_side.Run:
  """Prepares a log, in place of what an earlier preparation left in `output`."""
  command = [sys.executable, '-m', 'beam_pipelines.prepare']
  return side_by_side.run(
    [*command, f'--input={path}', f'--output={output}', '--overwrite', *options]
  )
