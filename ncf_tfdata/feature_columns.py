"""What a dataset says of the features of its items, and of its users.

`item_features` reads the features themselves. Means are those of known values alone.

This module imports neither TensorFlow nor Beam.
"""

import dataclasses
from typing import Any

CATEGORY, NUMBER, TEXT, VECTOR = KINDS = ('category', 'number', 'text', 'vector')


@dataclasses.dataclass(frozen=True)
class FeatureColumn:
  """A column of features.

  Attributes:
    name: Of the column.
    kind: One of `KINDS`.
    values: Of categories: how many different ones there are.
    mean: Of numbers: that of known values; 0 where none is known.
    stddev: Of numbers: the standard deviation of known values, of all of them.
    dim: Of vectors: how many numbers each has.
  """

  name: str
  kind: str
  values: int | None = None
  mean: float | None = None
  stddev: float | None = None
  dim: int | None = None


@dataclasses.dataclass(frozen=True)
class FeatureTable:
  """The features of a dataset's items, or of its users, and where they are from.

  `read` is the sum of `rejected`, `forgotten`, `repeated`, `matched` and `unmatched`.

  Attributes:
    name: Of the file that was read, without folder.
    bytes: Of that file.
    sha256: Digest of its ranges.
    read: Rows of the file.
    rejected: Rows that were not understood; rejects.tsv has them.
    repeated: Rows of a key that an earlier row was of.
    forgotten: Rows of keys that are to be forgotten.
    matched: Rows that the dataset holds.
    unmatched: Rows of keys that the dataset does not hold.
    without_features: Keys of the dataset that no row was of.
    columns: In the order of the file.
    key: Name of the key's column.
    positions: Of a file without a header, what each of its columns is, `_` for one that
      was not read: `item`, `title:text`.
    encoding: Of a text file.
  """

  name: str
  bytes: int
  sha256: str
  read: int
  rejected: int
  repeated: int
  forgotten: int
  matched: int
  unmatched: int
  without_features: int
  columns: tuple[FeatureColumn, ...]
  key: str = 'item'
  positions: tuple[str, ...] = ()
  encoding: str = 'utf-8'

  def to_content(self) -> dict[str, Any]:
    """As JSON holds it: of a column, what its kind has."""
    content = dataclasses.asdict(self)
    content['columns'] = [
      {name: value for name, value in column.items() if value is not None}
      for column in content['columns']
    ]
    return content

  @classmethod
  def from_content(cls, content: dict[str, Any]) -> 'FeatureTable':
    """Reads what `to_content` made.

    Raises:
      TypeError: It is not such.
    """
    columns = tuple(FeatureColumn(**column) for column in content['columns'])
    positions = tuple(content['positions'])
    return cls(**{**content, 'columns': columns, 'positions': positions})
