"""A trained model as a TensorFlow module that is asked in original ids.

Everything an answer needs is inside: weights, vocabularies, what each user has, and
what is popular. The answers are those of `recommender.Answerer`.
"""

import numpy as np
import tensorflow as tf

from ncf_tfdata import dataset as dataset_lib
from ncf_tfdata.data import transitions
from ncf_tfdata.evaluation import ranking
from ncf_tfdata.models import history, neumf
from ncf_tfdata.serving import recommender

# Bounds the widest activation of a chunk of scores: 2 ** 23 float32 are 32 MiB.
_CELLS = 1 << 23


def _table(keys: tuple[str, ...]) -> tf.lookup.StaticHashTable:
  """Dense id by original id, `recommender.UNKNOWN` for others."""
  return tf.lookup.StaticHashTable(
    tf.lookup.KeyValueTensorInitializer(
      tf.constant(keys, tf.string), tf.range(len(keys), dtype=tf.int64)
    ),
    default_value=recommender.UNKNOWN,
  )


def _constant(value: np.ndarray | int, dtype: tf.DType, name: str) -> tf.Variable:
  """A constant of any size: those of a graph may not exceed 2 GiB in all."""
  return tf.Variable(value, trainable=False, dtype=dtype, name=name)


def _ranges(start: tf.Tensor, limit: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
  """All places from each start to its limit, int64 [m], and the row that each is of."""
  ranges = tf.ragged.range(start, limit)
  return ranges.flat_values, ranges.value_rowids()


def latest(past: tf.RaggedTensor, length: int, pad: int) -> tf.Tensor:
  """The latest items of each row, oldest first, behind pads.

  Args:
    past: int64 [n, (lengths)].
    length: How many.
    pad: Stands where there is no item.

  Returns:
    int64 [n, length].
  """
  back = tf.range(length, 0, -1, dtype=tf.int64)
  index = past.row_limits()[:, None] - back
  there = back <= past.row_lengths()[:, None]
  # One more value, so that there is one to gather where there is no history at all.
  values = tf.concat([past.flat_values, [pad]], 0)
  return tf.where(there, tf.gather(values, tf.where(there, index, 0)), pad)


class _NeuMFScores:
  """Logits of trained users, and finite ones of others; the history is not used."""

  def __init__(self, model: neumf.NeuMF):
    self._model = model
    self._num_items = model.num_items
    config = model.get_config()
    self._widest = max(config['mlp_layers']) if config['mlp_dim'] else 1
    self.variables: list[tf.Variable] = []

  def pairs(self, user: tf.Tensor, past: tf.RaggedTensor, item: tf.Tensor) -> tf.Tensor:
    del past
    return self._model((tf.maximum(user, 0), item[:, None]))[:, 0]

  def catalogue(self, user: tf.Tensor, past: tf.RaggedTensor) -> tf.Tensor:
    """In chunks of items, each as wide as memory allows for so many users."""
    del past
    people = tf.size(user)
    columns = tf.maximum(_CELLS // (tf.maximum(people, 1) * self._widest), 1)
    columns = tf.minimum(columns, self._num_items)
    chunks = (self._num_items + columns - 1) // columns
    users = self._model.users(tf.maximum(user, 0))

    def chunk(number, scores):
      first = number * columns
      item = tf.range(first, tf.minimum(first + columns, self._num_items))
      logits = self._model.score_all(users, self._model.items(item))
      return number + 1, scores.write(number, tf.transpose(logits))

    scores = tf.TensorArray(
      tf.float32, size=chunks, element_shape=[None, None], infer_shape=False
    )
    # One at a time: it is memory that the chunks are for.
    _, scores = tf.while_loop(
      lambda number, _: number < chunks, chunk, (0, scores), parallel_iterations=1
    )
    return tf.transpose(tf.reshape(scores.concat(), [self._num_items, people]))


class _Successors:
  """Successor scores as `transitions.SuccessorScores` gives them, in a graph."""

  def __init__(self, scores: transitions.SuccessorScores):
    weights = scores.weights
    self._num_items = weights.shape[1]
    self._recency = np.arange(scores.last, 0, -1.0) ** -scores.decay
    # Pads have a row too, an empty one.
    start = np.append(weights.indptr, weights.nnz)
    self.variables = [
      _constant(start, tf.int64, 'successor_start'),
      _constant(weights.indices, tf.int32, 'successor_item'),
      _constant(weights.data, tf.float32, 'successor_weight'),
    ]

  def _found(self, past: tf.RaggedTensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """What followed the latest items: row, item and discounted weight, int64 [m]."""
    start, item, weight = self.variables
    last = len(self._recency)
    recent = tf.reshape(latest(past, last, self._num_items), [-1])
    place, token = _ranges(tf.gather(start, recent), tf.gather(start, recent + 1))
    recency = tf.gather(tf.constant(self._recency, tf.float64), token % last)
    # Summed as numpy sums them: a popular item's successors are many.
    weight = tf.cast(tf.gather(weight, place), tf.float64) * recency
    return token // last, tf.cast(tf.gather(item, place), tf.int64), weight

  def pairs(self, past: tf.RaggedTensor, item: tf.Tensor) -> tf.Tensor:
    row, successor, weight = self._found(past)
    asked = tf.cast(successor == tf.gather(item, row), weight.dtype)
    sums = tf.math.unsorted_segment_sum(weight * asked, row, past.nrows())
    return tf.cast(sums, tf.float32)

  def catalogue(self, past: tf.RaggedTensor) -> tf.Tensor:
    row, successor, weight = self._found(past)
    cells = past.nrows() * self._num_items
    sums = tf.math.unsorted_segment_sum(
      weight, row * self._num_items + successor, cells
    )
    return tf.cast(tf.reshape(sums, [-1, self._num_items]), tf.float32)


class _HistoryScores:
  """Logits from users and histories, with those of successors where the model asks."""

  def __init__(self, model: history.History):
    self._model = model
    config = model.get_config()
    self._weight = np.float32(config['successor_logits'])
    self._smoothing = np.float32(config['successor_smoothing'])
    self._successors = _Successors(model.successors) if model.successors else None
    self.variables = self._successors.variables if self._successors else []

  def _tokens(self, past: tf.RaggedTensor) -> tf.Tensor:
    tokens = latest(past, self._model.history_length, self._model.num_items)
    return tf.cast(tokens, tf.int32)

  def _logits(self, scores: tf.Tensor) -> tf.Tensor:
    return self._weight * tf.math.log(self._smoothing + scores)

  def pairs(self, user: tf.Tensor, past: tf.RaggedTensor, item: tf.Tensor) -> tf.Tensor:
    logits = self._model.candidates(self._tokens(past), user, item[:, None])[:, 0]
    if self._successors is None:
      return logits
    return logits + self._logits(self._successors.pairs(past, item))

  def catalogue(self, user: tf.Tensor, past: tf.RaggedTensor) -> tf.Tensor:
    logits = self._model((self._tokens(past), user))
    if self._successors is None:
      return logits
    return logits + self._logits(self._successors.catalogue(past))


def _spec(name: str, dtype: tf.DType = tf.string, rank: int = 1) -> tf.TensorSpec:
  return tf.TensorSpec([None] * rank, dtype, name)


_K = _spec('k', tf.int32, rank=0)


class Server(tf.Module):
  """A model with its vocabularies, histories and popularity.

  All answers hold `known` bool [n]: False where the score is a count of train rows,
  because the model knows nothing of the user, or of the item.
  """

  def __init__(self, model: ranking.Scorer, dataset: dataset_lib.Dataset):
    """Takes a trained NeuMF or History, and the dataset it was trained on."""
    super().__init__(name='server')
    scores: _NeuMFScores | _HistoryScores
    if isinstance(model, history.History):
      scores = _HistoryScores(model)
    elif isinstance(model, neumf.NeuMF):
      scores = _NeuMFScores(model)
    else:
      raise TypeError(f'Received: {model!r}, expected NeuMF or History')
    users = dataset.vocabulary(dataset_lib.USERS)
    items = dataset.vocabulary(dataset_lib.ITEMS)
    histories = recommender.read_histories(dataset)
    self._num_items = len(items)
    self._reads_history = recommender.reads_history(model)
    self._users, self._items = _table(users.keys), _table(items.keys)
    # The last is that of no item.
    self._keys = _constant(np.array([*items.keys, '']), tf.string, 'item_key')
    self._popularity = _constant(items.counts, tf.float32, 'popularity')
    self._trained = _constant(users.counts > 0, tf.bool, 'trained')
    self._past_item = _constant(histories.item, tf.int64, 'history_item')
    self._past_start = _constant(histories.start, tf.int64, 'history_start')
    # For a caller who has many users: how many of them memory allows for at once.
    self.batch_rows = _constant(ranking.batch_rows(len(items)), tf.int64, 'batch_rows')
    self._scores = scores
    # What is saved: the model itself, being Keras's, would bring much more.
    self._tracked = [weight.value for weight in model.weights] + scores.variables

  @property
  def signatures(self) -> dict[str, tf.types.experimental.PolymorphicFunction]:
    """Those that this model has, by name."""
    found = {'score': self.score, 'recommend': self.recommend}
    if self._reads_history:
      found |= {
        'recommend_history': self.recommend_history,
        'recommend_after': self.recommend_after,
      }
    return found

  def _past(self, user: tf.Tensor) -> tf.RaggedTensor:
    """Histories of dense ids, nothing for `UNKNOWN`: int64 [n] -> [n, (lengths)]."""
    row = tf.maximum(user, 0)
    start = tf.gather(self._past_start, row)
    limit = tf.where(user < 0, start, tf.gather(self._past_start, row + 1))
    place = tf.ragged.range(start, limit)
    return place.with_flat_values(tf.gather(self._past_item, place.flat_values))

  def _given(self, item: tf.Tensor) -> tf.RaggedTensor:
    """Histories of original ids, without what is no item: [n, L] -> [n, (lengths)]."""
    dense = self._items.lookup(item)
    return tf.ragged.boolean_mask(dense, dense >= 0)

  def _answerable(self, user: tf.Tensor, past: tf.RaggedTensor) -> tf.Tensor:
    """As `recommender.Answerer.answerable`."""
    trained = (user >= 0) & tf.gather(self._trained, tf.maximum(user, 0))
    return trained | (past.row_lengths() > 0) if self._reads_history else trained

  def _top(
    self, user: tf.Tensor, past: tf.RaggedTensor, k: tf.Tensor
  ) -> dict[str, tf.Tensor]:
    known = self._answerable(user, past)
    scores = self._scores.catalogue(user, past)
    scores = tf.where(known[:, None], scores, self._popularity)
    taken = tf.stack([past.value_rowids(), past.flat_values], axis=1)
    masks = tf.fill([tf.shape(taken)[0]], -np.inf)
    scores = tf.tensor_scatter_nd_update(scores, taken, masks)
    # Of equal ones the lower id, as `ranking.top_items`.
    scores, item = tf.math.top_k(scores, tf.minimum(k, self._num_items))
    left = scores > -np.inf
    keys = tf.gather(self._keys, tf.where(left, item, self._num_items))
    beyond = [[0, 0], [0, tf.maximum(k - self._num_items, 0)]]
    return {
      'items': tf.pad(keys, beyond, constant_values=''),
      'scores': tf.pad(tf.where(left, scores, 0.0), beyond),
      'known': known,
    }

  @tf.function(input_signature=[_spec('user'), _spec('item')])
  def score(self, user: tf.Tensor, item: tf.Tensor) -> dict[str, tf.Tensor]:
    """Scores pairs: string [n], string [n] -> `score` float32 [n], `known` bool [n].

    Where `known` is False the score is the item's count of train rows, 0 for an item
    that the dataset does not know. It is not to be compared with scores of the model.
    """
    user, item = self._users.lookup(user), self._items.lookup(item)
    past = self._past(user)
    known = self._answerable(user, past) & (item >= 0)
    row = tf.maximum(item, 0)
    count = tf.where(item < 0, 0.0, tf.gather(self._popularity, row))
    scores = self._scores.pairs(user, past, row)
    return {'score': tf.where(known, scores, count), 'known': known}

  @tf.function(input_signature=[_spec('user'), _K])
  def recommend(self, user: tf.Tensor, k: tf.Tensor) -> dict[str, tf.Tensor]:
    """The best items of users, without those they have.

    Args:
      user: string [n].
      k: int32 [].

    Returns:
      `items` string [n, k] and `scores` float32 [n, k], best first; '' and 0 where
      fewer are left. `known` bool [n].
    """
    user = self._users.lookup(user)
    return self._top(user, self._past(user), k)

  @tf.function(input_signature=[_spec('history', rank=2), _K])
  def recommend_history(self, history: tf.Tensor, k: tf.Tensor) -> dict[str, tf.Tensor]:
    """The best items after histories string [n, L], whoever has them.

    Histories are oldest first; '' fills them up, before or behind, and like any item
    that the dataset does not know it is passed over. Returns what `recommend` does.
    """
    past = self._given(history)
    return self._top(
      tf.fill([tf.shape(history)[0]], np.int64(recommender.UNKNOWN)), past, k
    )

  @tf.function(input_signature=[_spec('user'), _spec('later', rank=2), _K])
  def recommend_after(
    self, user: tf.Tensor, later: tf.Tensor, k: tf.Tensor
  ) -> dict[str, tf.Tensor]:
    """The best items of users string [n] who have taken more since the dataset.

    `later` string [n, L] is like the history of `recommend_history`, and continues
    what the dataset holds of the user. Returns what `recommend` does.
    """
    user = self._users.lookup(user)
    past = tf.concat([self._past(user), self._given(later)], axis=1)
    return self._top(user, past, k)
