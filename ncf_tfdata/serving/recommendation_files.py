"""Files that people bring (histories, titles) and take away (recommendations)."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import IO, TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from ncf_tfdata import atomic, object_store
from ncf_tfdata.errors import UserError

if TYPE_CHECKING:
  from ncf_tfdata.serving.recommender import Recommendations

# Stands in for a delimiter of two characters, which pyarrow does not take.
_UNIT_SEPARATOR = b'\x1f'
_DELIMITERS = (b'::', b'\t', b',')

MODEL, POPULARITY = 'model', 'popularity'

# Columns of a table of recommendations; behind them `name`, where names are given.
_TYPES = {
  'user': pa.string(),
  'rank': pa.int32(),
  'item': pa.string(),
  'score': pa.float32(),
  'source': pa.string(),
}


def delimiter(line: bytes) -> bytes | None:
  """What stands between a line's columns: `::`, tab or comma, whichever comes first.

  None where there is but one column.
  """
  # Ids hold none of them; titles do.
  found = (mark for mark in _DELIMITERS if mark in line)
  return min(found, key=line.index, default=None)


def parse_columns(
  content: bytes, mark: bytes | None, path: str, count: int = 2
) -> list[pa.Array]:
  """The first columns of lines without a header, each string [n].

  What is not UTF-8 is taken for Latin-1, in which MovieLens writes its titles.

  Args:
    content: Whole lines. Blank ones are passed over.
    mark: Their `delimiter`; fields between commas may be quoted.
    path: Where they are from, to be told in an error.
    count: How many columns to take.

  Raises:
    UserError: A line is not like the first one.
  """
  # pyarrow finds no column in a single line that does not end.
  content = content.removeprefix(b'\xef\xbb\xbf') + b'\n'
  if not content.strip():
    return [pa.array([], pa.string())] * count
  quote = '"' if mark == b',' else False
  if mark is None or len(mark) > 1:
    content = content.replace(mark or _UNIT_SEPARATOR, _UNIT_SEPARATOR)
    mark = _UNIT_SEPARATOR
  try:
    content.decode()
    encoding = 'utf8'
  except UnicodeDecodeError:
    encoding = 'latin-1'
  names = [f'f{number}' for number in range(count)]
  try:
    table = pa_csv.read_csv(
      pa.BufferReader(content),
      read_options=pa_csv.ReadOptions(
        autogenerate_column_names=True, encoding=encoding
      ),
      parse_options=pa_csv.ParseOptions(delimiter=mark.decode(), quote_char=quote),
      convert_options=pa_csv.ConvertOptions(
        include_columns=names, column_types=dict.fromkeys(names, pa.string())
      ),
    )
  except (pa.ArrowInvalid, pa.ArrowKeyError) as error:
    reason = str(error).partition('\n')[0]
    raise UserError(
      f'{path} is not a file of columns: {reason}. Mend the line.'
    ) from error
  return [pa.concat_arrays(table[name].chunks) for name in names]


def check_columns(line: bytes, path: str | os.PathLike[str]) -> bytes:
  """The `delimiter` of a file's first line, which must have one.

  Raises:
    UserError: It has none.
  """
  mark = delimiter(line)
  if mark is None:
    raise UserError(
      f'{path} has one column in its first line, expected at least two, with ::, a tab '
      'or a comma between them.'
    )
  return mark


def read_columns(path: str | os.PathLike[str]) -> tuple[list[str], list[str]]:
  """The first two columns of a file without a header.

  Args:
    path: Local, or anything that `fsspec` opens.

  Raises:
    UserError: There is no such file, or a line is not like the first one.
  """
  try:
    content = object_store.read(path)
  except OSError as error:
    raise UserError(f'cannot read {path}: {error.strerror or error}.') from error
  return first_columns(content, path)


def first_columns(
  content: bytes, path: str | os.PathLike[str]
) -> tuple[list[str], list[str]]:
  """The first two columns of the content of a file without a header.

  Raises:
    UserError: A line is not like the first one.
  """
  if not content.strip():
    return [], []
  mark = check_columns(content.lstrip().partition(b'\n')[0], path)
  first, second = parse_columns(content, mark, str(path))
  return first.to_pylist(), second.to_pylist()


def read_names(path: str | os.PathLike[str]) -> dict[str, str]:
  """Names by item, the first two columns of a file like movies.dat.

  Raises:
    UserError: As `read_columns`.
  """
  return dict(zip(*read_columns(path), strict=True))


class Lists(NamedTuple):
  """Top lists of n users, as a file holds them.

  Attributes:
    user: Original ids, n of them.
    item: object [n, k], original ids, best first; '' where fewer are left.
    score: float32 [n, k].
    by_model: bool [n], False where the list is what is popular.
    name: object [n, k], '' for an item without a name; None where none are given.
  """

  user: Sequence[str]
  item: np.ndarray
  score: np.ndarray
  by_model: np.ndarray
  name: np.ndarray | None = None

  @property
  def source(self) -> np.ndarray:
    """Whose list it is, `MODEL`'s or `POPULARITY`'s: object [n]."""
    return np.where(self.by_model, MODEL, POPULARITY).astype(object)


class Labels:
  """Original ids of items, and their names where they are given.

  Attributes:
    key: object [num_items + 1], strings; the last is ''.
    name: The same; '' for an item without a name. None where no names are given.
  """

  def __init__(self, keys: Sequence[str], names: dict[str, str] | None = None):
    self.key = np.array([*keys, ''], object)
    self.name = None
    if names is not None:
      self.name = np.array([names.get(key, '') for key in self.key], object)

  def lists(self, users: Sequence[str], found: Recommendations) -> Lists:
    """What was recommended, in dense ids, to n users of these original ids."""
    # Of no item the id is -1, which is the last one's.
    name = None if self.name is None else self.name[found.item]
    return Lists(users, self.key[found.item], found.score, found.by_model, name)


def decimals(score: np.ndarray) -> list[float]:
  """Of float32 [n]: the shortest decimals that are read back as the same float32."""
  return score.astype(str).astype(float).tolist()


def _columns(lists: Lists) -> dict[str, np.ndarray]:
  """A row for each item of each list."""
  row, place = np.nonzero(lists.item != '')
  columns = {
    'user': np.array(lists.user, object)[row],
    'rank': (place + 1).astype(np.int32),
    'item': lists.item[row, place],
    'score': lists.score[row, place],
    'source': lists.source[row],
  }
  if lists.name is not None:
    columns['name'] = lists.name[row, place]
  return columns


Write = Callable[[Lists], None]


@contextlib.contextmanager
def _json_lines(stream: IO[bytes], named: bool) -> Iterator[Write]:
  def write(lists: Lists) -> None:
    rows = zip(lists.user, lists.item, lists.score, lists.source, strict=True)
    for row, (user, item, score, source) in enumerate(rows):
      length = np.count_nonzero(item != '')
      line = {
        'user': user,
        'items': item[:length].tolist(),
        'scores': decimals(score[:length]),
        'source': source,
      }
      if lists.name is not None:
        line['names'] = lists.name[row, :length].tolist()
      stream.write(json.dumps(line, ensure_ascii=False).encode() + b'\n')

  yield write


@contextlib.contextmanager
def _csv(stream: IO[bytes], named: bool) -> Iterator[Write]:
  text = io.TextIOWrapper(stream, encoding='utf8', newline='')
  writer = csv.writer(text, lineterminator='\n')
  writer.writerow([*_TYPES, 'name'] if named else _TYPES)

  def write(lists: Lists) -> None:
    columns = _columns(lists)
    score = {'score': decimals(columns['score'])}
    writer.writerows(zip(*(columns | score).values(), strict=True))

  yield write
  # Flushed, and not closed with the wrapper.
  text.detach()


@contextlib.contextmanager
def _parquet(stream: IO[bytes], named: bool) -> Iterator[Write]:
  schema = pa.schema((_TYPES | {'name': pa.string()} if named else _TYPES).items())
  with pq.ParquetWriter(stream, schema) as writer:

    def write(lists: Lists) -> None:
      writer.write_table(pa.table(_columns(lists), schema))

    yield write


FORMATS = {'.jsonl': _json_lines, '.csv': _csv, '.parquet': _parquet}


def check_output(path: str) -> None:
  """Refuses a name that does not say a format.

  Raises:
    UserError: It ends with none of `FORMATS`.
  """
  if pathlib.Path(path).suffix not in FORMATS:
    raise UserError(
      f'received --output={path}, expected a name that ends with {", ".join(FORMATS)}.'
    )


def encode(suffix: str, named: bool, parts: Iterable[Lists]) -> bytes:
  """Encodes a file of recommendations, in the format of a suffix; with names or not."""
  stream = io.BytesIO()
  with FORMATS[suffix](stream, named) as write:
    for lists in parts:
      write(lists)
  return stream.getvalue()


@contextlib.contextmanager
def create(path: str, named: bool) -> Iterator[Write]:
  """Makes a file of recommendations, which is either whole or not there.

  Yields:
    write(lists): appends top lists, which have names where `named` says so.

  Raises:
    UserError: The path is on an object store.
  """
  object_store.refuse(path)
  final = pathlib.Path(path)
  final.parent.mkdir(parents=True, exist_ok=True)
  with (
    atomic.replaced(final) as temporary,
    temporary.open('wb') as stream,
    FORMATS[final.suffix](stream, named) as write,
  ):
    yield write
