"""Similar items in a TensorFlow graph, as a signature of an export.

`similar` has the same in numpy.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from ncf_tfdata.models.ranking_model import ItemSimilarity

# Keys and scores [n, k] of the k best of scores [n, num_items].
Best = Callable[[tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]


def signature(
  similarity: ItemSimilarity,
  items: tf.lookup.StaticHashTable,
  num_items: int,
  unused: tf.Variable | None,
  best: Best,
) -> tf.types.experimental.PolymorphicFunction:
  """Makes a signature of the items that are most similar to items.

  Args:
    similarity: Of items.
    items: Dense id by original id, negative for what is no item.
    num_items: Size of the catalogue.
    unused: bool [num_items], ids that are of no item now; None where there are none.
    best: What stands in the lists, '' and 0 where scores are -inf.
  """
  specs = [tf.TensorSpec([None], tf.string, 'item'), tf.TensorSpec([], tf.int32, 'k')]

  @tf.function(input_signature=specs, autograph=False)  # type: ignore[untyped-decorator]
  def similar(item: tf.Tensor, k: tf.Tensor) -> dict[str, tf.Tensor]:
    """The k items most similar to each of items string [n], without itself.

    `k` is at least 1; one above the number of items is cut to it.

    Returns:
      `items` string [n, k] and `scores` float32 [n, k], most similar first; '' and 0
      where fewer have a score above 0. `count` int32 [n], how many have. `known` bool
      [n], False for what is no item of the dataset.
    """
    with tf.control_dependencies(
      [tf.debugging.Assert(k > 0, ['k must be at least 1'])]
    ):
      k = tf.minimum(k, num_items)
    dense = items.lookup(item)
    row, known = tf.maximum(dense, 0), dense >= 0
    if unused is not None:
      known &= ~tf.gather(unused, row)
    scores = similarity(row)
    itself = tf.range(num_items, dtype=tf.int64) == row[:, None]
    listed = known[:, None] & (scores > 0) & ~itself
    if unused is not None:
      listed &= ~unused
    keys, scores = best(tf.where(listed, scores, -np.inf), k)
    count = tf.math.count_nonzero(keys != '', axis=1, dtype=tf.int32)
    return {'items': keys, 'scores': scores, 'count': count, 'known': known}

  return similar
