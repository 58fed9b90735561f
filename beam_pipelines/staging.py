"""Where a dataset grows until it is whole: files named by content, then one swap."""

import contextlib
import ctypes
import errno
import glob
import hashlib
import logging
import os
import re
import shutil
import socket
import uuid
from collections.abc import Collection, Iterator
from typing import BinaryIO

from apache_beam.io.filesystems import FileSystems

from ncf_tfdata import dataset
from ncf_tfdata.errors import UserError

_MARK = '.incomplete-'
_PIECES = '-pieces'
# What a dataset holds beside its shards.
_FILES = {
  dataset.MANIFEST,
  dataset.FEATURES_INFO,
  dataset.DATASET_INFO,
  dataset.REJECTS,
  dataset.USERS,
  dataset.ITEMS,
}
_PROBE = 'probe'
_EXTRAS = {
  'gs': " Run pip install 'ncf-tfdata[gcp]'.",
  's3': " Run pip install 'ncf-tfdata[aws]'.",
}
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2
# What a system or a file system says that cannot exchange.
_NO_EXCHANGE = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP)


def is_local(path: str) -> bool:
  """Whether a path is on a disk of this machine, as `os` sees it."""
  return FileSystems.get_scheme(path) in (None, 'file')


def staging_directory(output: str) -> str:
  """A new name beside `output`, which tells who writes there."""
  owner = f'{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}'
  return f'{_resolved(output)}{_MARK}{owner}'


def _resolved(output: str) -> str:
  """Where `output` is once links are followed: what is renamed must be no link."""
  return os.path.realpath(output) if is_local(output) else output.rstrip('/')


def sweep(output: str) -> None:
  """Removes what killed runs on this machine left beside `output`."""
  host = re.escape(socket.gethostname())
  for path in _staging_directories(output):
    owner = re.search(rf'{re.escape(_MARK)}{host}-(\d+)-\w+({_PIECES})?$', path)
    if owner and not _alive(int(owner[1])):
      _remove(path)


def _staging_directories(output: str) -> list[str]:
  if is_local(output):
    return glob.glob(f'{glob.escape(_resolved(output))}{_MARK}*')
  listed = FileSystems.match([f'{_resolved(output)}{_MARK}*/*'])[0].metadata_list
  return sorted({entry.path.rpartition('/')[0] for entry in listed})


def _alive(pid: int) -> bool:
  try:
    os.kill(pid, 0)
  except ProcessLookupError:
    return False
  except PermissionError:
    pass
  return True


def create_directory(directory: str) -> None:
  """Makes a staging directory, to find out at once if there is no right to.

  Raises:
    UserError: It cannot be made.
  """
  try:
    if is_local(directory):
      os.makedirs(directory)
    else:  # Object stores have no directories, and an error class each.
      logging.disable()  # What they log is in the error.
      write(directory, _PROBE, b'')
      _delete(directory, [_PROBE])
  except UserError:
    raise
  except Exception as error:
    raise UserError(
      f'cannot write {directory}: {_reason(error)}. Choose another --output.'
    ) from error
  finally:
    logging.disable(logging.NOTSET)


def _reason(error: Exception) -> str:
  return str(error).partition('\n')[0]


def finished(output: str) -> bool:
  """Whether a finished dataset is at `output`.

  Raises:
    UserError: No installed file system knows its scheme, or its store does not answer.
  """
  try:
    return FileSystems.exists(FileSystems.join(output, dataset.MANIFEST))
  except Exception as error:  # each store has its own
    hint = ''
    # No file system, or none of what it needs.
    if isinstance(error, ValueError) or 'Missing boto3' in str(error):
      hint = _EXTRAS.get(FileSystems.get_scheme(output), '')
    raise _unwritable(output, error, hint) from error


def _unwritable(output: str, error: Exception, hint: str = '') -> UserError:
  return UserError(f'cannot write to --output={output}: {_reason(error)}.{hint}')


def refuse_foreign(output: str) -> None:
  """Makes sure that nothing but a dataset is lost when `output` is replaced.

  Raises:
    UserError: A file is there, or a directory with more in it than a dataset, or it
      is a whole bucket, or cannot be listed.
  """
  if is_local(output):
    if os.path.exists(output) and not os.path.isdir(output):
      raise UserError(f'--output={output} is a file, expected a directory or none.')
  elif '/' not in output.partition('://')[2]:
    # What is staged lies beside the output, which would be in another bucket.
    raise UserError(f'--output={output} is a bucket, expected {output}/NAME.')
  try:
    found = sorted(names(output))
  except OSError as error:
    raise _unwritable(output, error) from error
  foreign = [
    name
    for name in found
    if name not in _FILES and not name.startswith(f'{dataset.NAME}-')
  ]
  if foreign:
    raise UserError(
      f'--output={output} holds {foreign[0]}, which is no part of a dataset and would '
      'be lost. Move it away, or choose another --output.'
    )


@contextlib.contextmanager
def _whole_file(directory: str, name: str) -> Iterator[BinaryIO]:
  """Opens a file that appears under its name, whole, when the context ends well.

  The name must depend on what the file is, never on who writes it, so that two
  writers of one file, as in a retry, leave the same bytes whoever comes last.

  Raises:
    UserError: The content cannot be written: no room, or no right to.
  """
  path = FileSystems.join(directory, name)
  temporary = f'{path}.{uuid.uuid4().hex}'
  try:
    with FileSystems.create(
      temporary, 'application/octet-stream', 'uncompressed'
    ) as stream:
      yield stream
      _send_a_part(stream, path)
    FileSystems.rename([temporary], [path])
  except OSError as error:
    _discard([temporary])
    raise UserError(
      f'cannot write {path}: {error}. Free some room, or choose another --output.'
    ) from error


def _send_a_part(stream: BinaryIO, path: str) -> None:
  """Mends an empty file on S3: Beam 2.77 ends its upload without a part, an error."""
  if FileSystems.get_scheme(path) == 's3':
    stream.flush()
    uploader = stream.raw._uploader  # type: ignore[attr-defined]
    if not uploader.parts and not uploader.buffer:
      uploader._write_to_s3(b'')


def write(directory: str, name: str, content: bytes) -> str:
  """Writes a file that appears whole or not at all.

  Returns:
    The sha256 of the content.

  Raises:
    UserError: It cannot be written.
  """
  with _whole_file(directory, name) as stream:
    stream.write(content)
  return hashlib.sha256(content).hexdigest()


def write_piece(directory: str, name: str, content: bytes) -> None:
  """Writes a part of a file that is put together at the end.

  Pieces lie beside the staging directory, so that a publisher that dies and is
  tried again finds them wherever the first one got to.
  """
  write(f'{directory}{_PIECES}', name, content)


def join_pieces(directory: str, name: str, pieces: list[str]) -> dataset.File:
  """Puts pieces together, in the order given, and leaves them there.

  Raises:
    UserError: The whole cannot be written.
  """
  content = hashlib.sha256()
  size = 0
  with _whole_file(directory, name) as joined:
    for piece in pieces:
      path = FileSystems.join(f'{directory}{_PIECES}', piece)
      with FileSystems.open(path) as stream:
        while part := stream.read(1 << 20):
          joined.write(part)
          content.update(part)
          size += len(part)
  return dataset.File(name, size, content.hexdigest())


def names(directory: str) -> set[str]:
  """Names of all that is in a directory, or of the objects in it; it need not exist."""
  if is_local(directory):
    return set(os.listdir(directory)) if os.path.isdir(directory) else set()
  listed = FileSystems.match([f'{directory}/*'])[0].metadata_list
  found = {entry.path.rpartition('/')[2] for entry in listed}
  return found - {''}  # by which some tools mark a folder


def keep_only(directory: str, kept: Collection[str]) -> None:
  """Removes all files but some: what writers that were killed left half done."""
  _delete(directory, names(directory).difference(kept))


def _delete(directory: str, names: Collection[str]) -> None:
  if names:
    FileSystems.delete([FileSystems.join(directory, name) for name in sorted(names)])


def _discard(paths: list[str]) -> None:
  existing = [path for path in paths if FileSystems.exists(path)]
  if existing:
    FileSystems.delete(existing)


def discard_directory(directory: str) -> None:
  """Removes a staging directory with all that is in it, and its pieces."""
  for path in (directory, f'{directory}{_PIECES}'):
    _remove(path)


def _remove(directory: str) -> None:
  if is_local(directory):
    shutil.rmtree(directory, ignore_errors=True)
  else:
    keep_only(directory, ())


def holds(output: str, manifest: str) -> bool:
  """Whether the dataset at `output` is the one of a manifest."""
  found = read_manifest(output)
  return found is not None and found == manifest


def read_manifest(output: str) -> str | None:
  """The manifest's text, or None where there is none."""
  path = FileSystems.join(output, dataset.MANIFEST)
  if not FileSystems.exists(path):
    return None
  with FileSystems.open(path) as stream:
    return stream.read().decode()


def publish(staging: str, output: str, manifest: str) -> None:
  """Makes a whole staging directory the dataset at `output`.

  On a local disk directories change places in one step, so that at any moment
  there is the old dataset or the new one. An object store has no such step: there
  the old manifest goes first and the new one comes last, and in between readers
  find no dataset.
  """
  write(staging, dataset.MANIFEST, manifest.encode())
  if is_local(output):
    refuse_foreign(output)
    _swap(staging, output)
    return
  staged, replaced = names(staging), names(output)
  _delete(output, replaced & {dataset.MANIFEST})
  _delete(output, replaced & staged - {dataset.MANIFEST})
  for moved in (sorted(staged - {dataset.MANIFEST}), [dataset.MANIFEST]):
    FileSystems.rename(
      [FileSystems.join(staging, name) for name in moved],
      [FileSystems.join(output, name) for name in moved],
    )


def _swap(staging: str, output: str) -> None:
  output = _resolved(output)
  try:
    if not os.path.lexists(output):
      os.rename(staging, output)
      return
    _exchange(staging, output)
  except OSError as error:
    raise UserError(f'cannot put the dataset at {output}: {error}') from error
  # What stood at the output has the staging directory's name now.
  shutil.rmtree(staging, ignore_errors=True)


def _exchange(one: str, other: str) -> None:
  """Exchanges two directories: in one step on Linux, in two elsewhere."""
  libc = ctypes.CDLL(None, use_errno=True)
  paths = _AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other)
  if hasattr(libc, 'renameat2'):
    if libc.renameat2(*paths, _RENAME_EXCHANGE) == 0:
      return
    code = ctypes.get_errno()
    if code not in _NO_EXCHANGE:
      # Two steps would only take away the dataset that is there.
      raise OSError(code, os.strerror(code), one)
  aside = f'{one}-replaced'
  os.rename(other, aside)
  os.rename(one, other)
  os.rename(aside, one)
