"""Rows of Parquet files as the columns of ratings."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from beam_pipelines import rejects as rejects_lib
from beam_pipelines import schema as schemas
from beam_pipelines.rejects import Rejects
from beam_pipelines.schema import ITEM, RATING, USER
from ncf_tfdata.errors import UserError

Columns = dict[str, pa.Array]


def parse(path: str, offset: int, table: pa.Table) -> tuple[Columns, Rejects]:
  """Takes rows as ratings; a null, an empty key or a NaN makes a reject.

  Args:
    path: Of the file, for errors.
    offset: Number of the first row.
    table: A column a role.

  Returns:
    The good rows, a column a role, and the rest.

  Raises:
    UserError: A column is of a type that its role cannot have.
  """
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
  bad_rows = np.flatnonzero(~good)
  lines = table.take(pa.array(bad_rows)).to_pylist()
  rejects = rejects_lib.of_rows(offset + bad_rows, reasons[bad_rows], lines)
  columns = {role: column.filter(pa.array(good)) for role, column in columns.items()}
  for role in (USER, ITEM):
    columns[role] = columns[role].cast(pa.string()).dictionary_encode()
  return columns, rejects


def _converted(role: str, column: pa.Array) -> pa.Array:
  """A column of any Arrow type in the type of its role, null where it does not fit."""
  if pa.types.is_dictionary(column.type):
    column = column.dictionary_decode()
  if role in (USER, ITEM):
    return cast(column, pa.string())
  if role == RATING:
    return cast(column, pa.float64())
  if pa.types.is_floating(column.type):
    column = pc.if_else(pc.is_finite(column), pc.floor(column), None)
  elif pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
    first = next((value for value in column.to_pylist() if value), '0')
    column = cast(column, schemas.iso_type(first) or pa.int64())
  if pa.types.is_date(column.type):
    column = column.cast(pa.timestamp('ms'))
  return cast(column, pa.int64())


def cast(column: pa.Array, kind: pa.DataType) -> pa.Array:
  """Casts a column, with null for the cells that do not fit.

  These are found by halves: n bad ones of m take about 2 n log2(m / n) casts.
  """
  try:
    return column.cast(kind)
  except pa.ArrowInvalid:
    pass
  if len(column) == 1:
    return pa.nulls(1, kind)
  middle = len(column) // 2
  halves = [cast(half, kind) for half in (column[:middle], column[middle:])]
  return pa.concat_arrays(halves)
