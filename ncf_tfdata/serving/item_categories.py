"""Which items have which categories, to recommend nothing but some of them.

`rules` and the page ask this, and `rules_in_graph` has the same in an export. What is
kept are pairs of an item and a value that it has, at 8 bytes each, and never a cell for
every item and value: of 100,000 items and 1,000 values 5 to an item are 4 MB.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, Self

import numpy as np

from ncf_tfdata import dataset as dataset_lib
from ncf_tfdata.errors import ArgumentError
from ncf_tfdata.features.records import Categories

# Values that an error names.
_SHOWN = 5


def parsed(pairs: Iterable[str]) -> dict[str, list[str]]:
  """Values by column, of texts such as `genres:Comedy`; a value may hold colons.

  Raises:
    ArgumentError: A text is not such.
  """
  found: dict[str, list[str]] = {}
  for pair in pairs:
    name, _, value = pair.partition(':')
    if not name or not value:
      raise ArgumentError(
        '`only` must be columns, each with a value: genres:Comedy,genres:Drama.',
        only=pair,
      )
    found.setdefault(name, []).append(value)
  return found


class Column(NamedTuple):
  """A column of categories, as pairs of an item, or user, and a value that it has.

  Attributes:
    places: Index by value, of the most frequent first.
    row: int32 [pairs], dense ids, ascending.
    value: int32 [pairs], indices of values.
  """

  places: Mapping[str, int]
  row: np.ndarray
  value: np.ndarray

  @classmethod
  def of(cls, column: Categories) -> Self:
    """That of a dataset's features."""
    places = {value: place for place, value in enumerate(column.vocabulary)}
    row = np.arange(len(column.lengths), dtype=np.int32)
    return cls(places, np.repeat(row, column.lengths), column.values)

  def counts(self) -> np.ndarray:
    """How many have each value: int64 [values]."""
    return np.bincount(self.value, minlength=len(self.places))


class ItemCategories:
  """The columns of categories of a dataset's items.

  Attributes:
    num_items: Of the dataset.
    columns: By name; none where the dataset has no features of items.
  """

  def __init__(self, dataset: dataset_lib.Dataset):
    """Takes a dataset, or a view of one with new items.

    Raises:
      UserError: A file of its features is missing, or not what was written.
    """
    features = dataset.item_features()
    known = () if features is None else features.columns
    self.num_items = dataset.num_items
    self.columns = {
      column.name: Column.of(column)
      for column in known
      if isinstance(column, Categories)
    }
    self._kinds = {column.name: column.kind for column in known}
    self._directory = dataset.directory

  def having(self, only: Mapping[str, Sequence[str]]) -> np.ndarray:
    """Which items have one of the values of each column: bool [num_items].

    Args:
      only: Values by name of the column. No item has any of no values.

    Raises:
      ArgumentError: There is no such column of categories, or no such value.
    """
    if not isinstance(only, Mapping):
      raise ArgumentError('`only` must hold lists of values, by column.', only=only)
    found = np.ones(self.num_items, bool)
    for name, values in only.items():
      if isinstance(values, str):
        raise ArgumentError('`only` must hold lists of values, by column.', only=only)
      column = self._column(name, values)
      named = np.zeros(len(column.places), bool)
      named[[_place(column, name, value) for value in values]] = True
      having = np.zeros(self.num_items, bool)
      having[column.row[named[column.value]]] = True
      found &= having
    return found

  def _column(self, name: str, values: Sequence[str]) -> Column:
    if name in self.columns:
      return self.columns[name]
    if not self._kinds:
      expected = (
        f'{self._directory} has no features of items. Prepare it again with '
        '--item_features=FILE.'
      )
    else:
      what = f'{self._directory} has no column {name}'
      if name in self._kinds:
        what = f'{name} is a column of kind {self._kinds[name]}'
      columns = ', '.join(self.columns) or 'none, for there are none'
      expected = f'{what}, and `only` takes columns of categories: {columns}.'
    raise ArgumentError(expected, only=f'{name}:{next(iter(values), "")}')


def _place(column: Column, name: str, value: str) -> int:
  """Index of a value of a column.

  Raises:
    ArgumentError: It has no such value.
  """
  if value in column.places:
    return column.places[value]
  # Of thousands of values, those that may have been meant.
  near = difflib.get_close_matches(value, column.places, _SHOWN)
  known = near or list(column.places)[:_SHOWN]
  more = len(column.places) - len(known)
  rest = f' and {more:,} more' if more else ''
  raise ArgumentError(
    f'No item has this value. {name} has {", ".join(known)}{rest}.',
    only=f'{name}:{value}',
  )
