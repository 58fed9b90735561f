"""Source files as ranges that can be read in parallel, each row exactly once.

A text file is cut every `RANGE_BYTES`; a range owns the lines whose first byte
lies in it. A gzip file is one range, and so is a row group of a Parquet file.
Ranges are plain tuples so that any runner can use them as keys.
"""

import gzip
import hashlib
import os
import zlib
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.io import filesystem
from apache_beam.io.filesystems import FileSystems

from ncf_tfdata.errors import UserError

RANGE_BYTES = 16 << 20  # 16 MiB: about 700,000 ratings, held in memory at once.
_TAIL_BYTES = 4096
_HEAD_BYTES = 1 << 20  # in which a file's first lines are looked for
_MOVIELENS = ('ratings.dat', 'ratings.csv', 'u.data')
_NOT_DATA = ('.', '_', 'README', 'LICENSE')
BOM = b'\xef\xbb\xbf'

TEXT, GZIP, PARQUET = 'text', 'gzip', 'parquet'
_MAGIC = {b'\x1f\x8b': GZIP, b'PAR1': PARQUET}
# How many bytes of text a byte of the file stands for, to size what follows.
_EXPANSION = {'.gz': 4, '.parquet': 4}
_GZIP_ERRORS = (EOFError, OSError, zlib.error)


class File(NamedTuple):
  """A source file; `number` is its place in reading order, `size` in bytes."""

  number: int
  path: str
  size: int


class Range(NamedTuple):
  """A part of a file: bytes [start, end), or of Parquet one row group `start`."""

  file_index: int
  start: int
  end: int
  kind: str
  path: str


def match(pattern: str) -> list[File]:
  """Files that a path, glob or folder names, in path order.

  Of a folder that holds a MovieLens download that is the ratings file; of any
  other, all files but hidden ones and what usually lies beside data.

  Raises:
    UserError: Nothing matches, or nothing that matches has a byte in it.
  """
  try:
    path = pattern.rstrip('/')
    named, inside = FileSystems.match([path, f'{path}/*'])
  except (filesystem.BeamIOError, ValueError) as error:
    raise UserError(f'cannot list --input={pattern}: {error}') from error
  listed = [e for e in inside.metadata_list if not _base(e.path).startswith(_NOT_DATA)]
  ratings = [entry for entry in listed if _base(entry.path) in _MOVIELENS]
  sizes = {
    entry.path: entry.size_in_bytes
    for entry in named.metadata_list + (ratings or listed)
    if not os.path.isdir(entry.path)
  }
  paths = sorted(path for path, size in sizes.items() if size)
  if not paths:
    what = 'holds no data' if sizes else 'does not exist'
    raise UserError(
      f'--input={pattern} {what}: expected a ratings file, a glob, a folder, '
      '`sample`, or a dataset such as `movielens/1m-ratings`.'
    )
  return [File(number, path, sizes[path]) for number, path in enumerate(paths)]


def _base(path: str) -> str:
  return path.rsplit('/', 1)[-1]


def text_bytes(files: list[File]) -> int:
  """About how many bytes of text the files hold once they are unpacked."""
  return sum(
    file.size * _EXPANSION.get(file.path[file.path.rfind('.') :], 1) for file in files
  )


def open_raw(path: str) -> BinaryIO:
  """Opens a file without unpacking it, whatever its name ends with."""
  return FileSystems.open(
    path, compression_type=filesystem.CompressionTypes.UNCOMPRESSED
  )


def kind(path: str) -> str:
  """Tells text, gzip and Parquet apart by their first bytes."""
  with open_raw(path) as stream:
    head = stream.read(4)
  return next((kind for magic, kind in _MAGIC.items() if head.startswith(magic)), TEXT)


def first_lines(path: str, count: int) -> list[bytes]:
  """The first lines of a text or gzip file that are not blank.

  Returns:
    At most `count` lines, without byte order mark and line ends; the last one may
    be cut short where lines are very long.
  """
  with open_raw(path) as raw:
    stream = gzip.GzipFile(fileobj=raw) if kind(path) == GZIP else raw
    head = b''
    try:
      while head.strip(b'\r\n').count(b'\n') < count and len(head) < _HEAD_BYTES:
        piece = stream.read(_TAIL_BYTES)
        if not piece:
          break
        head += piece
    except _GZIP_ERRORS as error:
      raise UserError(f'{path} is not a whole gzip file: {error}') from error
  lines = [line.strip(b'\r') for line in head.removeprefix(BOM).split(b'\n')]
  return [line for line in lines if line][:count]


def ranges(file: File, range_bytes: int = RANGE_BYTES) -> Iterator[tuple]:
  """Cuts a file into `Range`s, given as plain tuples."""
  what = kind(file.path)
  if what == TEXT:
    starts = range(0, file.size, range_bytes)
    cuts = [(start, min(start + range_bytes, file.size)) for start in starts]
  elif what == GZIP:
    cuts = [(0, file.size)]
  else:
    try:
      with open_raw(file.path) as stream:
        groups = pq.ParquetFile(stream).num_row_groups
    except (pa.ArrowException, OSError) as error:
      raise UserError(f'{file.path} is not a whole Parquet file: {error}') from error
    cuts = [(group, group + 1) for group in range(groups)]
  for start, end in cuts:
    yield tuple(Range(file.number, start, end, what, file.path))


def read_lines(stream: BinaryIO, start: int, end: int) -> tuple[int, bytes]:
  """All whole lines whose first byte lies in [start, end) of a seekable stream.

  The byte before the range tells whether a line begins at its start; the last
  line is followed beyond the end as far as it goes. A last line of the file
  without a line end belongs to the range all the same.

  Returns:
    The offset of the first such line, and the lines as they stand.
  """
  offset = max(start - 1, 0)
  stream.seek(offset)
  lines = stream.read(end - offset)
  if start:
    line_end = lines.find(b'\n')
    if line_end < 0:
      return end, b''
    offset += line_end + 1
    lines = lines[line_end + 1 :]
  if lines and not lines.endswith(b'\n'):
    tail = []
    while piece := stream.read(_TAIL_BYTES):
      line_end = piece.find(b'\n')
      tail.append(piece if line_end < 0 else piece[: line_end + 1])
      if line_end >= 0:
        break
    lines += b''.join(tail)
  return offset, lines


def _gzip_blocks(stream: BinaryIO, path: str) -> Iterator[bytes]:
  """Whole lines of a gzip stream, about `RANGE_BYTES` of them at a time."""
  rest = b''
  with gzip.GzipFile(fileobj=stream) as unpacked:
    while True:
      try:
        piece = unpacked.read(RANGE_BYTES)
      except _GZIP_ERRORS as error:
        raise UserError(f'{path} is not a whole gzip file: {error}') from error
      if not piece:
        break
      lines, line_end, tail = piece.rpartition(b'\n')
      if line_end:
        yield rest + lines + line_end
        rest = tail
      else:
        rest += piece
  if rest:
    yield rest


class RangeReader:
  """Reads one range, block by block, and digests what it reads.

  Attributes:
    range: What is read.
    sha256: Digest of the lines, or of the Arrow columns of a row group, so far.
  """

  def __init__(self, key: tuple):
    self.range = Range(*key)
    self.sha256 = hashlib.sha256()

  def lines(self) -> Iterator[tuple[int, bytes]]:
    """Yields blocks of whole lines of a text or gzip file, with their offset.

    An offset counts the bytes before the block in the unpacked file. A byte
    order mark is left out and its bytes are counted.
    """
    with open_raw(self.range.path) as stream:
      if self.range.kind == TEXT:
        offset, block = read_lines(stream, self.range.start, self.range.end)
        blocks = iter([block])
      else:
        offset, blocks = 0, _gzip_blocks(stream, self.range.path)
      for block in blocks:
        self.sha256.update(block)
        mark = len(BOM) if offset == 0 and block.startswith(BOM) else 0
        yield offset + mark, block[mark:]
        offset += len(block)

  def tables(self, columns: list[str]) -> Iterator[tuple[int, pa.Table]]:
    """Yields the range's rows of a Parquet file, with the first row's number.

    Raises:
      UserError: The file is damaged, or lacks a column.
    """
    path = self.range.path
    with open_raw(path) as stream:
      try:
        parquet = pq.ParquetFile(stream)
        group = self.range.start
        row = sum(parquet.metadata.row_group(i).num_rows for i in range(group))
        for name in columns:
          if name not in parquet.schema_arrow.names:
            raise UserError(f'{path} has no column {name!r}, unlike the first file.')
        for batch in parquet.iter_batches(1 << 20, row_groups=[group], columns=columns):
          for column in batch.columns:
            for buffer in column.buffers():
              if buffer is not None:
                self.sha256.update(buffer)
          yield row, pa.Table.from_batches([batch])
          row += batch.num_rows
      except (pa.ArrowException, OSError) as error:
        raise UserError(f'{path} is not a whole Parquet file: {error}') from error
