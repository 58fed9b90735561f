"""What the first reading of a range has parsed, on a disk for the second."""

import os
from collections.abc import Iterator
from typing import NamedTuple

from beam_pipelines.ratings import Ratings
from beam_pipelines.spill import Store, Stored


class Parsed(NamedTuple):
  """The ratings of a range.

  Attributes:
    blocks: Where they lie, in order, in one file.
  """

  blocks: tuple[Stored, ...]

  def read(self) -> Iterator[Ratings]:
    """Yields the ratings, once: then their file is gone.

    Raises:
      UserError: Something has taken the file away before.
    """
    for block in self.blocks:
      yield block.get()
    for path in {block.path for block in self.blocks}:
      os.unlink(path)


class ParsedWriter:
  """Writes the ratings of a range."""

  def __init__(self, directory: str, min_rating: float):
    """Takes the scratch directory, and the least rating that rows are kept with."""
    self._store, self._min_rating = Store(directory), min_rating
    self._blocks: list[Stored] = []

  def put(self, block: Ratings) -> None:
    """Writes a block.

    Raises:
      UserError: There is no room.
    """
    self._blocks.append(self._store.put(block.narrowed(self._min_rating)))

  def close(self) -> Parsed:
    """Ends the file."""
    self._store.close()
    return Parsed(tuple(self._blocks))
