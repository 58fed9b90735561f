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
  """

  keys: tuple[str, ...]
  counts: np.ndarray
  first_times: np.ndarray | None = None

  def __len__(self) -> int:
    return len(self.keys)


def encode(keys: Sequence[str], *columns: np.ndarray) -> bytes:
  """Encodes keys and whole numbers of them, int64 [len(keys)], as lines of a TSV file.

  Args:
    keys: Original keys, by dense id.
    *columns: The count of each key, and the first time of each, where times are held.
  """
  numbers = (map(str, column.tolist()) for column in columns)
  lines = zip(map(escape_key, keys), *numbers, strict=True)
  return ''.join('\t'.join(line) + '\n' for line in lines).encode()


def decode(content: bytes) -> Vocabulary:
  """Reads what `encode` wrote."""
  rows = [line.split('\t') for line in content.decode().split('\n')[:-1]]
  keys, *columns = zip(*rows, strict=True) if rows else ((), ())
  numbers = [np.array([int(n) for n in column], np.int64) for column in columns]
  return Vocabulary(tuple(map(unescape_key, keys)), *numbers)


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
