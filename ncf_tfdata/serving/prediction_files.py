"""Files of what other systems recommend: ranked lists or scores, in original ids.

A row holds a user, an item, and where there are such a score or a rank; or it holds a
user with lists of items and scores. So does what `recommend` writes. Text (CSV, TSV,
`::`), JSON lines and Parquet are told apart by their content, gzip unpacked or not.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import re
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.json as pa_json
import pyarrow.parquet as pq

from ncf_tfdata import object_store
from ncf_tfdata.errors import UserError
from ncf_tfdata.serving import recommendation_files

USER, ITEM, SCORE, RANK = ROLES = ('user', 'item', 'score', 'rank')
# Names of each role's column, in lower-case letters and digits alone.
_NAMES: Mapping[str, tuple[str, ...]] = {
  USER: ('user', 'userid', 'uid'),
  ITEM: ('item', 'items', 'itemid', 'itemids', 'iid', 'movieid', 'productid', 'asin'),
  SCORE: ('score', 'scores', 'prediction', 'pred', 'est', 'relevance'),
  RANK: ('rank', 'position'),
}
_EXPECTED = (
  'expected user, item, and where there are such score (higher is better) and rank '
  '(1 is best)'
)
_GZIP, _PARQUET = b'\x1f\x8b', b'PAR1'
_BOM = b'\xef\xbb\xbf'
_SEPARATOR = b'\x1f'  # stands in for `::`, which pyarrow does not take
_JSON_BLOCK = 1 << 24


class Predictions(NamedTuple):
  """The n rows of a file, in its order.

  Attributes:
    user: pyarrow strings [n], original ids.
    item: The same.
    score: float64 [n], higher is better; None where there is no such column.
    rank: float64 [n], lower is better; None where there is no such column.
    sha256: Of the file.
  """

  user: pa.ChunkedArray
  item: pa.ChunkedArray
  score: np.ndarray | None
  rank: np.ndarray | None
  sha256: str


def read(path: str | os.PathLike) -> Predictions:
  """Reads a file.

  Args:
    path: Local, or anything that `fsspec` opens.

  Raises:
    UserError: There is no such file, or it is not of that kind.
  """
  try:
    content = object_store.read(path)
  except OSError as error:
    raise UserError(f'cannot read {path}: {error.strerror or error}.') from error
  digest = hashlib.sha256(content).hexdigest()
  if content.startswith(_GZIP):
    try:
      content = gzip.decompress(content)
    except (EOFError, OSError, zlib.error) as error:
      raise UserError(f'{path} is not a whole gzip file: {error}.') from error
  try:
    columns = _columns(_table(content, path), path)
    user, item = (_keys(columns[role], role, path) for role in (USER, ITEM))
    score, rank = (_numbers(columns.get(role), role, path) for role in (SCORE, RANK))
  except pa.ArrowException as error:
    reason = str(error).partition('\n')[0].rstrip('.')
    raise UserError(f'{path} is not a file of predictions: {reason}.') from error
  if not len(user):
    raise UserError(f'{path} holds no rows: {_EXPECTED}.')
  return Predictions(user, item, score, rank, digest)


def _table(content: bytes, path: str | os.PathLike) -> pa.Table:
  if content.startswith(_PARQUET):
    return pq.read_table(pa.BufferReader(content))
  content = content.removeprefix(_BOM).lstrip()
  if not content:
    return pa.table({role: pa.array([], pa.string()) for role in (USER, ITEM)})
  if content.startswith(b'{'):
    return _json_table(content, path)
  if content.startswith(b'['):
    raise UserError(
      f'{path} is a JSON array: expected an object a line, as `jq -c .[]`.'
    )
  return _text_table(content, path)


def _roles(names: Sequence[str]) -> dict[str, str]:
  """The first name of each role that has one, by role."""
  plain = {re.sub('[^a-z0-9]', '', name.lower()): name for name in reversed(names)}
  return {
    role: next(plain[known] for known in usual if known in plain)
    for role, usual in _NAMES.items()
    if any(known in plain for known in usual)
  }


def _text_table(content: bytes, path: str | os.PathLike) -> pa.Table:
  """Text with a header or without: then two to four columns, in the order of roles."""
  first = content.partition(b'\n')[0].rstrip(b'\r')
  mark = recommendation_files.check_columns(first, path)
  fields = first.decode(errors='replace').split(mark.decode())
  names = [field.strip().strip('"') for field in fields]
  found = _roles(names)
  header = bool(found)
  if header:
    _check_roles(found, names, path)
  elif len(names) > len(ROLES):
    raise UserError(
      f'{path} has {len(names)} columns and no header that is known, {_EXPECTED}. '
      'Name them in its first line.'
    )
  else:
    names = list(ROLES[: len(names)])
    found = {name: name for name in names}
  quote: str | bool = '"' if mark == b',' else False
  if len(mark) > 1:
    content, mark = content.replace(mark, _SEPARATOR), _SEPARATOR
  return pa_csv.read_csv(
    pa.BufferReader(content),
    read_options=pa_csv.ReadOptions(column_names=names, skip_rows=int(header)),
    parse_options=pa_csv.ParseOptions(delimiter=mark.decode(), quote_char=quote),
    convert_options=pa_csv.ConvertOptions(
      include_columns=list(found.values()),
      column_types={
        name: pa.string() if role in (USER, ITEM) else pa.float64()
        for role, name in found.items()
      },
    ),
  )


def _json_table(content: bytes, path: str | os.PathLike) -> pa.Table:
  """JSON lines, the types of whose fields the first lines that have values tell."""
  lines = content.split(b'\n')
  samples: dict[str, Any] = {}
  for line in lines:
    if samples and not any(value in (None, []) for value in samples.values()):
      break
    try:
      values = json.loads(line) if line.strip() else {}
    except ValueError as error:
      raise UserError(f'{path} is not a file of JSON lines: {error}.') from error
    samples = {name: samples.get(name) or value for name, value in values.items()} or (
      samples
    )
  found = _roles(list(samples))
  _check_roles(found, list(samples), path)
  schema = pa.schema(
    (name, _json_type(samples[name], role)) for role, name in found.items()
  )
  # Without a schema, a text that looks like a date becomes one.
  return pa_json.read_json(
    pa.BufferReader(content),
    read_options=pa_json.ReadOptions(
      block_size=max(_JSON_BLOCK, max(map(len, lines)) + 2)
    ),
    parse_options=pa_json.ParseOptions(
      explicit_schema=schema, unexpected_field_behavior='ignore'
    ),
  )


def _json_type(value: Any, role: str) -> pa.DataType:
  """The type that a field with such a value is read as."""
  if isinstance(value, list):
    return pa.list_(_json_type(next(iter(value), None), role))
  if role in (SCORE, RANK):
    return pa.float64()
  return pa.int64() if isinstance(value, int) else pa.string()


def _check_roles(
  found: Mapping[str, str], names: Sequence[str], path: str | os.PathLike
) -> None:
  missing = [role for role in (USER, ITEM) if role not in found]
  if missing:
    raise UserError(
      f'{path} has no column {missing[0]}: received {", ".join(names)}, {_EXPECTED}.'
    )


def _columns(table: pa.Table, path: str | os.PathLike) -> dict[str, pa.ChunkedArray]:
  """The columns by role; of lists, a row for each of their items.

  Raises:
    UserError: There is no user or item, or lists are not as long as each other.
  """
  found = _roles(table.column_names)
  _check_roles(found, table.column_names, path)
  columns = {role: table[name] for role, name in found.items()}
  length = {
    role: pc.fill_null(pc.list_value_length(column), 0).to_numpy()
    for role, column in columns.items()
    if _is_list(column.type)
  }
  if ITEM not in length:
    return columns
  for role in length:
    if not np.array_equal(length[role], length[ITEM]):
      raise UserError(
        f'{path} has lists of {role} that are not as long as those of items. Write as '
        'many as there are items.'
      )
  row = pa.array(np.repeat(np.arange(len(table)), length[ITEM]))
  return {
    role: pc.list_flatten(column) if role in length else column.take(row)
    for role, column in columns.items()
  }


def _is_list(kind: pa.DataType) -> bool:
  return any(
    test(kind)
    for test in (
      pa.types.is_list,
      pa.types.is_large_list,
      pa.types.is_fixed_size_list,
    )
  )


def _keys(
  column: pa.ChunkedArray, role: str, path: str | os.PathLike
) -> pa.ChunkedArray:
  """Original ids as strings; 7.0, as pandas may write it, is 7."""
  if pa.types.is_dictionary(column.type):
    column = column.cast(column.type.value_type)
  if pa.types.is_floating(column.type):
    column = column.cast(pa.int64())
  if pa.types.is_boolean(column.type) or pa.types.is_nested(column.type):
    raise UserError(
      f'{path} has no ids in its column {role}, but values of type {column.type}.'
    )
  if column.null_count:
    raise UserError(f'{path} has {column.null_count:,} rows without {role}. Mend them.')
  return column.cast(pa.string())


def _numbers(
  column: pa.ChunkedArray | None, role: str, path: str | os.PathLike
) -> np.ndarray | None:
  if column is None:
    return None
  if pa.types.is_dictionary(column.type) or pa.types.is_nested(column.type):
    raise UserError(
      f'{path} has no numbers in its column {role}, but values of type {column.type}.'
    )
  values = column.cast(pa.float64()).to_numpy()
  wrong = np.count_nonzero(~np.isfinite(values))
  if wrong:
    raise UserError(
      f'{path} has {wrong:,} rows whose {role} is no finite number. Leave them out: '
      'what is not listed is not recommended.'
    )
  return values
