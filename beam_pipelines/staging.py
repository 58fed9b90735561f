"""Where a dataset grows until it is whole: a directory beside its output."""

import contextlib
import glob
import hashlib
import logging
import os
import posixpath
import re
import socket
import tempfile
import uuid
from collections.abc import Collection, Iterable, Iterator
from typing import BinaryIO

from apache_beam.io.filesystems import FileSystems

from beam_pipelines import _compat, outputs, spill
from ncf_tfdata.errors import UserError
from ncf_tfdata.manifest import File

_MARK = '.incomplete-'
_PIECES, _SCRATCH = '-pieces', '-scratch'
_PROBE = 'probe'
# All that is ever written to a staging directory: what lands in a dataset, shards of
# other commands, pieces; and, with an ending of its own, what is only begun.
_WHOLE = (
  rf'({outputs.DATASET.pattern}|{outputs.MARKER.pattern}|{_PROBE}'
  r'|.+-\d{5}-of-\d{5}\.[a-z]+|(kept-)?(users|items)-\d{6}\.tsv|rejects-\d{6}-\d{15}\.tsv'
  rf'|{spill.NAME}|split-\d{{6}}\.arrow|(train|validation|test)(-history)?\.tsv|split\.json)'
)
_BEGUN = re.compile(rf'{_WHOLE}\.[0-9a-f]{{32}}')
_OURS = re.compile(rf'{_WHOLE}(\.[0-9a-f]{{32}})?')


def staging_directory(output: str) -> str:
  """Makes up a new name beside a resolved output, which tells who writes there."""
  owner = f'{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}'
  return f'{output}{_MARK}{owner}'


def scratch_directory(directory: str) -> str:
  """Names the directory of what no dataset will hold, which is on a local disk.

  It is beside the one of staging, or where the system keeps temporary files if that one
  is on a store.
  """
  if outputs.is_local(directory):
    return f'{directory}{_SCRATCH}'
  name = posixpath.basename(directory)
  return os.path.join(tempfile.gettempdir(), f'{name}{_SCRATCH}')


def run_of(directory: str) -> str:
  """Tells the eight hexadecimal digits by which a staging directory's run is known."""
  return directory.rpartition('-')[2]


def sweep(output: str, sources: Iterable[str]) -> None:
  """Removes what killed runs on this machine left of `output`, but no source."""
  begin = f'{output}{_MARK}'
  _sweep(begin, rf'({_PIECES}|{_SCRATCH})?', sources)
  if not outputs.is_local(output):
    _sweep(scratch_directory(begin).removesuffix(_SCRATCH), _SCRATCH, sources)


def _sweep(begin: str, end: str, sources: Iterable[str]) -> None:
  """Removes the directories whose names begin so, and end by a pattern."""
  host = re.escape(socket.gethostname())
  owned = re.compile(rf'{re.escape(begin)}{host}-(\d+)-[0-9a-f]{{8}}{end}')
  for path in _directories(begin):
    owner = owned.fullmatch(path)
    read = any(outputs.holds_path(path, source) for source in sources)
    if owner and not read and not _alive(int(owner[1])):
      remove(path)


def _directories(begin: str) -> list[str]:
  if outputs.is_local(begin):
    return glob.glob(f'{glob.escape(begin)}*')
  listed = FileSystems.match([f'{begin}*/*'])[0].metadata_list
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
    if outputs.is_local(directory):
      os.makedirs(directory)
    else:  # Object stores have no directories, and an error class each.
      logging.disable()  # What they log is in the error.
      write(directory, _PROBE, b'')
      outputs.delete(directory, [_PROBE])
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


@contextlib.contextmanager
def whole_file(directory: str, name: str) -> Iterator[BinaryIO]:
  """Opens a file that appears under its name, whole, when the context ends well.

  The name must depend on what the file is, never on who writes it, so that two
  writers of one file, as in a retry, leave the same bytes whoever comes last.

  Raises:
    UserError: The content cannot be written: no room, or no right to.
  """
  path = FileSystems.join(directory, name)
  temporary = f'{path}.{uuid.uuid4().hex}'
  on_s3 = FileSystems.get_scheme(path) == 's3'
  if on_s3:
    _compat.share_s3_clients()
  try:
    with FileSystems.create(
      temporary, 'application/octet-stream', 'uncompressed'
    ) as stream:
      yield stream
      if on_s3:
        _compat.end_with_a_part(stream)
    FileSystems.rename([temporary], [path])
  except OSError as error:
    with contextlib.suppress(Exception):  # The store may be gone as well.
      outputs.delete(directory, [posixpath.basename(temporary)])
    raise UserError(
      f'cannot write {path}: {error}. Free some room, or choose another --output.'
    ) from error


def write(directory: str, name: str, content: bytes) -> str:
  """Writes a file that appears whole or not at all.

  Returns:
    The sha256 of the content.

  Raises:
    UserError: It cannot be written.
  """
  with whole_file(directory, name) as stream:
    stream.write(content)
  return hashlib.sha256(content).hexdigest()


def write_piece(directory: str, name: str, content: bytes) -> None:
  """Writes a part of a file that is put together at the end.

  Pieces lie beside the staging directory, so that a publisher that dies and is
  tried again finds them wherever the first one got to.
  """
  write(f'{directory}{_PIECES}', name, content)


def piece_name(vocabulary: str, group: int) -> str:
  """The name of a piece of a vocabulary, of ids that are kept where below zero."""
  kept = 'kept-' if group < 0 else ''
  return f'{kept}{vocabulary}-{abs(group):06d}.tsv'


def piece_path(directory: str, name: str) -> str:
  """Where `write_piece` writes."""
  return FileSystems.join(f'{directory}{_PIECES}', name)


def join_pieces(directory: str, name: str, pieces: list[str]) -> File:
  """Puts pieces together, in the order given, and leaves them there.

  Raises:
    UserError: The whole cannot be written.
  """
  content = hashlib.sha256()
  size = 0
  with whole_file(directory, name) as joined:
    for piece in pieces:
      with FileSystems.open(piece_path(directory, piece)) as stream:
        while part := stream.read(1 << 20):
          joined.write(part)
          content.update(part)
          size += len(part)
  return File(name, size, content.hexdigest())


def move(directory: str, output: str, names: Collection[str]) -> None:
  """Moves files out of a staging directory; on a local disk they replace others."""
  FileSystems.rename(
    [FileSystems.join(directory, name) for name in sorted(names)],
    [FileSystems.join(output, name) for name in sorted(names)],
  )


def keep_only(directory: str, kept: Collection[str]) -> None:
  """Removes all files but some: what writers that were killed left half done.

  Only of a directory that this run made, where all is ours.
  """
  outputs.delete(directory, outputs.names(directory).difference(kept))


def discard_half_written(directory: str) -> None:
  """Removes what a slow duplicate of a writer has begun, and can no longer end."""
  outputs.delete(directory, set(filter(_BEGUN.fullmatch, outputs.names(directory))))


def discard_directory(directory: str) -> None:
  """Removes a staging directory as `remove` does, its pieces, and what was spilled."""
  for path in (directory, f'{directory}{_PIECES}', scratch_directory(directory)):
    remove(path)


def remove(directory: str) -> None:
  """Removes a staging directory with all of ours that is in it, but not its pieces."""
  if outputs.is_local(directory) and os.path.islink(directory):
    return
  ours = set(filter(_OURS.fullmatch, outputs.names(directory)))
  outputs.delete(directory, ours)
  if outputs.is_local(directory):
    with contextlib.suppress(OSError):  # Something else is in it, or it is gone.
      os.rmdir(directory)
