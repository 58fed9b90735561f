"""Vocabularies of a dataset: the original key of each user and item, by dense id.

This module imports neither TensorFlow nor Beam.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np

if TYPE_CHECKING:
  import pyarrow as pa

# What stands for a character in a TSV file; the one that escapes comes first.
ESCAPES = {'\\': r'\\', '\t': r'\t', '\n': r'\n', '\r': r'\r'}
_TRANSLATED = str.maketrans(ESCAPES)
_UNESCAPES = {'\\': '\\', 't': '\t', 'n': '\n', 'r': '\r'}
_BYTE_ORDER_MARK = '\ufeff'.encode()
# Of lines that are read at once; no key is as long.
_BLOCK_BYTES = 1 << 26

# In place of a dense id: a key that a vocabulary does not hold.
UNKNOWN = -1


@dataclasses.dataclass(frozen=True)
class Vocabulary:
  """Original keys by dense id, and the count of each key's kept train rows.

  Attributes:
    texts: Original keys, large strings of Arrow; a key's dense id is its index.
    counts: int64 [len(texts)].
    first_times: int64 [len(texts)], when the first kept row of each item was, since the
      log's first row; None where the dataset holds no times, and of users.
    rows: int64 [len(texts)], all kept rows of each key, 0 of a line that is there for
      its id alone; None where no ids were kept of an earlier dataset.
  """

  texts: pa.LargeStringArray
  counts: np.ndarray
  first_times: np.ndarray | None = None
  rows: np.ndarray | None = None

  @classmethod
  def of(
    cls,
    keys: Sequence[str],
    counts: np.ndarray,
    first_times: np.ndarray | None = None,
    rows: np.ndarray | None = None,
  ) -> Self:
    """A vocabulary of keys that are no Arrow array yet; see the attributes."""
    return cls(_texts(keys), counts, first_times, rows)

  def __len__(self) -> int:
    return len(self.texts)

  @functools.cached_property
  def keys(self) -> tuple[str, ...]:
    """Original keys. Of many millions they take gigabytes: see `texts`."""
    return tuple(self.texts.to_pylist())

  def ids(self) -> dict[str, int]:
    """Dense ids by original key, ascending.

    An empty key is of whom was forgotten, and is nobody's. Of many millions of keys
    this takes gigabytes: `places` finds the ids of some.
    """
    return {key: index for index, key in enumerate(self.keys) if key}

  def known(self) -> np.ndarray:
    """Dense ids of all who have a key, ascending: int64 [n]."""
    import pyarrow.compute as pc

    return np.flatnonzero(pc.not_equal(self.texts, '').to_numpy(zero_copy_only=False))

  def places(self, keys: Sequence[str] | pa.ChunkedArray) -> np.ndarray:
    """Dense ids int64 [n] of original keys, `UNKNOWN` for others and for an empty one.

    Args:
      keys: n of them, in any order; or an Arrow array of them.
    """
    import pyarrow.compute as pc

    asked = _texts(keys).dictionary_encode()
    found = pc.index_in(self.texts, value_set=asked.dictionary)
    here = np.flatnonzero(found.is_valid().to_numpy(zero_copy_only=False))
    place = np.full(len(asked.dictionary), UNKNOWN, np.int64)
    place[found.drop_null().to_numpy()] = here
    place[pc.equal(asked.dictionary, '').to_numpy(zero_copy_only=False)] = UNKNOWN
    return place[asked.indices.to_numpy()]


def _texts(keys: Sequence[str] | pa.ChunkedArray) -> pa.LargeStringArray:
  """Keys as one Arrow array, which they may be already."""
  import pyarrow as pa

  if isinstance(keys, pa.ChunkedArray):
    return keys.cast(pa.large_string()).combine_chunks()
  return keys if isinstance(keys, pa.Array) else pa.array(keys, pa.large_string())


def decode(content: bytes, kept_ids: bool = False) -> Vocabulary:
  """Reads a vocabulary, whose lines stand in the order of dense ids.

  Args:
    content: Lines of a key, its count, its first time, where times are held, and all
      its rows, where ids were kept.
    kept_ids: Whether the last column holds all rows of each key.
  """
  if not content:
    nothing = np.zeros(0, np.int64)
    return Vocabulary.of((), nothing, rows=nothing if kept_ids else None)
  table = _read(content)
  keys, *columns = (column.combine_chunks() for column in table.columns)
  numbers = [column.to_numpy() for column in columns]
  rows = numbers.pop() if kept_ids else None
  counts, *times = numbers
  return Vocabulary(_unescaped(keys), counts, times[0] if times else None, rows)


def _read(content: bytes) -> pa.Table:
  """The columns of lines: texts, and int64s behind them."""
  import pyarrow as pa
  from pyarrow import csv

  line, _, _ = content.partition(b'\n')
  names = ['key', *(f'number {index}' for index in range(line.count(b'\t')))]
  types = dict.fromkeys(names, pa.int64()) | {'key': pa.large_string()}
  if content.startswith(_BYTE_ORDER_MARK):
    # The reader passes over one, and here it is of the first key.
    content = _BYTE_ORDER_MARK + content
  return csv.read_csv(
    pa.BufferReader(content),
    csv.ReadOptions(column_names=names, block_size=_BLOCK_BYTES),
    csv.ParseOptions(delimiter='\t', quote_char=False),
    csv.ConvertOptions(column_types=types, strings_can_be_null=False),
  )


def _unescaped(texts: pa.LargeStringArray) -> pa.LargeStringArray:
  import pyarrow as pa
  import pyarrow.compute as pc

  escaped = pc.match_substring(texts, '\\')
  few = [unescape_key(text) for text in texts.filter(escaped).to_pylist()]
  return pc.replace_with_mask(texts, escaped, pa.array(few, texts.type))


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

  Args:
    here: Keys, or an Arrow array of them.
    there: Others.
  """
  import pyarrow.compute as pc

  own, other = _texts(here), _texts(there)
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
