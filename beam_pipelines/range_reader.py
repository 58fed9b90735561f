"""Reads the ranges of source files: blocks of lines, or rows of Parquet."""

import collections
import gzip
import hashlib
import os
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

import pyarrow as pa

from beam_pipelines import files
from ncf_tfdata.errors import UserError

MAX_GZIP_EXPANSION = 1032  # of deflate: two bits for 258 bytes
_TAIL_BYTES = 4096
_BUFFER_BYTES = 1 << 20  # more than gzip reads of a file before it unpacks it


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


def _gzip_blocks(unpacked: gzip.GzipFile, path: str) -> Iterator[bytes]:
  """Whole lines of a gzip stream, about `RANGE_BYTES` of them at a time."""
  rest = b''
  while True:
    try:
      piece = unpacked.read(files.RANGE_BYTES)
    except files.GZIP_ERRORS as error:
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


class Block(NamedTuple):
  """Whole lines, and what stands around them where that was asked for.

  Attributes:
    offset: Of the lines in the (unpacked) file.
    lines: The bytes of the lines.
    before: Whole lines that come before.
    after: Bytes that come after.
  """

  offset: int
  lines: bytes
  before: bytes = b''
  after: bytes = b''


def _in_context(blocks: Iterator[bytes], margin: int) -> Iterator[Block]:
  """The blocks of a stream, each with up to `margin` bytes before and after it."""
  before, offset, ahead = b'', 0, collections.deque[bytes]()
  bytes_ahead = 0
  while True:
    while bytes_ahead - len(ahead[0] if ahead else b'') < margin or not ahead:
      block = next(blocks, None)
      if block is None:
        break
      ahead.append(block)
      bytes_ahead += len(block)
    if not ahead:
      return
    lines = ahead.popleft()
    bytes_ahead -= len(lines)
    yield Block(offset, lines, before, b''.join(ahead)[:margin] if margin else b'')
    offset += len(lines)
    if margin:
      before = _whole_lines((before + lines)[-margin:], offset <= margin)


def _whole_lines(tail: bytes, is_head: bool) -> bytes:
  """The end of a file's part without the line that it cuts; `is_head` of the file."""
  return tail.removeprefix(files.BOM) if is_head else tail.partition(b'\n')[2]


class RangeReader:
  """Reads one range, block by block, and digests what it reads.

  Attributes:
    range: What is read.
    sha256: Digest of the lines, or of the Arrow columns of a row group, so far.
    bytes_left: Of the text of a gzip file, what was not given yet, at most.
  """

  def __init__(self, key: files.RangeKey):
    self.range = files.Range(*key)
    self.sha256 = hashlib.sha256()
    self.bytes_left = 0

  def lines(self, margin: int = 0) -> Iterator[Block]:
    """Yields blocks of whole lines of a text or gzip file.

    A byte order mark is left out and its bytes are counted in the offset.

    Args:
      margin: How many bytes before and after a block to give with it.
    """
    with files.open_raw(self.range.path) as stream:
      what = self._text if self.range.kind == files.TEXT else self._gzip
      for block in what(stream, margin):
        mark = (
          len(files.BOM)
          if not block.offset and block.lines.startswith(files.BOM)
          else 0
        )
        yield block._replace(offset=block.offset + mark, lines=block.lines[mark:])

  def _text(self, stream: BinaryIO, margin: int) -> Iterator[Block]:
    offset, lines = read_lines(stream, self.range.start, self.range.end)
    self.sha256.update(lines)
    before = after = b''
    if margin and lines:
      begin = max(offset - margin, 0)
      stream.seek(begin)
      before = _whole_lines(stream.read(offset - begin), not begin)
      stream.seek(offset + len(lines))
      after = stream.read(margin)
    yield Block(offset, lines, before, after)

  def _gzip(self, stream: BinaryIO, margin: int) -> Iterator[Block]:
    size = stream.seek(0, os.SEEK_END)
    stream.seek(0)
    with gzip.GzipFile(fileobj=stream) as unpacked:
      for block in _in_context(_gzip_blocks(unpacked, self.range.path), margin):
        self.sha256.update(block.lines)
        # Of what was read of the file, some may be held back by a buffer.
        packed = min(size - stream.tell() + _BUFFER_BYTES, size)
        given = block.offset + len(block.lines)
        self.bytes_left = packed * MAX_GZIP_EXPANSION + unpacked.tell() - given
        yield block
    self.bytes_left = 0

  def tables(self, columns: list[str]) -> Iterator[tuple[int, pa.Table]]:
    """Yields the range's rows of a Parquet file, with the first row's number.

    Raises:
      UserError: The file is damaged, or lacks a column.
    """
    path = self.range.path
    with files.open_parquet(path) as parquet:
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
