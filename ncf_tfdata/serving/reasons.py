"""Reasons of recommendations: which items of a history they are due to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple, Self

import numpy as np

# How many a recommendation has, where nobody says.
COUNT = 3

# What the numbers are, by how they were found.
MEANING = {
  'leave_one_out': 'what the network scores less without the item',
  'transitions': 'a part of what transitions add, exactly',
  'ease': 'a part of what EASE adds, exactly',
}


class Reasons(NamedTuple):
  """The strongest reasons of k recommendations to each of n users, strongest first.

  Attributes:
    item: int64 [n, k, r], items of the history; -1 where there are fewer.
    effect: float32 [n, k, r], above 0, or 0 where there are fewer: the sum of `parts`.
    parts: By how it was found, float32 of the same shape. Some may be below 0.
  """

  item: np.ndarray
  effect: np.ndarray
  parts: Mapping[str, np.ndarray]

  @classmethod
  def none(cls, shape: tuple[int, int, int]) -> Self:
    """No reasons [n, k, r]."""
    return cls(np.full(shape, -1), np.zeros(shape, np.float32), {})

  @classmethod
  def joined(cls, chunks: list[Self]) -> Self:
    """Those of all users, of those of some at a time."""
    return cls(
      np.concatenate([chunk.item for chunk in chunks]),
      np.concatenate([chunk.effect for chunk in chunks]),
      {
        name: np.concatenate([chunk.parts[name] for chunk in chunks])
        for name in chunks[0].parts
      },
    )

  def where(self, asked: np.ndarray) -> Self:
    """The same, and none where bool [n, k] is False."""
    asked = asked[:, :, None]
    return type(self)(
      np.where(asked, self.item, -1),
      self.effect * asked,
      {name: part * asked for name, part in self.parts.items()},
    )

  def of(self, row: int, place: int) -> list[tuple[int, float, dict[str, float]]]:
    """Item, effect and parts of each reason of one recommendation."""
    found = self.item[row, place]
    return [
      (
        int(item),
        _decimal(self.effect[row, place, number]),
        {name: _decimal(part[row, place, number]) for name, part in self.parts.items()},
      )
      for number, item in enumerate(found)
      if item >= 0
    ]


def _decimal(value: np.float32) -> float:
  """The shortest decimal that is read back as the same float32."""
  return float(str(value))


# user int64 [n], history int64 [sum of lengths], lengths int64 [n], items int64 [n, k].
Explain = Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray], Reasons]
