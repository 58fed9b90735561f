"""A trained model as a TensorFlow module that is asked in original ids.

All it needs is inside: weights, vocabularies, what each user has seen, and what is
popular. Its lists are those of `recommender.Recommender`.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from ncf_tfdata import dataset as dataset_lib
from ncf_tfdata.data import events_in_graph
from ncf_tfdata.evaluation import ranking
from ncf_tfdata.models.ranking_model import VECTORS, Model
from ncf_tfdata.serving import (
  reasons_in_graph,
  recommender,
  rules_in_graph,
  similar_in_graph,
)
from ncf_tfdata.serving.constants_in_graph import constant, ids
from ncf_tfdata.serving.item_categories import ItemCategories
from ncf_tfdata.vocabulary import UNKNOWN


def _nobody(history: tf.Tensor) -> tf.Tensor:
  """Users int64 [n] whom the dataset does not know, of histories [n, L]."""
  return tf.fill([tf.shape(history)[0]], np.int64(UNKNOWN))


def _spec(name: str, dtype: tf.DType = tf.string, rank: int = 1) -> tf.TensorSpec:
  return tf.TensorSpec([None] * rank, dtype, name)


_K = _spec('k', tf.int32, rank=0)
_COUNT = _spec('count', tf.int32, rank=0)
# Their defaults are written into the signature, and TensorFlow Serving fills them in.
_RULES = [
  _spec('exclude', rank=2),
  _spec('allow', rank=2),
  tf.TensorSpec(None, tf.float32, 'min_score'),
  _spec('only', rank=2),
]
_NOTHING, _ANY_SCORE = tf.constant([['']]), tf.constant(-np.inf, tf.float32)


def _signature(
  *specs: tf.TensorSpec,
) -> Callable[[Callable[..., Any]], tf.types.experimental.PolymorphicFunction]:
  """Of a method without `if` and loops over tensors, which AutoGraph need not read."""
  return tf.function(input_signature=specs, autograph=False)


class Server(tf.Module):  # type: ignore[misc]
  """A model with its vocabularies, histories and popularity.

  All that is returned holds `known` bool [n]: False where the score is a count of train
  rows, because the model knows nothing of the user, or of the item.
  """

  def __init__(self, model: Model, dataset: dataset_lib.Dataset):
    """Takes a trained model, and the dataset it was trained on."""
    super().__init__(name='server')
    users = dataset.vocabulary(dataset_lib.USERS)
    items = dataset.vocabulary(dataset_lib.ITEMS)
    self._reads_gaps = ranking.reads_gaps(model)
    histories = recommender.read_histories(dataset, self._reads_gaps)
    self._num_items = len(items)
    unused = dataset.unused_items()
    self._unused = None if unused is None else constant(unused, tf.bool, 'unused')
    self._reads_history = model.reads_history
    self._categories = rules_in_graph.Categories(ItemCategories(dataset))
    self._users, self._items = ids(users), ids(items)
    # The last is that of no item.
    self._keys = constant(np.array([*items.keys, '']), tf.string, 'item_key')
    self._popularity = constant(items.counts, tf.float32, 'popularity')
    self._known = constant(recommender.known_users(model, dataset), tf.bool, 'known')
    self._history_entry = constant(histories.entry, tf.int64, 'history_item')
    self._history_start = constant(histories.start, tf.int64, 'history_start')
    # For a caller who has many users: how many of them memory allows for at once.
    self.batch_rows = constant(ranking.batch_rows(len(items)), tf.int64, 'batch_rows')
    # Behind a function, or the model itself, being Keras's, would be saved and bring
    # much more: what is saved is what its logits read.
    self._model: Callable[[], Any] = lambda: model
    # One graph of each, which all signatures share. A model from outside may have an
    # `if` for AutoGraph to read.
    candidates = tf.function(model.candidate_logits, reduce_retracing=True)
    catalogue = tf.function(model.catalogue_logits, reduce_retracing=True)
    self._logits: Callable[[], tuple[Any, Any]] = lambda: (candidates, catalogue)
    self._tracked = model.graph_variables()
    self._similar = {
      name: similar_in_graph.signature(
        similarity, self._items, self._num_items, self._unused, self._best
      )
      for name, similarity in model.item_similarities().items()
    }

  @property
  def signatures(self) -> dict[str, tf.types.experimental.PolymorphicFunction]:
    """Those that this model has, by name."""
    found = {
      'score': self.score,
      'recommend': self.recommend,
      'recommend_by_rules': self.recommend_by_rules,
    }
    if self._reads_history:
      found |= {
        'recommend_history': self.recommend_history,
        'recommend_history_by_rules': self.recommend_history_by_rules,
        'recommend_after': self.recommend_after,
        'recommend_after_by_rules': self.recommend_after_by_rules,
        'explain': self.explain,
        'explain_history': self.explain_history,
        'explain_after': self.explain_after,
      }
    for name, made in self._similar.items():
      found['similar' if name == VECTORS else f'similar_by_{name}'] = made
    return found

  def _seen(self, user: tf.Tensor) -> tf.RaggedTensor:
    """Histories of dense ids, nothing for `UNKNOWN`: int64 [n] -> [n, (lengths)]."""
    row = tf.maximum(user, 0)
    start = tf.gather(self._history_start, row)
    limit = tf.where(user < 0, start, tf.gather(self._history_start, row + 1))
    place = tf.ragged.range(start, limit)
    return place.with_flat_values(tf.gather(self._history_entry, place.flat_values))

  def _given(self, item: tf.Tensor) -> tf.RaggedTensor:
    """Histories of original ids, without what is no item: [n, L] -> [n, (lengths)]."""
    dense = self._items.lookup(item)
    return tf.ragged.boolean_mask(dense, dense >= 0)

  def _continued(self, user: tf.Tensor, later: tf.Tensor) -> tf.RaggedTensor:
    """Histories of users, and behind them what they have seen since."""
    return tf.concat([self._seen(user), self._given(later)], axis=1)

  def _knows(self, user: tf.Tensor, history: tf.RaggedTensor) -> tf.Tensor:
    """As `recommender.Recommender.knows`."""
    known = (user >= 0) & tf.gather(self._known, tf.maximum(user, 0))
    return known | (history.row_lengths() > 0) if self._reads_history else known

  def _scores(
    self, user: tf.Tensor, history: tf.RaggedTensor
  ) -> tuple[tf.Tensor, tf.Tensor]:
    """Scores of all items, -inf for what is seen or unused; and who is known."""
    known = self._knows(user, history)
    _, catalogue_logits = self._logits()
    scores = catalogue_logits(user, history)
    scores = tf.where(known[:, None], scores, self._popularity)
    if self._unused is not None:
      scores = tf.where(self._unused, -np.inf, scores)
    item = history.flat_values
    if self._reads_gaps:
      item = events_in_graph.items(item)
    seen = tf.stack([history.value_rowids(), item], axis=1)
    masks = tf.fill([tf.shape(seen)[0]], -np.inf)
    return tf.tensor_scatter_nd_update(scores, seen, masks), known

  def _best(self, scores: tf.Tensor, k: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Keys and scores [n, k] of the k best, `k` at most the number of items."""
    # Of equal ones the lower id, as `top_lists.top_items`.
    scores, item = tf.math.top_k(scores, k)
    left = scores > -np.inf
    keys = tf.gather(self._keys, tf.where(left, item, self._num_items))
    return keys, tf.where(left, scores, 0.0)

  def _top(
    self, user: tf.Tensor, history: tf.RaggedTensor, k: tf.Tensor
  ) -> dict[str, tf.Tensor]:
    scores, known = self._scores(user, history)
    keys, scores = self._best(scores, tf.minimum(k, self._num_items))
    beyond = [[0, 0], [0, tf.maximum(k - self._num_items, 0)]]
    return {
      'items': tf.pad(keys, beyond, constant_values=''),
      'scores': tf.pad(scores, beyond),
      'known': known,
    }

  def _top_by_rules(
    self,
    user: tf.Tensor,
    history: tf.RaggedTensor,
    k: tf.Tensor,
    rules: rules_in_graph.Rules,
    given: tf.Tensor | None = None,
  ) -> dict[str, tf.Tensor]:
    """As `_top`, by rules; of `given`, original ids, what is no item is counted."""
    number = tf.shape(user)[0]
    with tf.control_dependencies(
      [tf.debugging.Assert(k > 0, ['k must be at least 1'])]
    ):
      k = tf.minimum(k, self._num_items)
    rules = rules.checked(number)
    scores, known = self._scores(user, history)
    scores = rules.masked(scores, self._items, self._categories)
    keys, scores = self._best(scores, k)
    ignored = tf.broadcast_to(rules.ignored(self._items, self._categories), [number])
    if given is not None:
      ignored += rules_in_graph.ignored(given, self._items)
    return {
      'items': keys,
      'scores': scores,
      'known': known,
      'count': tf.math.count_nonzero(keys != '', axis=1, dtype=tf.int32),
      'ignored': ignored,
    }

  # One graph, which all that explain share: it holds the model once more.
  @tf.function(autograph=False)  # type: ignore[untyped-decorator]
  def _strongest(
    self,
    user: tf.Tensor,
    history: tf.RaggedTensor,
    items: tf.Tensor,
    count: tf.Tensor,
  ) -> tuple[tf.Tensor, tf.Tensor, dict[str, tf.Tensor]]:
    return reasons_in_graph.one_by_one(self._model(), user, history, items, count)

  def _reasons(
    self,
    user: tf.Tensor,
    history: tf.RaggedTensor,
    items: tf.Tensor,
    count: tf.Tensor,
    given: tf.Tensor | None = None,
  ) -> dict[str, tf.Tensor]:
    """As `explain`; of `given`, original ids, what is no item is counted too."""
    checks = [
      tf.debugging.Assert(count > 0, ['count must be at least 1']),
      tf.debugging.Assert(
        tf.shape(items)[0] == tf.size(user), ['items must have a row for each user']
      ),
    ]
    with tf.control_dependencies(checks):
      dense = self._items.lookup(items)
    because, effects, parts = self._strongest(
      user, history, tf.maximum(dense, 0), count
    )
    there = (dense >= 0)[:, :, None]
    numbers = {name: tf.where(there, each, 0.0) for name, each in parts.items()}
    ignored = rules_in_graph.ignored(items, self._items)
    if given is not None:
      ignored += rules_in_graph.ignored(given, self._items)
    none = ~there | (because < 0)
    place = tf.where(none, tf.cast(self._num_items, tf.int64), because)
    return {
      'because': tf.gather(self._keys, place),
      'effects': tf.where(there, effects, 0.0),
      'ignored': ignored,
      **numbers,
    }

  @_signature(_spec('user'), _spec('item'))
  def score(self, user: tf.Tensor, item: tf.Tensor) -> dict[str, tf.Tensor]:
    """Scores pairs: string [n], string [n] -> `score` float32 [n], `known` bool [n].

    Where `known` is False the score is the item's count of train rows, 0 for an item
    that the dataset does not know. It is not to be compared with scores of the model.
    """
    user, item = self._users.lookup(user), self._items.lookup(item)
    history = self._seen(user)
    known = self._knows(user, history) & (item >= 0)
    row = tf.maximum(item, 0)
    count = tf.where(item < 0, 0.0, tf.gather(self._popularity, row))
    candidate_logits, _ = self._logits()
    scores = candidate_logits(user, history, row[:, None])[:, 0]
    return {'score': tf.where(known, scores, count), 'known': known}

  @_signature(_spec('user'), _K)
  def recommend(self, user: tf.Tensor, k: tf.Tensor) -> dict[str, tf.Tensor]:
    """The best items of users, without those they have seen.

    Args:
      user: string [n].
      k: int32 [].

    Returns:
      `items` string [n, k] and `scores` float32 [n, k], best first; '' and 0 where
      fewer are left. `known` bool [n].
    """
    user = self._users.lookup(user)
    return self._top(user, self._seen(user), k)

  @_signature(_spec('history', rank=2), _K)
  def recommend_history(self, history: tf.Tensor, k: tf.Tensor) -> dict[str, tf.Tensor]:
    """The best items after histories string [n, L], whoever has them.

    Histories are oldest first; '' fills them up, before or behind, and like any item
    that the dataset does not know it is passed over. Returns what `recommend` does.
    """
    return self._top(_nobody(history), self._given(history), k)

  @_signature(_spec('user'), _spec('later', rank=2), _K)
  def recommend_after(
    self, user: tf.Tensor, later: tf.Tensor, k: tf.Tensor
  ) -> dict[str, tf.Tensor]:
    """The best items of users string [n] who have seen more since the dataset.

    `later` string [n, L] is like the history of `recommend_history`, and continues
    what the dataset holds of the user. Returns what `recommend` does.
    """
    user = self._users.lookup(user)
    return self._top(user, self._continued(user, later), k)

  @_signature(_spec('user'), _K, *_RULES)
  def recommend_by_rules(
    self,
    user: tf.Tensor,
    k: tf.Tensor,
    exclude: tf.Tensor = _NOTHING,
    allow: tf.Tensor = _NOTHING,
    min_score: tf.Tensor = _ANY_SCORE,
    only: tf.Tensor = _NOTHING,
  ) -> dict[str, tf.Tensor]:
    """The best items of users that rules let through, without those they have seen.

    Args:
      user: string [n].
      k: int32 [], at least 1. One above the number of items is cut to it.
      exclude: string [n, m], or [1, m] for all users: items not to be recommended. ''
        fills rows up.
      allow: string of such a shape, of a width of its own: all that may be recommended.
        A row of '' alone allows everything, one of unknown ids alone nothing.
      min_score: float32 [] or [n]: no lower score comes back. Where `known` is False
        the score is a count of train rows.
      only: string like `exclude`, of a width of its own, such as `genres:Comedy`: only
        items that have one of the values of each column that a row names. A row of ''
        alone allows everything, and a column without a known value nothing.

    Returns:
      `items` string [n, k] and `scores` float32 [n, k], best first; '' and 0 where
      fewer are left. `known` bool [n]. `count` int32 [n], how many are left, k or
      fewer. `ignored` int32 [n], how many ids of items, and categories in `only`, the
      dataset does not know.

    Raises:
      InvalidArgumentError: `k` is below 1, `min_score` is NaN, or a rule has neither
        one row nor n.
    """
    user = self._users.lookup(user)
    rules = rules_in_graph.Rules(exclude, allow, min_score, only)
    return self._top_by_rules(user, self._seen(user), k, rules)

  @_signature(_spec('history', rank=2), _K, *_RULES)
  def recommend_history_by_rules(
    self,
    history: tf.Tensor,
    k: tf.Tensor,
    exclude: tf.Tensor = _NOTHING,
    allow: tf.Tensor = _NOTHING,
    min_score: tf.Tensor = _ANY_SCORE,
    only: tf.Tensor = _NOTHING,
  ) -> dict[str, tf.Tensor]:
    """`recommend_history` with the rules and the answers of `recommend_by_rules`."""
    rules = rules_in_graph.Rules(exclude, allow, min_score, only)
    known = self._given(history)
    return self._top_by_rules(_nobody(history), known, k, rules, history)

  @_signature(_spec('user'), _spec('later', rank=2), _K, *_RULES)
  def recommend_after_by_rules(
    self,
    user: tf.Tensor,
    later: tf.Tensor,
    k: tf.Tensor,
    exclude: tf.Tensor = _NOTHING,
    allow: tf.Tensor = _NOTHING,
    min_score: tf.Tensor = _ANY_SCORE,
    only: tf.Tensor = _NOTHING,
  ) -> dict[str, tf.Tensor]:
    """`recommend_after` with the rules and the answers of `recommend_by_rules`."""
    user = self._users.lookup(user)
    rules = rules_in_graph.Rules(exclude, allow, min_score, only)
    return self._top_by_rules(user, self._continued(user, later), k, rules, later)

  @_signature(_spec('user'), _spec('items', rank=2), _COUNT)
  def explain(
    self, user: tf.Tensor, items: tf.Tensor, count: tf.Tensor
  ) -> dict[str, tf.Tensor]:
    """Which items of their histories recommendations to users are due to.

    Args:
      user: string [n].
      items: string [n, c], such as `recommend` returns; '' fills rows up.
      count: int32 [], how many reasons, at least 1.

    Returns:
      `because` string [n, c, count], items of the history, strongest first; '' where
      there are fewer. `effects` float32 of that shape, what each adds to the score: the
      sum of its parts, which have the names and the meaning of
      `RankingModel.history_effects`. `ignored` int32 [n], how many ids of items the
      dataset does not know.

    Raises:
      InvalidArgumentError: `count` is below 1, or `items` has not n rows.
    """
    user = self._users.lookup(user)
    return self._reasons(user, self._seen(user), items, count)

  @_signature(_spec('history', rank=2), _spec('items', rank=2), _COUNT)
  def explain_history(
    self, history: tf.Tensor, items: tf.Tensor, count: tf.Tensor
  ) -> dict[str, tf.Tensor]:
    """`explain` of what `recommend_history` returns for histories string [n, L]."""
    known = self._given(history)
    return self._reasons(_nobody(history), known, items, count, history)

  @_signature(_spec('user'), _spec('later', rank=2), _spec('items', rank=2), _COUNT)
  def explain_after(
    self, user: tf.Tensor, later: tf.Tensor, items: tf.Tensor, count: tf.Tensor
  ) -> dict[str, tf.Tensor]:
    """`explain` of what `recommend_after` returns for users and what they saw since."""
    user = self._users.lookup(user)
    return self._reasons(user, self._continued(user, later), items, count, later)
