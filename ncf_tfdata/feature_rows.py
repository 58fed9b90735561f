"""Rows of a file of features, block by block, and the rows that are none.

This module imports neither TensorFlow nor Beam.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gzip
import zlib
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from ncf_tfdata import feature_text, feature_values
from ncf_tfdata.errors import UserError
from ncf_tfdata.feature_columns import FeatureColumn

PARQUET = 'parquet'  # beside the formats of text
_PARQUET_MAGIC = b'PAR1'
_BLOCK_ROWS = 1 << 16  # of Parquet
_HEAD_ROWS = 10_000  # that tell kinds
_MAX_LINE = 1000  # characters of a bad row that are kept


@dataclasses.dataclass(frozen=True)
class Layout:
  """How to read a file of features.

  Attributes:
    format: `PARQUET`, or one of `feature_text`.
    role: item or user: whose features they are.
    key: Name of the key's column.
    columns: What is read of each row beside its key.
    places: Name that Arrow gives the key's column, and each of `columns`.
    width: Columns of the file.
    has_header: Whether the first row names them.
    encoding: Of text.
    left_out: Names of columns of no kind.
  """

  format: str
  role: str
  key: str
  columns: tuple[FeatureColumn, ...]
  places: tuple[str, ...]
  width: int
  has_header: bool
  encoding: str = 'utf-8'
  left_out: tuple[str, ...] = ()

  @property
  def positions(self) -> tuple[str, ...]:
    """What each column of a file without a header is; of another, nothing."""
    if self.has_header:
      return ()
    key, *places = self.places
    named = {
      place: f'{column.name}:{column.kind}'
      for place, column in zip(places, self.columns, strict=True)
    }
    named[key] = self.key
    return tuple(named.get(f'f{place}', '_') for place in range(self.width))

  def __str__(self) -> str:
    columns = ', '.join(
      f'{column.name} {column.kind}' + (f' of {column.dim}' if column.dim else '')
      for column in self.columns
    )
    text = f'{self.format}, {self.role}={self.key}: {columns}'
    if self.left_out:
      text += f'; left out, for no kind fits: {", ".join(self.left_out)}'
    return text


@dataclasses.dataclass(frozen=True, eq=False)
class Head:
  """The beginning of a file.

  Attributes:
    format: Of the file.
    names: Names that Arrow gives the columns; of Parquet their own.
    first: The fields of the first line; of Parquet none.
    columns: The cells of each column, without those of the first line.
  """

  format: str
  names: tuple[str, ...]
  first: list[str]
  columns: tuple[pa.Array, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class Rows:
  """Rows of a block: n good ones, and the m others.

  Attributes:
    number: int64 [n], the place of each row in the file, from 1; a header counts.
    keys: String array [n].
    values: An array [n] for each column; see `feature_values`.
    bad: m places of rows that are none.
    reasons: m texts, what is wrong with each.
    lines: m texts; of long rows the beginning.
  """

  number: np.ndarray
  keys: pa.Array
  values: tuple[pa.Array, ...]
  bad: list[int]
  reasons: list[str]
  lines: list[str]


def splits(file_format: str) -> bool:
  """Whether a cell of a format may hold several categories; Parquet has lists."""
  return file_format != PARQUET


def head(stream: BinaryIO, path: str, encoding: str) -> Head:
  """Reads the beginning of a file.

  Args:
    stream: The file, seekable.
    path: Its name, for errors.
    encoding: Of text.

  Raises:
    UserError: It is blank, damaged, or of no format that is known.
  """
  with _told(path):
    if feature_text.begins_with(stream, _PARQUET_MAGIC):
      return _parquet_head(stream)
    file_format, width = feature_text.find_format(stream, path)
    names = tuple(f'f{place}' for place in range(width))
    for table, _ in feature_text.tables(
      stream, file_format, encoding, names, all_of=False
    ):
      table = table.slice(0, _HEAD_ROWS)
      columns = tuple(feature_text.strings(column) for column in table.columns)
      first = [column[0].as_py() or '' for column in columns]
      rest = tuple(column[1:] for column in columns)
      return Head(file_format, tuple(table.schema.names), first, rest)
  raise UserError(f'{path} holds no line that is not blank, expected features.')


def read(stream: BinaryIO, path: str, layout: Layout) -> Iterator[Rows]:
  """Reads a file, block by block.

  Args:
    stream: The file, seekable.
    path: Its name, for errors.
    layout: How to.

  Raises:
    UserError: It is damaged, or not of that layout.
  """
  with _told(path):
    is_parquet = feature_text.begins_with(stream, _PARQUET_MAGIC)
    if is_parquet != (layout.format == PARQUET):
      raise UserError(f'{path} changed while it was read. Run again.')
    if is_parquet:
      yield from _parquet_rows(stream, path, layout)
    else:
      yield from _text_rows(stream, path, layout)


def take(rows: Rows, places: np.ndarray) -> Rows:
  """Some of the good rows, at places int [k], and all others."""
  at = pa.array(places)
  return dataclasses.replace(
    rows,
    number=rows.number[places],
    keys=rows.keys.take(at),
    values=tuple(value.take(at) for value in rows.values),
  )


@contextlib.contextmanager
def _told(path: str) -> Iterator[None]:
  """Has what goes wrong within a file told as a user's error."""
  try:
    yield
  except (pa.ArrowException, EOFError, zlib.error, gzip.BadGzipFile) as error:
    reason = str(error).partition('\n')[0]
    if 'straddling' in reason or 'out of sync' in reason:
      reason = 'a row of more than 16 MiB: is a quote not closed?'
    raise UserError(f'cannot read {path} to its end: {reason}') from error


def _text_rows(stream: BinaryIO, path: str, layout: Layout) -> Iterator[Rows]:
  blocks = feature_text.tables(stream, layout.format, layout.encoding, layout.places)
  rows, told = 0, 0  # Numbered, of either kind; and rows of another width told so far.
  is_first = layout.has_header
  invalid: list[pa_csv.InvalidRow] = []
  for table, invalid in blocks:
    # The reader looks ahead, and so tells of every one that comes before a good row.
    wrong = np.array([row.number for row in invalid], np.int64)
    number, rows = feature_text.numbered(len(table), rows, wrong)
    if is_first:
      table, number, is_first = table.slice(1), number[1:], False
    cells = [feature_text.strings(table[place]) for place in layout.places]
    yield _rows(layout, number, cells, _odd(invalid[told:]))
    told = len(invalid)
  if told < len(invalid):
    nothing = [pa.array([], pa.string())] * len(layout.places)
    yield _rows(layout, np.zeros(0, np.int64), nothing, _odd(invalid[told:]))


class _Bad(NamedTuple):
  """Rows that are none: the place of each, why, and the row; a list [m] each."""

  number: list[int]
  reasons: list[str]
  lines: list[str]


def _odd(rows: list[pa_csv.InvalidRow]) -> _Bad:
  """Rows of another width."""
  return _Bad(
    [row.number for row in rows],
    [f'expected {r.expected_columns} fields, found {r.actual_columns}' for r in rows],
    [row.text.replace(feature_text.UNIT_SEPARATOR, '::')[:_MAX_LINE] for row in rows],
  )


def _parquet_head(stream: BinaryIO) -> Head:
  file = pq.ParquetFile(stream)
  names = tuple(file.schema_arrow.names)
  columns: tuple[pa.Array, ...] = tuple(
    pa.array([], kind) for kind in file.schema_arrow.types
  )
  for batch in file.iter_batches(_HEAD_ROWS):
    columns = tuple(batch.columns)
    break
  return Head(PARQUET, names, [], columns)


def _parquet_rows(stream: BinaryIO, path: str, layout: Layout) -> Iterator[Rows]:
  row = 0
  file = pq.ParquetFile(stream)
  for batch in file.iter_batches(
    _BLOCK_ROWS, columns=list(dict.fromkeys(layout.places))
  ):
    number = row + 1 + np.arange(batch.num_rows)
    row += batch.num_rows
    cells = [batch.column(place) for place in layout.places]
    try:
      yield _rows(layout, number, cells, _Bad([], [], []))
    except pa.ArrowNotImplementedError as error:
      raise UserError(f'{path}: a column cannot be read: {error}.') from error


def _rows(
  layout: Layout, number: np.ndarray, cells: list[pa.Array], others: _Bad
) -> Rows:
  """Rows whose values are what they are to be, and all others.

  Args:
    layout: Of the file.
    number: int64 [n], places of rows.
    cells: Of the key, and of each column: [n] each; null for text that is not UTF-8.
    others: Rows that are no good already.
  """
  is_text = layout.format != PARQUET
  faults = np.full(len(number), '', object)
  key = cells[0] if is_text else _as_keys(cells[0])
  missing = 'not UTF-8' if is_text else 'missing'
  _tell(faults, key.is_null(), f'{layout.role} is {missing}')
  _tell(faults, pc.equal(key, '').fill_null(False), f'empty {layout.role}')
  values = []
  for column, mine in zip(layout.columns, cells[1:], strict=True):
    if is_text:
      _tell(faults, mine.is_null(), f'{column.name} is not UTF-8')
    value, bad = feature_values.convert(column, mine, splits(layout.format))
    values.append(value)
    for place in np.flatnonzero(bad & (faults == '')).tolist():
      faults[place] = feature_values.fault(column, mine[place])
  bad_rows = np.flatnonzero(faults != '')
  if not len(bad_rows):
    return Rows(number, key, tuple(values), *others)
  names = [layout.role, *(column.name for column in layout.columns)]
  shown = pa.table(cells, names).take(pa.array(bad_rows)).to_pylist()
  rest = _Bad(
    others.number + number[bad_rows].tolist(),
    others.reasons + faults[bad_rows].tolist(),
    others.lines + [str(row)[:_MAX_LINE] for row in shown],
  )
  order = sorted(range(len(rest.number)), key=rest.number.__getitem__)
  good = pa.array(np.flatnonzero(faults == ''))
  return Rows(
    number=number[faults == ''],
    keys=key.take(good),
    values=tuple(value.take(good) for value in values),
    bad=[rest.number[place] for place in order],
    reasons=[rest.reasons[place] for place in order],
    lines=[rest.lines[place] for place in order],
  )


def _tell(faults: np.ndarray, rows: pa.Array, fault: str) -> None:
  """Says what is wrong with some rows, where nothing is yet."""
  faults[rows.to_numpy(zero_copy_only=False) & (faults == '')] = fault


def _as_keys(cells: pa.Array) -> pa.Array:
  if pa.types.is_dictionary(cells.type):
    cells = cells.dictionary_decode()
  return cells.cast(pa.string())
