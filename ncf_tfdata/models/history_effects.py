"""What single items of a history do to scores, in a graph."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from ncf_tfdata.data import events_in_graph

# Of a history's items, the latest so many are left out one by one. It bounds the cost:
# so many rows are scored for one.
LATEST = 50


def last_places(history: tf.RaggedTensor) -> tf.Tensor:
  """Of each entry, the place of the last one of its item in its row: int64."""
  place = tf.range(tf.size(history.flat_values, tf.int64))
  item = events_in_graph.items(history.flat_values)
  width = tf.reduce_max(tf.concat([item, [0]], 0)) + 1
  cells, index = tf.unique(history.value_rowids() * width + item)
  last = tf.math.unsorted_segment_max(place, index, tf.size(cells))
  return tf.gather(last, index)


def is_last(history: tf.RaggedTensor) -> tf.Tensor:
  """Whether an entry is the last of its item in its row: bool [entries]."""
  places = last_places(history)
  return places == tf.range(tf.size(places, tf.int64))


def left_out(
  logits: Callable[[tf.Tensor, tf.RaggedTensor, tf.Tensor], tf.Tensor],
  user: tf.Tensor,
  history: tf.RaggedTensor,
  items: tf.Tensor,
) -> tf.Tensor:
  """Logits with the whole history - those without one of its items.

  An item is left out wherever it stands in the history, and its last entry has what
  that does. These effects add up to nothing in particular. (Leave-one-out, as in Li
  et al., Understanding neural networks through representation erasure, 2016.)

  Args:
    logits: `Model.candidate_logits`.
    user: int64 [n].
    history: int64 [n, (lengths)], oldest first.
    items: int64 [n, c].

  Returns:
    float32 [entries, c]; 0 where an entry is not among the last `LATEST` of its row.
  """
  row = history.value_rowids()
  place = tf.range(tf.size(row, tf.int64))
  recent = tf.gather(history.row_limits(), row) - place <= LATEST
  place = tf.boolean_mask(place, recent & is_last(history))
  item = events_in_graph.items(history.flat_values)
  row, item = tf.gather(row, place), tf.gather(item, place)
  # Behind the rows that lack an item come those that lack none.
  every = tf.range(history.nrows())
  rows = tf.concat([row, every], 0)
  left = tf.concat([item, tf.zeros_like(every, item.dtype) - 1], 0)
  others = tf.gather(history, rows)
  item = events_in_graph.items(others.flat_values)
  kept = item != tf.gather(left, others.value_rowids())
  without = tf.ragged.boolean_mask(others, others.with_flat_values(kept))
  found = logits(tf.gather(user, rows), without, tf.gather(items, rows))
  less, whole = tf.split(found, [tf.size(row), tf.cast(history.nrows(), tf.int32)])
  shape = tf.stack([tf.size(history.flat_values), tf.shape(items)[1]])
  effect = tf.gather(whole, row) - less
  return tf.scatter_nd(place[:, None], effect, tf.cast(shape, tf.int64))
