"""The best items of scores, row by row."""

import math

import numpy as np

# An item that is looked at takes so many times what a group takes that is compared.
_ITEM_COST = 6
# Items of a group that make it worth it.
_SMALLEST_GROUP = 4


def count(marks: np.ndarray) -> np.ndarray:
  """How many of each row are true: bool [n, m] → int64 [n]."""
  # By a row each: along an axis numpy sums them as integers, ten times as long.
  return np.fromiter(map(np.count_nonzero, marks), np.int64, len(marks))


def kth_largest(scores: np.ndarray, k: int) -> np.ndarray:
  """The k-th largest score of each row: float [n, items] → float [n, 1]."""
  # Of the negated scores: numpy's selection from the upper end takes ten times as
  # long where most scores are one and the same, such as zero.
  return -np.partition(-scores, k - 1, axis=1)[:, k - 1, None]


def top_items(scores: np.ndarray, k: int) -> np.ndarray:
  """The k best items of each row, best first; of equal ones the lower id.

  Args:
    scores: float [n, num_items], -inf where an item is masked.
    k: How many.

  Returns:
    int64 [n, min(k, num_items)]; -1 where fewer than k items are not masked.
  """
  rows, items = scores.shape
  k = min(k, items)
  # Of `groups` all are compared, and the k * items / groups items of k looked at.
  groups = math.isqrt(_ITEM_COST * k * items)
  if items < _SMALLEST_GROUP * groups:
    return _top_of_all(scores, k)
  # The k-th largest of the maxima of groups of items is no larger than that of all, and
  # few groups hold anything larger. Item i is in group i modulo their number.
  whole = items // groups * groups
  maxima = scores[:, :whole].reshape(rows, -1, groups).max(axis=1)
  rest = maxima[:, : items - whole]
  np.maximum(rest, scores[:, whole:], out=rest)
  bound = kth_largest(maxima, k)
  held = maxima >= bound
  # Where most scores are one and the same, most groups hold it.
  crowded = count(held) > 2 * k
  held[crowded] = False
  found = np.empty((rows, k), np.int64)
  found[~crowded] = _top_of_groups(scores, k, held, bound, ~crowded)
  if crowded.any():
    found[crowded] = _top_of_all(scores[crowded], k)
  return found


def _top_of_groups(
  scores: np.ndarray, k: int, held: np.ndarray, bound: np.ndarray, asked: np.ndarray
) -> np.ndarray:
  """`top_items` of some rows, of groups of items that hold all of their k best.

  Args:
    scores: float [n, num_items].
    k: How many.
    held: bool [n, groups].
    bound: float [n, 1], no larger than the k-th largest.
    asked: bool [n], m of the rows; the others hold no group.

  Returns:
    int64 [m, k].
  """
  groups, items = held.shape[1], scores.shape[1]
  row, group = np.divmod(np.flatnonzero(held), groups)
  item = group[:, None] + np.arange(0, items, groups)
  inside = item < items
  score = scores[row[:, None], np.where(inside, item, 0)]
  kept = np.flatnonzero(inside & (score >= bound[row]))
  row = row[kept // item.shape[1]]
  item, score = item.ravel()[kept], score.ravel()[kept]
  order = np.lexsort((item, -score, row))
  row, item, score = row[order], item[order], score[order]
  # Each row's first k.
  first = np.searchsorted(row, np.flatnonzero(asked))
  place = first[:, None] + np.arange(k)
  return np.where(np.isneginf(score[place]), -1, item[place])


def _top_of_all(scores: np.ndarray, k: int) -> np.ndarray:
  """`top_items`, whatever the scores are; `k` is at most their number."""
  bound = kth_largest(scores, k)
  chosen = scores >= bound
  # argpartition alone would pick any of the ties, by an order of its own.
  crowded = np.flatnonzero(count(chosen) > k)
  higher, ties = scores[crowded] > bound[crowded], scores[crowded] == bound[crowded]
  free = k - count(higher)
  ties &= np.cumsum(ties, axis=1, dtype=np.int32) <= free[:, None]
  chosen[crowded] = higher | ties
  item = (np.flatnonzero(chosen) % scores.shape[1]).reshape(len(scores), k)
  score = np.take_along_axis(scores, item, axis=1)
  item = np.where(np.isneginf(score), -1, item)
  return np.take_along_axis(item, np.argsort(-score, axis=1, kind='stable'), axis=1)
