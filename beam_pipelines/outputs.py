"""Where a command writes: one absolute path, and what may be replaced there.

Nothing is removed that is not proven to be ours: a plain file, of a name that only our
commands give, in a directory whose manifest or marker says that we wrote it. Folders,
links and all other files stay, and so does whatever holds the input.
"""

import json
import os
import re
import stat
from collections.abc import Callable, Collection, Iterable
from typing import Any

from apache_beam.io.filesystems import FileSystems

from ncf_tfdata import dataset
from ncf_tfdata.errors import UserError

_EXTRAS = {
  'gs': " Run pip install 'ncf-tfdata[gcp]'.",
  's3': " Run pip install 'ncf-tfdata[aws]'.",
}
# The files of a dataset; and the marker of a run that is about to replace them.
DATASET = re.compile(
  rf'{dataset.NAME}-[a-z_-]+\.tfrecord-\d{{5}}-of-\d{{5}}'
  rf'|{dataset.USERS}|{dataset.ITEMS}|{dataset.REJECTS}'
  r'|(item|user)-feature-[0-9A-Za-z_]+\.tsv'
  rf'|{dataset.MANIFEST}|{dataset.FEATURES_INFO}|{dataset.DATASET_INFO}'
)
MARKER = re.compile(rf'{dataset.NAME}-replaced-by-[0-9a-f]{{8}}\.json')
_ODD = re.compile('[\x00-\x1f\x7f\ud800-\udfff]')
_ONE_SLASH = re.compile(r'[A-Za-z][\w.+-]+:(/(?!/)|$)')


def is_local(path: str) -> bool:
  """Tells whether a path is on a disk of this machine, as `os` sees it."""
  return FileSystems.get_scheme(path) in (None, 'file')


def resolve(given: str, flag: str = 'output') -> str:
  """Turns what a user gave for a flag into one path, by which all else goes.

  A local path becomes absolute, without links, `~`, `..` and slashes at its end. A
  path of an object store loses the slashes at its end.

  Raises:
    UserError: It is empty, the root, a whole bucket, or no path that every step would
      understand alike.
  """
  received = f'--{flag}={given}'
  if _ODD.search(given):
    raise UserError(f'--{flag}={given!r} has an unprintable character in its name.')
  scheme, mark, rest = given.partition('://')
  if mark and scheme != 'file':
    return _resolve_remote(received, given.rstrip('/'), rest.rstrip('/'))
  path = rest if mark else given
  if not path.strip():
    raise UserError(f'{received} is empty, expected a path. Is a shell variable unset?')
  if not mark and _ONE_SLASH.match(path):
    raise UserError(f'{received} is no path, expected SCHEME://… or a local one.')
  path = os.path.expanduser(path)
  if path.startswith('~'):
    raise UserError(f'{received}: there is no such user. A folder {path} is ./{path}.')
  try:
    path = os.path.realpath(path)
  except OSError as error:
    raise UserError(f'{received} cannot be followed: {error}.') from error
  if path == os.path.dirname(path):
    raise UserError(f'{received} is the root directory, expected a path in it.')
  return path


def _resolve_remote(received: str, path: str, inside: str) -> str:
  bucket, mark, name = inside.partition('/')
  if not mark or not bucket:
    # What is staged lies beside the output, which would be in another bucket.
    raise UserError(f'{received} is a bucket, expected {path}/NAME.')
  if any(sign in inside for sign in '*?[') or {'', '.', '..'} & set(name.split('/')):
    # Beam would take it for a pattern, and remove whatever fits it.
    raise UserError(f'received {received}, expected a name without *?[, // and /../.')
  return path


def shown(path: str) -> str:
  """Names a resolved path to a user: as short as a shell here understands it."""
  here = os.path.join(_here(), '')
  return path.removeprefix(here) if is_local(path) else path


def _here() -> str:
  try:
    return os.getcwd()
  except OSError:  # It is gone.
    return os.sep


def holds_path(directory: str, path: str) -> bool:
  """Tells whether `path` is `directory` or lies in it, links and all considered."""
  if is_local(directory) != is_local(path):
    return False
  if not is_local(path):
    return f'{path}/'.startswith(f'{directory}/')
  path = os.path.realpath(path.removeprefix('file://'))
  while True:
    if path == directory or _is_same(directory, path):
      return True
    parent = os.path.dirname(path)
    if parent == path:
      return False
    path = parent


def _is_same(one: str, other: str) -> bool:
  try:
    return os.path.samefile(one, other)
  except OSError:
    return False


def refuse_inputs(output: str, sources: Iterable[str]) -> None:
  """Makes sure that no source would be lost when `output` is replaced.

  Raises:
    UserError: One lies in it.
  """
  for path in sources:
    if holds_path(output, path):
      raise UserError(
        f'the input {path} lies in --output={shown(output)}, where it would be lost. '
        'Choose another --output.'
      )


def refuse_unreplaceable(output: str, overwrite: bool) -> None:
  """Makes sure at the start that a dataset can take the place of `output`.

  Raises:
    UserError: It is a file, holds what is not ours, holds a finished dataset without
      `overwrite`, cannot be renamed, or cannot be listed.
  """
  found = owned(output)
  if dataset.MANIFEST in found and not overwrite:
    raise UserError(
      f'{shown(output)} holds a finished dataset. Pass --overwrite to replace it, or '
      'another --output.'
    )
  if not is_local(output) or not os.path.isdir(output):
    return
  # A dataset takes its place by a rename, which would move the ground under a shell.
  if holds_path(output, _here()):
    raise UserError(
      f'--output={output} is the directory you are in, or above it, and would be '
      'replaced. Choose a directory in it.'
    )
  if os.path.ismount(output):
    raise UserError(
      f'--output={output} is a mount point, which cannot be replaced. Choose a '
      'directory in it.'
    )


def owned(output: str) -> set[str]:
  """Lists the names at `output`, every one of which is proven to be ours.

  Returns:
    Those of a dataset, finished or half replaced; none where nothing is there.

  Raises:
    UserError: A file is there, or a directory with more in it than that, or it cannot
      be listed.
  """
  found = entries(output)
  listed = _listed(output, found)
  for name in sorted(found):
    if name not in listed or not found[name]:
      raise UserError(_foreign(output, name, dataset.MANIFEST in found and not listed))
  return set(found)


def replaced(output: str) -> set[str]:
  """Lists the names at `output` that are proven to be ours, whatever else is there."""
  found = entries(output)
  return {name for name in _listed(output, found) if found.get(name)}


def _listed(output: str, found: dict[str, bool]) -> set[str]:
  """Names of our files by the manifest and the markers; they need not be there."""
  # What is no plain file is not even read: it may be a pipe.
  listed = {name for name, plain in found.items() if plain and MARKER.fullmatch(name)}
  for marker in sorted(listed):
    listed |= _names_in(_read(output, marker), _names_of_marker)
  if found.get(dataset.MANIFEST):
    listed |= _names_in(_read(output, dataset.MANIFEST), _names_of_manifest)
  return listed


def entries(output: str) -> dict[str, bool]:
  """Lists the names at `output`, and of each whether it is a plain file.

  Raises:
    UserError: A file is there, or it cannot be listed.
  """
  try:
    if not is_local(output):
      return dict.fromkeys(names(output), True)
    status = os.stat(output)
    if not stat.S_ISDIR(status.st_mode):
      raise UserError(
        f'--output={shown(output)} is a file, expected a directory or none.'
      )
    with os.scandir(output) as found:
      return {entry.name: entry.is_file(follow_symlinks=False) for entry in found}
  except (FileNotFoundError, NotADirectoryError):
    return {}
  except UserError:
    raise
  except Exception as error:  # each store has its own
    hint = ''
    # No file system, or none of what it needs.
    if isinstance(error, ValueError) or 'Missing boto3' in str(error):
      hint = _EXTRAS.get(FileSystems.get_scheme(output), '')
    reason = str(error).partition('\n')[0]
    raise UserError(f'cannot write to --output={output}: {reason}.{hint}') from error


def _names_in(text: str, names_of: Callable[[Any], list[str]]) -> set[str]:
  """Names of a dataset's files that a manifest or a marker lists; none if it is not."""
  try:
    return {name for name in names_of(json.loads(text)) if DATASET.fullmatch(name)}
  except (AttributeError, KeyError, TypeError, ValueError):
    return set()


def _names_of_marker(content: Any) -> list[str]:
  return content['replaced']


def _names_of_manifest(content: Any) -> list[str]:
  # Of any version: what an older one wrote is ours as well.
  _ = [content[key] for key in ('schema_version', 'flags', 'sources', 'counts')]
  rest = [dataset.MANIFEST, dataset.FEATURES_INFO, dataset.DATASET_INFO]
  return rest + [file['name'] for file in content['files']]


def _foreign(output: str, name: str, alien: bool) -> str:
  what = f'holds {name}, which is no part of a finished dataset'
  if alien:
    what = f'holds a {dataset.MANIFEST} that is damaged, or none of a dataset,'
  return (
    f'--output={shown(output)} {what} and would be lost. Move it away, or choose '
    'another --output.'
  )


def marker_name(run: str) -> str:
  """Names the marker of a run, by the eight hexadecimal digits that are its own."""
  return f'{dataset.NAME}-replaced-by-{run}.json'


def marker_text(names: Collection[str]) -> str:
  """Writes a marker: which names at the output are ours while they are replaced."""
  return json.dumps({'replaced': sorted(names)})


def names(directory: str) -> set[str]:
  """Lists what is in a directory, or the objects in it; it need not exist."""
  if is_local(directory):
    return set(os.listdir(directory)) if os.path.isdir(directory) else set()
  listed = FileSystems.match([f'{directory}/*'])[0].metadata_list
  found = {entry.path.rpartition('/')[2] for entry in listed}
  return found - {''}  # by which some tools mark a folder


def delete(directory: str, names: Collection[str]) -> None:
  """Removes plain files; a folder, a link, and what cannot be removed stay.

  Beam's own means would remove folders with all that is in them.
  """
  if not is_local(directory):
    if names:
      FileSystems.delete([FileSystems.join(directory, name) for name in sorted(names)])
    return
  for name in sorted(names):
    path = os.path.join(directory, name)
    try:
      if stat.S_ISREG(os.lstat(path).st_mode):
        os.remove(path)
    except OSError:
      continue


def read_manifest(output: str) -> str | None:
  """Reads the manifest's text; None where there is none."""
  path = FileSystems.join(output, dataset.MANIFEST)
  return _read(output, dataset.MANIFEST) if FileSystems.exists(path) else None


def _read(directory: str, name: str) -> str:
  with FileSystems.open(FileSystems.join(directory, name)) as stream:
    return stream.read().decode(errors='replace')
