"""The run directory: what a training leaves behind, and what the others read.

flags.cfg       the whole configuration, a flagfile that repeats the run
model.json      the model's Keras configuration, and its dataset's sha256
checkpoints/    state to resume from, and best.weights.h5
logs/           TensorBoard
epochs.csv      a line an epoch
lags.csv        of a history model: a line a lag, what each head weighs it with
metrics.json    written last: what the best epoch's weights reach
ranks/          what each held-out row's item came to, of the model and of baselines
plots/, report.html   what `evaluate` draws
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

import keras
import numpy as np

from ncf_tfdata import dataset as dataset_lib
from ncf_tfdata import object_store
from ncf_tfdata.errors import UserError
from ncf_tfdata.models import history, neumf
from ncf_tfdata.models.ranking_model import Model

FLAGS = 'flags.cfg'
MODEL = 'model.json'
CHECKPOINTS = 'checkpoints'
LOGS = 'logs'
EPOCHS = 'epochs.csv'
LAGS = 'lags.csv'
METRICS = 'metrics.json'
_BEST = 'best.weights.h5'
# What an evaluation makes of them.
_DERIVED = ('ranks', 'plots', 'report.html')
_CONTENT = (METRICS, CHECKPOINTS, LOGS, EPOCHS, LAGS, *_DERIVED, MODEL, FLAGS)

# Importing a model's module registers its class with Keras.
MODELS = (neumf.NeuMF, history.History)


def _write(path: pathlib.Path, text: str) -> None:
  """Writes a file that is either whole or not there."""
  temporary = path.with_name(f'{path.name}.tmp')
  temporary.write_text(text)
  os.replace(temporary, path)


def _number(text: str) -> float | int:
  return int(text) if text.lstrip('-').isdigit() else float(text)


class Run:
  """A run directory."""

  def __init__(self, directory: str | os.PathLike):
    """Names a run directory, there or not.

    Raises:
      UserError: It is on an object store, where no weights can be written.
    """
    object_store.refuse(directory)
    self.directory = pathlib.Path(directory)
    self.checkpoints = self.directory / CHECKPOINTS
    self.logs = self.directory / LOGS
    self.epochs = self.directory / EPOCHS
    self.best_weights = self.checkpoints / _BEST

  def start(
    self,
    configuration: Mapping[str, str],
    dataset: dataset_lib.Dataset,
    model: Model,
    overwrite: bool,
    ignored: frozenset[str] = frozenset(),
  ) -> None:
    """Makes the directory, or takes up what an earlier start left in it.

    Args:
      configuration: Flag by name, as a line of a flagfile.
      dataset: What is trained on.
      model: What is trained; later `load_model` makes it again.
      overwrite: Whether to remove an earlier run.
      ignored: Flags that may differ from the earlier start's.

    Raises:
      UserError: The directory holds a run of another configuration or dataset, or
        something that is no run.
    """
    path = self.directory / FLAGS
    if overwrite and path.exists():
      for name in _CONTENT:
        target = self.directory / name
        if target.is_dir():
          shutil.rmtree(target)
        else:
          target.unlink(missing_ok=True)
    if path.exists():
      self._check_configuration(path, configuration, ignored)
    elif self.directory.exists() and any(self.directory.iterdir()):
      raise UserError(
        f'{self.directory} is not empty and holds no run (no {FLAGS}). '
        'Name another --run_dir.'
      )
    note_path = self.directory / MODEL
    if note_path.exists():
      self._check_dataset(json.loads(note_path.read_text()), dataset)
    self.checkpoints.mkdir(parents=True, exist_ok=True)
    _write(path, ''.join(f'{line}\n' for line in configuration.values()))
    note = {
      'dataset_sha256': dataset.sha256,
      'model': keras.saving.serialize_keras_object(model),
    }
    _write(note_path, json.dumps(note, indent=2, sort_keys=True) + '\n')

  def _check_configuration(
    self, path: pathlib.Path, configuration: Mapping[str, str], ignored: frozenset[str]
  ) -> None:
    earlier = set(path.read_text().splitlines())
    changed = [
      line
      for name, line in configuration.items()
      if name not in ignored and line not in earlier
    ]
    if changed:
      raise UserError(
        f'{self.directory} holds a run of another configuration: now '
        f'{" ".join(changed)}. Name another --run_dir, or start again with '
        '--overwrite.'
      )

  def _check_dataset(
    self, note: Mapping[str, Any], dataset: dataset_lib.Dataset
  ) -> None:
    if note['dataset_sha256'] != dataset.sha256:
      raise UserError(
        f'{self.directory} was trained on dataset {note["dataset_sha256"][:12]}, and '
        f'{dataset.directory} is {dataset.sha256[:12]}. Give the --data_dir that it '
        'was trained on, or train again with --overwrite.'
      )

  def load_model(self, dataset: dataset_lib.Dataset) -> Model:
    """The trained model, with the best epoch's weights.

    Raises:
      UserError: No model has been trained here, or it was on another dataset.
    """
    path = self.directory / MODEL
    if not path.exists() or not self.best_weights.exists():
      raise UserError(
        f'no trained model in {self.directory}. Run '
        f'`python -m ncf_tfdata.train --run_dir={self.directory}` first.'
      )
    note = json.loads(path.read_text())
    self._check_dataset(note, dataset)
    model = keras.saving.deserialize_keras_object(note['model'])
    self.load_weights(model)
    model.attach(dataset)
    return model

  def load_weights(self, model: Model | keras.Model) -> None:
    """Gives a model the best epoch's weights.

    Raises:
      UserError: The file does not hold them.
    """
    try:
      model.load_weights(self.best_weights)
    except (OSError, ValueError, KeyError) as error:
      reason = str(error).strip().partition('\n')[0]
      raise UserError(
        f'{self.best_weights} does not hold this model ({reason}). '
        'Train again with --overwrite.'
      ) from error

  def save_weights(self, model: keras.Model) -> None:
    """Keeps a model's weights as the best epoch's."""
    temporary = self.checkpoints / f'tmp.{_BEST}'
    model.save_weights(temporary, overwrite=True)
    os.replace(temporary, self.best_weights)

  def checkpoint_sha256(self) -> str:
    """Digest of the best epoch's weights."""
    with self.best_weights.open('rb') as stream:
      return hashlib.file_digest(stream, 'sha256').hexdigest()

  def history(self) -> list[dict[str, float]]:
    """The lines of epochs.csv, first epoch first."""
    if not self.epochs.exists():
      return []
    with self.epochs.open(newline='') as stream:
      return [
        {name: _number(value) for name, value in row.items()}
        for row in csv.DictReader(stream)
      ]

  def write_history(self, history: Sequence[Mapping[str, float]]) -> None:
    """Writes epochs.csv; its numbers read back as they are, bit by bit."""
    text = io.StringIO(newline='')
    if history:
      writer = csv.DictWriter(text, list(history[0]), lineterminator='\n')
      writer.writeheader()
      writer.writerows(history)
    _write(self.epochs, text.getvalue())

  def write_lags(self, weights: np.ndarray) -> None:
    """Writes lags.csv, of float [heads, lags], the last item first."""
    lag = np.arange(1, weights.shape[1] + 1)
    text = io.StringIO(newline='')
    writer = csv.writer(text, lineterminator='\n')
    writer.writerow(['lag', *(f'head {head}' for head in range(1, len(weights) + 1))])
    writer.writerows(
      [number, *line] for number, line in zip(lag, weights.T.tolist(), strict=True)
    )
    _write(self.directory / LAGS, text.getvalue())

  def lags(self) -> np.ndarray | None:
    """What `write_lags` wrote, float64 [heads, lags], or None."""
    path = self.directory / LAGS
    if not path.exists():
      return None
    return np.loadtxt(path, delimiter=',', skiprows=1, ndmin=2).T[1:]

  def metrics(self) -> dict[str, Any] | None:
    """What metrics.json holds, or None where the run has not finished."""
    path = self.directory / METRICS
    return json.loads(path.read_text()) if path.exists() else None

  def write_metrics(self, metrics: Mapping[str, Any]) -> None:
    """Writes metrics.json, which marks the run as finished."""
    text = json.dumps(metrics, indent=2, sort_keys=True)
    _write(self.directory / METRICS, text + '\n')
