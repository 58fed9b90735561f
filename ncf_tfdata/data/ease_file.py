"""EASE's matrix as a run keeps it, with what it was fitted on."""

from __future__ import annotations

import os
import pathlib
import zipfile

import numpy as np

from ncf_tfdata import atomic
from ncf_tfdata import dataset as dataset_lib
from ncf_tfdata.run import EASE

# What a file that is cut short, changed or of something else raises.
_DAMAGED = (OSError, KeyError, ValueError, zipfile.BadZipFile)


def beside(weights: str | os.PathLike[str]) -> pathlib.Path:
  """Where it is kept, by the path of a model's weights."""
  return pathlib.Path(weights).parent / EASE


def write(
  path: pathlib.Path, matrix: np.ndarray, dataset: dataset_lib.Dataset, l2: float
) -> None:
  """Keeps a matrix; the same matrix makes the same bytes.

  Args:
    path: Where to.
    matrix: B, float32 [num_items, num_items].
    dataset: What it was fitted on.
    l2: Of the ridge regression.
  """
  with atomic.replaced(path) as temporary, temporary.open('wb') as stream:
    np.savez(stream, dataset_sha256=dataset.sha256, l2=np.float64(l2), matrix=matrix)


def is_of(path: pathlib.Path, dataset: dataset_lib.Dataset, l2: float) -> bool:
  """Whether there is a matrix that was fitted on this dataset, by this ridge."""
  try:
    with np.load(path) as content:
      return _is_of(content, dataset, l2)
  except _DAMAGED:
    return False


def read(
  path: pathlib.Path, dataset: dataset_lib.Dataset, l2: float
) -> np.ndarray | None:
  """Reads what `write` kept: float32 [num_items, num_items].

  None where there is none, or one of another dataset or ridge, or a damaged one: the
  file's checksum tells.
  """
  try:
    with np.load(path) as content:
      return content['matrix'] if _is_of(content, dataset, l2) else None
  except _DAMAGED:
    return None


def _is_of(
  content: np.lib.npyio.NpzFile, dataset: dataset_lib.Dataset, l2: float
) -> bool:
  return bool(content['dataset_sha256'] == dataset.sha256 and content['l2'] == l2)
