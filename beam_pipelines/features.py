"""Features of items and users: dealt to groups, joined with keys, and counted.

A row is dealt to the group that its key's rows of the log are dealt to, and there meets
the dense id; what is joined goes to the range of dense ids that a shard holds. Values
of categories are counted in each group, and numbered for all of them.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from beam_pipelines import files, forgotten, keys, outputs
from beam_pipelines.feature_config import FeatureConfig
from ncf_tfdata import dataset, feature_layout
from ncf_tfdata.errors import UserError
from ncf_tfdata.feature_columns import (
  CATEGORY,
  NUMBER,
  FeatureTable,
)
from ncf_tfdata.feature_rows import Layout, Rows

ROLES = (dataset.ITEM, dataset.USER)
_SHARD_BYTES = 16 << 20  # of a file of features, a shard
_MAX_SHARDS = 1000


class Plan(NamedTuple):
  """A file of features, and what becomes of it.

  Attributes:
    role: item or user: whose features they are.
    number: Of the file among all that are read, the log's before it.
    path: Of the file.
    bytes: Its size.
    layout: How to read it.
    num_groups: That keys are dealt to.
    num_shards: Ranges of dense ids.
  """

  role: str
  number: int
  path: str
  bytes: int
  layout: Layout
  num_groups: int
  num_shards: int

  @property
  def kind(self) -> str:
    """Of the shards; see `manifest.File`."""
    of = {dataset.ITEM: dataset.ITEM_FEATURES, dataset.USER: dataset.USER_FEATURES}
    return of[self.role]

  @property
  def name(self) -> str:
    """Of the file, without folder."""
    return self.path.rpartition('/')[2]

  @property
  def forgotten(self) -> int:
    """Whose keys may be forgotten, as `forgotten.Forgetting.known` takes it."""
    return forgotten.ITEMS if self.role == dataset.ITEM else forgotten.USERS

  def __str__(self) -> str:
    return f'{self.name}, {self.bytes / 1e6:,.1f} MB: {self.layout}'

  def starts(self, size: int) -> np.ndarray:
    """The first of `size` dense ids of each shard, and the size: int64."""
    return np.arange(self.num_shards + 1) * size // self.num_shards


def plan(config: FeatureConfig, role: str, number: int, num_groups: int) -> Plan | None:
  """Finds out how to read a file of features; None where none is given.

  Args:
    config: What a user says of it.
    role: item or user.
    number: Of the file among all that are read.
    num_groups: That keys of the role are dealt to.

  Raises:
    UserError: It cannot be read, or its columns cannot be told.
  """
  flag = f'{role}_features'
  given = getattr(config, flag)
  if given is None:
    return None
  path = outputs.resolve(given, flag)
  found = files.match(path, flag)
  if len(found) > 1 or found[0].path.rstrip('/') != path.rstrip('/'):
    raise UserError(
      f'--{flag}={given} is a folder or a pattern, expected one file: '
      f'{found[0].path}, or all of them joined.'
    )
  files.kind(path)  # Refuses archives and the like.
  columns = getattr(config, f'{role}_feature_columns')
  key = getattr(config, f'{role}_feature_key')
  wish = feature_layout.Wish(role, columns, key, config.feature_encoding)
  with files.open_raw(path) as stream:
    layout = feature_layout.resolve(stream, path, wish)
  num_shards = min(max(files.text_bytes(found) // _SHARD_BYTES, 1), _MAX_SHARDS)
  return Plan(role, number, path, found[0].size, layout, num_groups, num_shards)


@dataclasses.dataclass(frozen=True, eq=False)
class Chunk:
  """Some rows of features, all of one group.

  Attributes:
    number: int64 [n], their places in the file, ascending.
    keys: String array [n].
    values: An array [n] for each column; see `ncf_tfdata.feature_values`.
  """

  number: np.ndarray
  keys: pa.Array
  values: tuple[pa.Array, ...]

  def take(self, places: np.ndarray) -> Chunk:
    """The rows at some places, int [m], in their order."""
    at = pa.array(places)
    values = tuple(column.take(at) for column in self.values)
    return Chunk(self.number[places], self.keys.take(at), values)


def deal(rows: Rows, num_groups: int) -> Iterator[tuple[int, Chunk]]:
  """Deals rows to the groups of their keys."""
  group = keys.groups(rows.keys, num_groups)
  whole = Chunk(rows.number, rows.keys, rows.values)
  order = np.argsort(group, kind='stable')
  numbers, starts = np.unique(group[order], return_index=True)
  if len(order):
    parts = np.split(order, starts[1:])
    for number, mine in zip(numbers.tolist(), parts, strict=True):
      yield number, whole.take(mine)


@dataclasses.dataclass(frozen=True, eq=False)
class KeyIds:
  """Some keys of the dataset that have rows of the log, all of one group.

  Attributes:
    keys: String array [m].
    ids: int64 [m], the dense id of each.
  """

  keys: pa.Array
  ids: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Joined:
  """Features of some dense ids.

  Attributes:
    ids: int64 [n], ascending.
    values: An array [n] for each column.
  """

  ids: np.ndarray
  values: tuple[pa.Array, ...]

  def deal(self, starts: np.ndarray) -> Iterator[tuple[int, Joined]]:
    """Deals them to ranges, which begin at `starts`: int64 [ranges + 1]."""
    bounds = np.searchsorted(self.ids, starts)
    for number in range(len(starts) - 1):
      begin, end = bounds[number], bounds[number + 1]
      if end > begin:
        values = tuple(column[begin:end] for column in self.values)
        # Compact, for a slice is sent with all that it is a slice of.
        values = tuple(column.take(pa.array(range(len(column)))) for column in values)
        yield number, Joined(self.ids[begin:end], values)


class Moments(NamedTuple):
  """What is known of some numbers.

  Attributes:
    size: How many there are.
    mean: Of them.
    squares: The sum of the squares of their distances from it.
  """

  size: int = 0
  mean: float = 0.0
  squares: float = 0.0

  @classmethod
  def of(cls, values: np.ndarray) -> Moments:
    """Those of some numbers, NaN left out, by sums that are alike on every machine."""
    known = values[~np.isnan(values)].astype(np.float64)
    if not len(known):
      return cls()
    mean = math.fsum(known) / len(known)
    return cls(len(known), mean, math.fsum((known - mean) ** 2))

  def join(self, other: Moments) -> Moments:
    """Those of both.

    Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm for computing
    sample variances" (1979), equation 1.5.
    """
    size = self.size + other.size
    if not size:
      return self
    shift = other.mean - self.mean
    squares = shift**2 * self.size * other.size / size
    mean = self.mean + shift * other.size / size
    return Moments(size, mean, self.squares + other.squares + squares)


@dataclasses.dataclass(frozen=True)
class Part:
  """What a step knows of a file of features.

  Attributes:
    order: In which moments are joined.
    counts: By name of `FeatureTable`; and `keys`, those of the dataset.
    sha256: Of the file.
    moments: Of each column of numbers, by its place.
    values: How many categories each column of them has, by its place.
    example: A key of the file, and one of the dataset.
  """

  order: int = 0
  counts: dict[str, int] = dataclasses.field(default_factory=dict)
  sha256: str = ''
  moments: dict[int, Moments] = dataclasses.field(default_factory=dict)
  values: dict[int, int] = dataclasses.field(default_factory=dict)
  example: tuple[str, str] = ('', '')


def join(
  chunks: Iterable[Chunk], known: Iterable[KeyIds], made: Plan, group: int
) -> tuple[Joined, Part]:
  """Gives the rows of a group the dense ids of their keys.

  Of several rows of a key the first of the file counts.
  """
  ours = list(known)
  names = pa.concat_arrays([pa.array([], pa.string()), *(one.keys for one in ours)])
  ids = np.concatenate([np.zeros(0, np.int64), *(one.ids for one in ours)])
  ordered = sorted(chunks, key=lambda chunk: int(chunk.number[0]))
  counts = {'repeated': 0, 'matched': 0, 'unmatched': 0, 'keys': len(ids)}
  example = min(names.to_pylist(), default='')
  if not ordered:
    return Joined(ids[:0], ()), Part(group, counts, example=('', example))
  rows = _joined(ordered)
  codes = rows.keys.dictionary_encode().indices.to_numpy()
  first = np.sort(np.unique(codes, return_index=True)[1])
  counts['repeated'] = len(codes) - len(first)
  rows = rows.take(first)
  place = pc.fill_null(pc.index_in(rows.keys, value_set=names), -1).to_numpy()
  matched = np.flatnonzero(place >= 0)
  counts['matched'] = len(matched)
  counts['unmatched'] = len(place) - len(matched)
  mine = ids[place[matched]]
  order = np.argsort(mine, kind='stable')
  rows = rows.take(matched[order])
  moments = {
    place: Moments.of(values.to_numpy(zero_copy_only=False))
    for place, (column, values) in enumerate(
      zip(made.layout.columns, rows.values, strict=True)
    )
    if column.kind == NUMBER
  }
  part = Part(group, counts, moments=moments, example=('', example))
  return Joined(mine[order], rows.values), part


def _joined(chunks: Sequence[Chunk]) -> Chunk:
  return Chunk(
    np.concatenate([chunk.number for chunk in chunks]),
    pa.concat_arrays([chunk.keys for chunk in chunks]),
    tuple(
      pa.concat_arrays(list(columns))
      for columns in zip(*(chunk.values for chunk in chunks), strict=True)
    ),
  )


class Counted(NamedTuple):
  """How many rows have each of some categories.

  Attributes:
    values: String array [m].
    counts: int64 [m].
  """

  values: pa.Array
  counts: np.ndarray


def count(values: pa.Array) -> Counted:
  """Counts the categories of a column, an array of lists without repeats."""
  encoded = values.flatten().dictionary_encode()
  number = np.bincount(
    encoded.indices.to_numpy(), minlength=len(encoded.dictionary)
  ).astype(np.int64)
  return Counted(encoded.dictionary, number)


def rank(found: Iterable[Counted]) -> Counted:
  """Adds counts up, and puts the most frequent categories first."""
  parts = list(found)
  names = pa.concat_arrays([pa.array([], pa.string()), *(one.values for one in parts)])
  encoded = names.dictionary_encode()
  total = np.zeros(len(encoded.dictionary), np.int64)
  numbers = np.concatenate([np.zeros(0, np.int64), *(one.counts for one in parts)])
  np.add.at(total, encoded.indices.to_numpy(), numbers)
  table = pa.table({'count': total, 'value': encoded.dictionary})
  keys_of = [('count', 'descending'), ('value', 'ascending')]  # by bytes
  order = pc.sort_indices(table, sort_keys=keys_of)
  return Counted(encoded.dictionary.take(order), total[order.to_numpy()])


def table(made: Plan, parts: Sequence[Part]) -> FeatureTable:
  """Puts together what is known of a file of features.

  Raises:
    UserError: No row of it is of a key of the dataset.
  """
  ordered = sorted(parts, key=lambda part: part.order)
  counts = dict.fromkeys(
    ('read', 'rejected', 'repeated', 'forgotten', 'matched', 'unmatched', 'keys'), 0
  )
  for part in ordered:
    for name, number in part.counts.items():
      counts[name] += number
  if not counts['matched']:
    _refuse_strangers(made, ordered)
  num_keys = counts.pop('keys')
  columns = []
  for place, column in enumerate(made.layout.columns):
    if column.kind == NUMBER:
      moments = Moments()
      for part in ordered:
        moments = moments.join(part.moments.get(place, Moments()))
      stddev = math.sqrt(moments.squares / max(moments.size, 1))
      column = dataclasses.replace(column, mean=moments.mean, stddev=stddev)
    if column.kind == CATEGORY:
      values = sum(part.values.get(place, 0) for part in ordered)
      column = dataclasses.replace(column, values=values)
    columns.append(column)
  return FeatureTable(
    name=made.name,
    bytes=made.bytes,
    sha256=''.join(part.sha256 for part in ordered),
    without_features=num_keys - counts['matched'],
    columns=tuple(columns),
    key=made.layout.key,
    positions=made.layout.positions,
    encoding=made.layout.encoding,
    **counts,
  )


def _refuse_strangers(made: Plan, parts: Sequence[Part]) -> None:
  examples = [part.example for part in parts]
  theirs = min((one for one, _ in examples if one), default='')
  ours = min((one for _, one in examples if one), default='')
  flag = f'--{made.role}_feature_key'
  raise UserError(
    f'no row of {made.path} is of {made.role}s that are kept of the log: its column '
    f'{made.layout.key!r} has keys such as {theirs!r}, and the log has keys such as '
    f'{ours!r}. Name the column of keys by {flag}, or the file of this log.'
  )
