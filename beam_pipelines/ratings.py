"""Ratings parsed in blocks of columns, and the lines that are not ratings."""

import dataclasses
import re
from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from beam_pipelines import delimited, files, row_groups
from beam_pipelines import schema as schemas
from beam_pipelines.range_reader import RangeReader
from beam_pipelines.rejects import Rejects
from beam_pipelines.schema import ITEM, RATING, TIMESTAMP, USER, Schema
from ncf_tfdata.errors import UserError

_BLANK = re.compile(rb'(?:\r?\n)*+\r?')  # lines that are not counted


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
  rejects: Rejects

  def __len__(self) -> int:
    return len(self.user)

  def narrowed(self, min_rating: float) -> 'Ratings':
    """The same ratings in fewer bytes, for who asks if they are at least so high."""
    rating = self.rating
    if rating is not None and (rating >= min_rating).all():
      rating = None
    user, item = (_narrow(column) for column in (self.user, self.item))
    none = Rejects.none()
    return Ratings(self.offset, user, item, rating, self.timestamp, none)


def _narrow(column: pa.DictionaryArray) -> pa.DictionaryArray:
  if len(column.dictionary) > 1 << 16:
    return column
  indices = column.indices.cast(pa.uint16())
  return pa.DictionaryArray.from_arrays(indices, column.dictionary)


def read(reader: RangeReader, schema: Schema) -> Iterator[Ratings]:
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
  yield from _read_rows(reader, schema) if is_parquet else _read_lines(reader, schema)


def _read_rows(reader: RangeReader, schema: Schema) -> Iterator[Ratings]:
  names = dict(schema.names)
  for offset, table in reader.tables(list(names.values())):
    rows = table.select([names[role] for role in schema.roles])
    rows = rows.rename_columns(list(schema.roles))
    yield of_columns(offset, *row_groups.parse(reader.range.path, offset, rows))


def _read_lines(reader: RangeReader, schema: Schema) -> Iterator[Ratings]:
  skip_header = schema.columns is None and not reader.range.start
  parser = None
  for block in reader.lines(delimited.margin(schema)):
    if _BLANK.fullmatch(block.lines):
      continue  # A file of blank lines has no header to look into.
    if skip_header:
      blank = len(block.lines) - len(block.lines.lstrip(b'\r\n'))
      header = block.lines.find(b'\n', blank) + 1 or len(block.lines)
      block = block._replace(
        offset=block.offset + header, lines=block.lines[header:], before=b''
      )
      skip_header = False
    parser = parser or delimited.Parser(schema, reader.range.path)
    yield of_columns(block.offset, *parser.parse(block))


def of_columns(offset: int, columns: dict[str, pa.Array], rejects: Rejects) -> Ratings:
  """Makes a block of a column a role, of which those of numbers may be absent."""

  def numbers(role: str) -> np.ndarray | None:
    return columns[role].to_numpy(zero_copy_only=False) if role in columns else None

  return Ratings(
    offset, columns[USER], columns[ITEM], numbers(RATING), numbers(TIMESTAMP), rejects
  )
