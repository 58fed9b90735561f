"""Rows on a local disk, and small references to them in the streams of Beam.

The direct runner holds in memory what its streams carry, several times over, and copies
it from one form to the next. Its workers share a disk. So there large values go to
files of a scratch directory, and the streams carry where they lie. Elsewhere values go
through the engine, which spills them itself.
"""

import os
import pickle
import uuid
from typing import Any, BinaryIO, NamedTuple

import apache_beam as beam

from ncf_tfdata.errors import UserError

_PREFIX = 'spilled-'
NAME = rf'{_PREFIX}[0-9a-f]{{32}}'  # of a file, as a regular expression


class Stored(NamedTuple):
  """A value, or where it lies.

  Attributes:
    value: It, where it is in no file.
    path: Of the file; '' for none.
    offset: The first byte.
    size: Bytes.
  """

  value: Any
  path: str = ''
  offset: int = 0
  size: int = 0

  def get(self) -> Any:
    """The value.

    Raises:
      UserError: Something has taken the file away.
    """
    if not self.path:
      return self.value
    try:
      with open(self.path, 'rb', buffering=0) as stream:
        content = os.pread(stream.fileno(), self.size, self.offset)
    except OSError as error:
      raise UserError(
        f'cannot read {self.path} again: {error}. Let nothing else write there, and '
        'run again.'
      ) from error
    return pickle.loads(content)


class Store:
  """Puts values into a file of its own, one after the other, or leaves them alone."""

  def __init__(self, directory: str | None):
    """Takes the scratch directory; None where there is none.

    The file is made with the first value.
    """
    self._directory = directory
    self._stream: BinaryIO | None = None
    self._path = ''

  def put(self, value: Any) -> Stored:
    """Writes a value, and tells where it lies.

    Raises:
      UserError: There is no room.
    """
    if self._directory is None:
      return Stored(value)
    try:
      if self._stream is None:
        self._path = os.path.join(self._directory, f'{_PREFIX}{uuid.uuid4().hex}')
        self._stream = open(self._path, 'xb')  # noqa: SIM115
      offset = self._stream.tell()
      pickle.dump(value, self._stream, protocol=5)
      self._stream.flush()  # The next step may read it at once.
    except OSError as error:
      raise UserError(
        f'cannot write {self._path}: {error}. Free some room there, or choose another '
        'disk by --output, or by TMPDIR where the output is on a store.'
      ) from error
    return Stored(None, self._path, offset, self._stream.tell() - offset)

  def close(self) -> None:
    """Ends the file. What is put in later goes to another."""
    if self._stream is not None:
      self._stream.close()
      self._stream = None


class StoringDoFn(beam.DoFn):
  """A DoFn that puts values into `self.store`, a file a bundle."""

  def __init__(self, scratch: str | None):
    """Takes the scratch directory; None where there is none."""
    self._scratch = scratch

  def start_bundle(self) -> None:
    self.store = Store(self._scratch)

  def finish_bundle(self) -> None:
    self.store.close()
