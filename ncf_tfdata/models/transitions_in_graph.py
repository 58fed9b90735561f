"""Transition scores as `transitions.TransitionScores` gives them, in a graph."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import tensorflow as tf

from ncf_tfdata.data import transitions
from ncf_tfdata.models.ranking_model import latest_items

# Of a catalogue this large a table of all pairs takes 100 MB.
_TABLE_ITEMS = 5_000


class Scores(Protocol):
  """What followed the items of a history.

  Attributes:
    variables: Of the weights.
  """

  variables: list[tf.Variable]

  def of_catalogue(self, history: tf.RaggedTensor) -> tf.Tensor:
    """Scores float32 [n, num_items] of all items."""

  def of_items(self, item: tf.Tensor) -> tf.Tensor:
    """The same after items int64 [n], each of them alone: float32 [n, num_items]."""

  def of_candidates(self, history: tf.RaggedTensor, items: tf.Tensor) -> tf.Tensor:
    """Scores float32 [n, c] of items int64 [n, c]; its work grows with c."""

  def of_entries(self, history: tf.RaggedTensor, items: tf.Tensor) -> tf.Tensor:
    """What each entry of the histories is of those scores: float64 [entries, c]."""


def of(scores: transitions.TransitionScores) -> Scores:
  """Takes the weights, by all pairs of items where these are few."""
  few = scores.weights.shape[1] <= _TABLE_ITEMS
  return TableScores(scores) if few else CellScores(scores)


def _recency(scores: transitions.TransitionScores) -> np.ndarray:
  """What the latest items count, oldest first: float64 [last]."""
  recency: np.ndarray = np.arange(scores.last, 0, -1.0) ** -scores.decay
  return recency


class TableScores:
  """By a table of all pairs: of each item a whole row is added up.

  Attributes:
    variables: The table, float32 [num_items + 1, num_items]; the last row is of pads.
  """

  def __init__(self, scores: transitions.TransitionScores):
    weights = scores.weights
    self._num_items = weights.shape[1]
    self._recency = _recency(scores).astype(np.float32)
    table = np.zeros((self._num_items + 1, self._num_items), np.float32)
    weights.astype(np.float32).toarray(out=table[:-1])
    self.variables = [
      tf.Variable(table, trainable=False, dtype=tf.float32, name='transition_table')
    ]

  def _recent(self, history: tf.RaggedTensor) -> tf.Tensor:
    return latest_items(history, len(self._recency), self._num_items)

  def of_catalogue(self, history: tf.RaggedTensor) -> tf.Tensor:
    recent = self._recent(history)
    # Each item once, however many rows it is in: a table is read from memory.
    item, place = tf.unique(tf.reshape(recent, [-1]))
    shape = tf.shape(recent)
    row = tf.broadcast_to(tf.range(shape[0])[:, None], shape)
    counts = tf.scatter_nd(
      tf.stack([tf.reshape(row, [-1]), place], axis=1),
      tf.tile(self._recency, shape[:1]),
      tf.stack([shape[0], tf.size(item)]),
    )
    return tf.matmul(counts, tf.gather(self.variables[0], item))

  def of_items(self, item: tf.Tensor) -> tf.Tensor:
    return tf.gather(self.variables[0], item)

  def _of_latest(self, history: tf.RaggedTensor, items: tf.Tensor) -> tf.Tensor:
    """What each of the latest items adds to items int [n, c]: float32 [n, last, c]."""
    recent, items = self._recent(history)[:, :, None], tf.cast(items, tf.int64)
    shape = tf.concat([tf.shape(recent)[:2], tf.shape(items)[1:]], 0)
    pairs = [tf.broadcast_to(each, shape) for each in (recent, items[:, None])]
    found = tf.gather_nd(self.variables[0], tf.stack(pairs, axis=3))
    return found * self._recency[:, None]

  def of_candidates(self, history: tf.RaggedTensor, items: tf.Tensor) -> tf.Tensor:
    return tf.reduce_sum(self._of_latest(history, items), axis=1)

  def of_entries(self, history: tf.RaggedTensor, items: tf.Tensor) -> tf.Tensor:
    found = tf.cast(self._of_latest(history, items), tf.float64)
    # Pads are entries before the first, or of another row, to which they add nothing.
    entry = history.row_limits()[:, None] - np.arange(len(self._recency), 0, -1)
    entries = tf.size(history.flat_values, tf.int64)
    return tf.math.unsorted_segment_sum(found, entry, entries)


class CellScores:
  """By the pairs alone that followed each other.

  Attributes:
    variables: Of the sparse matrix of weights, by rows: where each begins, int64
      [num_items + 2]; the items of its cells, int32; their weights, float32.
  """

  def __init__(self, scores: transitions.TransitionScores):
    weights = scores.weights
    self._num_items = weights.shape[1]
    self._recency = _recency(scores)
    # Pads have a row too, an empty one.
    start = np.append(weights.indptr, weights.nnz)
    self.variables = [
      tf.Variable(value, trainable=False, dtype=dtype, name=f'transition_{name}')
      for name, value, dtype in (
        ('start', start, tf.int64),
        ('item', weights.indices, tf.int32),
        ('weight', weights.data, tf.float32),
      )
    ]

  def _found(self, history: tf.RaggedTensor) -> tuple[tf.RaggedTensor, tf.Tensor]:
    """What followed the latest items: the items, and their discounted weights.

    Returns:
      int32 [n * last, (numbers)], after each of a row's latest items, oldest first; and
      float64 [all numbers].
    """
    start, item, weight = self.variables
    last = len(self._recency)
    recent = tf.reshape(latest_items(history, last, self._num_items), [-1])
    cells = tf.ragged.range(tf.gather(start, recent), tf.gather(start, recent + 1))
    recency = tf.tile(self._recency, [tf.size(recent) // last])
    recency = tf.repeat(recency, cells.row_lengths())
    # Summed as numpy sums them: many items follow a popular one.
    weight = tf.cast(tf.gather(weight, cells.flat_values), tf.float64) * recency
    return cells.with_flat_values(tf.gather(item, cells.flat_values)), weight

  def of_catalogue(self, history: tf.RaggedTensor) -> tf.Tensor:
    found, weight = self._found(history)
    sums = tf.raw_ops.RaggedBincount(
      splits=found.row_splits[:: len(self._recency)],
      values=found.flat_values,
      size=self._num_items,
      weights=weight,
    )
    return tf.cast(sums, tf.float32)

  def of_items(self, item: tf.Tensor) -> tf.Tensor:
    return self.of_catalogue(tf.RaggedTensor.from_tensor(item[:, None]))

  def _of_candidates(
    self, history: tf.RaggedTensor, items: tf.Tensor
  ) -> tuple[tf.Tensor, tf.Tensor]:
    """Places of the latest items [m], and what each adds to items int64 [n, c].

    A place is row * last + which of the row's latest items, oldest first.
    """
    found, weight = self._found(history)
    token, item = found.value_rowids(), tf.cast(found.flat_values, tf.int64)
    items = tf.gather(tf.cast(items, tf.int64), token // len(self._recency))
    return token, weight[:, None] * tf.cast(item[:, None] == items, weight.dtype)

  def of_candidates(self, history: tf.RaggedTensor, items: tf.Tensor) -> tf.Tensor:
    token, weight = self._of_candidates(history, items)
    row = token // len(self._recency)
    sums = tf.math.unsorted_segment_sum(weight, row, history.nrows())
    return tf.cast(sums, tf.float32)

  def of_entries(self, history: tf.RaggedTensor, items: tf.Tensor) -> tf.Tensor:
    token, weight = self._of_candidates(history, items)
    last = len(self._recency)
    entry = tf.gather(history.row_limits(), token // last) - last + token % last
    entries = tf.size(history.flat_values, tf.int64)
    return tf.math.unsorted_segment_sum(weight, entry, entries)
