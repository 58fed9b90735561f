"""Writes a model as a SavedModel, which is whole or not there."""

from __future__ import annotations

import os
import pathlib
import shutil
import tempfile
from typing import TYPE_CHECKING, NamedTuple

from ncf_tfdata import dataset as dataset_lib
from ncf_tfdata import object_store
from ncf_tfdata.errors import UserError

if TYPE_CHECKING:
  from ncf_tfdata.models.ranking_model import Model

# By this file a directory is known as a SavedModel.
_SAVED_MODEL = 'saved_model.pb'
# All that TensorFlow writes into one; nothing else is ever removed.
_CONTENT = {_SAVED_MODEL, 'fingerprint.pb', 'assets', 'assets.extra', 'variables'}


class Exported(NamedTuple):
  """A SavedModel: its directory, its size and the names of its signatures."""

  path: pathlib.Path
  bytes: int
  signatures: tuple[str, ...]


def check_output(output: str | os.PathLike[str], overwrite: bool) -> pathlib.Path:
  """The directory, once it is known that it may be written.

  Raises:
    UserError: It holds a SavedModel and `overwrite` is False, or something else, or it
      is on an object store.
  """
  object_store.refuse(output)
  path = pathlib.Path(output)
  if not path.exists():
    return path
  holds_model = (path / _SAVED_MODEL).exists()
  if not path.is_dir() or (not holds_model and any(path.iterdir())):
    raise UserError(f'{path} is there and is no SavedModel. Name another --output.')
  if holds_model and not overwrite:
    raise UserError(
      f'{path} holds a SavedModel. Name another --output, or replace it with '
      '--overwrite.'
    )
  if others := sorted({entry.name for entry in path.iterdir()} - _CONTENT):
    raise UserError(
      f'{path} holds more than a SavedModel, such as {others[0]}. Name another '
      '--output, or move it away.'
    )
  return path


def save(
  model: Model,
  dataset: dataset_lib.Dataset,
  output: str | os.PathLike[str],
  overwrite: bool = False,
) -> Exported:
  """Writes a model with all that it needs to be asked in original ids.

  Raises:
    UserError: As `check_output`.
  """
  path = check_output(output, overwrite)

  import tensorflow as tf

  from ncf_tfdata.serving import saved_model

  server = saved_model.Server(model, dataset)
  signatures = server.signatures
  path.parent.mkdir(parents=True, exist_ok=True)
  with tempfile.TemporaryDirectory(prefix=f'.{path.name}.', dir=path.parent) as folder:
    made = os.path.join(folder, 'model')
    tf.saved_model.save(server, made, signatures=signatures)
    if check_output(path, overwrite).exists():
      shutil.rmtree(path)
    os.rename(made, path)
  size = sum(file.stat().st_size for file in path.rglob('*') if file.is_file())
  return Exported(path, size, tuple(signatures))
