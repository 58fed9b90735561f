"""Files that people bring (histories, titles) and take away (answers)."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import IO, TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from ncf_tfdata.errors import UserError

if TYPE_CHECKING:
  from ncf_tfdata.answers import Answers

# Stands in for a delimiter of two characters, which pyarrow does not take.
_UNIT_SEPARATOR = b'\x1f'
_DELIMITERS = (b'::', b'\t', b',')

MODEL, POPULARITY = 'model', 'popularity'


def read_columns(path: str | os.PathLike) -> tuple[list[str], list[str]]:
  """The first two columns of a file without a header.

  The delimiter is what comes first in the first line, `::`, tab or comma; fields
  between commas may be quoted. What is not UTF-8 is taken for Latin-1, in which
  MovieLens writes its titles.

  Raises:
    UserError: There is no such file, or a line is not like the first one.
  """
  try:
    content = pathlib.Path(path).read_bytes()
  except OSError as error:
    raise UserError(f'cannot read {path}: {error.strerror}.') from error
  # pyarrow finds no column in a single line that does not end.
  content = content.removeprefix(b'\xef\xbb\xbf') + b'\n'
  if not content.strip():
    return [], []
  first = content.lstrip().partition(b'\n')[0]
  # Ids hold none of them; titles do.
  delimiter = min(
    (mark for mark in _DELIMITERS if mark in first), key=first.index, default=None
  )
  if delimiter is None:
    raise UserError(
      f'{path} has one column in its first line, expected at least two, with ::, a tab '
      'or a comma between them.'
    )
  if len(delimiter) > 1:
    content = content.replace(delimiter, _UNIT_SEPARATOR)
    delimiter = _UNIT_SEPARATOR
  try:
    content.decode()
    encoding = 'utf8'
  except UnicodeDecodeError:
    encoding = 'latin-1'
  try:
    table = pa_csv.read_csv(
      pa.BufferReader(content),
      read_options=pa_csv.ReadOptions(
        autogenerate_column_names=True, encoding=encoding
      ),
      parse_options=pa_csv.ParseOptions(
        delimiter=delimiter.decode(), quote_char='"' if delimiter == b',' else False
      ),
      convert_options=pa_csv.ConvertOptions(
        include_columns=['f0', 'f1'],
        column_types=dict.fromkeys(['f0', 'f1'], pa.string()),
      ),
    )
  except (pa.ArrowInvalid, pa.ArrowKeyError) as error:
    reason = str(error).partition('\n')[0]
    raise UserError(
      f'{path} is not a file of columns: {reason}. Mend the line.'
    ) from error
  return table['f0'].to_pylist(), table['f1'].to_pylist()


class Labels:
  """Original ids of items, and their names where they are given.

  Attributes:
    key: object [num_items], strings.
    name: The same; '' for an item without a name. None where no names are given.
  """

  def __init__(self, keys: Sequence[str], names: dict[str, str] | None = None):
    self.key = np.array(keys, object)
    self.name = None
    if names is not None:
      self.name = np.array([names.get(key, '') for key in keys], object)


def sources(answers: Answers) -> np.ndarray:
  """What answered, `MODEL` or `POPULARITY`: object [n]."""
  return np.where(answers.by_model, MODEL, POPULARITY).astype(object)


def decimals(score: np.ndarray) -> list[float]:
  """Of float32 [n]: the shortest decimals that are read back as the same float32."""
  return score.astype(str).astype(float).tolist()


def _columns(
  users: Sequence[str], answers: Answers, labels: Labels
) -> dict[str, np.ndarray]:
  """A row for each item of each list."""
  person, place = np.nonzero(answers.item >= 0)
  item = answers.item[person, place]
  columns = {
    'user': np.array(users, object)[person],
    'rank': (place + 1).astype(np.int32),
    'item': labels.key[item],
    'score': answers.score[person, place],
    'source': sources(answers)[person],
  }
  return columns if labels.name is None else {**columns, 'name': labels.name[item]}


Write = Callable[[Sequence[str], 'Answers'], None]


@contextlib.contextmanager
def _json_lines(stream: IO[bytes], labels: Labels) -> Iterator[Write]:
  def write(users, answers):
    for user, item, score, source in zip(
      users, answers.item, answers.score, sources(answers), strict=True
    ):
      item = item[item >= 0]
      line = {
        'user': user,
        'items': labels.key[item].tolist(),
        'scores': decimals(score[: len(item)]),
        'source': source,
      }
      if labels.name is not None:
        line['names'] = labels.name[item].tolist()
      stream.write(json.dumps(line, ensure_ascii=False).encode() + b'\n')

  yield write


@contextlib.contextmanager
def _csv(stream: IO[bytes], labels: Labels) -> Iterator[Write]:
  names = ['user', 'rank', 'item', 'score', 'source']
  with open(stream.fileno(), 'w', newline='', encoding='utf8', closefd=False) as text:
    writer = csv.writer(text, lineterminator='\n')
    writer.writerow(names if labels.name is None else [*names, 'name'])

    def write(users, answers):
      columns = _columns(users, answers, labels)
      score = {'score': decimals(columns['score'])}
      writer.writerows(zip(*(columns | score).values(), strict=True))

    yield write


@contextlib.contextmanager
def _parquet(stream: IO[bytes], labels: Labels) -> Iterator[Write]:
  text = dict.fromkeys(['user', 'rank', 'item', 'score', 'source'], pa.string())
  schema = text | {'rank': pa.int32(), 'score': pa.float32()}
  if labels.name is not None:
    schema['name'] = pa.string()
  with pq.ParquetWriter(stream, pa.schema(schema.items())) as writer:

    def write(users, answers):
      columns = _columns(users, answers, labels)
      writer.write_table(pa.table(columns, pa.schema(schema.items())))

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


@contextlib.contextmanager
def create(path: str, labels: Labels) -> Iterator[Write]:
  """Makes a file of answers, which is either whole or not there.

  Yields:
    write(users, answers): takes n original ids and their answers.
  """
  final = pathlib.Path(path)
  final.parent.mkdir(parents=True, exist_ok=True)
  temporary = final.with_name(f'{final.name}.tmp')
  try:
    with (
      temporary.open('wb') as stream,
      FORMATS[final.suffix](stream, labels) as write,
    ):
      yield write
    os.replace(temporary, final)
  finally:
    temporary.unlink(missing_ok=True)
