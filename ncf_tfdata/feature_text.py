"""Text of a file of features as Arrow columns.

A text file is read from its beginning to its end: a quoted field may go over line ends,
so nowhere else can a row be known to begin. Files of items are small beside logs.

This module imports neither TensorFlow nor Beam.
"""

from __future__ import annotations

import gzip
import io
from collections.abc import Iterator
from typing import BinaryIO, cast

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv

from ncf_tfdata.errors import UserError

MOVIELENS, TSV, CSV = 'movielens', 'tsv', 'csv'
_DELIMITERS = {MOVIELENS: b'::', TSV: b'\t', CSV: b','}
# Stands in for a delimiter of two characters, which pyarrow does not take.
UNIT_SEPARATOR = '\x1f'
_GZIP_MAGIC = b'\x1f\x8b'
_BOM = b'\xef\xbb\xbf'
_BLOCK_BYTES = 16 << 20  # a row is no longer
_HEAD_BYTES = 1 << 20  # in which the first line ends


def begins_with(stream: BinaryIO, mark: bytes) -> bool:
  """Whether a seekable stream begins with some bytes; it stands at its start then."""
  stream.seek(0)
  found = stream.read(len(mark))
  stream.seek(0)
  return found == mark


def _unpacked(stream: BinaryIO) -> BinaryIO:
  if begins_with(stream, _GZIP_MAGIC):
    return cast(BinaryIO, gzip.GzipFile(fileobj=stream))
  return stream


def find_format(stream: BinaryIO, path: str) -> tuple[str, int]:
  """Which format of text a file is of, and how many columns it has at most."""
  start = _unpacked(stream).read(_HEAD_BYTES).removeprefix(_BOM).lstrip(b'\r\n')
  line = start.partition(b'\n')[0]
  for file_format, delimiter in _DELIMITERS.items():
    if delimiter in line:
      return file_format, line.count(delimiter) + 1
  if not line:
    raise UserError(f'{path} holds no line that is not blank, expected features.')
  raise UserError(
    f'{path} begins with {line[:80].decode(errors="replace")!r}: no `::`, tab or comma '
    'in it, expected a key and features.'
  )


class _Text(io.RawIOBase):
  """A stream as pyarrow takes it: separated by one byte, and with a last line end."""

  def __init__(self, stream: BinaryIO, delimiter: bytes):
    self._stream, self._delimiter = stream, delimiter
    self._held, self._is_ended, self._line_end = b'', False, b''

  def readable(self) -> bool:
    return True

  def read(self, size: int = -1) -> bytes:
    """Reads as many bytes, or nearly; none at the end alone."""
    text, self._held = self._held, b''
    room = size - 1 if size >= 0 else 1 << 62  # for a last line end
    while len(text) < room and not self._is_ended:
      piece = self._stream.read(room - len(text) if size >= 0 else -1)
      text, self._is_ended = text + piece, not piece
    self._line_end = text[-1:] or self._line_end
    if self._is_ended and self._line_end not in (b'\n', b''):
      text, self._line_end = text + b'\n', b'\n'
    if len(self._delimiter) == 1:
      return text
    # No pair of colons may be cut in two: those at the end wait for what follows.
    whole = text if self._is_ended else text.rstrip(self._delimiter[:1])
    self._held = text[len(whole) :]
    return whole.replace(self._delimiter, UNIT_SEPARATOR.encode())


def tables(
  stream: BinaryIO,
  file_format: str,
  encoding: str,
  places: tuple[str, ...],
  all_of: bool = True,
) -> Iterator[tuple[pa.Table, list[pa_csv.InvalidRow]]]:
  """Yields blocks of binary columns, and the rows of another width met so far.

  Args:
    stream: Of a text file, seekable.
    file_format: Of it.
    encoding: Of it.
    places: Names of columns, `f0` for the first.
    all_of: Whether there are all of `places`, and only these are wanted.
  """
  invalid: list[pa_csv.InvalidRow] = []

  def skip(row: pa_csv.InvalidRow) -> str:
    invalid.append(row)
    return 'skip'

  delimiter = _DELIMITERS[file_format]
  text = _Text(_unpacked(stream), delimiter)
  try:
    reader = pa_csv.open_csv(
      text,
      read_options=pa_csv.ReadOptions(
        autogenerate_column_names=True,
        use_threads=False,
        block_size=_BLOCK_BYTES,
        encoding=encoding,
      ),
      parse_options=pa_csv.ParseOptions(
        delimiter=delimiter.decode() if len(delimiter) == 1 else UNIT_SEPARATOR,
        quote_char='"' if file_format == CSV else False,
        newlines_in_values=file_format == CSV,
        invalid_row_handler=skip,
      ),
      convert_options=pa_csv.ConvertOptions(
        include_columns=list(dict.fromkeys(places)) if all_of else [],
        column_types=dict.fromkeys(places, pa.binary()),
        null_values=[],
        strings_can_be_null=False,
      ),
    )
  except pa.ArrowInvalid as error:
    if 'Empty CSV file' in str(error):
      return
    raise
  for batch in reader:
    yield pa.Table.from_batches([batch]), invalid


def numbered(count: int, before: int, wrong: np.ndarray) -> tuple[np.ndarray, int]:
  """Numbers `count` good rows that come after the row `before`: int64 [count].

  Args:
    count: How many.
    before: The last number that a good row had.
    wrong: int64, ascending, the numbers of other rows.
  """
  skipped = wrong[wrong > before] - before
  # The k-th good row comes after as many wrong ones as have fewer good ones before.
  good_before = skipped - np.arange(1, len(skipped) + 1)
  place = np.arange(count)
  number = before + 1 + place + np.searchsorted(good_before, place, side='right')
  return number, int(number[-1]) if count else before


def strings(column: pa.ChunkedArray) -> pa.Array:
  """Cells as text, null for those that are not UTF-8."""
  cells = column.combine_chunks()
  try:
    return cells.cast(pa.string())
  except pa.ArrowInvalid:
    return pa.array([_decoded(cell) for cell in cells.to_pylist()], pa.string())


def _decoded(cell: bytes) -> str | None:
  try:
    return cell.decode()
  except UnicodeDecodeError:
    return None
