"""Vocabularies of a dataset: the original key of each user and item, by dense id.

This module imports neither TensorFlow nor Beam.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

# What stands for a character in a TSV file; the one that escapes comes first.
ESCAPES = {'\\': r'\\', '\t': r'\t', '\n': r'\n', '\r': r'\r'}
_TRANSLATED = str.maketrans(ESCAPES)
_UNESCAPES = {'\\': '\\', 't': '\t', 'n': '\n', 'r': '\r'}


@dataclasses.dataclass(frozen=True)
class Vocabulary:
  """Original keys by dense id, and the count of each key's kept train rows.

  Attributes:
    keys: Original keys; a key's dense id is its index.
    counts: int64 [len(keys)].
    first_times: int64 [len(keys)], when the first kept row of each item was, since the
      log's first row; None where the dataset holds no times, and of users.
    rows: int64 [len(keys)], all kept rows of each key, 0 of a line that is there for
      its id alone; None where no ids were kept of an earlier dataset.
  """

  keys: tuple[str, ...]
  counts: np.ndarray
  first_times: np.ndarray | None = None
  rows: np.ndarray | None = None

  def __len__(self) -> int:
    return len(self.keys)

  def ids(self) -> dict[str, int]:
    """Dense ids by original key, ascending.

    An empty key is of whom was forgotten, and is nobody's.
    """
    return {key: index for index, key in enumerate(self.keys) if key}


def decode(content: bytes, kept_ids: bool = False) -> Vocabulary:
  """Reads a vocabulary, whose lines stand in the order of dense ids.

  Args:
    content: Lines of a key, its count, its first time, where times are held, and all
      its rows, where ids were kept.
    kept_ids: Whether the last column holds all rows of each key.
  """
  lines = [line.split('\t') for line in content.decode().split('\n')[:-1]]
  keys, *columns = zip(*lines, strict=True) if lines else ((),) * (2 + kept_ids)
  numbers = [np.array([int(n) for n in column], np.int64) for column in columns]
  rows = numbers.pop() if kept_ids else None
  counts, *times = numbers
  first_times = times[0] if times else None
  return Vocabulary(tuple(map(unescape_key, keys)), counts, first_times, rows)


def escape_key(key: str) -> str:
  """One vocabulary key as it stands in a TSV file: no tab, no line end."""
  return key.translate(_TRANSLATED)


def unescape_key(text: str) -> str:
  """The inverse of `escape_key`."""
  if '\\' not in text:
    return text
  pieces, characters = [], iter(text)
  for character in characters:
    pieces.append(_UNESCAPES[next(characters)] if character == '\\' else character)
  return ''.join(pieces)


class Matches(NamedTuple):
  """The keys that two vocabularies share, by dense id in each.

  Attributes:
    here: int64 [n], ascending.
    there: int64 [n].
  """

  here: np.ndarray
  there: np.ndarray


def matches(here: Sequence[str], there: Sequence[str]) -> Matches:
  """Finds the keys of one vocabulary in another.

  An empty text, or one that stands in a vocabulary more than once, is no key, and
  matches nothing.
  """
  import pyarrow as pa
  import pyarrow.compute as pc

  own, other = (pa.array(keys, pa.large_string()) for keys in (here, there))
  found = pc.fill_null(pc.index_in(own, value_set=other), -1).to_numpy()
  found = np.where(_are_keys(own), found, -1)
  place = np.flatnonzero((found >= 0) & _are_keys(other)[found])
  return Matches(place, found[place].astype(np.int64))


def _are_keys(texts: Any) -> np.ndarray:
  """Which texts of a pyarrow array are a key: bool [n]; of no text, bool [1]."""
  if not len(texts):
    return np.zeros(1, bool)
  encoded = texts.dictionary_encode()
  index = encoded.indices.to_numpy()
  is_key = np.bincount(index) == 1
  is_key &= encoded.dictionary.to_numpy(zero_copy_only=False) != ''
  return is_key[index]
