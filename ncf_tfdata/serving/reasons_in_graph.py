"""The strongest reasons of recommendations, found in a TensorFlow graph.

`Explainer` asks it from numpy, and an export holds it.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import tensorflow as tf

from ncf_tfdata import memory
from ncf_tfdata.data import events, events_in_graph
from ncf_tfdata.evaluation import ranking
from ncf_tfdata.models import history_effects, with_added
from ncf_tfdata.models.ranking_model import Model
from ncf_tfdata.serving.reasons import Reasons


def strongest(
  model: Model,
  user: tf.Tensor,
  history: tf.RaggedTensor,
  items: tf.Tensor,
  count: tf.Tensor,
) -> tuple[tf.Tensor, tf.Tensor, dict[str, tf.Tensor]]:
  """What did most for each of the items.

  Args:
    model: What recommended them.
    user: int64 [n].
    history: int64 [n, (lengths)], oldest first.
    items: int64 [n, c].
    count: int32 [], how many reasons.

  Returns:
    As `Reasons`: items int64, effects float32, and parts float32, all [n, c, count].
    Of equal ones the later item of the history.
  """
  found = model.history_effects(user, history, items)
  if not found:
    none = tf.zeros(tf.concat([tf.shape(items), [count]], 0))
    return tf.cast(none, tf.int64) - 1, none, {}

  def by_item(effects: tf.Tensor) -> tf.Tensor:
    """An entry's effects [entries, c], latest first: [n, c, longest]."""
    ragged = tf.RaggedTensor.from_row_splits(effects, history.row_splits)
    return tf.transpose(_latest_first(ragged), [0, 2, 1])

  # An item that is seen more than once is one reason, at its last place.
  last = history_effects.last_places(history)
  parts = {
    name: by_item(tf.math.unsorted_segment_sum(part, last, tf.shape(part)[0]))
    for name, part in found.items()
  }
  effect = tf.add_n(list(parts.values()))
  short = tf.maximum(count - tf.shape(effect)[2], 0)
  fill = [[0, 0], [0, 0], [0, short]]
  effect, place = tf.math.top_k(tf.pad(effect, fill), count)
  # What speaks against an item is no reason for it.
  there = effect > 0
  item = events_in_graph.items(_latest_first(history))
  item = tf.pad(item, [[0, 0], [0, short]])
  return (
    tf.where(there, tf.gather(item, place, batch_dims=1), -1),
    tf.where(there, effect, 0.0),
    {
      name: tf.where(there, tf.gather(tf.pad(part, fill), place, batch_dims=2), 0.0)
      for name, part in parts.items()
    },
  )


def _latest_first(rows: tf.RaggedTensor) -> tf.Tensor:
  """Entries [n, (lengths), …] as [n, longest, …], each row from its end."""
  return tf.reverse_sequence(rows.to_tensor(), rows.row_lengths(), 1, 0)


def one_by_one(
  model: Model,
  user: tf.Tensor,
  history: tf.RaggedTensor,
  items: tf.Tensor,
  count: tf.Tensor,
) -> tuple[tf.Tensor, tf.Tensor, dict[str, tf.Tensor]]:
  """`strongest`, user by user: the memory is that of one, however many ask."""

  def one(row: tuple[tf.Tensor, tf.Tensor, tf.Tensor]) -> Any:
    user, history, items = row
    ragged = tf.RaggedTensor.from_row_lengths(history, [tf.size(history)])
    found = strongest(model, user[None], ragged, items[None], count)
    return tf.nest.map_structure(lambda tensor: tensor[0], found)

  number = tf.TensorSpec([None, None], tf.float32)
  parts = dict.fromkeys(model.effect_names, number)
  return tf.map_fn(
    one,
    (user, history, items),
    parallel_iterations=1,
    fn_output_signature=(tf.TensorSpec([None, None], tf.int64), number, parts),
  )


class Explainer:
  """Asks a model for reasons, of as many users at once as fit into memory."""

  def __init__(self, model: Any, count: int):
    """Takes a model, and how many reasons a recommendation has.

    A scorer that is no model of ours, such as a baseline, has no reasons.
    """
    self._explains = bool(getattr(model, 'effect_names', ()))
    self._reads_gaps = ranking.reads_gaps(model)
    self._count = count
    if self._explains:
      self._trained = with_added.trained(model)
      model.graph_variables()  # They are made before a graph is.
    self._ask = tf.function(
      functools.partial(strongest, model), reduce_retracing=True, autograph=False
    )

  def __call__(
    self, user: np.ndarray, history: np.ndarray, length: np.ndarray, items: np.ndarray
  ) -> Reasons:
    """Finds the reasons of items int64 [n, c] that were recommended; -1 has none."""
    none = Reasons.none((*items.shape, self._count))
    if not self._explains or not items.size:
      return none
    asked = np.maximum(items, 0)
    entries = history if self._reads_gaps else events.items(history)
    # A row for each item that is left out.
    rows = memory.block_rows(self._trained.row_cells(items.shape[1]))
    step = max(1, rows // history_effects.LATEST)
    ends = np.concatenate([[0], np.cumsum(length)])
    chunks = []
    for start in range(0, len(user), step):
      stop = min(start + step, len(user))
      ragged = tf.RaggedTensor.from_row_lengths(
        entries[ends[start] : ends[stop]], length[start:stop], validate=False
      )
      item, effect, parts = self._ask(
        tf.constant(user[start:stop]),
        ragged,
        tf.constant(asked[start:stop]),
        tf.constant(self._count),
      )
      numbers = {name: part.numpy() for name, part in parts.items()}
      chunks.append(Reasons(item.numpy(), effect.numpy(), numbers))
    return Reasons.joined(chunks).where(items >= 0) if chunks else none
