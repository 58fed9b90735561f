"""What an export holds beside a model: tables and constants of any size."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from ncf_tfdata.serving import recommender


def table(ids: Mapping[str, int]) -> tf.lookup.StaticHashTable:
  """A table of ids int64 by text, `recommender.UNKNOWN` for others."""
  return tf.lookup.StaticHashTable(
    tf.lookup.KeyValueTensorInitializer(
      tf.constant(list(ids), tf.string),
      tf.constant(list(ids.values()), tf.int64),
    ),
    default_value=recommender.UNKNOWN,
  )


def constant(value: np.ndarray | int, dtype: tf.DType, name: str) -> tf.Variable:
  """A constant of any size: those of a graph may not exceed 2 GiB in all."""
  return tf.Variable(value, trainable=False, dtype=dtype, name=name)
