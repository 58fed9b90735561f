"""Users and items that are to be forgotten: nothing of them is written.

Their rows are left out where ranges are read, so no later step knows them. Lines that
are no ratings may hold a key in any form, so rejects lose their text.

Workers read the files by their paths: keys stand in no description of the job.
"""

import dataclasses
import functools
import hashlib
import os
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from beam_pipelines import files
from beam_pipelines.ratings import Ratings
from beam_pipelines.rejects import Rejects
from ncf_tfdata import vocabulary
from ncf_tfdata.errors import UserError

# A value that a reason shows.
_SHOWN_VALUE = r"""^(\w+) ['"].*['"] is not """


USERS, ITEMS = range(2)


class Found(NamedTuple):
  """Which keys of the two files some rows had: bool [keys of a file], as bits."""

  users: bytes = b''
  items: bytes = b''


class KeyFile(NamedTuple):
  """A file of keys, as it was when the job began; no path for none."""

  path: str = ''
  sha256: str = ''


_NO_FILE = KeyFile()


@dataclasses.dataclass(frozen=True)
class Plan:
  """Who is forgotten.

  Attributes:
    users: A file of keys of users.
    items: The same of items.
  """

  users: KeyFile = _NO_FILE
  items: KeyFile = _NO_FILE

  def __bool__(self) -> bool:
    return bool(self.users.path or self.items.path)

  def keys(self) -> tuple[pa.Array, pa.Array]:
    """The keys of users, and of items: string arrays of distinct keys."""
    return read(self.users), read(self.items)


def plan(users: str | None, items: str | None) -> Plan:
  """Makes sure that the files can be read.

  Raises:
    UserError: One cannot, or a line is no key.
  """
  made = Plan(_file(users), _file(items))
  made.keys()
  return made


def _file(given: str | None) -> KeyFile:
  if not given:
    return _NO_FILE
  # Workers may be in other directories.
  path = given if '://' in given else os.path.abspath(os.path.expanduser(given))
  return KeyFile(path, hashlib.sha256(_content(path)).hexdigest())


def _content(path: str) -> bytes:
  with files.open_raw(path) as stream:
    return stream.read()


@functools.lru_cache(maxsize=4)
def read(file: KeyFile) -> pa.Array:
  """Reads a file of keys, once a process: distinct keys, sorted; none of no file.

  A key stands on a line of its own, as users.tsv and items.tsv have it.

  Raises:
    UserError: It cannot be read, is not UTF-8, has changed, or a line is no key.
  """
  path = file.path
  if not path:
    return pa.array([], pa.string())
  content = _content(path)
  if hashlib.sha256(content).hexdigest() != file.sha256:
    raise UserError(f'{path} changed while it was read. Run again.')
  try:
    text = content.removeprefix(files.BOM).decode()
  except UnicodeDecodeError as error:
    raise UserError(
      f'{path} is not UTF-8 text ({error.reason} at byte {error.start}): expected a '
      'key a line.'
    ) from error
  lines = [line.removesuffix('\r') for line in text.split('\n')]
  for number, line in enumerate(lines, 1):
    if '\t' in line:
      raise UserError(
        f'line {number} of {path} has several columns: expected a key a line, as '
        'by `cut -f1`.'
      )
  try:
    found = {vocabulary.unescape_key(line) for line in lines if line}
  except (KeyError, StopIteration) as error:
    raise UserError(
      f'{path} has a backslash that stands for nothing: expected keys as users.tsv and '
      r'items.tsv have them, \\ for a backslash.'
    ) from error
  return pa.array(sorted(found), pa.string())


class Forgetting:
  """Leaves some users and items out of blocks of ratings.

  Attributes:
    rows: How many rows were left out so far.
  """

  def __init__(self, made: Plan):
    """Takes whom to leave out."""
    self.rows = 0
    self._keys = made.keys()
    self._found = tuple(np.zeros(len(keys), bool) for keys in self._keys)
    self._any = bool(made)

  def leave_out(self, block: Ratings) -> Ratings:
    """A block without their rows, keys, and the text of what are no ratings."""
    if not self._any:
      return block
    known = [
      self.known(column.dictionary, place)
      for place, column in ((USERS, block.user), (ITEMS, block.item))
    ]
    kept = np.ones(len(block), bool)
    for column, mine in zip((block.user, block.item), known, strict=True):
      kept &= ~mine[column.indices.to_numpy()]
    self.rows += len(block) - int(kept.sum())
    user, item = (
      _without(column, mine, kept)
      for column, mine in zip((block.user, block.item), known, strict=True)
    )
    return Ratings(
      block.offset,
      user,
      item,
      None if block.rating is None else block.rating[kept],
      None if block.timestamp is None else block.timestamp[kept],
      without_text(block.rejects),
    )

  def known(self, names: pa.Array, place: int) -> np.ndarray:
    """Which of some keys, string [n], are forgotten: bool [n].

    Args:
      names: Of users or items.
      place: `USERS` or `ITEMS`.
    """
    if not len(self._keys[place]):
      return np.zeros(len(names), bool)
    at = pc.fill_null(pc.index_in(names, value_set=self._keys[place]), -1).to_numpy()
    self._found[place][at[at >= 0]] = True
    return at >= 0

  def found(self) -> Found:
    """Which keys of the files were met so far."""
    return Found(*(np.packbits(mask).tobytes() for mask in self._found))


def _without(
  column: pa.DictionaryArray, gone: np.ndarray, kept: np.ndarray
) -> pa.DictionaryArray:
  """The kept rows of a column, bool [n], without the keys that are gone, bool [m]."""
  place = (np.cumsum(~gone) - 1).astype(np.int32)
  return pa.DictionaryArray.from_arrays(
    pa.array(place[column.indices.to_numpy()[kept]]),
    column.dictionary.filter(pa.array(~gone)),
  )


def without_text(found: Rejects) -> Rejects:
  """Rejects without what their lines hold."""
  return Rejects(
    found.offset,
    pc.replace_substring_regex(found.reason, _SHOWN_VALUE, r'\1 is not '),
    pa.array([''] * len(found), pa.string()),
  )


def unmatched(made: Plan, found: list[Found]) -> dict[str, int]:
  """How many keys were to be forgotten, and how many of them were nowhere, by name."""
  counts: dict[str, Any] = {}
  for place, role in enumerate(('users', 'items')):
    file = getattr(made, role)
    if not file.path:
      continue
    total = len(read(file))
    met = np.zeros(-(-total // 8), np.uint8)
    for one in found:
      met |= np.frombuffer(one[place], np.uint8)
    counts[f'forget_{role}'] = total
    counts[f'forget_{role}_unmatched'] = total - int(np.unpackbits(met).sum())
  return counts
