"""A file of features of new items, or users, by the columns of a dataset.

This module imports neither TensorFlow nor Beam.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ncf_tfdata import feature_layout, feature_rows, object_store
from ncf_tfdata.errors import UserError
from ncf_tfdata.feature_columns import FeatureTable
from ncf_tfdata.item_features import (
  Categories,
  Column,
  Features,
  Numbers,
  Texts,
  Vectors,
)


class NewFeatures(NamedTuple):
  """What a file says of n items.

  Attributes:
    keys: Of each, in the order of the file.
    features: Of each, with the vocabularies of the dataset; categories that it does not
      know are left out.
    unknown: How many such categories there were, by column, where there were any.
  """

  keys: tuple[str, ...]
  features: Features
  unknown: dict[str, int]


def read(
  path: str, table: FeatureTable, features: Features, role: str = 'item'
) -> NewFeatures:
  """Reads a file of items that a dataset does not hold.

  The file has the columns of the one that the dataset was prepared with: by the same
  names, or, without a header, in the same places.

  Args:
    path: Of the file, local or of a store.
    table: What the dataset's manifest says of its features.
    features: Of the dataset.
    role: item or user.

  Raises:
    UserError: The file cannot be read, a row is no good, or two are of one key.
  """
  wish = feature_layout.Wish(
    role,
    table.positions or tuple(f'{one.name}:{one.kind}' for one in table.columns),
    table.key if table.positions else None,
    table.encoding,
  )
  try:
    with object_store.opened(path) as stream:
      layout = feature_layout.resolve(stream, path, wish, table.columns)
      blocks = list(feature_rows.read(stream, path, layout))
  except FileNotFoundError as error:
    raise UserError(
      f'{path} does not exist: expected a file of new {role}s.'
    ) from error
  for block in blocks:
    if block.bad:
      raise UserError(f'{path}, row {block.bad[0]}: {block.reasons[0]}.')
  if not any(len(block.keys) for block in blocks):
    raise UserError(f'{path} holds no {role}.')
  keys = tuple(pa.concat_arrays([block.keys for block in blocks]).to_pylist())
  if len(set(keys)) < len(keys):
    seen: set[str] = set()
    twice = next(key for key in keys if key in seen or seen.add(key))  # type: ignore[func-returns-value]
    raise UserError(f'{path} has two rows of {role} {twice!r}, expected one.')
  values = {
    column.name: pa.concat_arrays([block.values[place] for block in blocks])
    for place, column in enumerate(layout.columns)
  }
  unknown: dict[str, int] = {}
  columns = tuple(
    _column(known, values[known.name], unknown) for known in features.columns
  )
  return NewFeatures(keys, Features(len(keys), columns), unknown)


def _column(known: Column, values: pa.Array, unknown: dict[str, int]) -> Column:
  """Values of new items in the form of a dataset's column."""
  if isinstance(known, Categories):
    code = pc.index_in(
      values.flatten(), value_set=pa.array(known.vocabulary, pa.string())
    )
    row = np.repeat(np.arange(len(values)), _lengths(values))
    is_known = code.is_valid().to_numpy(zero_copy_only=False)
    if not is_known.all():
      unknown[known.name] = int((~is_known).sum())
    codes = code.drop_null().to_numpy().astype(np.int32)
    lengths = np.bincount(row[is_known], minlength=len(values)).astype(np.int32)
    return Categories(known.name, codes, lengths, known.vocabulary, known.counts)
  if isinstance(known, Numbers):
    return Numbers(known.name, values.to_numpy(), known.mean, known.stddev)
  if isinstance(known, Texts):
    return Texts(known.name, values.cast(pa.binary()).to_pylist())
  is_known = _lengths(values) > 0
  vectors = np.zeros((len(values), known.values.shape[1]), np.float32)
  vectors[is_known] = values.flatten().to_numpy().reshape(-1, vectors.shape[1])
  return Vectors(known.name, vectors, is_known)


def _lengths(values: pa.Array) -> np.ndarray:
  return pc.list_value_length(values).to_numpy(zero_copy_only=False)
