"""Ranks where all users have the same scores, as of popularity: sorted once for all.

The numbers are those of `ranking.full_ranks` and `top_lists.top_items`, in a time that
grows with the histories, and not with the catalogue.
"""

import numpy as np

from ncf_tfdata.data.records import EvaluationBatch


def are_shared(scores: np.ndarray) -> bool:
  """Whether the rows of float [n, num_items] are one in memory, and it is finite."""
  one = scores.strides[0] == 0 and len(scores) > 0
  return one and bool(np.isfinite(scores[0]).all())


class SharedScores:
  """Scores of the catalogue that every row has."""

  def __init__(self, scores: np.ndarray):
    """Sorts scores float [num_items]."""
    self._scores, self._sorted = scores, np.sort(scores)
    # Best first, of equal ones the lower id.
    self._order = np.argsort(-scores, kind='stable')
    self._place = np.empty(len(scores), np.int64)
    self._place[self._order] = np.arange(len(scores))

  def full_ranks(self, batch: EvaluationBatch) -> np.ndarray:
    """Ranks of n positives among all items but the history: float64 [n]."""
    target = self._scores[batch.positive]
    below, to = (
      np.searchsorted(self._sorted, target, side) for side in ('left', 'right')
    )
    row, item = _seen(batch, len(self._scores))
    seen, own = self._scores[item], target[row]
    higher = len(self._scores) - to - _number(row[seen > own], len(target))
    equal = to - below - 1 - _number(row[seen == own], len(target))
    return higher + 0.5 * equal

  def top_items(self, batch: EvaluationBatch, k: int) -> np.ndarray:
    """The k best items of n rows without the history: int64 [n, k], -1 for none."""
    rows, items = len(batch.user), len(self._scores)
    k = min(k, items)
    row, item = _seen(batch, items)
    # No list reaches further down.
    width = min(k + int(_number(row, rows).max()), items)
    place = self._place[item]
    free = np.ones((rows, width), bool)
    free[row[place < width], place[place < width]] = False
    number = np.cumsum(free, axis=1, dtype=np.int32)
    owner, column = np.divmod(np.flatnonzero(free & (number <= k)), width)
    found = np.full((rows, k), -1)
    found[owner, number[owner, column] - 1] = self._order[column]
    return found


def _number(row: np.ndarray, rows: int) -> np.ndarray:
  return np.bincount(row, minlength=rows)


def _seen(batch: EvaluationBatch, num_items: int) -> tuple[np.ndarray, np.ndarray]:
  """Row and item of what histories hold, each once, and never the row's positive."""
  row = np.repeat(np.arange(len(batch.user)), batch.history_length)
  row, item = np.divmod(np.unique(row * num_items + batch.history), num_items)
  other = item != batch.positive[row]
  return row[other], item[other]
