"""What a command that asks a trained model opens: its dataset and the model."""

from __future__ import annotations

import os
import pathlib
from typing import TYPE_CHECKING

from ncf_tfdata import dataset as dataset_lib
from ncf_tfdata import object_store
from ncf_tfdata.errors import UserError

if TYPE_CHECKING:
  from ncf_tfdata import run as run_lib
  from ncf_tfdata.models.ranking_model import Model


def data_dir(run_dir: str | os.PathLike) -> str:
  """The dataset that a run was trained on, by its flags.

  Raises:
    UserError: There is no run, or it does not say.
  """
  object_store.refuse(run_dir)
  path = pathlib.Path(run_dir) / 'flags.cfg'
  if not path.exists():
    raise UserError(
      f'no run at {run_dir} (no flags.cfg). '
      f'Run `python -m ncf_tfdata.train --run_dir={run_dir}` first.'
    )
  for line in path.read_text().splitlines():
    name, _, value = line.partition('=')
    if name == '--data_dir':
      return value
  raise UserError(f'{path} names no --data_dir: give it here.')


def load(
  run_dir: str | None, directory: str | None
) -> tuple[dataset_lib.Dataset, Model]:
  """Opens a finished run.

  Args:
    run_dir: The run directory.
    directory: Of the dataset; None for the one in the run's flags.

  Raises:
    UserError: There is no finished run, or the dataset is not the one it was trained
      on.
  """
  if not run_dir:
    raise UserError('give --run_dir, the run directory of a trained model.')
  dataset = dataset_lib.Dataset(directory or data_dir(run_dir))
  from ncf_tfdata import run as run_lib  # It imports TensorFlow.

  return dataset, model(run_lib.Run(run_dir), dataset)


def model(run: run_lib.Run, dataset: dataset_lib.Dataset) -> Model:
  """The model of a finished run.

  Raises:
    UserError: The run has not finished, or was trained on another dataset.
  """
  loaded = run.load_model(dataset)
  if run.metrics() is None:
    raise UserError(
      f'the run at {run.directory} has not finished. Run the same '
      '`python -m ncf_tfdata.train …` again to take it up.'
    )
  return loaded
