"""One training at a time in a run directory."""

import contextlib
import errno
import fcntl
import os
import pathlib

from ncf_tfdata.errors import UserError

# What systems say where another process holds it; other errors are of file systems
# without locks.
_HELD = (errno.EAGAIN, errno.EACCES)


class RunLock:
  """Holds a directory until it is released, or the process is gone, however it went.

  It is the system's lock of the directory itself, so there is no file to leave behind.
  File systems that know no such locks have none.
  """

  def __init__(self) -> None:
    self._descriptor: int | None = None
    self._made: pathlib.Path | None = None

  def take(self, directory: pathlib.Path) -> None:
    """Makes the directory, where need be, and holds it.

    Raises:
      UserError: Another training holds it, or it cannot be made.
    """
    try:
      if not directory.exists():
        self._made = directory
      directory.mkdir(parents=True, exist_ok=True)
      self._descriptor = os.open(directory, os.O_RDONLY)
    except OSError as error:
      raise UserError(
        f'cannot write {directory}: {error.strerror}. Choose another --run_dir.'
      ) from error
    try:
      fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
      if error.errno in _HELD:
        self.release()
        raise UserError(
          f'another training is at work in {directory}. Wait for its end, stop it, or '
          'name another --run_dir.'
        ) from error

  def release(self) -> None:
    """Lets the next training have it; an empty one that it made is gone then."""
    if self._made is not None:
      with contextlib.suppress(OSError):  # It holds a run.
        self._made.rmdir()
      self._made = None
    if self._descriptor is not None:
      os.close(self._descriptor)
      self._descriptor = None
