"""Ratings parsed in blocks of columns, and the lines that are not ratings."""

import dataclasses
import math
import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from beam_pipelines import files
from beam_pipelines import schema as schemas
from beam_pipelines.schema import ITEM, RATING, ROLES, TIMESTAMP, USER, Schema
from ncf_tfdata.errors import UserError

_KEY = pa.dictionary(pa.int32(), pa.string())
# Stands in for a delimiter of two characters, which pyarrow does not take.
_UNIT_SEPARATOR = b'\x1f'
# Beyond it lies the last fraction of int64, where the two parsers could differ.
_MAX_TIMESTAMP = 92 * 10**17
_RATING = r'[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?'
_TIMESTAMP = r'-?0*([0-9]{1,18}|[0-8][0-9]{18}|9[01][0-9]{17})'
_ASCII = bytes(min(byte, 127) for byte in range(256))
# A CSV line on which every quote that opens a field closes it too.
_CELL = rb'(?:"(?:[^"]|"")*+"[^,]*+|[^",][^,]*+|)'
_QUOTED_LINE = re.compile(rb'%s(?:,%s)*+' % (_CELL, _CELL))
_MAX_LINE = 1000  # characters of a rejected line that are kept


@dataclasses.dataclass(frozen=True)
class Reject:
  """A line that is not a rating: its byte offset (Parquet: row), and why."""

  offset: int
  reason: str
  line: str


@dataclasses.dataclass(frozen=True)
class Ratings:
  """A block of n ratings in file order.

  Attributes:
    offset: Byte offset (Parquet: row number) of the block in its file.
    user: Dictionary array [n] of strings.
    item: Dictionary array [n] of strings.
    rating: float64 [n]; None where the log has no ratings.
    timestamp: int64 [n]; None where the log has no timestamps.
    rejects: What was left out of the block, in file order.
  """

  offset: int
  user: pa.DictionaryArray
  item: pa.DictionaryArray
  rating: np.ndarray | None
  timestamp: np.ndarray | None
  rejects: list[Reject]

  def __len__(self) -> int:
    return len(self.user)


class BadBlockError(Exception):
  """Some line of a block is not a rating."""


def read(reader: files.RangeReader, schema: Schema) -> Iterator[Ratings]:
  """Parses the ratings of one range, block by block, in file order.

  Raises:
    UserError: The file is not of the schema.
  """
  is_parquet = reader.range.kind == files.PARQUET
  if is_parquet != (schema.format == schemas.PARQUET):
    raise UserError(
      f'{reader.range.path} is {"a" if is_parquet else "no"} Parquet file, unlike '
      'the first file of the input. Name files of one format with --input.'
    )
  if schema.format == schemas.PARQUET:
    names = dict(schema.names)
    for offset, table in reader.tables(list(names.values())):
      rows = table.select([names[role] for role in schema.roles])
      rows = rows.rename_columns(list(schema.roles))
      yield _from_parquet(reader.range.path, offset, rows)
    return
  # A file of blank lines has no header to look into.
  blocks = (pair for pair in reader.lines() if pair[1].strip(b'\r\n'))
  skip_header = schema.columns is None and not reader.range.start
  parser = None
  for offset, block in blocks:
    if skip_header:
      blank = len(block) - len(block.lstrip(b'\r\n'))
      header = block.find(b'\n', blank) + 1 or len(block)
      offset, block = offset + header, block[header:]
      skip_header = False
    parser = parser or _TextParser(schema, *schema.positions(reader.range.path))
    yield _from_text(offset, block, parser)


def _from_text(offset: int, block: bytes, parser: '_TextParser') -> Ratings:
  try:
    columns = parser.parse_clean(block)
    rejects: list[Reject] = []
  except (pa.ArrowInvalid, BadBlockError):
    columns, rejects = parser.parse_and_reject(offset, block)
  return _ratings(offset, columns, rejects)


def _ratings(
  offset: int, columns: dict[str, pa.Array], rejects: list[Reject]
) -> Ratings:
  def numbers(role: str) -> np.ndarray | None:
    return columns[role].to_numpy(zero_copy_only=False) if role in columns else None

  return Ratings(
    offset, columns[USER], columns[ITEM], numbers(RATING), numbers(TIMESTAMP), rejects
  )


class _TextParser:
  """Parses blocks of delimited lines; quick where all are right, exact where not."""

  def __init__(self, schema: Schema, positions: dict[str, int], width: int):
    self._positions = positions
    self._width = width
    self._delimiter = schema.delimiter.encode()
    self._quote = '"' if schema.format == schemas.CSV else False
    self._stamp = schema.iso_timestamps or pa.int64()

  def _read(
    self,
    block: bytes,
    types: dict[str, pa.DataType],
    on_bad_width: Callable[[Any], str] | None = None,
  ) -> dict[str, pa.Array]:
    if len(self._delimiter) > 1:
      if _UNIT_SEPARATOR in block:
        # It never stands in a real log; as a field of its own it is refused.
        block = block.replace(_UNIT_SEPARATOR, _UNIT_SEPARATOR * 2)
      block = block.replace(self._delimiter, _UNIT_SEPARATOR)
    if block.startswith(files.BOM):
      block = b'\n' + block  # pyarrow would drop it, here in mid-file
    names = [str(position) for position in range(self._width)]
    include = {str(self._positions[role]): types[role] for role in self._positions}
    if not block.strip(b'\r\n'):
      return {role: pa.array([], types[role]) for role in self._positions}
    table = pa_csv.read_csv(
      pa.BufferReader(block),
      read_options=pa_csv.ReadOptions(
        column_names=names, use_threads=False, block_size=len(block) + 1
      ),
      parse_options=pa_csv.ParseOptions(
        delimiter=(_UNIT_SEPARATOR if len(self._delimiter) > 1 else self._delimiter),
        quote_char=self._quote,
        invalid_row_handler=on_bad_width,
      ),
      convert_options=pa_csv.ConvertOptions(
        include_columns=list(include),
        column_types=include,
        null_values=[],
        strings_can_be_null=False,
      ),
    )
    return {
      role: table[str(position)].combine_chunks()
      for role, position in self._positions.items()
    }

  def parse_clean(self, block: bytes) -> dict[str, pa.Array]:
    """Columns of a block without a bad line; raises at the first sign of one."""
    if block.count(b'\r') != block.count(b'\r\n'):
      raise BadBlockError  # pyarrow ends a line at a lone carriage return
    if TIMESTAMP in self._positions and (b'0x' in block or b'0X' in block):
      raise BadBlockError  # pyarrow takes hexadecimal for whole numbers
    types = {USER: _KEY, ITEM: _KEY, RATING: pa.float64(), TIMESTAMP: self._stamp}
    columns = self._read(block, types)
    lines = block.count(b'\n') + (not block.endswith(b'\n'))
    if self._quote and b'"' in block and len(columns[USER]) != lines:
      raise BadBlockError  # an open quote makes one row of several lines
    for role in (USER, ITEM):
      if pc.any(pc.equal(columns[role].dictionary, '')).as_py():
        raise BadBlockError
    if (
      RATING in columns
      and not pc.all(pc.is_finite(columns[RATING]), min_count=0).as_py()
    ):
      raise BadBlockError
    if TIMESTAMP in columns:
      columns[TIMESTAMP] = columns[TIMESTAMP].cast(pa.int64())
      stamps = columns[TIMESTAMP].to_numpy()
      if (
        len(stamps)
        and not -_MAX_TIMESTAMP < stamps.min() <= stamps.max() < _MAX_TIMESTAMP
      ):
        raise BadBlockError
    return columns

  def parse_and_reject(
    self, offset: int, block: bytes
  ) -> tuple[dict[str, pa.Array], list[Reject]]:
    """Columns of the good lines of a block, and the rejects."""
    content = np.frombuffer(block, np.uint8)
    ends = np.flatnonzero(content == ord('\n'))
    if not block.endswith(b'\n'):
      ends = np.append(ends, len(block))
    starts = np.concatenate([[0], ends[:-1] + 1])
    blank = (ends == starts) | ((ends == starts + 1) & (content[starts] == ord('\r')))
    starts, ends = starts[~blank], ends[~blank]
    reasons = self._broken_lines(block, content, starts, ends)
    whole = np.setdiff1d(np.arange(len(starts)), list(reasons))

    def skip(row: Any) -> str:
      found = row.actual_columns
      line = int(whole[row.number - 1])
      reasons[line] = f'expected {self._width} fields, found {found}'
      return 'skip'

    def without_rejects() -> bytes:
      kept, at = [], 0
      for line in sorted(reasons):
        kept.append(block[at : starts[line]])
        at = int(ends[line]) + 1
      return b''.join([*kept, block[at:]])

    types = dict.fromkeys(ROLES, pa.binary())
    # pyarrow tells the handler of a bad width only where the line is UTF-8.
    self._read(without_rejects().translate(_ASCII), types, skip)
    raw = self._read(without_rejects(), types)
    line_of_row = np.setdiff1d(whole, list(reasons))
    good = np.ones(len(line_of_row), bool)
    for role, column in raw.items():
      why = self._faults(role, column)
      for row in np.flatnonzero(good & (why != '')):
        reasons[int(line_of_row[row])] = why[row]
      good &= why == ''
    columns = {
      role: self._typed(role, column.filter(pa.array(good)))
      for role, column in raw.items()
    }
    rejects = [
      Reject(
        offset + int(starts[line]),
        reasons[line],
        _shown(block[starts[line] : ends[line]]),
      )
      for line in sorted(reasons)
    ]
    return columns, rejects

  def _broken_lines(
    self, block: bytes, content: np.ndarray, starts: np.ndarray, ends: np.ndarray
  ) -> dict[int, str]:
    """Lines that pyarrow would not see as one line each, and why."""

    def lines_of(places: np.ndarray) -> Any:
      return np.unique(np.searchsorted(starts, places, side='right') - 1).tolist()

    reasons = {}
    if self._quote:
      for line in lines_of(np.flatnonzero(content == ord('"'))):
        if not _QUOTED_LINE.fullmatch(block, starts[line], ends[line]):
          reasons[line] = 'a quote is not closed on its line'
    lone = np.flatnonzero((content[:-1] == ord('\r')) & (content[1:] != ord('\n')))
    for line in lines_of(lone):
      reasons[line] = 'a carriage return within the line'
    return reasons

  def _faults(self, role: str, column: pa.BinaryArray) -> np.ndarray:
    """Why each cell is not what its role needs; '' where it is: object [n]."""
    encoded = column.dictionary_encode()
    values = encoded.dictionary.to_pylist()  # distinct ones only
    if role in (USER, ITEM):
      faults = [_key_fault(role, value) for value in values]
    else:
      faults = [self._number_fault(role, value) for value in values]
    return np.array([*faults, ''], object)[encoded.indices.to_numpy()]

  def _number_fault(self, role: str, value: bytes) -> str:
    text = value.decode(errors='replace').strip(schemas.BLANKS)
    if role == TIMESTAMP and self._stamp != pa.int64():
      what, fits = 'an ISO 8601 timestamp', schemas.iso_type(text) == self._stamp
    elif role == TIMESTAMP:
      what, fits = 'a whole number', re.fullmatch(_TIMESTAMP, text) is not None
    else:
      what = 'a number'
      fits = re.fullmatch(_RATING, text) is not None and math.isfinite(float(text))
    return '' if fits else f'{role} {text[:80]!r} is not {what}'

  def _typed(self, role: str, column: pa.BinaryArray) -> pa.Array:
    text = column.cast(pa.string())
    if role in (USER, ITEM):
      return _dictionary(text)
    kind = pa.float64() if role == RATING else self._stamp
    number = pc.utf8_trim(text, schemas.BLANKS).cast(kind)
    return number.cast(pa.int64()) if role == TIMESTAMP else number


def _key_fault(role: str, value: bytes) -> str:
  try:
    return '' if value.decode() else f'empty {role}'
  except UnicodeDecodeError:
    return f'{role} is not UTF-8'


def _shown(line: bytes) -> str:
  return line.rstrip(b'\r').decode(errors='backslashreplace')[:_MAX_LINE]


def _dictionary(text: pa.Array) -> pa.DictionaryArray:
  return text.cast(pa.string()).dictionary_encode()


def _from_parquet(path: str, offset: int, table: pa.Table) -> Ratings:
  """Rows of a Parquet file; a null, an empty key or a NaN is a reject."""
  good = np.ones(len(table), bool)
  reasons = np.full(len(table), '', object)
  columns = {}
  for role in table.column_names:
    given = table[role].combine_chunks()
    try:
      column = _converted(role, given)
    except pa.ArrowNotImplementedError as error:
      raise UserError(
        f'{path}: the {role} column is of type {given.type}, expected '
        f'{"strings or integers" if role in (USER, ITEM) else "numbers"}.'
      ) from error
    missing, fits = given.is_null(), column.is_valid()
    if role in (USER, ITEM):
      missing = pc.or_(missing, pc.equal(column, '').fill_null(False))
    elif role == RATING:
      fits = pc.and_(fits, pc.is_finite(column).fill_null(False))
    for fault, rows in (('missing', missing), ('not valid', pc.invert(fits))):
      bad = rows.to_numpy(zero_copy_only=False) & good
      reasons[bad] = f'{role} is {fault}'
      good &= ~bad
    columns[role] = column
  lines = table.filter(pa.array(~good)).to_pylist()
  rejects = [
    Reject(offset + int(row), reasons[row], str(line)[:_MAX_LINE])
    for row, line in zip(np.flatnonzero(~good), lines, strict=True)
  ]
  columns = {role: column.filter(pa.array(good)) for role, column in columns.items()}
  for role in (USER, ITEM):
    columns[role] = _dictionary(columns[role])
  return _ratings(offset, columns, rejects)


def _converted(role: str, column: pa.Array) -> pa.Array:
  """A column of any Arrow type in the type of its role, null where it does not fit."""
  if pa.types.is_dictionary(column.type):
    column = column.dictionary_decode()
  if role in (USER, ITEM):
    return _cast(column, pa.string())
  if role == RATING:
    return _cast(column, pa.float64())
  if pa.types.is_floating(column.type):
    column = pc.if_else(pc.is_finite(column), pc.floor(column), None)
  elif pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
    first = next((value for value in column.to_pylist() if value), '0')
    column = _cast(column, schemas.iso_type(first) or pa.int64())
  if pa.types.is_date(column.type):
    column = column.cast(pa.timestamp('ms'))
  return _cast(column, pa.int64())


def _cast(column: pa.Array, kind: pa.DataType) -> pa.Array:
  """Casts cell by cell where some cell does not fit, which becomes null."""

  def cell(value: pa.Scalar) -> Any:
    try:
      return value.cast(kind).as_py()
    except (pa.ArrowInvalid, UnicodeDecodeError):
      return None

  try:
    return column.cast(kind)
  except pa.ArrowInvalid:
    return pa.array([cell(value) for value in column], kind)
