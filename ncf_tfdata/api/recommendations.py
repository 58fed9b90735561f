"""Top lists as values: what `Run.recommend` returns."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from ncf_tfdata.serving import list_files
from ncf_tfdata.serving.reasons import MEANING
from ncf_tfdata.serving.recommendation_files import Lists
from ncf_tfdata.tables import Table


class Reason(NamedTuple):
  """An item that a recommendation is due to.

  Attributes:
    item: Original id, of the user's history.
    effect: What it adds to the score, above 0: the sum of the parts.
    parts: By how they were found: `transitions` and `ease` are exact parts of what
      those add; `leave_one_out` is what the network's own score loses without the item.
    name: Of the item, '' for one without; None where no names were given.
  """

  item: str
  effect: float
  parts: dict[str, float]
  name: str | None


class Recommendation(NamedTuple):
  """One user's top list, best first.

  Attributes:
    user: Original id.
    items: Original ids, at most k.
    scores: The model's, or counts of train rows where `source` is `popularity`.
    source: `model`, or `popularity` for a user of whom the model knows nothing.
    names: Of the items, '' for one without; None where no names were given.
    reasons: Of each item, strongest first, where they were asked for. None have those
      of `popularity`, or of a model that reads no history.
  """

  user: str
  items: list[str]
  scores: list[float]
  source: str
  names: list[str] | None
  reasons: list[list[Reason]] | None = None


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
          list_files.decimals(part.score[row, :length]),
          str(part.source[row]),
          None if part.name is None else part.name[row, :length].tolist(),
          None
          if part.reasons is None
          else [list(map(_reason, told)) for told in part.reasons[row, :length]],
        )

  def table(self) -> Table:
    """All lists, for the screen."""
    lines = [text(part) for part in self.parts]
    lines += [told for part in self.parts[:1] if (told := meaning(part))]
    return Table('\n'.join(lines))


def _reason(told: Mapping[str, Any]) -> Reason:
  parts = {
    name: value
    for name, value in told.items()
    if name not in ('item', 'name', 'effect')
  }
  return Reason(told['item'], told['effect'], parts, told.get('name'))


def meaning(lists: Lists) -> str:
  """What the numbers of the reasons are; '' where there are none."""
  if lists.reasons is None:
    return ''
  found = {
    name: MEANING.get(name, f'of {name}')
    for told in lists.reasons.flat
    for reason in told
    for name in _reason(reason).parts
  }
  if not found:
    return 'no reasons: nothing of a history is in these scores.'
  each = '; '.join(f'{name}, {what}' for name, what in found.items())
  return f'+ what an item of the history adds to the score: {each}.'


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
        if lists.reasons is not None and (told := lists.reasons[row, rank - 1]):
          because = ', '.join(
            f'{reason.get("name") or reason["item"]} +{reason["effect"]:.2f}'
            for reason in told
          )
          lines.append(f'      because of {because}')
  return '\n'.join(lines)
