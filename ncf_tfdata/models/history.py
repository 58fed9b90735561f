"""The NCF that remembers: a query made of the user and of the items just taken.

Its logit is query · item vector + item bias, and the item vectors of the history are
those of the candidates. A user who was not trained on is answered from the history
alone, his vector being zero.
"""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ncf_tfdata import dataset as dataset_lib
from ncf_tfdata.data import records
from ncf_tfdata.data import transitions as successors_lib
from ncf_tfdata.errors import UserError
from ncf_tfdata.models.history_network import Member

ENCODERS = ('pool', 'attention', 'both', 'none')

# Bounds the widest activation of a chunk of scores: 2 ** 23 float32 are 32 MiB.
_CELLS = 1 << 23


@keras.saving.register_keras_serializable('ncf_tfdata')
class History(keras.Model):
  """Mean of its members' logits, and optionally of the log of successor counts.

  Attributes:
    num_users: Rows of the user tables.
    num_items: Size of the catalogue; also the token of pads.
    history_length: Latest items that are looked at.
    members: Networks that differ in their seeds and in what they were trained on.
    user_known: Not trained, float32 [num_users]; a user with 0 has a zero vector.
    successors: What `successor_logits` is the weight of; None until `bind`.
  """

  def __init__(
    self,
    num_users: int,
    num_items: int,
    history_length: int = 50,
    encoder: str = 'pool',
    dim: int = 128,
    heads: int = 8,
    hidden: int = 256,
    user_embedding: bool = True,
    members: int = 1,
    dropout: float = 0.2,
    embedding_stddev: float = 0.05,
    successor_logits: float = 0.0,
    successor_smoothing: float = 0.01,
    successor_reverse: float = 0.0,
    seed: int = 0,
    **kwargs,
  ):
    """Makes and builds the model.

    Args:
      num_users: Rows of the user tables.
      num_items: Size of the catalogue.
      history_length: Latest items that are looked at; at least 2, but with `none`.
      encoder: `pool` weighs items by their lag, `attention` by what they are as well,
        `both` adds the two up, `none` is matrix factorisation.
      dim: Width of all vectors.
      heads: Of the encoders.
      hidden: Units of the query network's hidden layer.
      user_embedding: Learns a vector of each user.
      members: Networks that are trained side by side.
      dropout: Rate on the encoded history, the user and the hidden layer.
      embedding_stddev: Of the normal distribution that item vectors start from.
      successor_logits: Weight of log(smoothing + successor scores); 0 leaves it out.
      successor_smoothing: What is added to the successor scores.
      successor_reverse: Weight of successors counted backwards.
      seed: Of all initial weights.
      **kwargs: Of `keras.Model`.

    Raises:
      UserError: The options contradict each other.
    """
    super().__init__(**kwargs)
    if encoder not in ENCODERS:
      raise UserError(
        f'Received --history_encoder={encoder}; expected one of {", ".join(ENCODERS)}.'
      )
    if encoder == 'none' and not user_embedding:
      raise UserError(
        'Received --history_encoder=none without --user_embedding, which leaves '
        'nothing to ask with; expected one of them.'
      )
    if encoder != 'none' and dim % heads:
      raise UserError(
        f'Received --history_dim={dim} --history_heads={heads}; expected a width '
        'that is a multiple of the heads.'
      )
    if encoder != 'none' and history_length < 2:
      raise UserError(
        f'Received --history_length={history_length}; expected at least 2.'
      )
    self.num_users, self.num_items = num_users, num_items
    self.successors: successors_lib.SuccessorScores | None = None
    options: dict[str, Any] = {
      'history_length': history_length,
      'encoder': encoder,
      'dim': dim,
      'heads': heads,
      'hidden': hidden,
      'user_embedding': user_embedding,
      'dropout': dropout,
      'embedding_stddev': embedding_stddev,
    }
    self._config: dict[str, Any] = {
      'num_users': num_users,
      'num_items': num_items,
      **options,
      'members': members,
      'successor_logits': successor_logits,
      'successor_smoothing': successor_smoothing,
      'successor_reverse': successor_reverse,
      'seed': seed,
    }
    self.history_length = history_length
    self._widest = max((history_length + 1) * dim, hidden, num_items)
    self.members = [
      Member(num_users, num_items, **options, seed=member_seed, name=f'member_{index}')
      for index, member_seed in enumerate(
        np.random.SeedSequence(seed).generate_state(members).tolist()
      )
    ]
    self.user_known = self.add_weight(
      shape=(num_users,),
      initializer='ones',
      trainable=False,
      name='user_known',
      autocast=False,
    )
    self.built = True

  def get_config(self) -> dict[str, Any]:
    return {**super().get_config(), **self._config}

  def bind(self, dataset: dataset_lib.Dataset) -> None:
    """Takes a dataset's successors, where `successor_logits` asks for them.

    Raises:
      UserError: The dataset has none.
    """
    if self._config['successor_logits']:
      self.successors = successors_lib.SuccessorScores(
        successors_lib.read(dataset),
        dataset.vocabulary(dataset_lib.ITEMS).counts,
        reverse=self._config['successor_reverse'],
      )

  def known(self, user: tf.Tensor) -> tf.Tensor:
    """Whether users were trained on: int [n] -> float32 [n], 1 or 0."""
    return tf.gather(self.user_known.value, user)

  def lag_weights(self) -> np.ndarray | None:
    """Weights of the pool by lag: float32 [members, heads, history_length].

    The last item first. None without a pool.
    """
    pools = [member.pool for member in self.members if member.pool is not None]
    return np.stack([np.array(pool.lag)[:, ::-1] for pool in pools]) if pools else None

  def _queries(self, history: tf.Tensor, user: tf.Tensor) -> list[tf.Tensor]:
    """A member's queries each: int32 [n, history_length], int [n] -> [n, dim]."""
    inside = (user >= 0) & (user < self.num_users)
    user = tf.where(inside, user, 0)
    known = self.known(user) * tf.cast(inside, tf.float32)
    # A window of one target, of which only the place matters.
    tokens = tf.pad(history, [[0, 0], [0, 1]], constant_values=self.num_items)
    row = tf.range(tf.shape(history)[0])
    return [
      member.query(tokens, row, member.users(user, known)) for member in self.members
    ]

  def call(self, inputs: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
    """Logits of the catalogue, successors aside.

    Args:
      inputs: Histories int32 [n, history_length], oldest first, behind pads of value
        num_items; and users int [n], whatever is not in [0, num_users) being unknown.

    Returns:
      float32 [n, num_items].
    """
    queries = self._queries(*inputs)
    pairs = zip(self.members, queries, strict=True)
    return tf.add_n([member.logits(q) for member, q in pairs]) / len(queries)

  @tf.function(reduce_retracing=True)
  def _catalogue(self, history: tf.Tensor, user: tf.Tensor) -> tf.Tensor:
    return self((history, user))

  @tf.function(reduce_retracing=True)
  def candidates(
    self, history: tf.Tensor, user: tf.Tensor, items: tf.Tensor
  ) -> tf.Tensor:
    """Logits of each row's own candidates, successors aside.

    Args:
      history: As in `call`.
      user: As in `call`.
      items: int [n, c].

    Returns:
      float32 [n, c].
    """
    queries = self._queries(history, user)
    pairs = zip(self.members, queries, strict=True)
    return tf.add_n([member.row_logits(q, items) for member, q in pairs]) / len(queries)

  def padded(self, history: np.ndarray, history_length: np.ndarray) -> np.ndarray:
    """The latest items of each row, oldest first, behind pads.

    Args:
      history: int [sum of lengths], oldest first, row after row.
      history_length: int [n].

    Returns:
      int32 [n, history_length of the model].
    """
    lag = np.arange(self.history_length, 0, -1)
    end = np.cumsum(history_length)[:, None]
    index = np.where(lag <= history_length[:, None], end - lag, -1)
    return np.append(history, self.num_items).astype(np.int32)[index]

  def _successor_logits(self, batch: records.EvaluationBatch) -> np.ndarray | None:
    """Float32 [n, num_items] to be added to the logits, or None."""
    weight = self._config['successor_logits']
    if not weight:
      return None
    if self.successors is None:
      raise ValueError(
        f'Received: successor_logits={weight} and no successors; call `bind` first'
      )
    scores = self.successors.scores(batch.history, batch.history_length)
    smoothing = np.float32(self._config['successor_smoothing'])
    return np.float32(weight) * np.log(smoothing + scores)

  def pairs(self, batch: records.EvaluationBatch, items: np.ndarray) -> np.ndarray:
    """Scores float32 [n, c] of candidates int64 [n, c]."""
    history = self.padded(batch.history, batch.history_length)
    rows = max(1, _CELLS // max(self._widest, items.shape[1] * self._config['dim']))
    scores = np.empty(items.shape, np.float32)
    for start in range(0, len(items), rows):
      part = slice(start, start + rows)
      scores[part] = self.candidates(
        tf.constant(history[part]),
        tf.constant(batch.user[part]),
        tf.constant(items[part]),
      )
    added = self._successor_logits(batch)
    return scores if added is None else scores + np.take_along_axis(added, items, 1)

  def catalogue(self, batch: records.EvaluationBatch) -> np.ndarray:
    """Scores float32 [n, num_items] of all items."""
    history = self.padded(batch.history, batch.history_length)
    rows = max(1, _CELLS // self._widest)
    scores = np.empty((len(history), self.num_items), np.float32)
    for start in range(0, len(history), rows):
      part = slice(start, start + rows)
      scores[part] = self._catalogue(
        tf.constant(history[part]), tf.constant(batch.user[part])
      )
    added = self._successor_logits(batch)
    return scores if added is None else scores + added
