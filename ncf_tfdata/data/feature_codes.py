"""Features as a network reads them: bags of numbered values, and dense columns.

They are of items or of users: of rows. What is fitted is fitted on the rows of a
dataset, so that an item that comes later is read as they were.

This module imports no TensorFlow.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np

from ncf_tfdata.data import words
from ncf_tfdata.features.records import Categories, Column, Features, Numbers, Texts

# A value that one row alone has says nothing of another.
_FEWEST_ROWS = 2

# Of a bag with more values the first ones count, which bounds a step's memory.
_MOST_VALUES = 32

# Standard deviations beyond which a number is taken for one there.
_FARTHEST = 5.0

NUMBERS = ''  # All columns of numbers are one; no column has this name.


@dataclasses.dataclass(frozen=True)
class Shape:
  """What the weights of a column must be like.

  Attributes:
    name: Of the column; `NUMBERS` for all columns of numbers.
    bag: Whether it holds numbered values, and not a dense row.
    size: How many values there are, or the width of a dense row.
  """

  name: str
  bag: bool
  size: int

  def to_config(self) -> dict[str, Any]:
    """As JSON holds it."""
    return dataclasses.asdict(self)

  @classmethod
  def of_config(cls, config: Mapping[str, Any]) -> Self:
    """Reads what `to_config` made."""
    return cls(**config)


@dataclasses.dataclass(frozen=True, eq=False)
class Bag:
  """Some of `size` values for each of n rows.

  Attributes:
    size: Number of values; also what stands where there is none.
    values: int32 [sum of lengths], row after row.
    start: int64 [n + 1], where each row's values begin, and the last's end.
    width: Most values of a row.
  """

  size: int
  values: np.ndarray
  start: np.ndarray
  width: int


@dataclasses.dataclass(frozen=True, eq=False)
class Codes:
  """Features of n rows.

  Attributes:
    size: n.
    bags: By name of the column.
    dense: float32 [n, d] by name of the column; zero where nothing is known.
  """

  size: int
  bags: Mapping[str, Bag]
  dense: Mapping[str, np.ndarray]

  def told(self) -> np.ndarray:
    """The rows of which anything is known: bool [n]."""
    found = np.zeros(self.size, bool)
    for bag in self.bags.values():
      found |= np.diff(bag.start) > 0
    for values in self.dense.values():
      found |= values.any(axis=1)
    return found


class Coder:
  """Reads features as those of a dataset are read.

      coder = Coder(dataset.item_features(), text_buckets=16384)
      codes = coder.codes(dataset.item_features())

  Attributes:
    shapes: A `Shape` of each column that a network gets.
    keys: By name of a bag's column, what each of its values is: a category, or the
      place that words are hashed to.
  """

  def __init__(self, features: Features, text_buckets: int):
    """Fits.

    Args:
      features: Of a dataset's items or users. Nothing is fitted on those that came
        later.
      text_buckets: Places that the words of a column share.
    """
    features = features.fitted()
    self._buckets = text_buckets
    self._numbers = [c.name for c in features.columns if isinstance(c, Numbers)]
    self._place: dict[str, np.ndarray] = {}
    self.keys: dict[str, tuple[str, ...]] = {}
    self._scales: dict[str, tuple[np.ndarray, float]] = {}
    shapes = []
    for column in features.columns:
      if isinstance(column, Categories | Texts):
        shapes.append(Shape(column.name, True, self._fit_bag(column)))
      elif not isinstance(column, Numbers):
        known = column.values[column.known]
        mean = known.mean(axis=0) if len(known) else np.zeros(known.shape[1])
        spread = float(np.sqrt(np.square(known - mean).mean())) if len(known) else 0.0
        self._scales[column.name] = mean.astype(np.float32), spread or 1.0
        shapes.append(Shape(column.name, False, known.shape[1]))
    if self._numbers:
      shapes.append(Shape(NUMBERS, False, 2 * len(self._numbers)))
    self.shapes: tuple[Shape, ...] = tuple(shapes)

  def _fit_bag(self, column: Categories | Texts) -> int:
    """Numbers the values that enough rows have; returns how many these are."""
    known = None if isinstance(column, Texts) else column.vocabulary
    size = self._buckets if known is None else len(known)
    values, _ = self._values(column)
    telling = np.flatnonzero(np.bincount(values, minlength=size) >= _FEWEST_ROWS)
    place = np.full(size, -1, np.int32)
    place[telling] = np.arange(len(telling))
    self._place[column.name] = place
    self.keys[column.name] = tuple(
      str(value) if known is None else known[value] for value in telling.tolist()
    )
    return len(telling)

  def _values(self, column: Categories | Texts) -> tuple[np.ndarray, np.ndarray]:
    """Values int32 [sum of lengths], and lengths int32 [n]."""
    if isinstance(column, Texts):
      return words.hashed(column.values, self._buckets)
    return column.values, column.lengths

  def codes(self, features: Features) -> Codes:
    """The codes of features of the same columns.

    Of numbers each has two cells: how many standard deviations from the mean, and 1
    where it is known. Of vectors the mean of the dataset's is taken off, and they are
    divided by the standard deviation of all their cells.
    """
    bags, dense = {}, {}
    for column in features.columns:
      if isinstance(column, Categories | Texts):
        bags[column.name] = self._bag(column)
      elif not isinstance(column, Numbers):
        mean, spread = self._scales[column.name]
        dense[column.name] = (column.values - mean) / spread * column.known[:, None]
    if self._numbers:
      columns = [features.column(name) for name in self._numbers]
      dense[NUMBERS] = np.concatenate([_standardised(c) for c in columns], axis=1)
    dense = {name: values.astype(np.float32) for name, values in dense.items()}
    return Codes(features.size, bags, dense)

  def _bag(self, column: Categories | Texts) -> Bag:
    values, lengths = self._values(column)
    row = np.repeat(np.arange(len(lengths)), lengths)
    values = self._place[column.name][values]
    row, values = row[values >= 0], values[values >= 0]
    start = np.searchsorted(row, np.arange(len(lengths) + 1))
    first = np.arange(len(row)) - start[row] < _MOST_VALUES
    row, values = row[first], values[first]
    start = np.searchsorted(row, np.arange(len(lengths) + 1))
    width = int(np.diff(start).max(initial=1))
    return Bag(len(self.keys[column.name]), values.astype(np.int32), start, width)


def _standardised(column: Column) -> np.ndarray:
  """Two cells a row, float32 [n, 2]: the number in standard deviations, and known."""
  assert isinstance(column, Numbers)
  known = ~np.isnan(column.values)
  away = (np.where(known, column.values, column.mean) - column.mean) / (
    column.stddev or 1.0
  )
  return np.stack([np.clip(away, -_FARTHEST, _FARTHEST), known], axis=1)


def names(shapes: Sequence[Shape]) -> list[str]:
  """What to call columns before a person."""
  return [shape.name or 'numbers' for shape in shapes]
