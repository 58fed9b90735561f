"""What a model must be to be trained, judged, asked and exported.

A model is a Keras model that scores items in a graph, by `candidate_logits` and
`catalogue_logits`. How numpy asks it, `score_candidates` and `score_all`, follows.
Nothing else knows which model it is.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import keras
import numpy as np
import tensorflow as tf

from ncf_tfdata import dataset as dataset_lib
from ncf_tfdata import memory
from ncf_tfdata.data import events
from ncf_tfdata.evaluation import ranking
from ncf_tfdata.models import history_effects

if TYPE_CHECKING:
  from ncf_tfdata.data.records import EvaluationBatch

# Names of what `history_effects` finds.
LEAVE_ONE_OUT = 'leave_one_out'

# Name of what `item_similarities` says by a model's own vectors; and of items int64 [n]
# the similarity float32 [n, num_items] of all items, in a graph.
VECTORS = 'vectors'
ItemSimilarity = Callable[[tf.Tensor], tf.Tensor]


def latest_items(history: tf.RaggedTensor, length: int, pad: int) -> tf.Tensor:
  """The latest items of each row, oldest first, behind pads.

  Args:
    history: int64 [n, (lengths)], oldest first.
    length: How many.
    pad: Stands where there is no item.

  Returns:
    int64 [n, length].
  """
  back = tf.range(length, 0, -1, dtype=tf.int64)
  index = history.row_limits()[:, None] - back
  there = back <= history.row_lengths()[:, None]
  # One more value, so that there is one to gather where there is no history at all.
  values = tf.concat([history.flat_values, [pad]], 0)
  return tf.where(there, tf.gather(values, tf.where(there, index, 0)), pad)


def _spec(rank: int = 1) -> tf.TensorSpec:
  """Of ids: any number of them, so that one trace serves every batch."""
  return tf.TensorSpec([None] * rank, tf.int64)


class Model(ranking.Scorer, Protocol):
  """A scorer that also scores in a graph, and can be saved: `RankingModel` or more.

  Attributes:
    name: Of the model, in tables and in metrics.json.
    num_items: Size of the catalogue.
  """

  name: str
  num_items: int

  @property
  def reads_gaps(self) -> bool:
    """Whether entries of histories hold gaps. See `RankingModel`."""

  def candidate_logits(
    self, user: tf.Tensor, history: tf.RaggedTensor, items: tf.Tensor
  ) -> tf.Tensor:
    """Scores each row's own candidates. See `RankingModel.candidate_logits`."""

  def catalogue_logits(self, user: tf.Tensor, history: tf.RaggedTensor) -> tf.Tensor:
    """Scores all items. See `RankingModel.catalogue_logits`."""

  @property
  def effect_names(self) -> tuple[str, ...]:
    """Of what `history_effects` finds; none where no history is read."""

  def history_effects(
    self, user: tf.Tensor, history: tf.RaggedTensor, items: tf.Tensor
  ) -> dict[str, tf.Tensor]:
    """What each item of a history does. See `RankingModel.history_effects`."""

  def item_similarities(self) -> dict[str, ItemSimilarity]:
    """How similar items are. See `RankingModel.item_similarities`."""

  def graph_variables(self) -> list[tf.Variable]:
    """All variables that they read; made here, if they are not there yet."""

  def attach(self, dataset: dataset_lib.Dataset) -> None:
    """Takes from the dataset what scores need beside the weights."""

  def get_config(self) -> dict[str, Any]:
    """Of Keras: what makes the model again."""

  def load_weights(self, path: str | os.PathLike[str]) -> None:
    """Reads what Keras's `save_weights` wrote."""

  def save_fitted(self, path: str | os.PathLike[str]) -> None:
    """Keeps what was fitted on the dataset. See `RankingModel.save_fitted`."""

  def weights_changed(self) -> None:
    """Hears that weights were trained. See `RankingModel.weights_changed`."""


class RankingModel(keras.Model):  # type: ignore[misc]
  """Base of the models: two functions of tensors are all that a subclass must give.

  A subclass is registered with Keras (`keras.saving.register_keras_serializable`) and
  has a `get_config`, as any Keras model that is to be saved. Users are dense ids, and
  what is not in [0, num_users) is a cold user: one who was in no training.

      @keras.saving.register_keras_serializable('mine')
      class Popular(RankingModel):
        def __init__(self, num_users, num_items, **kwargs):
          super().__init__(num_users, num_items, **kwargs)
          self.bias = self.add_weight(shape=(num_items,), name='bias')
          self.built = True

        def candidate_logits(self, user, history, items):
          return tf.gather(self.bias.value, items)

        def catalogue_logits(self, user, history):
          return tf.tile(self.bias.value[None], [tf.size(user), 1])

  Attributes:
    num_users: Users of the dataset.
    num_items: Size of the catalogue.
    reads_history: Whether scores depend on the history. A model that says True can
      score cold users who have a history.
    reads_gaps: Whether entries of histories hold the gaps between them where they are
      known: see `data.events`. Else entries are items.
    free_settings: Those of `get_config` that two models may differ in whose weights
      fit each other.
  """

  reads_history = False
  reads_gaps = False
  free_settings: ClassVar[tuple[str, ...]] = ('seed', 'dropout', 'embedding_stddev')

  def __init__(self, num_users: int, num_items: int, **kwargs: Any) -> None:
    """Takes the shapes; a subclass adds the weights, and sets `built`."""
    super().__init__(**kwargs)
    self.num_users, self.num_items = num_users, num_items

  def get_config(self) -> dict[str, Any]:
    shapes = {'num_users': self.num_users, 'num_items': self.num_items}
    return {**super().get_config(), **shapes}

  def candidate_logits(
    self, user: tf.Tensor, history: tf.RaggedTensor, items: tf.Tensor
  ) -> tf.Tensor:
    """Scores each row's own candidates.

    Args:
      user: int64 [n].
      history: int64 [n, (lengths)], oldest first.
      items: int64 [n, c].

    Returns:
      float32 [n, c].
    """
    raise NotImplementedError

  def catalogue_logits(self, user: tf.Tensor, history: tf.RaggedTensor) -> tf.Tensor:
    """Scores all items.

    Args:
      user: int64 [n].
      history: int64 [n, (lengths)], oldest first.

    Returns:
      float32 [n, num_items].
    """
    raise NotImplementedError

  @property
  def effect_names(self) -> tuple[str, ...]:
    return (LEAVE_ONE_OUT,) if self.reads_history else ()

  def history_effects(
    self, user: tf.Tensor, history: tf.RaggedTensor, items: tf.Tensor
  ) -> dict[str, tf.Tensor]:
    """What each item of a history does to the scores of each row's candidates.

    Args:
      user: int64 [n].
      history: int64 [n, (lengths)], oldest first.
      items: int64 [n, c].

    Returns:
      By `effect_names`, float32 [entries of the histories, c]: `LEAVE_ONE_OUT`, what a
      score loses without the item, and nothing for a model that reads no history.
    """
    if not self.reads_history:
      return {}
    found = history_effects.left_out(self.candidate_logits, user, history, items)
    return {LEAVE_ONE_OUT: found}

  def item_similarities(self) -> dict[str, ItemSimilarity]:
    """How similar items are, by what the model knows of them.

    Returns:
      `VECTORS`: cosines of the rows of the weights that have a vector for each item,
      their mean where there are several. Nothing where `vocabulary_weights` names none.
    """
    tables = self._item_vectors()

    def cosines(item: tf.Tensor) -> tf.Tensor:
      found = []
      for table in tables:
        rows = tf.cast(table()[: self.num_items], tf.float32)
        unit = tf.math.l2_normalize(rows, axis=1)
        found.append(tf.matmul(tf.gather(unit, item), unit, transpose_b=True))
      return tf.add_n(found) / len(found)

    return {VECTORS: cosines} if tables else {}

  def _item_vectors(self) -> list[Callable[[], tf.Tensor]]:
    """What reads the vectors of all items, [num_items or more, w], of each table."""
    try:
      weights = self.vocabulary_weights()[dataset_lib.ITEMS]
    except NotImplementedError:
      return []
    return [
      functools.partial(getattr, each, 'value')
      for each in weights
      if len(each.shape) == 2 and each.shape[1] > 1
    ]

  def row_cells(self, candidates: int | None = None) -> int:
    """Floats of the widest activation that one row needs, by which rows are chunked.

    Args:
      candidates: Of the row; None for the whole catalogue.
    """
    return candidates or self.num_items

  def graph_variables(self) -> list[tf.Variable]:
    """All variables that the logits read."""
    return [weight.value for weight in self.weights]

  def vocabulary_weights(self) -> Mapping[str, Sequence[keras.Variable]]:
    """Trained weights with a row for each user or item, by `dataset.USERS` and `ITEMS`.

    A warm start moves their rows to the dense ids of another dataset. What stands
    behind the last id, such as a row of pads, stays as it is.

    Raises:
      NotImplementedError: The model does not say, and starts from no other run.
    """
    raise NotImplementedError

  def attach(self, dataset: dataset_lib.Dataset) -> None:
    """Takes from the dataset what scores need beside the weights: here nothing."""

  def save_fitted(self, path: str | os.PathLike[str]) -> None:
    """Keeps what was fitted on the dataset and takes long to fit: here nothing.

    Args:
      path: Of the weights, beside which it is kept, and looked for by `load_weights`.
    """

  def weights_changed(self) -> None:
    """Hears that weights are others than at the last question: here in vain.

    A model that keeps what it has made of its weights makes it anew.
    """

  @tf.function(input_signature=[_spec(), _spec(), _spec(), _spec(rank=2)])  # type: ignore[untyped-decorator]
  def _candidates(
    self, user: tf.Tensor, item: tf.Tensor, length: tf.Tensor, items: tf.Tensor
  ) -> tf.Tensor:
    history = tf.RaggedTensor.from_row_lengths(item, length, validate=False)
    return self.candidate_logits(user, history, items)

  @tf.function(input_signature=[_spec(), _spec(), _spec()])  # type: ignore[untyped-decorator]
  def _catalogue(
    self, user: tf.Tensor, item: tf.Tensor, length: tf.Tensor
  ) -> tf.Tensor:
    history = tf.RaggedTensor.from_row_lengths(item, length, validate=False)
    return self.catalogue_logits(user, history)

  def score_candidates(self, batch: EvaluationBatch, items: np.ndarray) -> np.ndarray:
    """Scores float32 [n, c] of the candidates `items`, int64 [n, c]."""

    def score(rows: slice, *row_tensors: tf.Tensor) -> tf.Tensor:
      return self._candidates(*row_tensors, _ids(items[rows]))

    cells = self.row_cells(items.shape[1])
    return _in_chunks(batch, self._entries(batch), items.shape[1], cells, score)

  def score_all(self, batch: EvaluationBatch) -> np.ndarray:
    """Scores float32 [n, num_items] of all items."""

    def score(rows: slice, *row_tensors: tf.Tensor) -> tf.Tensor:
      del rows
      return self._catalogue(*row_tensors)

    entries = self._entries(batch)
    return _in_chunks(batch, entries, self.num_items, self.row_cells(), score)

  def _entries(self, batch: EvaluationBatch) -> np.ndarray:
    """The entries of the rows' histories, int64 [sum of lengths]."""
    if not self.reads_gaps:
      return batch.history
    if batch.entries is not None:
      return batch.entries
    return events.of_times(batch.history, batch.history_length, batch.history_time)


def _ids(array: np.ndarray) -> tf.Tensor:
  return tf.constant(array, tf.int64)


def _in_chunks(
  batch: EvaluationBatch,
  entries: np.ndarray,
  columns: int,
  row_cells: int,
  score: Callable[..., tf.Tensor],
) -> np.ndarray:
  """Scores float32 [n, columns], as many rows at once as memory allows for.

  Args:
    batch: n rows.
    entries: Of their histories.
    columns: Scores of a row.
    row_cells: Floats of the widest activation of a row.
    score: Of the rows' slice, users, histories' items and their lengths; float32
      [rows, columns].
  """
  scores = np.empty((len(batch.user), columns), np.float32)
  ends = np.concatenate([[0], np.cumsum(batch.history_length)])
  chunk = memory.block_rows(row_cells)
  for start in range(0, len(scores), chunk):
    rows = slice(start, min(start + chunk, len(scores)))
    history = entries[ends[rows.start] : ends[rows.stop]]
    columns_of_rows = batch.user[rows], history, batch.history_length[rows]
    scores[rows] = score(rows, *map(_ids, columns_of_rows))
  return scores
