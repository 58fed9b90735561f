"""The run directory: what a training leaves behind, and what the others read.

flags.cfg       the whole configuration, a flagfile that repeats the run
model.json      the model's Keras configuration, its dataset's sha256, and where there
                is one the run that it was started from
checkpoints/    state to resume from, best.weights.h5, and where EASE is added to the
                model, ease.npz: its matrix, and what that was fitted on
logs/           TensorBoard
epochs.csv      a line an epoch
lags.csv        of a history model: a line a lag, what each head weighs it with
metrics.json    written last: what the best epoch's weights reach, and the sha256 of
                the dataset, of the weights (checkpoint) and of model.json
ranks/          what each held-out row's item came to, of the model and of others
plots/, report.html   what `evaluate` draws

This module imports no TensorFlow; `models.saved` makes a model of such a directory.
"""

import csv
import hashlib
import io
import json
import os
import pathlib
import shutil
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ncf_tfdata import atomic, object_store
from ncf_tfdata import dataset as dataset_lib
from ncf_tfdata.errors import UserError

FLAGS = 'flags.cfg'
MODEL = 'model.json'
CHECKPOINTS = 'checkpoints'
BEST_WEIGHTS = 'best.weights.h5'  # in checkpoints/
EASE = 'ease.npz'  # in checkpoints/
# TensorFlow's own name of the file there that says which state is the latest.
STATES = 'checkpoint'
LOGS = 'logs'
EPOCHS = 'epochs.csv'
LAGS = 'lags.csv'
METRICS = 'metrics.json'
RANKS = 'ranks'
PLOTS = 'plots'
REPORT = 'report.html'
WARM_START = 'warm_start'  # in model.json and metrics.json
# Removed by --overwrite, in this order: a run is one as long as it has its flags.
_CONTENT = (
  METRICS,
  CHECKPOINTS,
  LOGS,
  EPOCHS,
  LAGS,
  RANKS,
  PLOTS,
  REPORT,
  MODEL,
  FLAGS,
)

_AGAIN = 'Train again with --overwrite.'


def _number(text: str) -> float | int:
  return int(text) if text.lstrip('-').isdigit() else float(text)


def _flag(line: str) -> str:
  """The name of the flag that a line of a flagfile sets; '' of an empty line."""
  return line.partition('=')[0].lstrip('-')


class Run:
  """A run directory.

  Attributes:
    directory: Where it is.
    checkpoints: Folder of the state to resume from and of the best weights.
    logs: Folder of TensorBoard's files.
    epochs: Path of epochs.csv.
    best_weights: Path of the best epoch's weights.
  """

  def __init__(self, directory: str | os.PathLike[str]):
    """Names a run directory, there or not.

    Raises:
      UserError: It is on an object store, where no weights can be written.
    """
    object_store.refuse(directory)
    self.directory = pathlib.Path(directory)
    self.checkpoints = self.directory / CHECKPOINTS
    self.logs = self.directory / LOGS
    self.epochs = self.directory / EPOCHS
    self.best_weights = self.checkpoints / BEST_WEIGHTS

  def _read(self, path: pathlib.Path) -> bytes | None:
    """What a file holds; None where there is no such file.

    Raises:
      UserError: It cannot be read.
    """
    try:
      return path.read_bytes()
    except FileNotFoundError:
      return None
    except OSError as error:
      raise UserError(f'cannot read {path}: {error.strerror}.') from error

  def _read_text(self, path: pathlib.Path, otherwise: str = _AGAIN) -> str | None:
    content = self._read(path)
    try:
      return None if content is None else content.decode()
    except UnicodeDecodeError as error:
      raise UserError(f'{path} is damaged: it is not UTF-8. {otherwise}') from error

  def _read_json(self, path: pathlib.Path) -> dict[str, Any] | None:
    text = self._read_text(path)
    if text is None:
      return None
    try:
      content = json.loads(text)
    except ValueError as error:
      raise UserError(f'{path} is damaged: {error}. {_AGAIN}') from error
    if not isinstance(content, dict):
      raise UserError(f'{path} is damaged: expected a JSON object. {_AGAIN}')
    return content

  def _check_sha256(self, path: pathlib.Path, recorded: str) -> None:
    """Compares a file with its digest in metrics.json, where there is one.

    Runs of earlier versions recorded none of model.json.
    """
    expected = (self.metrics() or {}).get(recorded)
    if expected is not None and self._sha256(path) != expected:
      raise UserError(
        f'{path} is corrupt: its sha256 is not what {METRICS} says. {_AGAIN}'
      )

  def _sha256(self, path: pathlib.Path) -> str:
    content = self._read(path)
    if content is None:
      raise UserError(f'{path} is missing. {_AGAIN}')
    return hashlib.sha256(content).hexdigest()

  def start(
    self,
    configuration: Mapping[str, str],
    dataset: dataset_lib.Dataset,
    model: Mapping[str, Any],
    overwrite: bool,
    warm_start: Mapping[str, Any] | None = None,
  ) -> None:
    """Makes the directory, or takes up what an earlier start left in it.

    Args:
      configuration: Flag by name, as a line of a flagfile.
      dataset: What is trained on.
      model: What is trained, as JSON: of `models.saved.serialize`.
      overwrite: Whether to remove an earlier run; otherwise it is for the caller to
        know that one of the same configuration is there, by `flags`.
      warm_start: What `warm_start` is to say of the run that this one starts from;
        None keeps what it says.

    Raises:
      UserError: The directory holds a run of another dataset, or something that is no
        run.
    """
    path = self.directory / FLAGS
    if overwrite and path.exists():
      for name in _CONTENT:
        target = self.directory / name
        if target.is_dir():
          shutil.rmtree(target)
        else:
          target.unlink(missing_ok=True)
    if not path.exists() and self.directory.exists() and any(self.directory.iterdir()):
      raise UserError(
        f'{self.directory} is not empty and holds no run (no {FLAGS}). '
        'Name another --run_dir.'
      )
    note = self._read_json(self.directory / MODEL)
    if note is not None:
      self._check_dataset(note, dataset)
    warm_start = warm_start or (note or {}).get(WARM_START)
    self.checkpoints.mkdir(parents=True, exist_ok=True)
    atomic.write_text(path, ''.join(f'{line}\n' for line in configuration.values()))
    note = {'dataset_sha256': dataset.sha256, 'model': model}
    if warm_start:
      note[WARM_START] = warm_start
    text = json.dumps(note, indent=2, sort_keys=True)
    atomic.write_text(self.directory / MODEL, text + '\n')

  def warm_start(self) -> dict[str, Any] | None:
    """What is noted of the run that this one was started from; None of none.

    Raises:
      UserError: model.json is damaged.
    """
    return (self._read_json(self.directory / MODEL) or {}).get(WARM_START)

  def serialized(self) -> Any:
    """What `start` was told of the model, unchecked; None where nothing was."""
    return (self._read_json(self.directory / MODEL) or {}).get('model')

  def trained_on(self) -> Any:
    """The sha256 of the dataset, unchecked; None where nothing was trained."""
    return (self._read_json(self.directory / MODEL) or {}).get('dataset_sha256')

  def has_state(self) -> bool:
    """Whether there is a state to take the training up from."""
    return (self.checkpoints / STATES).exists()

  def flags(self) -> list[str]:
    """The lines of flags.cfg, each of one flag.

    Raises:
      UserError: There is no run, or the file cannot be read.
    """
    path = self.directory / FLAGS
    text = self._read_text(path, 'Name another --run_dir.')
    if text is None:
      raise UserError(
        f'no run at {self.directory} (no {FLAGS}). '
        f'Run `python -m ncf_tfdata.train --run_dir={self.directory}` first.'
      )
    return text.splitlines()

  def data_dir(self) -> str:
    """The dataset that the run was trained on, by its flags.

    Raises:
      UserError: There is no run, or it does not say.
    """
    for line in self.flags():
      if _flag(line) == 'data_dir':
        return line.partition('=')[2]
    raise UserError(f'{self.directory / FLAGS} names no --data_dir: give it here.')

  def _check_dataset(
    self, note: Mapping[str, Any], dataset: dataset_lib.Dataset
  ) -> None:
    trained_on = note.get('dataset_sha256')
    if not isinstance(trained_on, str):
      raise UserError(
        f'{self.directory / MODEL} is damaged: it names no dataset. {_AGAIN}'
      )
    if trained_on != dataset.sha256:
      raise UserError(
        f'{self.directory} was trained on dataset {trained_on[:12]}, and '
        f'{dataset.directory} is {dataset.sha256[:12]}. Give the --data_dir that it '
        'was trained on, or train again with --overwrite.'
      )

  def model(self, dataset: dataset_lib.Dataset) -> Any:
    """What `start` was told of the trained model, as JSON.

    Raises:
      UserError: No model has been trained here, or it was on another dataset, or what
        is kept of it is not what was written.
    """
    path = self.directory / MODEL
    note = self._read_json(path)
    if note is None or not self.best_weights.exists():
      raise UserError(
        f'no trained model in {self.directory}. Run '
        f'`python -m ncf_tfdata.train --run_dir={self.directory}` first.'
      )
    self._check_sha256(path, 'model_sha256')
    self._check_dataset(note, dataset)
    if 'model' not in note:
      raise UserError(f'{path} is damaged: it describes no model. {_AGAIN}')
    return note['model']

  def check_weights(self) -> None:
    """Compares the best epoch's weights with metrics.json, where the run has finished.

    Raises:
      UserError: They are not what was written.
    """
    self._check_sha256(self.best_weights, 'checkpoint_sha256')

  def check_finished(self) -> None:
    """Refuses a run that has not been judged.

    Raises:
      UserError: There is no metrics.json.
    """
    if self.metrics() is None:
      raise UserError(
        f'the run at {self.directory} has not finished. Run the same '
        '`python -m ncf_tfdata.train …` again to take it up.'
      )

  def checkpoint_sha256(self) -> str:
    """Digest of the best epoch's weights."""
    return self._sha256(self.best_weights)

  def model_sha256(self) -> str:
    """Digest of model.json."""
    return self._sha256(self.directory / MODEL)

  def history(self) -> list[dict[str, float]]:
    """The lines of epochs.csv, first epoch first.

    Raises:
      UserError: It cannot be read, or holds what is no number.
    """
    text = self._read_text(self.epochs)
    try:
      return [
        {name: _number(value) for name, value in row.items()}
        for row in csv.DictReader(io.StringIO(text or '', newline=''))
      ]
    except (AttributeError, TypeError, ValueError, csv.Error) as error:
      raise UserError(f'{self.epochs} is damaged: {error}. {_AGAIN}') from error

  def write_history(self, history: Sequence[Mapping[str, float]]) -> None:
    """Writes epochs.csv; its numbers read back as they are, bit by bit."""
    text = io.StringIO(newline='')
    if history:
      writer = csv.DictWriter(text, list(history[0]), lineterminator='\n')
      writer.writeheader()
      writer.writerows(history)
    atomic.write_text(self.epochs, text.getvalue())

  def write_lags(self, weights: np.ndarray) -> None:
    """Writes lags.csv, of float [heads, lags], the last item first."""
    lag = np.arange(1, weights.shape[1] + 1)
    text = io.StringIO(newline='')
    writer = csv.writer(text, lineterminator='\n')
    writer.writerow(['lag', *(f'head {head}' for head in range(1, len(weights) + 1))])
    writer.writerows(
      [number, *line] for number, line in zip(lag, weights.T.tolist(), strict=True)
    )
    atomic.write_text(self.directory / LAGS, text.getvalue())

  def lags(self) -> np.ndarray | None:
    """What `write_lags` wrote, float64 [heads, lags], or None.

    Raises:
      UserError: It cannot be read, or holds what is no number.
    """
    path = self.directory / LAGS
    text = self._read_text(path)
    if text is None:
      return None
    try:
      return np.loadtxt(io.StringIO(text), delimiter=',', skiprows=1, ndmin=2).T[1:]
    except ValueError as error:
      raise UserError(f'{path} is damaged: {error}. {_AGAIN}') from error

  def metrics(self) -> dict[str, Any] | None:
    """What metrics.json holds, or None where the run has not finished.

    Raises:
      UserError: It cannot be read, or is damaged.
    """
    return self._read_json(self.directory / METRICS)

  def write_metrics(self, metrics: Mapping[str, Any]) -> None:
    """Writes metrics.json, which marks the run as finished."""
    text = json.dumps(metrics, indent=2, sort_keys=True)
    atomic.write_text(self.directory / METRICS, text + '\n')


def open_with_dataset(
  run_dir: str | None, data_dir: str | None
) -> tuple[Run, dataset_lib.Dataset]:
  """Opens a run and the dataset that it was trained on.

  Args:
    run_dir: The run directory.
    data_dir: Of the dataset; None for the one in the run's flags.

  Raises:
    UserError: There is no run, or no dataset.
  """
  if not run_dir:
    raise UserError('give --run_dir, the run directory of a trained model.')
  run = Run(run_dir)
  return run, dataset_lib.Dataset(data_dir or run.data_dir())
