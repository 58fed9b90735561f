"""Similar items as values: what `Run.similar` returns."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from ncf_tfdata.serving import list_files
from ncf_tfdata.serving.similar import Lists
from ncf_tfdata.tables import Table


class SimilarTo(NamedTuple):
  """The items most similar to one, most similar first.

  Attributes:
    item: Original id of the item that was asked about.
    similar: Original ids, at most k.
    scores: By what was asked for: cosines, or scores after that item alone.
    names: Of the similar items, '' for one without; None where no names were given.
  """

  item: str
  similar: list[str]
  scores: list[float]
  names: list[str] | None


@dataclasses.dataclass(frozen=True)
class SimilarItems:
  """Lists of similar items; iterates over `SimilarTo`.

  Attributes:
    parts: The lists as arrays, some items at once.
    ignored: How many ids were of no item that the dataset knows.
  """

  parts: tuple[Lists, ...]
  ignored: int = 0

  def __len__(self) -> int:
    return sum(len(part.item) for part in self.parts)

  def __iter__(self) -> Iterator[SimilarTo]:
    for part in self.parts:
      for row, item in enumerate(part.item):
        length = int(np.count_nonzero(part.similar[row] != ''))
        yield SimilarTo(
          item,
          part.similar[row, :length].tolist(),
          list_files.decimals(part.score[row, :length]),
          None if part.name is None else part.name[row, :length].tolist(),
        )

  def table(self) -> Table:
    """All lists, for the screen."""
    return Table('\n'.join(text(part) for part in self.parts))


def text(lists: Lists) -> str:
  """Lists of similar items, to be read by people."""
  lines = []
  blank = np.full_like(lists.similar, '')
  names = blank if lists.name is None else lists.name
  for row, item in enumerate(lists.item):
    width = max(map(len, lists.similar[row]), default=0)
    title = '' if lists.names is None else lists.names[row]
    lines.append(f'item {item}  {title}'.rstrip() + f', by {lists.by}')
    columns = zip(lists.similar[row], lists.score[row], names[row], strict=True)
    for rank, (similar, score, name) in enumerate(columns, 1):
      if similar:
        lines.append(f'{rank:4}  {similar:<{width}}  {score:10.4f}  {name}'.rstrip())
  return '\n'.join(lines)
