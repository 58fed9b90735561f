"""Files that people bring (histories, titles), and lists that they take away."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv

from ncf_tfdata import object_store
from ncf_tfdata.errors import UserError
from ncf_tfdata.serving import list_files
from ncf_tfdata.serving.reasons import MEANING, Reasons

if TYPE_CHECKING:
  from ncf_tfdata.serving.recommender import Recommendations

# Stands in for a delimiter of two characters, which pyarrow does not take.
_UNIT_SEPARATOR = b'\x1f'
_DELIMITERS = (b'::', b'\t', b',')

MODEL, POPULARITY = 'model', 'popularity'


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
    reasons: object [n, k], a list of the reasons of each: mappings with `item`, `name`
      where names are given, `effect` and its parts. None where none were asked for.
  """

  user: Sequence[str]
  item: np.ndarray
  score: np.ndarray
  by_model: np.ndarray
  name: np.ndarray | None = None
  reasons: np.ndarray | None = None

  @property
  def source(self) -> np.ndarray:
    """Whose list it is, `MODEL`'s or `POPULARITY`'s: object [n]."""
    return np.where(self.by_model, MODEL, POPULARITY).astype(object)

  @classmethod
  def joined(cls, parts: Sequence[Self]) -> Self:
    """Those of all users, of those of some at a time."""
    users = [user for part in parts for user in part.user]
    _, *arrays = zip(*parts, strict=True)
    values = (None if each[0] is None else np.concatenate(each) for each in arrays)
    return cls(users, *values)  # type: ignore[arg-type]

  def named(self, names: Mapping[str, str]) -> Self:
    """The same with names by item, '' for one without; also of the reasons."""
    name = np.array([names.get(key, '') for key in self.item.flat], object)
    told = None
    if self.reasons is not None:
      told = np.empty_like(self.reasons)
      for place in np.ndindex(told.shape):
        told[place] = [_named(reason, names) for reason in self.reasons[place]]
    return self._replace(name=name.reshape(self.item.shape), reasons=told)

  def columns(self) -> dict[str, np.ndarray]:
    """A row for each item of each list."""
    row, place = np.nonzero(self.item != '')
    columns = {
      'user': np.array(self.user, object)[row],
      'rank': (place + 1).astype(np.int32),
      'item': self.item[row, place],
      'score': self.score[row, place],
      'source': self.source[row],
    }
    for name in ('name', 'reasons'):
      if (values := getattr(self, name)) is not None:
        columns[name] = values[row, place]
    return columns

  def lines(self) -> Iterator[dict[str, Any]]:
    """A mapping for each list, as JSON has it."""
    rows = zip(self.user, self.item, self.score, self.source, strict=True)
    for row, (user, item, score, source) in enumerate(rows):
      length = np.count_nonzero(item != '')
      line = {
        'user': user,
        'items': item[:length].tolist(),
        'scores': list_files.decimals(score[:length]),
        'source': source,
      }
      if self.name is not None:
        line['names'] = self.name[row, :length].tolist()
      if self.reasons is not None:
        line['reasons'] = self.reasons[row, :length].tolist()
      yield line


def _named(reason: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
  """A reason with its name, which stands behind the item."""
  item = reason['item']
  return {'item': item, 'name': names.get(item, ''), **reason}


def types(named: bool = False, explained: bool = False) -> dict[str, pa.DataType]:
  """Columns of a table of recommendations, with names or reasons or without."""
  found = {
    'user': pa.string(),
    'rank': pa.int32(),
    'item': pa.string(),
    'score': pa.float32(),
    'source': pa.string(),
  }
  name = {'name': pa.string()} if named else {}
  found |= name
  if explained:
    numbers = dict.fromkeys(['effect', *MEANING], pa.float32())
    reason = {'item': pa.string(), **name, **numbers}
    found['reasons'] = pa.list_(pa.struct(list(reason.items())))
  return found


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

  def lists(
    self, users: Sequence[str], found: Recommendations, reasons: Reasons | None = None
  ) -> Lists:
    """What was recommended, in dense ids, to n users of these original ids."""
    # Of no item the id is -1, which is the last one's.
    name = None if self.name is None else self.name[found.item]
    made = Lists(users, self.key[found.item], found.score, found.by_model, name)
    if reasons is None:
      return made
    told = np.empty(found.item.shape, object)
    for row, place in np.ndindex(told.shape):
      told[row, place] = self._reasons(reasons, row, place)
    return made._replace(reasons=told)

  def _reasons(self, reasons: Reasons, row: int, place: int) -> list[dict[str, Any]]:
    return [
      {
        'item': self.key[item],
        **({} if self.name is None else {'name': self.name[item]}),
        'effect': effect,
        **parts,
      }
      for item, effect, parts in reasons.of(row, place)
    ]
