"""Top lists as values: what `Run.recommend` returns."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from ncf_tfdata.serving import recommendation_files
from ncf_tfdata.serving.recommendation_files import Lists
from ncf_tfdata.tables import Table


class Recommendation(NamedTuple):
  """One user's top list, best first.

  Attributes:
    user: Original id.
    items: Original ids, at most k.
    scores: The model's, or counts of train rows where `source` is `popularity`.
    source: `model`, or `popularity` for a user of whom the model knows nothing.
    names: Of the items, '' for one without; None where no names were given.
  """

  user: str
  items: list[str]
  scores: list[float]
  source: str
  names: list[str] | None


@dataclasses.dataclass(frozen=True)
class Recommendations:
  """Top lists of some users; iterates over `Recommendation`.

  Attributes:
    parts: The lists as arrays, some users at once.
  """

  parts: tuple[Lists, ...]

  def __len__(self) -> int:
    return sum(len(part.user) for part in self.parts)

  def __iter__(self) -> Iterator[Recommendation]:
    for part in self.parts:
      for row, user in enumerate(part.user):
        length = int(np.count_nonzero(part.item[row] != ''))
        yield Recommendation(
          str(user),
          part.item[row, :length].tolist(),
          recommendation_files.decimals(part.score[row, :length]),
          str(part.source[row]),
          None if part.name is None else part.name[row, :length].tolist(),
        )

  def table(self) -> Table:
    """All lists, for the screen."""
    return Table('\n'.join(text(part) for part in self.parts))


def text(lists: Lists) -> str:
  """Top lists to be read by people."""
  lines = []
  names = np.full_like(lists.item, '') if lists.name is None else lists.name
  for row, (user, source) in enumerate(zip(lists.user, lists.source, strict=True)):
    width = max(map(len, lists.item[row]), default=0)
    lines.append(f'user {user}, by {source}')
    columns = zip(lists.item[row], lists.score[row], names[row], strict=True)
    for rank, (item, score, name) in enumerate(columns, 1):
      if item:
        lines.append(f'{rank:4}  {item:<{width}}  {score:10.4f}  {name}'.rstrip())
  return '\n'.join(lines)
