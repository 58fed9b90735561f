"""Source files as ranges that can be read in parallel, each row exactly once.

A text file is cut every `RANGE_BYTES`; a range owns the lines whose first byte
lies in it. A gzip file is one range, and so is a row group of a Parquet file.
Ranges are plain tuples so that any runner can use them as keys.
"""

import contextlib
import glob
import gzip
import os
import zlib
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.io import filesystem
from apache_beam.io.filesystems import FileSystems

from beam_pipelines import _compat
from ncf_tfdata.errors import UserError

RANGE_BYTES = 16 << 20  # 16 MiB: about 700,000 ratings, held in memory at once.
_TAIL_BYTES = 4096
_HEAD_BYTES = 1 << 20  # in which a file's first lines are looked for
_MOVIELENS = ('ratings.dat', 'ratings.csv', 'u.data')
_NOT_DATA = ('.', '_', 'README', 'LICENSE')
BOM = b'\xef\xbb\xbf'

TEXT, GZIP, PARQUET = 'text', 'gzip', 'parquet'
_GZIP_MAGIC, _PARQUET_MAGIC = b'\x1f\x8b', b'PAR1'
_UNPACK = 'Unpack it, and name what is in it with --input.'
# What else a file may be: where its mark stands, the mark, its name, and what to do.
_FOREIGN: tuple[tuple[int, bytes, str, str], ...] = (
  (0, b'PK\x03\x04', 'a zip archive', _UNPACK),
  (0, b'7z\xbc\xaf\x27\x1c', 'a 7z archive', _UNPACK),
  (257, b'ustar\0', 'a tar archive', _UNPACK),
  (257, b'ustar  \0', 'a tar archive', _UNPACK),
  (0, b'\xfd7zXZ\0', 'an xz file', _UNPACK),
  (0, b'\x28\xb5\x2f\xfd', 'a Zstandard file', _UNPACK),
  (4, b'1AY&SY', 'a bzip2 file', _UNPACK),
  (0, b'\xff\xfe', 'text in UTF-16', 'Turn it into UTF-8, as by `iconv`.'),
  (0, b'\xfe\xff', 'text in UTF-16', 'Turn it into UTF-8, as by `iconv`.'),
)
_FOREIGN_IN_GZIP = (
  (0, _GZIP_MAGIC, 'a gzip file', 'Unpack it once, as by `gzip -d`.'),
  (0, _PARQUET_MAGIC, 'a Parquet file', _UNPACK),
  *_FOREIGN,
)
# How many bytes of text a byte of the file stands for, to size what follows.
_EXPANSION = {'.gz': 4, '.parquet': 4}
GZIP_ERRORS = (EOFError, OSError, zlib.error)


class File(NamedTuple):
  """A source file; `number` is its place in reading order, `size` in bytes."""

  number: int
  path: str
  size: int


# A `Range` as a plain tuple, which is a key on every engine.
RangeKey = tuple[int, int, int, str, str]


class Range(NamedTuple):
  """A part of a file: bytes [start, end), or of Parquet one row group `start`."""

  file_index: int
  start: int
  end: int
  kind: str
  path: str


def match(pattern: str, flag: str = 'input') -> list[File]:
  """Files that a path, glob or folder names, in path order.

  Of a folder that holds a MovieLens download that is the ratings file; of any
  other, all files but hidden ones and what usually lies beside data.

  Raises:
    UserError: Nothing matches, nothing that matches has a byte in it, or what matches
      is a broken link, or has a name that is not UTF-8.
  """
  path = pattern.rstrip('/')
  try:
    named, inside = map(_sizes, FileSystems.match([path, f'{path}/*']))
  except (filesystem.BeamIOError, ValueError) as error:
    raise UserError(f'cannot list --{flag}={pattern}: {error}') from error
  data = [name for name in inside if not _base(name).startswith(_NOT_DATA)]
  ratings = [name for name in data if _base(name) in _MOVIELENS]
  sizes = named | {name: inside[name] for name in ratings or data}
  for name in sorted(sizes):
    _check_name(name, sizes[name])
  paths = sorted(name for name, size in sizes.items() if size)
  if not paths:
    expected = (
      'a ratings file, a glob, a folder, `sample`, or a dataset such as '
      '`movielens/1m-ratings`'
    )
    raise UserError(
      f'--{flag}={_printable(pattern)} {_why_nothing(path, bool(sizes))}: expected '
      f'{expected if flag == "input" else "a file"}.'
    )
  return [File(number, name, sizes[name]) for number, name in enumerate(paths)]


def _sizes(found: filesystem.MatchResult) -> dict[str, int]:
  """The size of each file, -1 where a local one does not tell it: a broken link."""
  sizes = {entry.path: entry.size_in_bytes for entry in found.metadata_list}
  # Beam passes over these.
  for path in set(glob.glob(found.pattern)) - set(sizes):
    sizes[path] = os.path.getsize(path) if os.path.exists(path) else -1
  return {path: size for path, size in sizes.items() if not os.path.isdir(path)}


def _check_name(path: str, size: int) -> None:
  if size < 0:
    link = f', a link to {os.readlink(path)}' if os.path.islink(path) else ''
    raise UserError(
      f'cannot read {_printable(path + link)}: there is no such file. Mend it, or '
      'remove it.'
    )
  if _printable(path) != path:
    raise UserError(
      f'the name of {_printable(path)} is not UTF-8. Rename it, or pass a link to it.'
    )


def _why_nothing(path: str, is_empty: bool) -> str:
  """Why there is nothing to read where no file has a byte."""
  if is_empty:
    return 'holds no data'
  try:
    names = os.listdir(path)
  except (FileNotFoundError, NotADirectoryError):
    return 'does not exist'
  except OSError as error:
    return f'cannot be listed ({error.strerror})'
  if not names:
    return 'is an empty folder'
  return f'is a folder of {len(names)} names, none of which is that of a data file'


def _base(path: str) -> str:
  return path.rsplit('/', 1)[-1]


def _printable(path: str) -> str:
  """A path with its bytes escaped that are not UTF-8."""
  return os.fsencode(path).decode(errors='backslashreplace')


def text_bytes(files: list[File]) -> int:
  """About how many bytes of text the files hold once they are unpacked."""
  return sum(
    file.size * _EXPANSION.get(file.path[file.path.rfind('.') :], 1) for file in files
  )


@contextlib.contextmanager
def open_raw(path: str) -> Iterator[BinaryIO]:
  """Opens a file without unpacking it, whatever its name ends with.

  Raises:
    UserError: It cannot be opened, or read on.
  """
  if FileSystems.get_scheme(path) == 's3':
    _compat.share_s3_clients()
  try:
    stream = FileSystems.open(
      path, compression_type=filesystem.CompressionTypes.UNCOMPRESSED
    )
  except Exception as error:  # each store has its own
    raise _unreadable(path, error) from error
  with stream:
    try:
      yield stream
    except OSError as error:
      raise _unreadable(path, error) from error


def _unreadable(path: str, error: Exception) -> UserError:
  reason = getattr(error, 'strerror', None) or str(error).partition('\n')[0]
  return UserError(f'cannot read {path}: {reason}.')


@contextlib.contextmanager
def open_parquet(path: str) -> Iterator[pq.ParquetFile]:
  """Opens a Parquet file.

  Raises:
    UserError: It cannot be read, or is damaged.
  """
  with open_raw(path) as stream:
    try:
      yield pq.ParquetFile(stream)
    except (pa.ArrowException, OSError) as error:
      raise UserError(f'{path} is not a whole Parquet file: {error}') from error


def kind(path: str) -> str:
  """Tells text, gzip and Parquet apart by their first bytes.

  Raises:
    UserError: It is a file of another kind, or text that has no line ends.
  """
  return _look(path, 1)[0]


def first_lines(path: str, count: int) -> list[bytes]:
  """The first lines of a text or gzip file that are not blank.

  Returns:
    At most `count` lines, without byte order mark and line ends; the last one may
    be cut short where lines are very long.

  Raises:
    UserError: As `kind`.
  """
  _, head = _look(path, count)
  lines = [line.strip(b'\r') for line in head.removeprefix(BOM).split(b'\n')]
  return [line for line in lines if line][:count]


def _look(path: str, count: int) -> tuple[str, bytes]:
  """The kind of a file, and its text as far as the first lines that are not blank."""
  with open_raw(path) as raw:
    head = raw.read(_TAIL_BYTES)
    if head.startswith(_PARQUET_MAGIC):
      return PARQUET, b''
    what = TEXT
    stream: BinaryIO | gzip.GzipFile = raw
    if head.startswith(_GZIP_MAGIC):
      raw.seek(0)
      what, stream, head = GZIP, gzip.GzipFile(fileobj=raw), b''
    try:
      while head.strip(b'\r\n').count(b'\n') < count and len(head) < _HEAD_BYTES:
        piece = stream.read(_TAIL_BYTES)
        if not piece:
          break
        head += piece
    except GZIP_ERRORS as error:
      if what == TEXT:
        raise
      raise UserError(f'{path} is not a whole gzip file: {error}') from error
  _refuse_foreign(path, what, head)
  return what, head


def _refuse_foreign(path: str, what: str, head: bytes) -> None:
  packed = ' within a gzip file' if what == GZIP else ''
  for place, mark, name, advice in _FOREIGN_IN_GZIP if packed else _FOREIGN:
    if head.startswith(mark, place):
      raise UserError(
        f'{path} is {name}{packed}, expected text, gzip or Parquet. {advice}'
      )
  if b'\n' not in head and b'\r' in head.strip(b'\r'):
    raise UserError(
      f'{path} ends its lines with bare carriage returns, expected newlines. Turn '
      'them, as by `mac2unix`.'
    )


def ranges(file: File, range_bytes: int = RANGE_BYTES) -> Iterator[RangeKey]:
  """Cuts a file into `Range`s, given as plain tuples."""
  what = kind(file.path)
  if what == TEXT:
    starts = range(0, file.size, range_bytes)
    cuts = [(start, min(start + range_bytes, file.size)) for start in starts]
  elif what == GZIP:
    cuts = [(0, file.size)]
  else:
    with open_parquet(file.path) as parquet:
      cuts = [(group, group + 1) for group in range(parquet.num_row_groups)]
  for start, end in cuts:
    yield file.number, start, end, what, file.path
