"""The train interactions after a moment, which alone a training may fit.

This module imports no TensorFlow before it reads.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from ncf_tfdata import dataset as dataset_lib
from ncf_tfdata import times
from ncf_tfdata.data import records
from ncf_tfdata.errors import UserError


@dataclasses.dataclass(frozen=True, eq=False)
class TrainPart:
  """What of the train interactions is fitted; earlier ones are history alone.

  A user's interactions are in order of time, so these are the last of each.

  Attributes:
    since: Their times are at or after this, as `dataset.TIME` counts.
    user_rows: int64 [num_users], how many of each user.
  """

  since: int
  user_rows: np.ndarray

  @property
  def rows(self) -> int:
    """How many there are."""
    return int(self.user_rows.sum())

  @property
  def users(self) -> int:
    """How many users have any."""
    return int(np.count_nonzero(self.user_rows))


def since(dataset: dataset_lib.Dataset, text: str) -> TrainPart:
  """The train interactions after a moment.

  One at the moment itself is not among them: a split by time that is cut there has it
  in train, so that the day before has fitted it.

  Args:
    dataset: With times.
    text: The moment; see `times.moment`.

  Raises:
    UserError: It is none, the dataset holds no times, or nothing came after it.
  """
  cuts = dataset.manifest.cuts
  if cuts is None:
    raise UserError(
      f'--train_since={text} needs times, and {dataset.directory} holds none. '
      'Prepare a log with timestamps, by --split=time or --keep_times.'
    )
  first = times.moment(text, cuts.last, 'train_since') + 1 - cuts.first
  counts = np.zeros(dataset.num_users, np.int64)
  latest = 0
  columns = (dataset_lib.USER, dataset_lib.TIME)
  for block in records.columns(dataset, dataset_lib.TRAIN, columns):
    user, time = (block[name] for name in columns)
    counts += np.bincount(user[time >= first], minlength=len(counts))
    latest = max(latest, int(time.max(initial=0)))
  if not counts.any():
    raise UserError(
      f'--train_since={text} leaves no train interaction of {dataset.directory}: the '
      f'last one is at {times.told(cuts.first + latest, cuts.last)}. Name an earlier '
      'moment, or add the days that are missing to the log and prepare it again.'
    )
  return TrainPart(first, counts)
