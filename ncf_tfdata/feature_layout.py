"""Which columns a file of features has, and of what kinds: told or found out.

Parquet, and text that is separated by commas, tabs or `::`, each also gzipped. The
columns go by the names in its header, or by their places in a file without one.

This module imports neither TensorFlow nor Beam.
"""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Sequence
from typing import BinaryIO

from ncf_tfdata import feature_rows, feature_values, item_features
from ncf_tfdata.errors import UserError
from ncf_tfdata.feature_columns import CATEGORY, KINDS, VECTOR, FeatureColumn
from ncf_tfdata.feature_rows import PARQUET, Head, Layout
from ncf_tfdata.feature_text import MOVIELENS

IGNORED = '_'
# Files without a header that are known by their number of columns: MovieLens's movies
# and users.
_KNOWN = {
  ('item', 3): ('item', 'title:text', 'genres:category'),
  ('user', 5): (
    'user',
    'gender:category',
    'age:category',
    'occupation:category',
    'zip:category',
  ),
}


@dataclasses.dataclass(frozen=True)
class Wish:
  """What a user says of a file of features.

  Attributes:
    role: item or user: whose features they are.
    columns: `NAME` or `NAME:KIND` of each column that is read, or, without a header,
      of each column that there is, `IGNORED` for one that is not; empty to find out.
    key: Name of the key's column; None for the first, or the one called by the role.
    encoding: Of text.
  """

  role: str
  columns: tuple[str, ...] = ()
  key: str | None = None
  encoding: str = 'utf-8'

  @property
  def columns_flag(self) -> str:
    return f'--{self.role}_feature_columns'

  @property
  def key_flag(self) -> str:
    return f'--{self.role}_feature_key'


def resolve(
  stream: BinaryIO, path: str, wish: Wish, known: Sequence[FeatureColumn] = ()
) -> Layout:
  """Finds out how to read a file, and of which kind each column is.

  Args:
    stream: The file, seekable.
    path: Its name, for errors.
    wish: What is asked for.
    known: Columns that an earlier file had, which these are to be like.

  Raises:
    UserError: A column is not there, or cannot be told.
  """
  head = feature_rows.head(stream, path, wish.encoding)
  names, by_name = _names(head, path, wish)
  key, chosen = _chosen(names, by_name, path, wish)
  like = {column.name: column for column in known}
  columns, left_out = [], []
  for place, name, kind in chosen:
    column = like.get(name) or _found(head, place, name, kind)
    if column is not None:
      columns.append((place, column))
    elif kind or wish.columns:
      raise UserError(
        f'{path}: nothing in the first {len(head.columns[place]):,} rows of the column '
        f'{name}, of type {head.columns[place].type}, tells '
        f'{"how long its vectors are" if kind else "its kind"}. Leave it out of '
        f'{wish.columns_flag}, or turn it into text or numbers.'
      )
    else:
      left_out.append(name)
  if not columns:
    raise UserError(
      f'{path} has no column of features beside its key, {names[key]!r}: expected '
      f'categories, numbers, texts or vectors of each {wish.role}.'
    )
  found = tuple(column for _, column in columns)
  _refuse_clashes(found, path, wish)
  return Layout(
    format=head.format,
    role=wish.role,
    key=names[key],
    columns=found,
    places=(head.names[key], *(head.names[place] for place, _ in columns)),
    width=len(head.names),
    has_header=by_name,
    encoding=wish.encoding,
    left_out=tuple(left_out),
  )


def _found(head: Head, place: int, name: str, kind: str) -> FeatureColumn | None:
  """A column of a given kind, or of the one that its cells tell; None of none."""
  cells = head.columns[place].drop_null()
  if not kind:
    return feature_values.find(name, cells, feature_rows.splits(head.format))
  column = FeatureColumn(name, kind)
  return feature_values.with_dim(column, cells) if kind == VECTOR else column


def _names(head: Head, path: str, wish: Wish) -> tuple[list[str], bool]:
  """The name of each column, and whether it is the file that names them."""
  asked = [_parts(one)[0] for one in wish.columns if one != IGNORED]
  if head.format == PARQUET:
    return list(head.names), True
  first = head.first
  if wish.columns:
    if all(name in first or name in map(plain, first) for name in asked):
      return first, True
    if len(wish.columns) != len(first):
      raise UserError(
        f'{wish.columns_flag}={",".join(wish.columns)} names {len(wish.columns)} '
        f'columns, and not all of them stand in the first line of {path}: '
        f'{_shown(first)}. Give names that stand there; or, for a file without a '
        f'header, one for each of its {len(first)} columns, {wish.role} for the key '
        f'and {IGNORED} for one to leave out.'
      )
    return [_parts(one)[0] for one in wish.columns], False
  if head.format != MOVIELENS:
    return first, True
  known = _KNOWN.get((wish.role, len(first)))
  if known is None:
    raise UserError(
      f'{path} begins with {_shown(first)}, and what its {len(first)} columns are '
      f'cannot be told. Pass {wish.columns_flag}={wish.role},NAME:KIND,…, one for each '
      f'column, {IGNORED} for one to leave out.'
    )
  return [_parts(one)[0] for one in known], False


def _chosen(
  names: list[str], by_name: bool, path: str, wish: Wish
) -> tuple[int, list[tuple[int, str, str]]]:
  """Place of the key; and place, name and given kind of each column to read."""
  key = _key(names, by_name, path, wish)
  if not by_name:
    given = wish.columns or _KNOWN[wish.role, len(names)]
    parts = [_parts(one) for one in given]
    return key, [
      (place, plain(name), kind)
      for place, (name, kind) in enumerate(parts)
      if place != key and name != IGNORED
    ]
  if not wish.columns:
    return key, [
      (place, plain(name), '') for place, name in enumerate(names) if place != key
    ]
  chosen = []
  for name, kind in map(_parts, wish.columns):
    if name == IGNORED:
      continue
    place = _place(names, name)
    if place is None:
      raise UserError(
        f'{wish.columns_flag}={",".join(wish.columns)}: {path} has no column {name!r}, '
        f'but {_shown(names)}.'
      )
    if place != key:
      chosen.append((place, plain(name), kind))
  return key, chosen


def _key(names: list[str], by_name: bool, path: str, wish: Wish) -> int:
  if wish.key is not None:
    place = _place(names, wish.key)
    if place is None:
      raise UserError(
        f'{wish.key_flag}={wish.key}: {path} has no such column, but {_shown(names)}.'
      )
    return place
  if by_name:
    return 0
  if wish.role not in names:
    raise UserError(
      f'{wish.columns_flag}={",".join(wish.columns)}: none of them is the key. Call '
      f'its column {wish.role}, or name it by {wish.key_flag}.'
    )
  return names.index(wish.role)


def _place(names: Sequence[str], name: str) -> int | None:
  """The first column of a name, as it stands there or as it is cleaned."""
  plains = [plain(one) for one in names]
  for known in (list(names), plains):
    if name in known:
      return known.index(name)
  return None


def _parts(given: str) -> tuple[str, str]:
  """`NAME` or `NAME:KIND` as a name and a kind, '' where none is given."""
  name, _, kind = given.rpartition(':')
  return (name, kind) if name and kind in KINDS else (given, '')


def plain(name: str) -> str:
  """A name that may stand in file names and records: letters, digits, `_`.

  What stands after a colon, as in RecBole's `genre:token_seq`, is no part of it.
  """
  clean = re.sub('[^0-9A-Za-z_]+', '_', name.partition(':')[0]).strip('_')
  return clean or 'column'


def _shown(names: Sequence[str]) -> str:
  text = ', '.join(map(repr, names))
  return text if len(text) <= 300 else f'{text[:300]}…'


def record_names(role: str, columns: Sequence[FeatureColumn]) -> list[str]:
  """Names of all columns that a record holds."""
  names = [role]
  for column in columns:
    names.append(column.name)
    if column.kind == CATEGORY:
      names.append(item_features.length_name(column.name))
    elif column.kind == VECTOR:
      names.append(item_features.known_name(column.name))
  return names


def _refuse_clashes(columns: Sequence[FeatureColumn], path: str, wish: Wish) -> None:
  # Names are files' names too, which some systems take for the same in any case.
  counts = Counter(name.lower() for name in record_names(wish.role, columns))
  for name, count in counts.items():
    if count > 1:
      raise UserError(
        f'{path} has {count} columns that would be called {name!r} in the records. '
        f'Choose others by {wish.columns_flag}, or rename one of them.'
      )
