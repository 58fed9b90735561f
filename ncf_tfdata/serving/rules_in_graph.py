"""The rules of a list in a TensorFlow graph: what each user may be recommended.

`rules` has the same in numpy, for all users at once.
"""

from __future__ import annotations

from typing import NamedTuple, Self

import tensorflow as tf


class Rules(NamedTuple):
  """Ids of items as a caller gives them; '' stands for none, and fills rows up.

  Attributes:
    exclude: string [n, m], or [1, m] for all n users: never recommended.
    allow: string of such a shape: nothing else is recommended. A row of '' alone, or of
      no width, allows everything.
    min_score: float32 [n], or [] or [1] for all users: nothing lower is recommended.
  """

  exclude: tf.Tensor
  allow: tf.Tensor
  min_score: tf.Tensor

  def checked(self, num_users: tf.Tensor) -> Self:
    """The same, once they are known to be of these shapes, and numbers.

    Raises:
      InvalidArgumentError: They are not; as a graph runs.
    """
    checks = [
      tf.debugging.Assert(
        ~tf.reduce_any(tf.math.is_nan(self.min_score)), ['min_score must be no NaN']
      )
    ]
    for name, value in self._asdict().items():
      shape = tf.shape(value)
      rows = tf.concat([shape, [1]], 0)[0]
      fits = (rows == 1) | (rows == num_users)
      if name == 'min_score':
        fits &= tf.size(shape) <= 1
      said = f'{name} must be one for all users, or one for each; its shape is'
      checks.append(tf.debugging.Assert(fits, [said, shape]))
    # Or what fails first would be an operation that speaks of itself.
    with tf.control_dependencies(checks):
      return type(self)(*(tf.identity(value) for value in self))

  def masked(self, scores: tf.Tensor, items: tf.lookup.StaticHashTable) -> tf.Tensor:
    """Scores float32 [n, num_items], -inf where an item may not be recommended.

    Args:
      scores: float32 [n, num_items].
      items: Dense id by original id, negative for what is no item.
    """
    num_items = tf.shape(scores)[1]
    named = tf.reduce_any(self.allow != '', axis=1, keepdims=True)
    allowed = ~named | _marks(items.lookup(self.allow), num_items)
    allowed &= ~_marks(items.lookup(self.exclude), num_items)
    least = tf.reshape(self.min_score, [-1, 1])
    return tf.where(allowed & (scores >= least), scores, float('-inf'))

  def ignored(self, items: tf.lookup.StaticHashTable) -> tf.Tensor:
    """How many ids of each row are of no item: int32 [n], or [1] for all users."""
    return ignored(self.exclude, items) + ignored(self.allow, items)


def ignored(keys: tf.Tensor, items: tf.lookup.StaticHashTable) -> tf.Tensor:
  """How many ids in the rows of string [n, m] are of no item; '' is none: int32 [n]."""
  unknown = (keys != '') & (items.lookup(keys) < 0)
  return tf.math.count_nonzero(unknown, axis=1, dtype=tf.int32)


def _marks(item: tf.Tensor, num_items: tf.Tensor) -> tf.Tensor:
  """Which items rows of dense ids name: int64 [n, m] → bool [n, num_items]."""
  known = item >= 0
  place = tf.stack([tf.where(known)[:, 0], tf.boolean_mask(item, known)], axis=1)
  return tf.tensor_scatter_nd_update(
    tf.zeros([tf.shape(item)[0], num_items], tf.bool),
    place,
    tf.ones([tf.shape(place)[0]], tf.bool),
  )
