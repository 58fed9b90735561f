"""Files on object stores, as gs:// and s3://, and local ones alike, by fsspec.

Where a store is and who asks, its own variables tell: `AWS_*`, `GOOGLE_*`, and
`STORAGE_EMULATOR_HOST`. What only opens local paths is given copies: `local_copies`.
"""

import concurrent.futures
import contextlib
import functools
import hashlib
import os
import pathlib
import sys
import uuid
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO, Protocol

import tqdm

from ncf_tfdata.errors import UserError

_EXTRAS = {'gs': 'gcp', 's3': 'aws'}
_COPY = {'gs': 'gcloud storage cp -r', 's3': 'aws s3 cp --recursive'}
_DOWNLOADS = 8  # at once
_PIECE_BYTES = 1 << 20


class File(Protocol):
  """What is known of a file before it is read."""

  @property
  def name(self) -> str: ...
  @property
  def bytes(self) -> int: ...
  @property
  def sha256(self) -> str: ...


class RemotePath(str):
  """A path on an object store, which pathlib would spoil: `//` would be `/`."""

  def __truediv__(self, name: str) -> 'RemotePath':
    return RemotePath(f'{self.rstrip("/")}/{name}')

  @property
  def name(self) -> str:
    return self.rstrip('/').rpartition('/')[2]


def is_remote(path: str | os.PathLike[str]) -> bool:
  """Whether a path is not one of this machine's."""
  return '://' in os.fspath(path)


def as_path(path: str | os.PathLike[str]) -> pathlib.Path | RemotePath:
  """A path with `/` and `name`, of either kind."""
  return RemotePath(os.fspath(path)) if is_remote(path) else pathlib.Path(path)


def refuse(path: str | os.PathLike[str]) -> None:
  """Refuses a path on an object store, for what can only be written on a disk.

  Raises:
    UserError: It is there.
  """
  if is_remote(path):
    copy = _COPY.get(os.fspath(path).partition('://')[0], 'fsspec')
    raise UserError(
      f'{path} is on an object store, expected a local path. Give one, and copy with '
      f'`{copy}` from or to there.'
    )


@contextlib.contextmanager
def _opened(path: str) -> Iterator[tuple[Any, str]]:
  """The file system of a path, and what the path is called there.

  Raises:
    FileNotFoundError: Whatever the body was about is not there.
    UserError: What knows the scheme is not installed, or the store refuses.
  """
  import fsspec

  try:
    system, inside = fsspec.core.url_to_fs(path)
    yield system, inside
  except (FileNotFoundError, UserError):
    raise
  except Exception as error:  # each store has errors of its own
    scheme = path.partition('://')[0]
    hint = ''
    if isinstance(error, ImportError) and scheme in _EXTRAS:
      hint = f" Run pip install 'ncf-tfdata[{_EXTRAS[scheme]}]'."
    reason = str(error).partition('\n')[0]
    raise UserError(f'cannot read {path}: {reason}.{hint}') from error


def sizes(directory: str | os.PathLike[str]) -> dict[str, int]:
  """Bytes of each file in a directory, by name; of none where there is no directory."""
  try:
    with _opened(os.fspath(directory)) as (system, path):
      system.invalidate_cache()
      found = system.ls(path, detail=True)
  except (FileNotFoundError, NotADirectoryError):
    return {}
  return {
    entry['name'].rstrip('/').rpartition('/')[2]: entry['size']
    for entry in found
    if entry['type'] == 'file'
  }


@contextlib.contextmanager
def opened(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
  """Opens a file for reading, seekable.

  Raises:
    FileNotFoundError: There is no such file.
    UserError: It cannot be read.
  """
  with _opened(os.fspath(path)) as (system, name), system.open(name, 'rb') as stream:
    yield stream


def pieces(path: str | os.PathLike[str]) -> Iterator[bytes]:
  """The content of a file, a piece after the other.

  Raises:
    FileNotFoundError: There is no such file.
    UserError: It cannot be read.
  """
  with opened(path) as stream:
    while piece := stream.read(_PIECE_BYTES):
      yield piece


def read(path: str | os.PathLike[str]) -> bytes:
  """All of a file.

  Raises:
    FileNotFoundError: There is no such file.
    UserError: It cannot be read.
  """
  return b''.join(pieces(path))


def cache_directory() -> pathlib.Path:
  """Where copies are kept: ncf-tfdata in `$XDG_CACHE_HOME` or ~/.cache."""
  root = os.environ.get('XDG_CACHE_HOME') or os.path.expanduser('~/.cache')
  return pathlib.Path(root, 'ncf-tfdata')


def local_copies(
  directory: str | os.PathLike[str], files: Sequence[File], identity: str
) -> list[str]:
  """Copies files of a directory on an object store, once for each machine.

  Args:
    directory: Where they are.
    files: What to copy.
    identity: Names the directory's content, so that a changed one is copied anew.

  Returns:
    Paths of the copies, each of the sha256 that was asked for when it was made.

  Raises:
    UserError: A file cannot be read or kept, or is not what was asked for.
  """
  folder = cache_directory() / identity
  wanted = [file for file in files if not _is_kept(folder / file.name, file)]
  if wanted:
    try:
      folder.mkdir(parents=True, exist_ok=True)
      _copy_all(os.fspath(directory), wanted, folder)
    except OSError as error:
      raise UserError(
        f'cannot copy {directory} to {folder}: {error}. Free some room, or set '
        'XDG_CACHE_HOME.'
      ) from error
  return [str(folder / file.name) for file in files]


def _is_kept(path: pathlib.Path, file: File) -> bool:
  return path.exists() and path.stat().st_size == file.bytes


def _copy_all(directory: str, files: Sequence[File], folder: pathlib.Path) -> None:
  copy = functools.partial(_copy, directory, folder)
  with (
    concurrent.futures.ThreadPoolExecutor(_DOWNLOADS) as pool,
    tqdm.tqdm(
      desc=f'copying {directory}',
      total=sum(file.bytes for file in files),
      unit='B',
      unit_scale=True,
      disable=None,
      file=sys.stderr,
    ) as bar,
  ):
    for size in pool.map(copy, files):
      bar.update(size)


def _copy(directory: str, folder: pathlib.Path, file: File) -> int:
  digest = hashlib.sha256()
  temporary = folder / f'{file.name}.{uuid.uuid4().hex}'
  try:
    with temporary.open('wb') as stream:
      for piece in pieces(f'{directory}/{file.name}'):
        digest.update(piece)
        stream.write(piece)
    if digest.hexdigest() != file.sha256:
      raise UserError(
        f"{directory}/{file.name} is corrupt: its sha256 is not the manifest's. "
        'Prepare the dataset again with --overwrite.'
      )
    os.replace(temporary, folder / file.name)
  finally:
    temporary.unlink(missing_ok=True)
  return file.bytes
