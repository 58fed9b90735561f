"""Lists as files: JSON lines, CSV and Parquet, whole or not there."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import IO, Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ncf_tfdata import atomic, object_store
from ncf_tfdata.errors import UserError

# Arrow's types by names of columns.
Types = Mapping[str, pa.DataType]


class Rows(Protocol):
  """Some lists at once, such as `recommendation_files.Lists`."""

  def columns(self) -> dict[str, np.ndarray]:
    """A row for each item of each list."""

  def lines(self) -> Iterator[dict[str, Any]]:
    """A mapping for each list, as JSON has it."""


Write = Callable[[Rows], None]


def decimals(score: np.ndarray) -> list[float]:
  """Of float32 [n]: the shortest decimals that are read back as the same float32."""
  return score.astype(str).astype(float).tolist()


def _json(value: Any) -> str:
  return json.dumps(value, ensure_ascii=False)


@contextlib.contextmanager
def _json_lines(stream: IO[bytes], types: Types) -> Iterator[Write]:
  def write(rows: Rows) -> None:
    stream.writelines(_json(line).encode() + b'\n' for line in rows.lines())

  yield write


@contextlib.contextmanager
def _csv(stream: IO[bytes], types: Types) -> Iterator[Write]:
  text = io.TextIOWrapper(stream, encoding='utf8', newline='')
  writer = csv.writer(text, lineterminator='\n')
  writer.writerow(types)

  def write(rows: Rows) -> None:
    columns = rows.columns()
    values: list[Iterable[Any]] = []
    for name, kind in types.items():
      if pa.types.is_floating(kind):
        values.append(decimals(columns[name]))
      else:
        nested = pa.types.is_nested(kind)
        values.append(map(_json, columns[name]) if nested else columns[name])
    writer.writerows(zip(*values, strict=True))

  yield write
  # Flushed, and not closed with the wrapper.
  text.detach()


@contextlib.contextmanager
def _parquet(stream: IO[bytes], types: Types) -> Iterator[Write]:
  schema = pa.schema(list(types.items()))
  with pq.ParquetWriter(stream, schema) as writer:

    def write(rows: Rows) -> None:
      writer.write_table(pa.table(rows.columns(), schema))

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


def encode(suffix: str, types: Types, parts: Iterable[Rows]) -> bytes:
  """Encodes a file of lists with these columns, in the format of a suffix."""
  stream = io.BytesIO()
  with FORMATS[suffix](stream, types) as write:
    for rows in parts:
      write(rows)
  return stream.getvalue()


@contextlib.contextmanager
def create(path: str, types: Types) -> Iterator[Write]:
  """Makes a file of lists with these columns, which is either whole or not there.

  Yields:
    write(rows): appends lists.

  Raises:
    UserError: The path is on an object store.
  """
  object_store.refuse(path)
  final = pathlib.Path(path)
  final.parent.mkdir(parents=True, exist_ok=True)
  with (
    atomic.replaced(final) as temporary,
    temporary.open('wb') as stream,
    FORMATS[final.suffix](stream, types) as write,
  ):
    yield write
