"""What the columns of a ratings log are: its format, told or found out."""

import csv
import dataclasses
import re

import pyarrow as pa
import pyarrow.parquet as pq

from beam_pipelines import files
from ncf_tfdata.errors import UserError

USER, ITEM, RATING, TIMESTAMP = ROLES = ('user', 'item', 'rating', 'timestamp')
IGNORED = '_'
BLANKS = ' \t'  # that may surround a number

MOVIELENS, TSV, CSV, PARQUET = FORMATS = ('movielens', 'tsv', 'csv', 'parquet')
_DELIMITERS = {MOVIELENS: '::', TSV: '\t', CSV: ','}
# Column names under which public logs keep each role, in lower-case letters.
_USUAL_NAMES = {
    USER: ('user', 'userid', 'uid', 'customerid', 'visitorid', 'reviewerid'),
    ITEM: ('item', 'itemid', 'movieid', 'productid', 'parentasin', 'asin', 'bookid',
           'trackid', 'iid'),
    RATING: ('rating', 'overall', 'score', 'stars'),
    TIMESTAMP: ('timestamp', 'time', 'unixreviewtime', 'datetime', 'date', 'ts'),
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Schema:
  """How to find users, items, ratings and timestamps in a log.

  Attributes:
    format: One of `FORMATS`.
    columns: The role of each column by position, `IGNORED` where it has none;
      None where columns go by name.
    names: The name of each role's column, where columns go by name.
    iso_timestamps: None where timestamps are whole numbers; else the Arrow type
      that ISO 8601 timestamps are read as.
  """

  format: str
  columns: tuple[str, ...] | None = None
  names: tuple[tuple[str, str], ...] = ()
  iso_timestamps: pa.DataType | None = None

  @property
  def delimiter(self) -> str:
    return _DELIMITERS[self.format]

  @property
  def roles(self) -> tuple[str, ...]:
    """The roles that the log has a column for."""
    present = self.columns or [role for role, _ in self.names]
    return tuple(role for role in ROLES if role in present)

  def positions(self, path: str) -> tuple[dict[str, int], int]:
    """Where the roles stand in one text file.

    Returns:
      The position of each role's column, and the number of columns.

    Raises:
      UserError: The file's header lacks one of the columns.
    """
    if self.columns is not None:
      return {role: self.columns.index(role) for role in self.roles}, len(self.columns)
    header = _header(b''.join(files.first_lines(path, 1)), self.delimiter)
    missing = [name for _, name in self.names if name not in header]
    if missing:
      raise UserError(
        f'{path} has no column {missing[0]!r}: received the header '
        f'{", ".join(header)}, expected that of the first file.'
      )
    return {role: header.index(name) for role, name in self.names}, len(header)

  def __str__(self) -> str:
    if self.columns is not None:
      return f'{self.format}, columns {",".join(self.columns)}'
    return f'{self.format}, ' + ', '.join(f'{role}={name}' for role, name in self.names)


def resolve(
  path: str,
  log_format: str = 'auto',
  columns: tuple[str, ...] = (),
  names: dict[str, str] | None = None,
) -> Schema:
  """Finds a log's schema from its first file.

  Args:
    path: The first file.
    log_format: One of `FORMATS`, or 'auto'.
    columns: The role of each column of a log without a header; empty to find out.
    names: Names of the roles' columns in a log with a header; the usual names are
      looked for where a role is not named.

  Raises:
    UserError: The format or a column cannot be told, or the flags contradict it.
  """
  names = {role: name for role, name in (names or {}).items() if name}
  if columns and names:
    raise UserError(
      f'--columns={",".join(columns)} is for a log without a header, and '
      f'--{next(iter(names))}_column for one with a header. Pass one of them.'
    )
  kind = files.kind(path)
  if (kind == files.PARQUET) != (log_format == PARQUET) and log_format != 'auto':
    raise UserError(
      f'--format={log_format}, but {path} is '
      f'{"a" if kind == files.PARQUET else "no"} Parquet file. Try --format=auto.'
    )
  if kind == files.PARQUET:
    return Schema(PARQUET, names=_parquet_names(path, columns, names))
  lines = files.first_lines(path, 2)
  line = b''.join(lines[:1]).decode(errors='replace')
  if log_format == 'auto':
    log_format = next((f for f, d in _DELIMITERS.items() if d in line), '')
    if not log_format:
      raise UserError(
        f'{path} begins with {line[:80]!r}: no `::`, tab or comma in it. Name the '
        f'format with --format={"|".join(FORMATS)}.'
      )
  delimiter = _DELIMITERS[log_format]
  fields = _header(line.encode(), delimiter)
  if columns:
    schema = Schema(log_format, columns=_checked(columns, len(fields), path))
  elif names or (_finds(fields, USER) and _finds(fields, ITEM)):
    schema = Schema(log_format, names=_by_name(path, fields, names))
  elif log_format != CSV and len(fields) in (2, 4):
    schema = Schema(log_format, columns=ROLES[: len(fields)])
  else:
    raise UserError(
      f'{path} begins with {line[:80]!r}, and which of its {len(fields)} columns is '
      'what cannot be told. With a header, pass --user_column and --item_column; '
      'without one, pass e.g. --columns=user,item,rating,timestamp.'
    )
  first = fields if schema.columns else _header(b''.join(lines[1:]), delimiter)
  place = schema.positions(path)[0].get(TIMESTAMP, len(first))
  if place < len(first):
    schema = dataclasses.replace(schema, iso_timestamps=iso_type(first[place]))
  return schema


def _parquet_names(path: str, columns, names) -> tuple[tuple[str, str], ...]:
  if columns:
    raise UserError(
      f'--columns={",".join(columns)} is for a log without a header, and {path} is a '
      'Parquet file. Name its columns with --user_column, --item_column, …'
    )
  try:
    with files.open_raw(path) as stream:
      header = pq.read_schema(stream).names
  except (pa.ArrowInvalid, OSError) as error:
    raise UserError(f'{path} is not a whole Parquet file: {error}') from error
  return _by_name(path, header, names)


def iso_type(value: str) -> pa.DataType | None:
  """The Arrow type that holds an ISO 8601 timestamp; None if it is not one."""
  for kind in (pa.timestamp('us'), pa.timestamp('us', 'UTC')):
    try:
      if not re.fullmatch(r'-?\d+', value.strip(BLANKS)):
        pa.array([value.strip(BLANKS)]).cast(kind)
        return kind
    except pa.ArrowInvalid:
      continue
  return None


def _header(line: bytes, delimiter: str) -> list[str]:
  text = line.decode(errors='replace')
  if delimiter == ',':
    return next(csv.reader([text]), [])
  return text.split(delimiter)


def _plain(name: str) -> str:
  """`user_id:token` and `userId` are both `userid`."""
  return re.sub('[^a-z0-9]', '', name.split(':')[0].lower())


def _finds(header: list[str], role: str) -> str | None:
  plain = {_plain(name): name for name in reversed(header)}
  return next((plain[name] for name in _USUAL_NAMES[role] if name in plain), None)


def _by_name(
  path: str, header: list[str], names: dict[str, str]
) -> tuple[tuple[str, str], ...]:
  found = []
  for role in ROLES:
    name = names.get(role) or _finds(header, role)
    if name in header:
      found.append((role, name))
    elif name or role in (USER, ITEM):
      raise UserError(
        f'{path} has no column {name or f"for the {role}"!r}: received '
        f'{", ".join(header)}. Name one with --{role}_column.'
      )
  return tuple(found)


def _checked(columns: tuple[str, ...], width: int, path: str) -> tuple[str, ...]:
  known = [c for c in columns if c != IGNORED]
  wrong = [c for c in known if c not in ROLES]
  if wrong or len(set(known)) < len(known) or not {USER, ITEM} <= set(known):
    raise UserError(
      f'--columns={",".join(columns)}: expected user and item once each, and '
      f'rating, timestamp or {IGNORED} (ignored) for the rest.'
    )
  if len(columns) != width:
    raise UserError(
      f'--columns={",".join(columns)} names {len(columns)} columns, but {path} has '
      f'{width}. Name each column, {IGNORED} for one to ignore.'
    )
  return columns
