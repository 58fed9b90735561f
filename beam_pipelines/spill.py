"""Rows on a local disk, and small references to them in the streams of Beam.

The direct runner holds in memory what is shuffled, several times over, and copies it
from one form to the next. Its workers share a disk. So there large values go to files
of a scratch directory, and the streams carry where they lie. Elsewhere values go
through the engine, which spills them itself.
"""

import os
import pickle
import uuid
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO, NamedTuple

import apache_beam as beam

from ncf_tfdata.errors import UserError

_PREFIX = 'spilled-'
NAME = rf'{_PREFIX}[0-9a-f]{{32}}'  # of a file, as a regular expression


class Reference(NamedTuple):
  """Where a value lies.

  Attributes:
    path: Of the file.
    offset: The first byte.
    size: Bytes.
  """

  path: str
  offset: int
  size: int

  def read(self) -> Any:
    """The value.

    Raises:
      UserError: Something has taken the file away.
    """
    try:
      with open(self.path, 'rb', buffering=0) as stream:
        content = os.pread(stream.fileno(), self.size, self.offset)
    except OSError as error:
      raise UserError(
        f'cannot read {self.path} again: {error}. Let nothing else write there, and '
        'run again.'
      ) from error
    return pickle.loads(content)


class Writer:
  """Writes values to a file of its own, one after the other."""

  def __init__(self, directory: str):
    """Takes the scratch directory. The file is made with the first value."""
    self._path = os.path.join(directory, f'{_PREFIX}{uuid.uuid4().hex}')
    self._stream: BinaryIO | None = None

  def put(self, value: Any) -> Reference:
    """Writes a value, and tells where it lies once the writer is closed.

    Raises:
      UserError: There is no room.
    """
    try:
      if self._stream is None:
        self._stream = open(self._path, 'xb')  # noqa: SIM115
      offset = self._stream.tell()
      pickle.dump(value, self._stream, protocol=5)
      return Reference(self._path, offset, self._stream.tell() - offset)
    except OSError as error:
      raise _no_room(self._path, error) from error

  def close(self) -> None:
    """Ends the file.

    Raises:
      UserError: There is no room.
    """
    if self._stream is not None:
      try:
        self._stream.close()
      except OSError as error:
        raise _no_room(self._path, error) from error


def _no_room(path: str, error: OSError) -> UserError:
  return UserError(
    f'cannot write {path}: {error}. Free some room, or choose another --output.'
  )


def values(found: Iterable[Any]) -> Iterator[Any]:
  """Yields values, those that were put away as well, one in memory at a time."""
  for one in found:
    yield one.read() if isinstance(one, Reference) else one


class PutAway(beam.DoFn):
  """(group, value) → (group, reference to the value), a file a bundle."""

  def __init__(self, directory: str):
    """Takes the scratch directory."""
    self._directory = directory

  def start_bundle(self) -> None:
    self._writer = Writer(self._directory)

  def process(self, element: tuple[int, Any]) -> Iterator[tuple[int, Reference]]:
    group, value = element
    yield group, self._writer.put(value)

  def finish_bundle(self) -> None:
    self._writer.close()
