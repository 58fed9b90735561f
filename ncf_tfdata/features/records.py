"""What is known of items, or of users, beside their interactions.

`prepare --item_features` writes it into a dataset, in blocks of columns:

    ncf-item-features.tfrecord-SSSSS-of-NNNNN   `item` int64 [n], and columns by name
    item-feature-NAME.tsv                       of categories: value, how many have it

`user` stands for `item` in the names of what is known of users. Every dense id is in
one record. A column NAME is, by its kind:

    category   NAME int64 [sum of lengths], lines of its file; NAME_length int64 [n]
    number     NAME float32 [n], NaN where it is not known
    text       NAME bytes [n], UTF-8, empty where it is not known
    vector     NAME float32 [n * dim], zeros where it is not known; NAME_known int64 [n]

This module imports neither TensorFlow nor Beam.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from ncf_tfdata import examples, vocabulary
from ncf_tfdata.features.columns import (
  CATEGORY,
  NUMBER,
  TEXT,
  VECTOR,
  FeatureColumn,
  FeatureTable,
)


def length_name(name: str) -> str:
  """The column of a record that says how many categories each row of one has."""
  return f'{name}_length'


def known_name(name: str) -> str:
  """The column of a record that says which rows of vectors are known."""
  return f'{name}_known'


def vocabulary_name(role: str, name: str) -> str:
  """File name of a vocabulary of categories, of `role` item or user."""
  return f'{role}-feature-{name}.tsv'


@dataclasses.dataclass(frozen=True, eq=False)
class Categories:
  """A column of categories: none, one or several for each of n rows.

  Attributes:
    name: Of the column.
    values: int32 [sum of lengths], indices into `vocabulary`, row after row.
    lengths: int32 [n].
    vocabulary: Of the most frequent first.
    counts: int64 [len(vocabulary)], how many rows have each.
  """

  name: str
  values: np.ndarray
  lengths: np.ndarray
  vocabulary: tuple[str, ...]
  counts: np.ndarray

  kind = CATEGORY


@dataclasses.dataclass(frozen=True, eq=False)
class Numbers:
  """A column of numbers.

  Attributes:
    name: Of the column.
    values: float32 [n], NaN where it is not known.
    mean: Of the known values of a dataset's rows.
    stddev: The same; 0 where they are all alike.
  """

  name: str
  values: np.ndarray
  mean: float
  stddev: float

  kind = NUMBER


@dataclasses.dataclass(frozen=True, eq=False)
class Texts:
  """A column of texts.

  Attributes:
    name: Of the column.
    values: n texts in UTF-8, empty where it is not known.
  """

  name: str
  values: list[bytes]

  kind = TEXT


@dataclasses.dataclass(frozen=True, eq=False)
class Vectors:
  """A column of vectors.

  Attributes:
    name: Of the column.
    values: float32 [n, dim], zeros where it is not known.
    known: bool [n].
  """

  name: str
  values: np.ndarray
  known: np.ndarray

  kind = VECTOR


Column = Categories | Numbers | Texts | Vectors


@dataclasses.dataclass(frozen=True, eq=False)
class Features:
  """What is known of n items, or users, by dense id.

  Attributes:
    size: n.
    columns: In the order of the file that they are from.
    later: How many of them, the last ones, came after the dataset. Nothing is fitted
      on these.
  """

  size: int
  columns: tuple[Column, ...]
  later: int = 0

  def column(self, name: str) -> Column:
    """The column of a name.

    Raises:
      ValueError: There is none.
    """
    for column in self.columns:
      if column.name == name:
        return column
    names = ', '.join(column.name for column in self.columns)
    raise ValueError(f'`name` must be one of {names}. Received: {name}.')

  def fitted(self) -> Features:
    """The part that means, frequencies and places are fitted on: the dataset's own."""
    if not self.later:
      return self
    size = self.size - self.later
    return Features(size, tuple(_first(column, size) for column in self.columns))

  def extended(self, later: Features) -> Features:
    """These, and behind them items that came later, of the same columns."""
    columns = zip(self.columns, later.columns, strict=True)
    both = tuple(_both(column, other) for column, other in columns)
    return Features(self.size + later.size, both, self.later + later.size)


def _cells(column: Any) -> dict[str, Any]:
  """What of a column goes row by row, by name of the attribute."""
  names = {Categories: ('values', 'lengths'), Vectors: ('values', 'known')}
  return {name: getattr(column, name) for name in names.get(type(column), ('values',))}


def _first(column: Any, size: int) -> Column:
  """The first rows of a column."""
  cells = {name: values[:size] for name, values in _cells(column).items()}
  if isinstance(column, Categories):
    cells['values'] = column.values[: cells['lengths'].sum()]
  found: Column = dataclasses.replace(column, **cells)
  return found


def _both(column: Any, later: Any) -> Column:
  """The rows of a column, and behind them those of another of its kind."""
  cells, behind = _cells(column), _cells(later)
  found: Column = dataclasses.replace(
    column,
    **{
      name: [*values, *behind[name]]
      if isinstance(column, Texts)
      else np.concatenate([values, behind[name]])
      for name, values in cells.items()
    },
  )
  return found


def decode(
  role: str,
  table: FeatureTable,
  size: int,
  shards: Iterable[bytes],
  vocabularies: Mapping[str, bytes],
) -> Features:
  """Puts the features of a dataset together.

  Args:
    role: item or user.
    table: What the manifest says of them.
    size: Dense ids.
    shards: Content of each shard.
    vocabularies: Content of the vocabulary of each column of categories, by its name.

  Raises:
    ValueError: The shards do not hold each dense id once.
  """
  blocks = [block for shard in shards for block in examples.read(shard)]
  ids = _joined(blocks, role, np.int64)
  order = np.argsort(ids, kind='stable')
  if not np.array_equal(ids[order], np.arange(size)):
    raise ValueError(f'they do not hold each of {size:,} {role}s once')
  read: dict[str, Callable[[FeatureColumn], Column]] = {
    CATEGORY: lambda column: _categories(
      blocks, column, order, vocabularies[column.name]
    ),
    NUMBER: lambda column: _numbers(blocks, column, order),
    TEXT: lambda column: _texts(blocks, column, order),
    VECTOR: lambda column: _vectors(blocks, column, order),
  }
  return Features(size, tuple(read[column.kind](column) for column in table.columns))


def _joined(blocks: list[dict[str, Any]], name: str, kind: type) -> np.ndarray:
  return np.concatenate([np.zeros(0, kind), *(block[name] for block in blocks)])


def _categories(
  blocks: list[dict[str, Any]], column: FeatureColumn, order: np.ndarray, content: bytes
) -> Categories:
  known = vocabulary.decode(content)
  lengths = _joined(blocks, length_name(column.name), np.int64)
  values = _joined(blocks, column.name, np.int64)
  if not np.array_equal(order, np.arange(len(order))):
    start = (np.cumsum(lengths) - lengths)[order]
    lengths = lengths[order]
    shift = np.repeat(start - np.cumsum(lengths) + lengths, lengths)
    values = values[np.arange(len(values)) + shift]
  return Categories(
    column.name,
    values.astype(np.int32),
    lengths.astype(np.int32),
    known.keys,
    known.counts,
  )


def _numbers(
  blocks: list[dict[str, Any]], column: FeatureColumn, order: np.ndarray
) -> Numbers:
  values = _joined(blocks, column.name, np.float32)[order]
  return Numbers(column.name, values, column.mean or 0.0, column.stddev or 0.0)


def _texts(
  blocks: list[dict[str, Any]], column: FeatureColumn, order: np.ndarray
) -> Texts:
  values = [text for block in blocks for text in block[column.name]]
  return Texts(column.name, [values[place] for place in order.tolist()])


def _vectors(
  blocks: list[dict[str, Any]], column: FeatureColumn, order: np.ndarray
) -> Vectors:
  known = _joined(blocks, known_name(column.name), np.int64).astype(bool)
  values = _joined(blocks, column.name, np.float32)
  return Vectors(
    column.name, values.reshape(len(order), column.dim or 0)[order], known[order]
  )
