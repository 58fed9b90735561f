"""What a history model minimises: softmax over the catalogue, or a sample of it."""

from typing import Any

import tensorflow as tf

from ncf_tfdata.data import sampling
from ncf_tfdata.models import dropout, features
from ncf_tfdata.models.features import Rows
from ncf_tfdata.models.history import History
from ncf_tfdata.models.history_network import TARGET, Member
from ncf_tfdata.models.losses import MASKED, squares
from ncf_tfdata.rng_streams import Train
from ncf_tfdata.tracing import without_autograph

# Share of the windows whose gaps are not told, so that a network learns to do without:
# a history may come without times.
_GAP_DROPOUT = 0.1


def _cross_entropy(positive: tf.Tensor, negatives: tf.Tensor) -> tf.Tensor:
  """-log softmax of a positive among negatives: float32 [n], [n, m] -> [n].

  Without a concatenation, which would copy the largest matrix of the step.
  """
  top = tf.maximum(tf.reduce_max(negatives, axis=1), positive)
  top = tf.stop_gradient(top)
  total = tf.reduce_sum(tf.exp(negatives - top[:, None]), axis=1)
  return top + tf.math.log(total + tf.exp(positive - top)) - positive


class HistoryObjective:
  """What a history model minimises on a batch of `window_batches.window_batches`.

  Two parts, because only the second is worth compiling: `complete` draws and looks
  up, `__call__` computes.

  Attributes:
    steps_per_program: Steps that one compiled program takes.
  """

  # Its products take two fifths longer inside a loop of XLA.
  steps_per_program = 1

  def __init__(
    self,
    model: History,
    *,
    rows_per_step: float,
    seed: int,
    sampler: sampling.Sampler,
    shared_negatives: int,
    l2: float = 0.0,
    user_dropout: float = 0.0,
    item_id_dropout: float = 0.0,
  ):
    """Makes an objective.

    Args:
      model: What is trained.
      rows_per_step: Expected number of rows over all replicas, by which sums are
        divided: a constant, so that the shares of replicas add up.
      seed: Of negatives and dropout.
      sampler: What negatives are drawn from.
      shared_negatives: Negatives that the rows of a step share, drawn for each network
        by itself; their logits lose log(draws · probability) (Bengio and Senécal,
        Adaptive importance sampling, 2008), the positive's does not. 0 is the softmax
        over the whole catalogue.
      l2: Strength of the mean over rows of |target|² + |user|².
      user_dropout: Share of rows whose user is taken for a cold one, drawn for each
        network by itself (Volkovs et al., DropoutNet, NeurIPS 2017, section 4.1).
        What features say of them stays.
      item_id_dropout: Share of the items that are looked at of which only features
        are seen (ibid.).
    """
    self._model, self._rows, self._seed = model, rows_per_step, seed
    self._sampler, self._shared, self._l2 = sampler, shared_negatives, l2
    self._user_dropout, self._id_dropout = user_dropout, item_id_dropout

  @without_autograph
  def complete(
    self, batch: dict[str, tf.Tensor], epoch: tf.Tensor, step: tf.Tensor
  ) -> dict[str, tf.Tensor]:
    """Adds what is drawn for a step: the same negatives on every replica, and a key.

    Args:
      batch: A replica's part of an element of `window_batches.window_batches`.
      epoch: int64 [].
      step: int64 [], of the epoch.
    """
    replica = tf.distribute.get_replica_context().replica_id_in_sync_group
    batch = {name: tensor[0] for name, tensor in batch.items()}
    batch['key'] = (epoch, step, replica)
    if self._shared:
      network = tf.range(len(self._model.networks))[:, None]
      draw = tf.range(self._shared)
      random = sampling.bits(
        self._seed, Train.SHARED_NEGATIVES, epoch, step, network, draw
      )
      negatives = tf.cast(self._sampler.draw(random), tf.int32)
      batch['negatives'] = negatives
      batch['log_q'] = tf.math.log(float(self._shared)) + tf.gather(
        self._sampler.log_probability, negatives
      )
    if self._model.user_shapes:
      batch['told'] = self._model.users_told.of(batch['user'], batch['weight'] > 0)
    return self._with_step(batch) if self._model.shapes else batch

  def _with_step(self, batch: dict[str, Any]) -> dict[str, Any]:
    """The batch with what its items are; ids are places among them from here on."""
    model, names = self._model, ['tokens', *(['negatives'] if self._shared else [])]
    most = sum(batch[name].shape.num_elements() for name in names)
    if not self._shared:
      most = model.num_items
    batch['step'], places = features.step(
      model.items_known.values, [batch[name] for name in names], most
    )
    return {**batch, **dict(zip(names, places, strict=True))}

  @without_autograph
  def __call__(self, batch: dict[str, tf.Tensor]) -> tf.Tensor:
    """The replica's share of the objective, float32 []: the mean over networks.

    A network's gradient is that of its own loss, not of a share in the mean, so that
    it is trained as if it were alone.

    Args:
      batch: What `complete` returned.
    """
    known = self._model.known(batch['user'])
    targets = batch['tokens'][:, -self._window(batch) :]
    target = tf.gather(tf.reshape(targets, [-1]), batch['row'])
    # Rows of weight 0 may point at pads.
    items = self._model.num_items
    if 'step' in batch:
      items = batch['step'].item.shape[0]
    target = tf.minimum(target, items - 1)
    shares = [
      tf.reduce_sum(batch['weight'] * self._losses(index, batch, target, known))
      for index in range(len(self._model.networks))
    ]
    total = tf.add_n(shares) / self._rows
    return total + tf.stop_gradient(total / len(shares) - total)

  def _window(self, batch: dict[str, tf.Tensor]) -> int:
    return batch['tokens'].shape[1] - self._model.history_length

  def _losses(
    self, index: int, batch: dict[str, tf.Tensor], target: tf.Tensor, known: tf.Tensor
  ) -> tf.Tensor:
    """A network's loss of each row, float32 [n]."""
    network: Member = self._model.networks[index]
    seed = sampling.bits(self._seed, Train.DROPOUT, *batch['key'], index)
    if self._user_dropout:
      whole = sampling.bits(self._seed, Train.USER_DROPOUT, *batch['key'], index)
      kept = dropout.keep(tf.shape(known), self._user_dropout, whole)
      known *= tf.cast(kept, known.dtype)
    users = network.users(batch['user'], known, batch.get('told'))
    rows = self._rows_of(index, batch)
    gaps = self._gaps(index, batch)
    query = network.query(batch['tokens'], batch['row'], users, seed, rows, gaps)
    positive = network.row_logits(query, target[:, None], rows)[:, 0]
    if self._shared:
      negatives = batch['negatives'][index]
      logits = network.logits(query, negatives, rows) - batch['log_q'][index]
      logits = tf.where(negatives == target[:, None], MASKED, logits)
      losses = _cross_entropy(positive, logits)
    else:
      logits = network.logits(query, rows=rows)
      if self._sampler.unused is not None:
        logits = tf.where(self._sampler.unused[None], MASKED, logits)
      if rows is None:
        losses = tf.reduce_logsumexp(logits, axis=1) - positive
      else:  # The target and the same item among all may have lost its id, or not.
        itself = tf.range(self._model.num_items) == target[:, None]
        losses = _cross_entropy(positive, tf.where(itself, MASKED, logits))
    if self._l2:
      losses += self._l2 * squares(self._target(network, target, rows))
      if users is not None:
        losses += self._l2 * squares(users)
    return losses

  def _gaps(self, index: int, batch: dict[str, Any]) -> tf.Tensor | None:
    """The gaps that a network is told, int32 [b, L + T]; None where none are read."""
    if 'gaps' not in batch:
      return None
    seed = sampling.bits(self._seed, Train.GAP_DROPOUT, *batch['key'], index)
    told = dropout.keep(tf.shape(batch['gaps'])[:1], _GAP_DROPOUT, seed)
    return batch['gaps'] * tf.cast(told, tf.int32)[:, None]

  @staticmethod
  def _target(network: Member, target: tf.Tensor, rows: Rows | None) -> tf.Tensor:
    """The vectors [n, dim] of the targets, as `row_logits` sees them."""
    return network.items(target[:, None], rows, TARGET)[:, 0]

  def _rows_of(self, index: int, batch: dict[str, Any]) -> Rows | None:
    """A network's rows of the step's items; None where there are no features."""
    if 'step' not in batch:
      return None
    seed = sampling.bits(self._seed, Train.ITEM_ID_DROPOUT, *batch['key'], index)
    network: Member = self._model.networks[index]
    return network.rows(batch['step'], self._id_dropout, seed)
