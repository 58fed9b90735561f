"""What an export holds beside a model: tables and constants of any size."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from ncf_tfdata.vocabulary import UNKNOWN, Vocabulary


def ids(known: Vocabulary) -> tf.lookup.StaticHashTable:
  """A table of dense ids int64 by original key, `UNKNOWN` for others."""
  place = known.known()
  return table(known.texts.take(place).to_numpy(zero_copy_only=False), place)


def table(
  keys: Sequence[str] | np.ndarray, place: np.ndarray
) -> tf.lookup.StaticHashTable:
  """A table of places int64 [n] by n texts, `UNKNOWN` for others."""
  return tf.lookup.StaticHashTable(
    tf.lookup.KeyValueTensorInitializer(
      tf.constant(keys, tf.string), tf.constant(place, tf.int64)
    ),
    default_value=UNKNOWN,
  )


def constant(value: np.ndarray | int, dtype: tf.DType, name: str) -> tf.Variable:
  """A constant of any size: those of a graph may not exceed 2 GiB in all."""
  return tf.Variable(value, trainable=False, dtype=dtype, name=name)
