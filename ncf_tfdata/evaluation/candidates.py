"""Which items a held-out one is ranked among, where some of the catalogue are not."""

from __future__ import annotations

import dataclasses

import numpy as np

from ncf_tfdata import dataset as dataset_lib
from ncf_tfdata.data.records import EvaluationBatch
from ncf_tfdata.errors import UserError

ALL, SEEN_BEFORE = CHOICES = ('all', 'seen_before')


@dataclasses.dataclass(frozen=True)
class Candidates:
  """What leaves items out of a ranking.

  Attributes:
    cold: bool [num_items], items that a system has never seen. It cannot rank them, so
      that one that is held out is a miss. None of a system that may know any item.
    first_times: int64 [num_items], when each item was first seen by anyone; an item is
      no candidate up to then. None where all items are candidates at all times.
    unused: bool [num_items], ids that were kept of an earlier dataset, of items without
      interactions; they are never candidates. None where there are none.
  """

  cold: np.ndarray | None = None
  first_times: np.ndarray | None = None
  unused: np.ndarray | None = None

  def with_cold(self) -> Candidates:
    """Those of a system that knows items that it has never seen by what they are."""
    return dataclasses.replace(self, cold=None)

  def hide(self, scores: np.ndarray, batch: EvaluationBatch) -> None:
    """Sets what is left out to -inf in `scores` [n, num_items], in place."""
    if self.unused is not None:
      scores[:, self.unused] = -np.inf
    if self.first_times is not None:
      scores[self.first_times[None] >= self._times(batch)] = -np.inf
    if self.cold is not None:
      row = np.flatnonzero(self.cold[batch.positive])
      scores[row, batch.positive[row]] = -np.inf

  def hide_among(
    self, scores: np.ndarray, items: np.ndarray, batch: EvaluationBatch
  ) -> None:
    """The same in scores [n, 1 + k] of the positive and of negatives, `items`."""
    if self.unused is not None:
      scores[self.unused[items]] = -np.inf
    if self.first_times is not None:
      scores[self.first_times[items] >= self._times(batch)] = -np.inf
    if self.cold is not None:
      scores[self.cold[batch.positive], 0] = -np.inf

  def _times(self, batch: EvaluationBatch) -> np.ndarray:
    if batch.time is None:
      raise ValueError('`batch.time` must be known. Received: None.')
    return batch.time[:, None]


def of_train(dataset: dataset_lib.Dataset) -> Candidates | None:
  """The candidates of a system that learns from train rows; see `of`."""
  if not dataset.manifest.is_cut:
    return of(dataset, None)
  return of(dataset, dataset.vocabulary(dataset_lib.ITEMS).counts)


def of(
  dataset: dataset_lib.Dataset, count: np.ndarray | None, which: str = ALL
) -> Candidates | None:
  """The candidates of a system on a dataset; None where nothing is left out.

  Under leave-last-out only unused ids are: an item that held-out rows alone have is
  ranked by chance, as published numbers have it.

  Args:
    dataset: Whose held-out rows are ranked.
    count: int64 [num_items], rows of each item that the system has learnt from. None of
      a system of which that is not known.
    which: One of `CHOICES`.

  Raises:
    UserError: The dataset holds no times, and `SEEN_BEFORE` is asked for.
  """
  first_times = None
  if which == SEEN_BEFORE:
    first_times = dataset.vocabulary(dataset_lib.ITEMS).first_times
    if first_times is None:
      raise UserError(
        f'--candidates={SEEN_BEFORE} needs times, and {dataset.directory} holds none. '
        'Prepare a log with timestamps, by --split=time, --split=ratio or '
        '--keep_times.'
      )
  cold = count == 0 if dataset.manifest.is_cut and count is not None else None
  unused = dataset.unused_items()
  if cold is None and first_times is None and unused is None:
    return None
  return Candidates(cold, first_times, unused)
