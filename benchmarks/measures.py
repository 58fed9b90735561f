"""Which numbers of a result are times, rates or ratios, and which way is better.

A number is known by its path, `file:key.key[turn][place]`. Turns, elements of a list of
numbers or of lists, are one number, their median, and stand as `[]`. Elements of a list
of objects stand as what names them, `[users=2048,items=3706]`, or else as their place.
"""

import collections
import enum
import math
import re
import statistics
from collections.abc import Iterator
from typing import Any, NamedTuple


class Kind(enum.Enum):
  """What a number is. Ratios alone mean something on another machine."""

  TIME = 'time'
  RATE = 'rate'
  RATIO = 'ratio'


class Measure(NamedTuple):
  """How a number is judged.

  Attributes:
    rising: Whether more is better.
    theirs: Whether another program takes that time, or matrix products alone: it says
      how busy the machine was, and nothing about us.
  """

  kind: Kind
  rising: bool
  theirs: bool


# The first line that fits the end of a path decides. A new name of a time, rate or
# ratio that fits none of them needs a line here.
_NAMES = (
  # How many times slower another way is, and for ourselves, how much a larger catalogue
  # costs.
  (r'\[[^]]*way=rank_full[^]]*\]\.ratio_of_rank_full', Kind.RATIO, False),
  (r'\.ratio_of_rank_full', Kind.RATIO, True),
  (r'[.:](\w+_)?ratio', Kind.RATIO, False),
  (r'[.:]\w+_to_smallest', Kind.RATIO, False),
  (r'[.:]last_to_first_a_rating', Kind.RATIO, False),
  (r'[.:]\w+_(a|per)_(cpu_)?second', Kind.RATE, True),
  (r'[.:](\w+_)?seconds(_(a|of)_\w+)?', Kind.TIME, False),
  (r'[.:](\w+_)?ms(_a_\w+)?', Kind.TIME, False),
  # Of results that say in words what their numbers are.
  (r'(preparation|training):(ours|seed)', Kind.TIME, False),
  (r'history_step:(step|products)', Kind.TIME, False),
)
_PLACES = r'(\[\d*\])*'

# Where other programs stand in results; a ratio to one is ours all the same.
_THEIRS = (
  r':seed\b',
  r'history_step:products',
  r'preparation_peer:(cpu_)?seconds\[\]\[1\]',
  r'preparation_libraries:.*\.(replay|rectools|spark)\.',
  r'recbole_neumf:recbole',
  r'accuracy_over_time:(peers|baselines)\.',
  r'foreign_systems:chosen\.',
  r"\.implicit's BPR\b",
  r'full_ranking:.*\bway=predict',
  r'input_pipeline:ways\.(naive layout|tfds)\.',
)

# What tells one element of a list from another.
_KEYS = (
  'shape',
  'model',
  'optimizer',
  'way',
  'users',
  'items',
  'ratings',
  'flags',
  'cut',
)


def of(path: str) -> Measure | None:
  """How the number at a path is judged; None if it is no time, rate or ratio."""
  for name, kind, rising in _NAMES:
    if re.search(f'{name}{_PLACES}$', path):
      theirs = kind is not Kind.RATIO and any(re.search(at, path) for at in _THEIRS)
      return Measure(kind, rising, theirs)
  return None


def numbers(name: str, result: dict[str, Any]) -> dict[str, float]:
  """The times, rates and ratios of a result, by path, medians of turns.

  Args:
    name: Of the result's file, without its ending.
    result: What is in the file. Its record and what is not finite are left out.
  """
  found = collections.defaultdict(list)
  for key, value in result.items():
    if key not in ('record', 'machine'):
      for path, number in _walk(value, f'{name}:{key}'):
        found[path].append(number)
  return {
    path: statistics.median(values)
    for path, values in found.items()
    if of(path) and all(map(math.isfinite, values))
  }


def _walk(value: Any, path: str, turn: bool = False) -> Iterator[tuple[str, float]]:
  """Numbers and their paths; `turn` says that a list is within a turn already."""
  if isinstance(value, dict):
    for key, part in value.items():
      yield from _walk(part, f'{path}.{key}')
  elif isinstance(value, list):
    turns = not turn and not any(isinstance(part, dict) for part in value)
    for place, part in enumerate(value):
      label = '' if turns else _label(part) or str(place)
      yield from _walk(part, f'{path}[{label}]', turns)
  elif isinstance(value, int | float) and not isinstance(value, bool):
    yield path, float(value)


def _label(part: Any) -> str:
  if not isinstance(part, dict):
    return ''
  named = [
    f'{key}={part[key]}' for key in _KEYS if isinstance(part.get(key), str | int)
  ]
  return ','.join(named)
