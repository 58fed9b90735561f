"""Losses of rows that hold one positive and some negatives, and the objective."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf

from ncf_tfdata.data import sampling
from ncf_tfdata.models import dropout, features
from ncf_tfdata.models.neumf import NeuMF
from ncf_tfdata.rng_streams import Train
from ncf_tfdata.tracing import without_autograph

# A masked logit: no share in any loss, and finite, so that no gradient is NaN.
MASKED = -1e9

# In programs of their own, small steps take a tenth more: for handing over variables,
# and for copies of tables that are read and then written.
_STEPS_PER_PROGRAM = 8


# What items and users are looked at for; the id vectors that are left out are drawn
# for each.
_OWN, _SHARED = range(2)


def bce(logits: tf.Tensor) -> tf.Tensor:
  """Binary cross-entropy, mean over a row's pairs: float32 [n, 1 + k] -> [n].

  Source: He et al., Neural collaborative filtering (WWW 2017), equation 7. Computed
  from logits: log(sigmoid(x)) underflows.
  """
  positive, negatives = tf.nn.softplus(-logits[:, :1]), tf.nn.softplus(logits[:, 1:])
  return tf.reduce_mean(tf.concat([positive, negatives], axis=1), axis=1)


def softmax(logits: tf.Tensor) -> tf.Tensor:
  """-log softmax of the positive among its row's pairs: float32 [n, 1 + k] -> [n].

  Source: Jean et al., On using very large target vocabulary for neural machine
  translation (ACL 2015).
  """
  return tf.reduce_logsumexp(logits, axis=1) - logits[:, 0]


def bpr(logits: tf.Tensor) -> tf.Tensor:
  """-log sigmoid(positive - negative), mean over negatives: [n, 1 + k] -> [n].

  Source: Rendle et al., BPR: Bayesian personalized ranking from implicit feedback
  (UAI 2009).
  """
  return tf.reduce_mean(tf.nn.softplus(logits[:, 1:] - logits[:, :1]), axis=1)


LOSSES: Mapping[str, Callable[[tf.Tensor], tf.Tensor]] = {
  'bce': bce,
  'softmax': softmax,
  'bpr': bpr,
}


def squares(rows: tf.Tensor) -> tf.Tensor:
  """Squared norms: [..., d] -> float32 [...]."""
  return tf.reduce_sum(tf.square(tf.cast(rows, tf.float32)), axis=-1)


def _sum_of_squares(table: tf.Tensor) -> tf.Tensor:
  """Over a whole table: [n, d] -> float32 []."""
  # XLA would merge the two sums into one that it cannot vectorise, but for the ReLU.
  columns = tf.nn.relu(tf.reduce_sum(tf.square(table), axis=0))
  return tf.reduce_sum(columns)


def _distinct(user: tf.Tensor, least: int) -> tuple[tf.Tensor, tf.Tensor]:
  """Distinct users [u], padded to a power of two, and each row's place in them [n].

  Args:
    user: int32 [n].
    least: No fewer than so many are padded for.
  """
  user, position = tf.unique(user)
  # XLA compiles every shape anew, so let there be few.
  count = tf.maximum(tf.size(user), least)
  power = tf.math.log(tf.cast(count, tf.float64)) / math.log(2)
  size = tf.cast(2 ** tf.math.ceil(power - 1e-6), tf.int32)
  return tf.pad(user, [[0, size - tf.size(user)]]), position


class Objective:
  """What a NeuMF minimises on a batch of the input pipeline.

  Two parts, because only the second is worth compiling: `complete` draws and looks
  up, `__call__` computes.

  Attributes:
    steps_per_program: Steps that one compiled program takes.
  """

  def __init__(
    self,
    model: NeuMF,
    loss: str,
    *,
    batch_size: int,
    seed: int,
    sampler: sampling.Sampler,
    num_negatives: int,
    shared_negatives: int = 0,
    by_user: bool = False,
    users_per_batch: int = 1,
    logq: bool = False,
    l2: float = 0.0,
    l2_tables: float = 0.0,
    item_id_dropout: float = 0.0,
    user_dropout: float = 0.0,
    replicas: int = 1,
  ):
    """Makes an objective.

    Args:
      model: What is trained.
      loss: A name of `LOSSES`.
      batch_size: Rows of a global batch, by which sums are divided.
      seed: Of shared negatives and dropout.
      sampler: What negatives are drawn from.
      num_negatives: Negatives that a row of a batch holds.
      shared_negatives: If not 0, rows hold none and so many are drawn for a batch.
      by_user: Scores shared negatives once a user of the batch, not once a row, and
        masks all that the batch's rows of the user hold.
      users_per_batch: How many distinct users most batches have at most, with
        `by_user`: they are all padded to one shape.
      logq: Takes log(draws · probability) off the logits of negatives, so that
        popular ones are not pushed down for being drawn often (Bengio and Senécal,
        Adaptive importance sampling, 2008). The positive's stays as it is.
      l2: Strength of the mean over rows of |user|² + |positive|² + mean |negative|²
        (Rendle et al., Neural collaborative filtering vs. matrix factorization
        revisited, RecSys 2020: rows are regularised as often as they are used).
      l2_tables: Strength of the sum of squares of all tables.
      item_id_dropout: Share of the items that are looked at, as positive and as
        negative, of which only features are seen (Volkovs et al., DropoutNet, NeurIPS
        2017, section 4.1).
      user_dropout: Share of the users that are looked at of whom only features are
        seen (ibid.), where the model has some.
      replicas: Replicas that share a global batch.
    """
    self._model, self._loss = model, LOSSES[loss]
    self._batch_size, self._seed, self._replicas = batch_size, seed, replicas
    self._sampler, self._logq = sampler, logq
    self._num_negatives, self._shared = num_negatives, shared_negatives
    self._by_user, self._users = by_user, users_per_batch
    # The distinct users of a batch are not always as many.
    self.steps_per_program = 1 if by_user else _STEPS_PER_PROGRAM
    self._l2, self._l2_tables = l2, l2_tables
    self._id_dropout, self._user_dropout = item_id_dropout, user_dropout

  @without_autograph
  def complete(
    self, batch: dict[str, tf.Tensor], epoch: tf.Tensor, step: tf.Tensor
  ) -> dict[str, tf.Tensor]:
    """Adds what is drawn for a step and looked up in the sampler.

    Args:
      batch: A replica's part of an element of `row_batches.train_batches`.
      epoch: int64 [].
      step: int64 [], of the epoch.
    """
    replica = tf.distribute.get_replica_context().replica_id_in_sync_group
    batch = {**batch, 'key': (epoch, step, replica)}
    negatives = batch['items'][:, 1:]
    if self._shared:
      draw = tf.range(self._shared)
      random = sampling.bits(self._seed, Train.SHARED_NEGATIVES, epoch, step, draw)
      negatives = tf.cast(self._sampler.draw(random), tf.int32)
      batch['negatives'] = negatives
      if self._by_user:
        batch['users'], batch['position'] = _distinct(batch['user'], self._users)
    if self._logq:
      draws = tf.math.log(float(self._shared or self._num_negatives))
      batch['log_q'] = draws + tf.gather(self._sampler.log_probability, negatives)
    if self._model.user_shapes:
      batch['told'] = self._told(batch)
    return self._with_step(batch) if self._model.shapes else batch

  def _told(self, batch: dict[str, Any]) -> dict[str, features.Told]:
    """What is known of the users of rows, and of those of the batch, by column."""
    users = self._model.users_told
    found = {'user': users.of(batch['user'], batch['weight'] > 0)}
    if 'users' in batch:
      last = tf.reduce_max(batch['position'])
      real = tf.range(tf.size(batch['users'])) <= last
      found['users'] = users.of(batch['users'], real)
    return found

  def _with_step(self, batch: dict[str, Any]) -> dict[str, Any]:
    """The batch with what its items are; ids are places among them from here on."""
    names = ['items', *(['negatives'] if self._shared else [])]
    pairs = self._batch_size * (1 if self._shared else 1 + self._num_negatives)
    batch['step'], places = features.step(
      self._model.items_known.values,
      [batch[name] for name in names],
      pairs + self._shared,
    )
    return {**batch, **dict(zip(names, places, strict=True))}

  @without_autograph
  def __call__(self, batch: dict[str, tf.Tensor]) -> tf.Tensor:
    """The replica's share of the objective, float32 []: shares add up to it.

    Args:
      batch: What `complete` returned.
    """
    model, weight = self._model, batch['weight']
    seed = sampling.bits(self._seed, Train.DROPOUT, *batch['key'])
    look_up = self._look_up(batch)
    users = self._users_of(batch, 'user')
    items = look_up(batch['items'], _OWN)
    logits = model.row_logits(users, items, seed)
    if self._shared:
      negatives = look_up(batch['negatives'], _SHARED)
      other = self._shared_logits(batch, users, negatives, sampling.bits(seed, 1))
      penalty = tf.reduce_mean(squares(negatives))
    else:
      other = self._corrected(batch, logits[:, 1:])
      penalty = tf.reduce_mean(squares(items[:, 1:]), axis=1)
    rows = self._loss(tf.concat([logits[:, :1], other], axis=1))
    penalty += squares(users) + squares(items[:, 0])
    if self._l2:
      rows += self._l2 * penalty
    total = tf.reduce_sum(weight * rows) / self._batch_size
    if self._l2_tables:
      whole = sum(_sum_of_squares(table.value) for table in model.all_tables)
      total += self._l2_tables * whole / self._replicas
    return total

  def _users_of(self, batch: dict[str, Any], name: str) -> tf.Tensor:
    """Vectors [n, d] of the users of a column; the ids of some are left out."""
    user = batch[name]
    if 'told' not in batch:
      return self._model.users(user)
    known = self._model.known(user)
    if self._user_dropout:
      site = _OWN if name == 'user' else _SHARED
      seed = sampling.bits(self._seed, Train.USER_DROPOUT, *batch['key'], site)
      kept = dropout.keep(tf.shape(known), self._user_dropout, seed)
      known *= tf.cast(kept, known.dtype)
    return self._model.users(user, known, batch['told'][name])

  def _look_up(self, batch: dict[str, Any]) -> Callable[[tf.Tensor, int], tf.Tensor]:
    """What gives the vectors of items, or of places, and of what they are looked at."""
    if 'step' not in batch:
      return lambda item, site: self._model.items(item)
    seed = sampling.bits(self._seed, Train.ITEM_ID_DROPOUT, *batch['key'])
    return self._model.rows(batch['step'], self._id_dropout, seed).at

  def _corrected(self, batch: dict[str, tf.Tensor], negatives: tf.Tensor) -> tf.Tensor:
    return negatives - batch['log_q'] if self._logq else negatives

  def _shared_logits(
    self,
    batch: dict[str, tf.Tensor],
    users: tf.Tensor,
    negatives: tf.Tensor,
    seed: tf.Tensor,
  ) -> tf.Tensor:
    """Logits [n, k] of the batch's negatives, or of what has the same loss."""
    hit = batch['items'] == batch['negatives']
    if self._by_user:
      users = self._users_of(batch, 'users')
      hit = tf.math.unsorted_segment_max(
        tf.cast(hit, tf.int32), batch['position'], tf.shape(users)[0]
      )
    logits = self._corrected(batch, self._model.logits(users, negatives, seed))
    logits = tf.where(tf.cast(hit, tf.bool), MASKED, logits)
    if not self._by_user:
      return logits
    if self._loss is softmax:
      # The sum over negatives is all that a row needs of its user.
      logits = tf.reduce_logsumexp(logits, axis=1, keepdims=True)
    return tf.gather(logits, batch['position'])
