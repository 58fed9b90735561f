"""What a history model is like where its flags are not given: a matter of density.

A log with few rows a user wants short histories, narrow vectors and much
regularisation; one with many wants the opposite. Between the two ends, which were
tuned on validation (Amazon Beauty and MovieLens-1M), values go with the logarithm of
rows a user.
"""

import math
from typing import NamedTuple

from ncf_tfdata import dataset as dataset_lib

# Train rows a user of the two ends.
_SPARSE, _DENSE = 8.0, 160.0


class Defaults(NamedTuple):
  """Values of the flags of the same names; see `recipe_flags`."""

  history_length: int
  history_dim: int
  user_embedding: bool
  dropout: float
  l2: float
  successor_logits: float
  successor_reverse: float

  def __str__(self) -> str:
    return ', '.join(f'{name} {value}' for name, value in self._asdict().items())


def of(rows_per_user: float, successors: bool) -> Defaults:
  """The defaults for a log.

  Args:
    rows_per_user: Mean number of train rows of a user.
    successors: Whether the dataset has successor counts.
  """
  ends = math.log(_SPARSE), math.log(_DENSE)
  place = (math.log(max(rows_per_user, 1.0)) - ends[0]) / (ends[1] - ends[0])
  share = min(max(place, 0.0), 1.0)

  def between(sparse: float, dense: float) -> float:
    return round(sparse * (dense / sparse) ** share, 3)

  return Defaults(
    history_length=round(between(12, 50)),
    history_dim=64 if share < 0.5 else 128,
    # With few rows his vector would say what the history says, and worse.
    user_embedding=share >= 0.5,
    dropout=between(0.5, 0.2),
    l2=between(0.1, 0.05),
    successor_logits=between(2.0, 1.5) if successors else 0.0,
    successor_reverse=0.5 if share < 0.5 else 0.0,
  )


def of_dataset(dataset: dataset_lib.Dataset) -> Defaults:
  """The defaults for the train rows of a dataset."""
  rows = dataset.rows(dataset_lib.TRAIN)
  apart = dataset.manifest.counts.get('users_held_out', 0)
  users = max(1, dataset.num_users - apart)
  return of(rows / users, dataset.has(dataset_lib.SUCCESSORS))
