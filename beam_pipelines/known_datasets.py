"""MovieLens by its TFDS name: downloaded, checked and unpacked by TFDS's own means.

TensorFlow Datasets registers size and sha256 of each archive, and its download
manager checks them; neither needs TensorFlow. What TFDS itself would make of an archive
(examples joined with titles) is not used: the ratings file is read as it is.
"""

import dataclasses
import http.client
import os
import pathlib
import posixpath
import shutil
import sys
import tempfile
import threading
import urllib.request
import uuid
import zipfile
import zlib
from typing import TYPE_CHECKING

from ncf_tfdata.errors import UserError

if TYPE_CHECKING:
  from tensorflow_datasets.core.download import checksums

_SITE = 'https://files.grouplens.org/datasets/movielens'
_PROBE_SECONDS = 5.0
_PIECE = 1 << 20


@dataclasses.dataclass(frozen=True)
class KnownDataset:
  """An archive that TFDS has a checksum for.

  Attributes:
    url: Where it is, as TFDS registers it.
    member: The ratings file's name in the archive.
    format: How that file is read: a value of `--format`.
  """

  url: str
  member: str
  format: str


DATASETS = {
  'movielens/100k-ratings': KnownDataset(
    f'{_SITE}/ml-100k.zip', 'ml-100k/u.data', 'tsv'
  ),
  'movielens/1m-ratings': KnownDataset(
    f'{_SITE}/ml-1m.zip', 'ml-1m/ratings.dat', 'movielens'
  ),
  'movielens/20m-ratings': KnownDataset(
    f'{_SITE}/ml-20m.zip', 'ml-20m/ratings.csv', 'csv'
  ),
  'movielens/25m-ratings': KnownDataset(
    f'{_SITE}/ml-25m.zip', 'ml-25m/ratings.csv', 'csv'
  ),
}


def fetch(name: str, cache_dir: str) -> str:
  """Makes sure that a known dataset's ratings file is at hand.

  An archive in the cache whose sha256 is right is not downloaded again, and a file
  whose size and CRC-32 are those of the archive's member is not unpacked again.

  Args:
    name: A key of `DATASETS`.
    cache_dir: Local folder for the archive and the ratings file; an archive that
      was put there by hand serves as well.

  Returns:
    Path of the ratings file, `cache_dir/ml-…/…`.

  Raises:
    UserError: The name is unknown, TFDS is not installed, the archive cannot be
      downloaded (known within seconds), or a file is not what TFDS registers; one
      that is in the cache is not replaced.
  """
  if name not in DATASETS:
    raise UserError(
      f'received the dataset name {name!r}, expected one of {", ".join(DATASETS)}. '
      'For a file of your own, give its path: --input=PATH.'
    )
  known = DATASETS[name]
  return _unpack(_archive(name, known, cache_dir), known, cache_dir)


def _archive(name: str, known: KnownDataset, cache_dir: str) -> str:
  """Path of the archive, its checksum right; downloads it where need be."""
  path = os.path.join(cache_dir, posixpath.basename(known.url))
  try:
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core.download import checksums, download_manager, util

    registered = _registered(known.url)
    if os.path.lexists(path):
      if os.path.isfile(path) and checksums.compute_url_info(path) == registered:
        return path
      raise _not_ours(path, f'the archive with sha256 {registered.checksum}')
    _probe(name, known)
    os.makedirs(cache_dir, exist_ok=True)
    if not sys.stderr.isatty():
      tfds.disable_progress_bar()
    with tempfile.TemporaryDirectory(prefix='.download-', dir=cache_dir) as temporary:
      manager = download_manager.DownloadManager(
        download_dir=temporary, url_infos={known.url: registered}
      )
      os.replace(manager.download(known.url), path)
  except ImportError as error:
    raise UserError(
      f'{name} needs TensorFlow Datasets ({error}). Run `pip install '
      f'tensorflow-datasets importlib_resources`, or {_by_hand(known)}'
    ) from error
  except download_manager.NonMatchingChecksumError as error:
    raise UserError(
      f'received from {known.url} another file than the one of {registered.size:,} '
      f'bytes with sha256 {registered.checksum} that TFDS registers. Try again, or '
      f'{_by_hand(known)}'
    ) from error
  except (OSError, util.DownloadError) as error:
    raise _unreachable(name, known, error) from error
  return path


def _registered(url: str) -> 'checksums.UrlInfo':
  """Size and sha256 of an archive, as TFDS registers them."""
  import tensorflow_datasets as tfds
  from tensorflow_datasets.core.download import checksums

  folder = pathlib.Path(tfds.__file__).parent / 'url_checksums'
  return checksums.load_url_infos(folder / 'movielens.txt')[url]


def _unpack(archive: str, known: KnownDataset, cache_dir: str) -> str:
  """Path of the ratings file, taken out of the archive where need be."""
  path = os.path.join(cache_dir, known.member)
  with zipfile.ZipFile(archive) as opened:
    member = opened.getinfo(known.member)
    if os.path.lexists(path):
      if os.path.isfile(path) and _crc(path) == (member.file_size, member.CRC):
        return path
      raise _not_ours(path, f'the {known.member} of {archive}')
    os.makedirs(os.path.dirname(path), exist_ok=True)
    temporary = f'{path}.{uuid.uuid4().hex}.tmp'
    try:
      with opened.open(member) as source, open(temporary, 'wb') as target:
        shutil.copyfileobj(source, target, _PIECE)
      os.replace(temporary, path)
    finally:
      if os.path.exists(temporary):
        os.remove(temporary)
  return path


def _not_ours(path: str, expected: str) -> UserError:
  # It may be somebody's own: it is not replaced.
  return UserError(
    f'{path} is not {expected}. Move it away, or choose another --cache_dir.'
  )


def _crc(path: str) -> tuple[int, int]:
  """Size and CRC-32 of a file."""
  crc = 0
  with open(path, 'rb') as stream:
    while piece := stream.read(_PIECE):
      crc = zlib.crc32(piece, crc)
  return os.path.getsize(path), crc


def _probe(name: str, known: KnownDataset) -> None:
  """Fails within seconds where the archive is out of reach.

  TFDS would try for minutes.
  """
  result: list[Exception | None] = []

  def open_once() -> None:
    try:
      with urllib.request.urlopen(known.url, timeout=_PROBE_SECONDS):
        result.append(None)
    except (OSError, http.client.HTTPException) as error:
      result.append(error)

  # A thread, because a look-up of the host's name keeps to no timeout.
  thread = threading.Thread(target=open_once, daemon=True)
  thread.start()
  thread.join(_PROBE_SECONDS)
  error = result[0] if result else TimeoutError(f'no answer in {_PROBE_SECONDS:g} s')
  if error:
    raise _unreachable(name, known, error) from error


def _unreachable(name: str, known: KnownDataset, error: Exception) -> UserError:
  # Of one line, whatever the error says.
  reason = ' '.join(str(error).split())
  return UserError(f'cannot download {name} ({reason}): {_by_hand(known)}')


def _by_hand(known: KnownDataset) -> str:
  return (
    f'download {known.url} where there is a network, unzip it, and name the ratings '
    f'file by --input=PATH/{known.member}'
  )
