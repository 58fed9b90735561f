"""Cells of a file of features as values of a kind, and which kind they are of.

Values are Arrow arrays without nulls: of categories lists of strings, none where it is
not known; of numbers float32, NaN where it is not known; of texts strings, which may be
empty; of vectors lists of float32, empty where it is not known.

This module imports neither TensorFlow nor Beam.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ncf_tfdata.feature_columns import (
  CATEGORY,
  NUMBER,
  TEXT,
  VECTOR,
  FeatureColumn,
)

SEPARATOR = '|'  # between categories of one cell of a text file
# A longer cell is taken for one whose quote was never closed.
MAX_TEXT = 65_536
_NUMBER = r'[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?'
_IS_NUMBER = f'^{_NUMBER}$'
_IS_VECTOR = rf'^\[?\s*{_NUMBER}([\s,]+{_NUMBER})+\s*\]?$'
_NOT_KNOWN = r'^(?i)nan$'
_SHOWN = 80  # characters of a bad cell
# Categories are words that come again: on average so often at least.
_REPEATS = 2


def find(name: str, cells: pa.Array, splits: bool) -> FeatureColumn | None:
  """Finds out what a column holds.

  Args:
    name: Of the column.
    cells: Some of its cells: of a text file, strings.
    splits: Whether a cell may hold several categories, as in a text file.

  Returns:
    The column, of vectors with their `dim`; None where no kind fits, or no cell is
    known.
  """
  cells = _plain(cells)
  kind = _kind_of_type(cells.type)
  if kind is None and _is_text(cells.type):
    kind = _kind_of_texts(cells, splits)
  if kind == VECTOR:
    return with_dim(FeatureColumn(name, VECTOR), cells)
  return None if kind is None else FeatureColumn(name, kind)


def with_dim(column: FeatureColumn, cells: pa.Array) -> FeatureColumn | None:
  """A column of vectors as long as the first that is known; None where none is."""
  lengths, _ = _lists(_plain(cells))
  known = lengths[lengths > 0]
  return FeatureColumn(column.name, VECTOR, dim=int(known[0])) if len(known) else None


def _kind_of_type(kind: pa.DataType) -> str | None:
  if _is_list(kind):
    return VECTOR if pa.types.is_floating(kind.value_type) else CATEGORY
  if _is_number(kind):
    return NUMBER
  return None


def _kind_of_texts(cells: pa.Array, splits: bool) -> str | None:
  trimmed = pc.utf8_trim_whitespace(cells.cast(pa.string()).drop_null())
  known = trimmed.filter(pc.not_equal(trimmed, ''))
  if not len(known):
    return None
  if pc.all(pc.match_substring_regex(known, f'{_IS_NUMBER}|{_NOT_KNOWN}')).as_py():
    return NUMBER
  if pc.all(pc.match_substring_regex(known, _IS_VECTOR)).as_py():
    return VECTOR
  values = _categories(known, splits).flatten()
  return CATEGORY if len(values) >= _REPEATS * len(values.unique()) else TEXT


def convert(
  column: FeatureColumn, cells: pa.Array, splits: bool
) -> tuple[pa.Array, np.ndarray]:
  """Turns cells into values of a column's kind.

  Args:
    column: What they are to be.
    cells: [n]; of a text file, strings.
    splits: Whether a cell may hold several categories.

  Returns:
    The values [n], and which cells are none: bool [n].

  Raises:
    pa.ArrowNotImplementedError: Cells of this type are never of that kind.
  """
  cells = _plain(cells)
  if column.kind == CATEGORY:
    return _categories(cells, splits), np.zeros(len(cells), bool)
  if column.kind == NUMBER:
    return _numbers(cells)
  if column.kind == TEXT:
    texts = cells.cast(pa.string()).fill_null('')
    return texts, _numpy(pc.greater(pc.binary_length(texts), MAX_TEXT))
  return _vectors(cells, column.dim or 0)


def fault(column: FeatureColumn, cell: pa.Scalar) -> str:
  """Says what is wrong with a cell that is no value of its column."""
  what = {
    NUMBER: 'a number',
    TEXT: f'a text of up to {MAX_TEXT:,} bytes: is a quote not closed?',
    VECTOR: f'a vector of {column.dim} numbers',
  }[column.kind]
  return f'{column.name} {str(cell.as_py())[:_SHOWN]!r} is not {what}'


def _plain(cells: pa.Array) -> pa.Array:
  """Cells without a dictionary, and strings with small offsets."""
  if pa.types.is_dictionary(cells.type):
    cells = cells.dictionary_decode()
  if pa.types.is_large_string(cells.type) or pa.types.is_string_view(cells.type):
    cells = cells.cast(pa.string())
  return cells


def _is_text(kind: pa.DataType) -> bool:
  return pa.types.is_string(kind)


def _is_number(kind: pa.DataType) -> bool:
  types = pa.types
  return (
    types.is_integer(kind)
    or types.is_floating(kind)
    or types.is_decimal(kind)
    or types.is_boolean(kind)
  )


def _is_list(kind: pa.DataType) -> bool:
  types = pa.types
  return (
    types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
  )


def _numpy(values: pa.Array) -> np.ndarray:
  return values.to_numpy(zero_copy_only=False)


def _lists(cells: pa.Array) -> tuple[np.ndarray, pa.Array]:
  """The length of each list, 0 of what is null, int64 [n]; and what they hold."""
  if _is_text(cells.type):
    bare = pc.replace_substring_regex(cells.fill_null(''), r'^[\s\[]+|[\s\]]+$', '')
    cells = pc.split_pattern_regex(bare, r'[\s,]+')
    lengths = _numpy(pc.list_value_length(cells)).astype(np.int64)
    # What is empty is split into one empty part.
    empty = _numpy(pc.equal(bare, ''))
    return np.where(empty, 0, lengths), cells.flatten().filter(
      pa.array(np.repeat(~empty, lengths))
    )
  if not _is_list(cells.type):
    raise pa.ArrowNotImplementedError(f'{cells.type} is no list')
  cells = cells.cast(pa.large_list(cells.type.value_type))
  lengths = _numpy(pc.list_value_length(cells).fill_null(0)).astype(np.int64)
  return lengths, cells.flatten()


def _lists_of(lengths: np.ndarray, values: pa.Array) -> pa.Array:
  offsets = np.append(0, np.cumsum(lengths)).astype(np.int32)
  return pa.ListArray.from_arrays(pa.array(offsets), values)


def _categories(cells: pa.Array, splits: bool) -> pa.Array:
  """The categories of each cell, each once, in the order of the cell."""
  size = len(cells)
  if _is_list(cells.type):
    lengths, values = _lists(cells)
  elif splits:
    parts = pc.split_pattern(cells.cast(pa.string()).fill_null(''), SEPARATOR)
    lengths = _numpy(pc.list_value_length(parts)).astype(np.int64)
    values = parts.flatten()
  else:
    lengths, values = np.ones(size, np.int64), cells
  values = pc.utf8_trim_whitespace(values.cast(pa.string()).fill_null(''))
  row = np.repeat(np.arange(size), lengths)
  known = np.flatnonzero(_numpy(pc.not_equal(values, '')))
  encoded = values.take(pa.array(known)).dictionary_encode()
  pairs = row[known] * max(len(encoded.dictionary), 1) + encoded.indices.to_numpy()
  first = np.sort(np.unique(pairs, return_index=True)[1])
  chosen = known[first]
  return _lists_of(
    np.bincount(row[chosen], minlength=size), values.take(pa.array(chosen))
  )


def _numbers(cells: pa.Array) -> tuple[pa.Array, np.ndarray]:
  number, bad = _floats(cells)
  return pa.array(number), bad


def _floats(cells: pa.Array) -> tuple[np.ndarray, np.ndarray]:
  """Cells as float32, NaN where it is not known; and which are no number: bool [n]."""
  unknown = np.zeros(len(cells), bool)
  if _is_text(cells.type):
    text = pc.utf8_trim_whitespace(cells.fill_null(''))
    shaped = pc.match_substring_regex(text, _IS_NUMBER)
    not_known = pc.or_(pc.equal(text, ''), pc.match_substring_regex(text, _NOT_KNOWN))
    unknown = ~_numpy(shaped) & ~_numpy(not_known)
    cells = pc.if_else(shaped, text, None)
  elif not _is_number(cells.type):
    raise pa.ArrowNotImplementedError(f'{cells.type} is no number')
  # Null, and NaN, are what is not known. A number may be beyond what float32 holds.
  number = _numpy(cells.cast(pa.float64(), safe=False)).astype(np.float64)
  with np.errstate(over='ignore'):
    narrow = number.astype(np.float32)
  return narrow, unknown | np.isinf(narrow)


def _vectors(cells: pa.Array, dim: int) -> tuple[pa.Array, np.ndarray]:
  lengths, values = _lists(cells)
  numbers, bad_number = _floats(values)
  row = np.repeat(np.arange(len(cells)), lengths)
  bad = (lengths > 0) & (lengths != dim)
  # Within a vector every number is known.
  bad[row[bad_number | np.isnan(numbers)]] = True
  good = np.where(bad, 0, lengths)
  return _lists_of(good, pa.array(numbers[~bad[row]])), bad
