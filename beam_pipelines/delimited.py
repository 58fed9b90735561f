"""Blocks of delimited lines: quick where all are right, exact where some are not."""

import itertools
import math
import re

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from beam_pipelines import quotes, row_groups
from beam_pipelines import rejects as rejects_lib
from beam_pipelines import schema as schemas
from beam_pipelines.files import BOM
from beam_pipelines.range_reader import Block
from beam_pipelines.rejects import Rejects
from beam_pipelines.schema import ITEM, RATING, ROLES, TIMESTAMP, USER, Schema

Columns = dict[str, pa.Array]
_KEY = pa.dictionary(pa.int32(), pa.string())
# Stands in for a delimiter of two characters, which pyarrow does not take.
_UNIT_SEPARATOR = b'\x1f'
_HEAD_BYTES = 256 << 10  # of a block, in which frequent bad lines are found
# Beyond it lies the last fraction of int64, where the two parsers could differ.
_MAX_TIMESTAMP = 92 * 10**17
_MAX_DIGITS = 18  # that an int64 holds for certain, and a float64 by far
_RATING = r'[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?'
_TIMESTAMP = r'-?0*([0-9]{1,18}|[0-8][0-9]{18}|9[01][0-9]{17})'
# What every ISO 8601 timestamp that `schema.iso_type` knows looks like, and others.
_ISO = r'[0-9]{4}-[0-9]{2}-[0-9]{2}([ T][0-9:.]+(Z|[+-][0-9:]+)?)?'


def margin(schema: Schema) -> int:
  """Tells how many bytes before and after a block decide about its lines."""
  return quotes.MARGIN if schema.format == schemas.CSV else 0


class BadBlockError(Exception):
  """Some line of a block is not a rating."""


_BAD_BLOCK = (pa.ArrowInvalid, BadBlockError)


class Parser:
  """Parses blocks of the lines of one file."""

  def __init__(self, schema: Schema, path: str):
    """Takes the log's schema, and the path of a file whose header is looked into.

    Raises:
      UserError: The file's header lacks a column.
    """
    self._positions, self._width = schema.positions(path)
    self._delimiter = schema.delimiter.encode()
    self._separator = self._delimiter if len(self._delimiter) == 1 else _UNIT_SEPARATOR
    self._has_quotes = schema.format == schemas.CSV
    self._stamp = schema.iso_timestamps or pa.int64()

  def parse(self, block: Block) -> tuple[Columns, Rejects]:
    """The good lines of a block, a column a role, and the rest."""
    try:
      if self._is_reached(block):
        raise BadBlockError
      return self._parse_quickly(block.lines), Rejects.none()
    except _BAD_BLOCK:
      return self.parse_and_reject(block, self._separated(block.lines))

  def _parse_quickly(self, lines: bytes) -> Columns:
    """Columns of lines that are all good; raises where one is bad."""
    if self._separator == self._delimiter:
      return self._parse_head_first(lines)
    if self._holds_separator(lines):
      raise BadBlockError
    try:
      return self._parse_head_first(lines, doubled=True)
    except _BAD_BLOCK:
      # A key may hold one character of the two.
      return self._parse_head_first(self._separated(lines))

  def _parse_head_first(self, lines: bytes, doubled: bool = False) -> Columns:
    # Where bad lines are frequent, it need not be parsed to its end to find one.
    self.parse_clean(lines[: lines.rfind(b'\n', 0, _HEAD_BYTES) + 1], doubled)
    return self.parse_clean(lines, doubled)

  def _holds_separator(self, lines: bytes) -> bool:
    """Whether lines hold what is put in the place of a delimiter."""
    return self._separator != self._delimiter and self._separator in lines

  def _separated(self, lines: bytes) -> bytes:
    """Lines with a delimiter of one byte."""
    if self._separator != self._delimiter:
      return lines.replace(self._delimiter, self._separator)
    return lines

  def _is_reached(self, block: Block) -> bool:
    """Whether a quoted field goes on in a block that began before it."""
    if b'"' not in block.before:
      return False
    cut = block.lines.find(b'\n', quotes.REACH) + 1 or len(block.lines)
    after = (block.lines[cut : cut + quotes.MARGIN] + block.after)[: quotes.MARGIN]
    near = Block(block.offset, block.lines[:cut], block.before, after)
    return bool(quotes.find(near, self._width).covered.any())

  def _read(
    self, lines: bytes, types: dict[str, pa.DataType], doubled: bool = False
  ) -> Columns:
    """Columns of separated lines of which pyarrow makes a row each.

    A doubled delimiter is one with an empty column in its midst. If these are empty,
    there is no other way to read the lines.
    """
    if lines.startswith(BOM):
      lines = b'\n' + lines  # pyarrow would drop it, here in mid-file
    names = [str(position) for position in range(self._width)]
    include = {str(self._positions[role]): types[role] for role in self._positions}
    between = [f'{name}:' for name in names[:-1]] if doubled else []
    if doubled:
      names = [*itertools.chain(*zip(names, between, strict=False)), names[-1]]
      include |= dict.fromkeys(between, pa.binary())
    if not lines.lstrip(b'\r\n'):
      return {role: pa.array([], types[role]) for role in self._positions}
    table = pa_csv.read_csv(
      pa.BufferReader(lines),
      read_options=pa_csv.ReadOptions(
        column_names=names, use_threads=False, block_size=len(lines) + 1
      ),
      parse_options=pa_csv.ParseOptions(
        delimiter=self._delimiter[:1] if doubled else self._separator,
        quote_char='"' if self._has_quotes else False,
      ),
      convert_options=pa_csv.ConvertOptions(
        include_columns=list(include),
        column_types=include,
        null_values=[],
        strings_can_be_null=False,
      ),
    )
    if any(_buffers(chunk)[0][-1] for name in between for chunk in table[name].chunks):
      raise BadBlockError
    return {
      role: table[str(position)].combine_chunks()
      for role, position in self._positions.items()
    }

  def parse_clean(self, lines: bytes, doubled: bool = False) -> Columns:
    """Columns of lines that are all good; raises at the first bad one.

    Args:
      lines: Separated, or as they stand where `doubled`.
      doubled: Whether the delimiter is twice the same byte.
    """
    # One byte is found much sooner than two.
    if b'\r' in lines and lines.count(b'\r') != lines.count(b'\r\n'):
      raise BadBlockError  # pyarrow ends a line at a lone carriage return
    if TIMESTAMP in self._positions and any(
      byte in lines and b'0' + byte in lines for byte in (b'x', b'X')
    ):
      raise BadBlockError  # pyarrow takes hexadecimal for whole numbers
    last = lines.rfind(b'\n', 0, len(lines) - 1) + 1
    if self._has_quotes and not quotes.is_closed(lines[last:].rstrip(b'\n')):
      raise BadBlockError  # pyarrow closes it where the text ends
    types = {USER: _KEY, ITEM: _KEY, RATING: pa.float64(), TIMESTAMP: self._stamp}
    columns = self._read(lines, types, doubled)
    if self._has_quotes and b'"' in lines:
      num_lines = lines.count(b'\n') + (not lines.endswith(b'\n'))
      if len(columns[USER]) != num_lines:
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

  def parse_and_reject(self, block: Block, lines: bytes) -> tuple[Columns, Rejects]:
    """Columns of the good lines of a block, and the rejects.

    Args:
      block: As it stands.
      lines: Its lines, separated.
    """
    starts, ends = _bounds(lines)
    content = np.frombuffer(lines, np.uint8)
    blank = ends == starts
    filled = np.flatnonzero(~blank)
    only = filled[ends[filled] == starts[filled] + 1]
    blank[only] = content[starts[only]] == ord('\r')
    reasons = np.full(len(ends), '', object)
    self._reject_broken(block, lines, reasons)
    returns = np.flatnonzero(content[:-1] == ord('\r'))
    lone = returns[content[returns + 1] != ord('\n')]
    reasons[np.searchsorted(ends, lone)] = 'a carriage return within the line'
    reasons[blank] = ''
    whole = np.flatnonzero((reasons == '') & ~blank)
    columns, reasons[whole] = self._values(_without(lines, starts, ends, reasons != ''))
    bad = np.flatnonzero(reasons != '')
    if len(lines) < len(block.lines):
      starts, ends = _bounds(block.lines)
    rejects = rejects_lib.of_lines(
      block.lines, starts[bad], ends[bad], block.offset, reasons[bad]
    )
    return columns, rejects

  def _reject_broken(self, block: Block, lines: bytes, reasons: np.ndarray) -> None:
    """Tells why lines are not one row of the right width each."""
    inside = broken = None
    if self._has_quotes and (b'"' in lines or b'"' in block.before):
      broken = quotes.find(block, self._width)
      inside = broken.inside
    fields = _count_fields(lines, self._separator, inside)
    for count in np.unique(fields[fields != self._width]):
      reasons[fields == count] = f'expected {self._width} fields, found {count}'
    if self._holds_separator(block.lines):
      reasons[_lines_with(_UNIT_SEPARATOR, block.lines)] = (
        'a unit separator within the line'
      )
    if broken is not None:
      reasons[broken.covered] = 'within a quoted field of an earlier line'
      reasons[broken.opens] = 'a quote is not closed on its line'

  def _values(self, lines: bytes) -> tuple[Columns, np.ndarray]:
    """Columns of the good ones of lines of a right width, and what ails each line."""
    raw = self._read(lines, dict.fromkeys(ROLES, pa.binary()))
    faults = np.full(len(raw[USER]), '', object)
    for role, column in raw.items():
      doubtful = np.flatnonzero(~self._surely_fits(role, column))
      doubtful = doubtful[faults[doubtful] == '']
      faults[doubtful] = self._faults(role, column.take(pa.array(doubtful)))
    good = pa.array(faults == '')
    columns = {
      role: self._typed(role, column.filter(good)) for role, column in raw.items()
    }
    return columns, faults

  def _surely_fits(self, role: str, column: pa.BinaryArray) -> np.ndarray:
    """Which cells are what the role needs without a closer look: bool [n]."""
    offsets, data = _buffers(column)
    length = np.diff(offsets)
    if role in (USER, ITEM):
      try:
        column.cast(pa.string())
        return length > 0
      except pa.ArrowInvalid:  # some are not UTF-8
        return (length > 0) & ~_holding(data > 127, offsets)
    if role == TIMESTAMP and self._stamp != pa.int64():
      text = _text(column)
      shaped = pc.match_substring_regex(text, f'^[ \t]*{_ISO}[ \t]*$')
      cells = pc.utf8_trim(pc.if_else(shaped, text, None), schemas.BLANKS)
      return row_groups.cast(cells, self._stamp).is_valid().to_numpy(False)
    other = (data < ord('0')) | (data > ord('9'))
    if role == RATING and other.any():
      points = data == ord('.')
      several = np.diff(np.cumsum(np.append(0, points))[offsets]) > 1
      fits = ~_holding(other & ~points, offsets) & ~several
      is_point = (length == 1) & _holding(points, offsets)
      return fits & ~is_point & (length > 0) & (length <= _MAX_DIGITS)
    return ~_holding(other, offsets) & (length > 0) & (length <= _MAX_DIGITS)

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
      what, fits = 'an ISO 8601 timestamp', False
    elif role == TIMESTAMP:
      what, fits = 'a whole number', re.fullmatch(_TIMESTAMP, text) is not None
    else:
      what = 'a number'
      fits = re.fullmatch(_RATING, text) is not None and math.isfinite(float(text))
    return '' if fits else f'{role} {text[:80]!r} is not {what}'

  def _typed(self, role: str, column: pa.BinaryArray) -> pa.Array:
    text = column.cast(pa.string())
    if role in (USER, ITEM):
      return text.dictionary_encode()
    kind = pa.float64() if role == RATING else self._stamp
    number = pc.utf8_trim(text, schemas.BLANKS).cast(kind)
    return number.cast(pa.int64()) if role == TIMESTAMP else number


def _bounds(lines: bytes) -> tuple[np.ndarray, np.ndarray]:
  """Where each line begins, and where its newline is: int64 [n] each."""
  ends = np.flatnonzero(np.frombuffer(lines, np.uint8) == ord('\n'))
  if not lines.endswith(b'\n'):
    ends = np.append(ends, len(lines))
  return np.concatenate([[0], ends[:-1] + 1]).astype(np.int64), ends


def _count_fields(
  lines: bytes, delimiter: bytes, inside: np.ndarray | None
) -> np.ndarray:
  """How many fields each line has: int64 [n].

  Args:
    lines: The text.
    delimiter: A byte between fields.
    inside: bool [bytes], where it is none; None for nowhere.
  """
  content = np.frombuffer(lines, np.uint8)
  is_delimiter = content == delimiter[0]
  if inside is not None:
    is_delimiter &= ~inside
  marks = np.flatnonzero(is_delimiter | (content == ord('\n')))
  ends = np.flatnonzero(content[marks] == ord('\n'))
  if not lines.endswith(b'\n'):
    ends = np.append(ends, len(marks))
  return np.diff(ends, prepend=-1)


def _lines_with(byte: bytes, lines: bytes) -> np.ndarray:
  """Numbers of the lines that hold a byte, which may repeat."""
  content = np.frombuffer(lines, np.uint8)
  ends = np.flatnonzero(content == ord('\n'))
  return np.searchsorted(ends, np.flatnonzero(content == byte[0]))


def _without(
  block: bytes, starts: np.ndarray, ends: np.ndarray, bad: np.ndarray
) -> bytes:
  """A block without its bad lines."""
  # The bounds of stretches of good lines.
  change = np.flatnonzero(np.diff(bad, prepend=True, append=True))
  first, last = change[::2], change[1::2] - 1
  spans = zip(starts[first].tolist(), (ends[last] + 1).tolist(), strict=True)
  view = memoryview(block)
  return b''.join([view[start:end] for start, end in spans])


def _buffers(column: pa.BinaryArray) -> tuple[np.ndarray, np.ndarray]:
  """Bounds and bytes of the cells: int64 [n + 1] from 0 on, uint8 [bytes]."""
  _, offsets, data = column.buffers()
  bounds = np.frombuffer(offsets, np.int32)[column.offset :][: len(column) + 1]
  content = np.frombuffer(data or b'', np.uint8)[bounds[0] : bounds[-1]]
  return bounds.astype(np.int64) - bounds[0], content


def _holding(marked: np.ndarray, offsets: np.ndarray) -> np.ndarray:
  """Which cells hold a marked byte: bool [n]."""
  result = np.zeros(len(offsets) - 1, bool)
  places = np.flatnonzero(marked)
  result[np.searchsorted(offsets, places, side='right') - 1] = True
  return result


def _text(column: pa.BinaryArray) -> pa.StringArray:
  """Cells as strings, '' for those that are not UTF-8."""
  return row_groups.cast(column, pa.string()).fill_null('')


def _key_fault(role: str, value: bytes) -> str:
  try:
    return '' if value.decode() else f'empty {role}'
  except UnicodeDecodeError:
    return f'{role} is not UTF-8'
