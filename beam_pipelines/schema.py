"""What the columns of a ratings log are: its format, told or found out."""

import csv
import dataclasses
import itertools
import re
from collections.abc import Sequence

import pyarrow as pa

from beam_pipelines import files
from ncf_tfdata.errors import UserError

USER, ITEM, RATING, TIMESTAMP = ROLES = ('user', 'item', 'rating', 'timestamp')
IGNORED = '_'
BLANKS = ' \t'  # that may surround a number
_MAX_SHOWN = 300  # characters of a header in an error

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
    lines = files.first_lines(path, 1)
    header = _header(b''.join(lines), self.delimiter, path)
    if self.format == CSV and lines and _leaves_quote_open(lines[0]):
      raise UserError(
        f'the header of {path} goes on after a line end within quotes: '
        f'{_shown(header)}. Write it on one line.'
      )
    missing = [name for _, name in self.names if name not in header]
    if missing:
      raise UserError(
        f'{path} has no column {missing[0]!r}: received the header '
        f'{_shown(header)}, expected that of the first file.'
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
  if not lines:
    raise UserError(f'{path} holds no line that is not blank, expected ratings.')
  line = lines[0].decode(errors='replace')
  if log_format == 'auto':
    log_format = next((f for f, d in _DELIMITERS.items() if d in line), '')
    if not log_format:
      raise UserError(
        f'{path} begins with {line[:80]!r}: no `::`, tab or comma in it. Name the '
        f'format with --format={"|".join(FORMATS)}.'
      )
  delimiter = _DELIMITERS[log_format]
  fields = _header(lines[0], delimiter, path)
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
  place = schema.positions(path)[0].get(TIMESTAMP)
  example = _cell(lines[0 if columns else 1 :], delimiter, place)
  return dataclasses.replace(schema, iso_timestamps=iso_type(example))


def of_sources(
  sources: Sequence[files.File],
  log_format: str = 'auto',
  columns: tuple[str, ...] = (),
  names: dict[str, str] | None = None,
) -> Schema:
  """Finds a log's schema from the first of its files that is not blank.

  Args:
    sources: The files, in reading order.
    log_format: As `resolve` takes it, and so are the others.

  Raises:
    UserError: As `resolve`; or no file holds a row beside its header.
  """
  blank = itertools.takewhile(lambda file: not _has_rows(file.path, 0), sources)
  first = min(len(list(blank)), len(sources) - 1)
  schema = resolve(sources[first].path, log_format, columns, names)
  header = int(schema.columns is None)
  if not any(_has_rows(file.path, header) for file in sources[first:]):
    raise UserError(
      f'{sources[first].path} holds a header and no line after it'
      f'{", like all other files" if len(sources) > 1 else ""}: expected ratings.'
    )
  return schema


def _has_rows(path: str, header: int) -> bool:
  """Whether a file holds more than `header` lines; of Parquet, whether it has rows."""
  if len(files.first_lines(path, header + 1)) > header:
    return True
  if files.kind(path) != files.PARQUET:
    return False
  with files.open_parquet(path) as file:
    return not header or file.metadata.num_rows > 0


def _parquet_names(
  path: str, columns: tuple[str, ...], names: dict[str, str]
) -> tuple[tuple[str, str], ...]:
  if columns:
    raise UserError(
      f'--columns={",".join(columns)} is for a log without a header, and {path} is a '
      'Parquet file. Name its columns with --user_column, --item_column, …'
    )
  with files.open_parquet(path) as file:
    return _by_name(path, file.schema_arrow.names, names)


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


def _header(line: bytes, delimiter: str, path: str) -> list[str]:
  """The fields of a file's first line.

  Raises:
    UserError: It cannot be told what they are.
  """
  try:
    return _fields(line, delimiter)
  except csv.Error as error:
    raise UserError(
      f'{path} begins with {line[:80].decode(errors="replace")!r}, a line that cannot '
      f'be split into fields: {error}.'
    ) from error


def _fields(line: bytes, delimiter: str) -> list[str]:
  text = line.decode(errors='replace')
  if delimiter == ',':
    return next(csv.reader([text]), [])
  return text.split(delimiter)


def _cell(lines: list[bytes], delimiter: str, place: int | None) -> str:
  """A field of the first of some lines; '' where there is none."""
  try:
    return _fields(lines[0], delimiter)[place] if lines and place is not None else ''
  except (csv.Error, IndexError):
    return ''  # the line is a reject


def _leaves_quote_open(line: bytes) -> bool:
  reader = csv.reader([line.decode(errors='replace'), 'more'])
  next(reader)
  return reader.line_num > 1


def _shown(header: list[str]) -> str:
  """The names of a header; of a long one the beginning."""
  text = ', '.join(header)
  return text if len(text) <= _MAX_SHOWN else f'{text[:_MAX_SHOWN]}…'


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
        f'{_shown(header)}. Name one with --{role}_column.'
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
