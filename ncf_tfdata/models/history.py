"""The NCF that remembers: a query made of the user and of the latest items seen.

Its logit is query · item vector + item bias, and the item vectors of the history are
those of the candidates. A cold user is scored from the history alone, and by what
features say of them: the vector of their id is zero.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ncf_tfdata import dataset as dataset_lib
from ncf_tfdata.data import events_in_graph
from ncf_tfdata.errors import ArgumentError
from ncf_tfdata.models.featured_model import FeaturedModel
from ncf_tfdata.models.features import FeatureVectors, Rows, Step
from ncf_tfdata.models.history_network import Member
from ncf_tfdata.models.ranking_model import Model, latest_items
from ncf_tfdata.models.with_transitions import WithTransitions
from ncf_tfdata.tracing import without_autograph

ENCODERS = ('pool', 'attention', 'both', 'none')

# Options of runs made before the transitions wrapped the model, by their names now.
_FORMER_OPTIONS = {
  'successor_logits': 'weight',
  'successor_smoothing': 'smoothing',
  'successor_reverse': 'reverse',
}


def _check(
  encoder: str, user_embedding: bool, dim: int, heads: int, history_length: int
) -> None:
  """Refuses arguments of `History` that contradict each other.

  Raises:
    ArgumentError: They do.
  """
  if encoder not in ENCODERS:
    raise ArgumentError(
      f'`encoder` must be one of {", ".join(ENCODERS)}.', encoder=encoder
    )
  if encoder == 'none' and not user_embedding:
    raise ArgumentError(
      'A model with `encoder` none needs `user_embedding`.',
      encoder=encoder,
      user_embedding=user_embedding,
    )
  if encoder != 'none' and dim % heads:
    raise ArgumentError('`heads` must divide `dim`.', heads=heads, dim=dim)
  if encoder != 'none' and history_length < 2:
    raise ArgumentError(
      '`history_length` must be at least 2.', history_length=history_length
    )


@keras.saving.register_keras_serializable('ncf_tfdata')
class History(FeaturedModel):
  """An ensemble of networks: the mean of their logits.

  Attributes:
    num_users: Rows of the user tables.
    num_items: Size of the catalogue; also the token of pads.
    history_length: Latest items that are looked at.
    networks: They differ in their seeds and in what they were trained on.
    reads_history: Whether there is an encoder.
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
    seed: int = 0,
    gaps: bool = False,
    attention_length: int | None = None,
    **kwargs: Any,
  ) -> None:
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
      members: Networks of the ensemble, trained side by side.
      dropout: Rate on the encoded history, the user and the hidden layer.
      embedding_stddev: Of the normal distribution that item vectors start from.
      seed: Of all initial weights.
      gaps: Whether it reads how long each item came after the one before.
      attention_length: Latest items that attention looks at, at most `history_length`;
        None for all of them.
      **kwargs: Of `FeaturedModel` and `keras.Model`.

    Raises:
      ArgumentError: The arguments contradict each other.
    """
    super().__init__(num_users, num_items, **kwargs)
    _check(encoder, user_embedding, dim, heads, history_length)
    if attention_length is not None and not 0 < attention_length <= history_length:
      raise ArgumentError(
        '`attention_length` must be from 1 to `history_length`.',
        attention_length=attention_length,
        history_length=history_length,
      )
    options: dict[str, Any] = {
      'history_length': history_length,
      'encoder': encoder,
      'dim': dim,
      'heads': heads,
      'hidden': hidden,
      'user_embedding': user_embedding,
      'dropout': dropout,
      'embedding_stddev': embedding_stddev,
      # Not there where they are not asked for, as in runs of before.
      **({'gaps': True} if gaps else {}),
      **({'attention_length': attention_length} if attention_length else {}),
    }
    self._config = {**options, 'members': members, 'seed': seed}
    self.reads_history, self.reads_gaps = encoder != 'none', gaps
    self.history_length, self._dim = history_length, dim
    self._widest = max((history_length + 1) * dim, hidden, num_items)
    seeds = np.random.SeedSequence(seed).generate_state(members).tolist()
    self.networks = [
      Member(
        *(num_users, num_items),
        **options,
        seed=own_seed,
        features=self.shapes,
        user_features=self.user_shapes,
        name=f'member_{index}',
      )
      for index, own_seed in enumerate(seeds)
    ]
    self.user_known = self._add_user_known()
    self.built = True

  def get_config(self) -> dict[str, Any]:
    return {**super().get_config(), **self._config}

  @classmethod
  def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Model:
    """Makes a model from `get_config`, with transitions where a former one had them."""
    del custom_objects
    config = dict(config)
    former = {
      name: config.pop(old) for old, name in _FORMER_OPTIONS.items() if old in config
    }
    model = cls(**config)
    return WithTransitions(model, **former) if former.get('weight') else model

  def _networks(self) -> list[Callable[[Step], Rows]]:
    return [network.rows for network in self.networks]

  def _feature_layers(self) -> list[FeatureVectors]:
    found = [network.features for network in self.networks]
    return [layer for layer in found if layer is not None]

  def _user_feature_layers(self) -> list[FeatureVectors]:
    found = [network.user_features for network in self.networks]
    return [layer for layer in found if layer is not None]

  def _item_weights(self) -> list[keras.Variable]:
    return [weight for each in self.networks for weight in each.item_weights()]

  def vocabulary_weights(self) -> dict[str, list[keras.Variable]]:
    users = [network.user_table for network in self.networks]
    items = [(network.item_table, network.item_bias) for network in self.networks]
    return {
      dataset_lib.USERS: [table for table in users if table is not None],
      dataset_lib.ITEMS: [weight for pair in items for weight in pair],
      **self._feature_tables(),
    }

  def lag_weights(self) -> np.ndarray | None:
    """Weights of the pool by lag: float32 [networks, heads, history_length].

    The last item first. None without a pool.
    """
    pools = [network.pool for network in self.networks if network.pool is not None]
    return np.stack([pool.lag.numpy()[:, ::-1] for pool in pools]) if pools else None

  def _queries(self, entries: tf.Tensor, user: tf.Tensor) -> list[tf.Tensor]:
    """A query of each network: int [n, history_length], int [n] -> [n, dim]."""
    inside = (user >= 0) & (user < self.num_users)
    user = tf.where(inside, user, 0)
    known = self.known(user) * tf.cast(inside, tf.float32)
    told = self.users_told.of(user, inside) if self.user_shapes else None
    # A window of one target, of which only the place matters.
    entries = tf.pad(entries, [[0, 0], [0, 1]], constant_values=self.num_items)
    row = tf.range(tf.shape(entries)[0])
    tokens, gaps = tf.cast(entries, tf.int32), None
    if self.reads_gaps:
      tokens, gaps = events_in_graph.split(entries)
    return [
      network.query(tokens, row, network.users(user, known, told), rows=rows, gaps=gaps)
      for network, rows in self._parts()
    ]

  def _parts(self) -> list[tuple[Member, Rows | None]]:
    """Each network, and its rows of all items where there are features."""
    return list(zip(self.networks, self._all_rows(), strict=True))

  def _latest(self, history: tf.RaggedTensor) -> tf.Tensor:
    return latest_items(history, self.history_length, self.num_items)

  def call(self, inputs: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
    """Logits of the catalogue.

    Args:
      inputs: Histories int [n, history_length], oldest first, behind pads of value
        num_items, of items, or entries where it reads gaps; and users int [n], whatever
        is not in [0, num_users) being cold.

    Returns:
      float32 [n, num_items].
    """
    queries = self._queries(*inputs)
    pairs = zip(self._parts(), queries, strict=True)
    logits = [network.logits(query, rows=rows) for (network, rows), query in pairs]
    return tf.add_n(logits) / len(queries)

  def row_logits(
    self, entries: tf.Tensor, user: tf.Tensor, items: tf.Tensor
  ) -> tf.Tensor:
    """Logits of each row's own candidates.

    Args:
      entries: Histories, as in `call`.
      user: As in `call`.
      items: int [n, c].

    Returns:
      float32 [n, c].
    """
    queries = self._queries(entries, user)
    pairs = zip(self._parts(), queries, strict=True)
    logits = [network.row_logits(q, items, rows) for (network, rows), q in pairs]
    return tf.add_n(logits) / len(queries)

  @without_autograph
  def candidate_logits(
    self, user: tf.Tensor, history: tf.RaggedTensor, items: tf.Tensor
  ) -> tf.Tensor:
    return self.row_logits(self._latest(history), user, items)

  @without_autograph
  def catalogue_logits(self, user: tf.Tensor, history: tf.RaggedTensor) -> tf.Tensor:
    return self((self._latest(history), user))

  def row_cells(self, candidates: int | None = None) -> int:
    return max(self._widest, (candidates or 0) * self._dim)
