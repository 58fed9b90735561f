"""A shard of features: what is known of a range of dense ids, as records."""

from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from beam_pipelines import blocks
from beam_pipelines.features import Joined, Plan
from ncf_tfdata import dataset, item_features
from ncf_tfdata.feature_columns import (
  CATEGORY,
  NUMBER,
  TEXT,
  VECTOR,
  FeatureColumn,
)

_EMPTY = {
  CATEGORY: pa.array([], pa.list_(pa.string())),
  NUMBER: pa.array([], pa.float32()),
  TEXT: pa.array([], pa.string()),
  VECTOR: pa.array([], pa.list_(pa.float32())),
}


def encode(
  parts: Iterable[Joined],
  made: Plan,
  first: int,
  size: int,
  vocabularies: dict[int, pa.Array],
) -> tuple[bytes, int]:
  """Encodes the features of consecutive dense ids as a TFRecord file.

  Args:
    parts: What is known of some of them.
    made: Whose features.
    first: The first dense id.
    size: How many there are.
    vocabularies: Of each column of categories, by its place.

  Returns:
    The bytes, and the number of records.
  """
  found = sorted(parts, key=lambda part: int(part.ids[0]))
  ids = np.concatenate([np.zeros(0, np.int64), *(part.ids for part in found)])
  # Groups hold ids of their own, which may lie between those of others.
  order = np.argsort(ids, kind='stable')
  cuts = np.append(np.arange(0, size, dataset.BLOCK_ROWS), size)
  columns: dict[str, tuple[blocks.Values, np.ndarray]] = {
    made.role: (first + np.arange(size), cuts)
  }
  place_of = ids[order] - first
  for place, column in enumerate(made.layout.columns):
    if found:
      known = pa.concat_arrays([part.values[place] for part in found])
      known = known.take(pa.array(order))
    else:
      known = _EMPTY[column.kind]
    columns |= _encoded(column, known, place_of, cuts, vocabularies.get(place))
  return blocks.encode(columns)


def _encoded(
  column: FeatureColumn,
  values: pa.Array,
  place: np.ndarray,
  cuts: np.ndarray,
  vocabulary: pa.Array | None,
) -> dict[str, tuple[blocks.Values, np.ndarray]]:
  """The columns of a record that a column of features is written as.

  Args:
    column: What is known of it.
    values: [n].
    place: int64 [n], ascending, where each stands among all rows.
    cuts: int64 [blocks + 1], the first row of each block, and their number.
    vocabulary: Of categories.
  """
  size, name = int(cuts[-1]), column.name
  if column.kind == NUMBER:
    numbers = np.full(size, np.nan, np.float32)
    numbers[place] = values.to_numpy(zero_copy_only=False)
    return {name: (numbers, cuts)}
  if column.kind == TEXT:
    at = np.full(size, -1)
    at[place] = np.arange(len(place))
    texts = values.take(pa.array(at, mask=at < 0)).fill_null('')
    return {name: (texts, cuts)}
  lengths = np.zeros(size, np.int64)
  lengths[place] = pc.list_value_length(values).to_numpy(zero_copy_only=False)
  if column.kind == CATEGORY:
    codes = pc.index_in(values.flatten(), value_set=vocabulary)
    ends = np.append(0, np.cumsum(lengths))
    return {
      name: (codes.to_numpy(zero_copy_only=False).astype(np.int64), ends[cuts]),
      item_features.length_name(name): (lengths, cuts),
    }
  dim = column.dim or 0
  vectors = np.zeros((size, dim), np.float32)
  vectors[lengths > 0] = values.flatten().to_numpy().reshape(-1, dim)
  known = (lengths > 0).astype(np.int64)
  return {
    name: (vectors.ravel(), cuts * dim),
    item_features.known_name(name): (known, cuts),
  }
