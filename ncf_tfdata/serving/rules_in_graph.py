"""The rules of a list in a TensorFlow graph: what each user may be recommended.

`rules` has the same in numpy, for all users at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Self

import numpy as np
import tensorflow as tf

from ncf_tfdata.serving.constants_in_graph import constant, table
from ncf_tfdata.serving.item_categories import ItemCategories
from ncf_tfdata.vocabulary import UNKNOWN


class Categories(tf.Module):  # type: ignore[misc]
  """Which items have which categories, as `ItemCategories` in numpy.

  A pair of an item and a value that it has takes 16 bytes. To find the items of n rows
  takes a float32 for each row and value of a column, and one for each row and item: of
  one column at a time. A column that no row names takes nothing.

  Attributes:
    values: Number by column and value, such as `genres:Comedy`, over all columns.
  """

  def __init__(self, known: ItemCategories):
    super().__init__(name='categories')
    columns = known.columns.values()
    values = [
      f'{name}:{value}' for name, one in known.columns.items() for value in one.places
    ]
    self.values, self._columns = _numbered(values), _numbered([*known.columns])
    self._bounds = np.cumsum([0, *(len(column.places) for column in columns)])
    self._num_items = known.num_items
    self._pairs = [
      constant(np.stack([column.row, column.value], axis=1), tf.int64, 'pairs')
      for column in columns
    ]

  def having(self, only: tf.Tensor) -> tf.Tensor:
    """Which items have one of the values of each column that a row names.

    Args:
      only: string [n, m], a column and a value each; '' for none. No item has a value
        that is not known, nor any of a column that is not.

    Returns:
      bool [n, num_items], or [n, 1] of all items.
    """
    value = self.values.lookup(only)
    column = self._columns.lookup(tf.strings.regex_replace(only, '(?s):.*', ''))
    found = ~tf.reduce_any((only != '') & (column < 0), axis=1, keepdims=True)
    for place in range(len(self._pairs)):
      # One column after the other, for the memory's sake.
      with tf.control_dependencies([found]):
        found &= self._if_asked(place, column == place, value)
    return found

  def _if_asked(self, place: int, asked: tf.Tensor, value: tf.Tensor) -> tf.Tensor:
    """Which items rows let through by a column; all, where bool [n, m] asks nothing."""
    asked = tf.reduce_any(asked, axis=1, keepdims=True)
    return tf.cond(
      tf.reduce_any(asked),
      lambda: ~asked | self._having_of(place, value),
      lambda: ~asked,
    )

  def _having_of(self, place: int, value: tf.Tensor) -> tf.Tensor:
    """Which items have one of the values of a column: int64 [n, m], others are none."""
    pairs = self._pairs[place]
    start, limit = self._bounds[place : place + 2].tolist()
    inside = (value >= start) & (value < limit)
    named = _marks(tf.where(inside, value - start, UNKNOWN), limit - start)
    shape = [self._num_items, limit - start]
    counts = tf.sparse.sparse_dense_matmul(
      tf.SparseTensor(pairs, tf.ones(tf.shape(pairs)[:1]), shape),
      tf.cast(named, tf.float32),
      adjoint_b=True,
    )
    return tf.transpose(counts > 0)


def _numbered(texts: Sequence[str]) -> tf.lookup.StaticHashTable:
  """A table of texts by their places; with '', as it must hold something."""
  return table(['', *texts], np.arange(-1, len(texts)))


class Rules(NamedTuple):
  """Ids of items as a caller gives them; '' stands for none, and fills rows up.

  Attributes:
    exclude: string [n, m], or [1, m] for all n users: never recommended.
    allow: string of such a shape: nothing else is recommended. A row of '' alone, or of
      no width, allows everything.
    min_score: float32 [n], or [] or [1] for all users: nothing lower is recommended.
    only: string like `exclude`, but of categories, such as `genres:Comedy`: nothing is
      recommended that has not one of the values of each column that a row names.
  """

  exclude: tf.Tensor
  allow: tf.Tensor
  min_score: tf.Tensor
  only: tf.Tensor

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

  def masked(
    self,
    scores: tf.Tensor,
    items: tf.lookup.StaticHashTable,
    categories: Categories,
  ) -> tf.Tensor:
    """Scores float32 [n, num_items], -inf where an item may not be recommended.

    Args:
      scores: float32 [n, num_items].
      items: Dense id by original id, negative for what is no item.
      categories: Of the items.
    """
    num_items = tf.shape(scores)[1]
    named = tf.reduce_any(self.allow != '', axis=1, keepdims=True)
    allowed = ~named | _marks(items.lookup(self.allow), num_items)
    allowed &= ~_marks(items.lookup(self.exclude), num_items)
    allowed &= categories.having(self.only)
    least = tf.reshape(self.min_score, [-1, 1])
    return tf.where(allowed & (scores >= least), scores, float('-inf'))

  def ignored(
    self, items: tf.lookup.StaticHashTable, categories: Categories
  ) -> tf.Tensor:
    """How much in each row is of no item: int32 [n], or [1] for all users."""
    return (
      ignored(self.exclude, items)
      + ignored(self.allow, items)
      + ignored(self.only, categories.values)
    )


def ignored(keys: tf.Tensor, known: tf.lookup.StaticHashTable) -> tf.Tensor:
  """How many texts in rows of string [n, m] are not known; '' is none: int32 [n]."""
  unknown = (keys != '') & (known.lookup(keys) < 0)
  return tf.math.count_nonzero(unknown, axis=1, dtype=tf.int32)


def _marks(item: tf.Tensor, num_items: tf.Tensor) -> tf.Tensor:
  """Which items, or values, rows of ids name: int64 [n, m] → bool [n, num_items]."""
  known = item >= 0
  place = tf.stack([tf.where(known)[:, 0], tf.boolean_mask(item, known)], axis=1)
  return tf.tensor_scatter_nd_update(
    tf.zeros([tf.shape(item)[0], num_items], tf.bool),
    place,
    tf.ones([tf.shape(place)[0]], tf.bool),
  )
