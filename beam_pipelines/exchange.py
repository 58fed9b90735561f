"""The moment at which a staging directory becomes the dataset.

On a local disk that is one rename, so that at any moment there is the old dataset or
the new one. An object store has no such step: there the old manifest goes first and the
new one comes last, and in between readers find no dataset.

Before anything is replaced, a marker at the output says what, and by which run. On a
disk it moves away with the old dataset, whose place is then the staging directory's; on
a store it tells the next run that a dead one left the rest. So a worker that is lost in
the middle can be followed by another, which ends what was begun.
"""

import ctypes
import errno
import os
from collections.abc import Set

from beam_pipelines import outputs, staging
from ncf_tfdata import dataset
from ncf_tfdata.errors import UserError

_AT_FDCWD, _RENAME_EXCHANGE = -100, 2
# What a system or a file system says that cannot exchange.
_NO_EXCHANGE = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP)


def publish(
  staged: str, output: str, names: Set[str], manifest: str, overwrite: bool
) -> None:
  """Makes a staging directory the dataset at `output`, and leaves nothing behind.

  May be called again, at any time, by a worker that follows a lost one.

  Args:
    staged: The staging directory.
    output: The resolved output.
    names: Files of the dataset beside its manifest.
    manifest: Text of the manifest.
    overwrite: Whether it may take the place of a finished dataset.

  Raises:
    UserError: There is a finished dataset and it may not, there is something that is
      not ours, or a staged file is lost.
  """
  marker = outputs.marker_name(staging.run_of(staged))
  local = outputs.is_local(output)
  if marker not in outputs.names(staged if local else output):
    if names <= outputs.names(staged):
      staging.keep_only(staged, names)
      staging.write(staged, dataset.MANIFEST, manifest.encode())
      begin = _place if local else _mark
      begin(staged, output, marker, names, overwrite)
    elif outputs.read_manifest(output) != manifest:
      raise UserError(
        f'{staged} has lost files. Let nothing else write there, and run again.'
      )
  if not local and marker in outputs.names(output):
    _move(staged, output, marker, names)
  # What stood at a local output has the staging directory's name now.
  staging.remove(staged)
  staging.discard_half_written(output)


def _place(
  staged: str, output: str, marker: str, names: Set[str], overwrite: bool
) -> None:
  """Renames on a local disk."""
  try:
    # Fails by itself where there is anything but an empty directory.
    os.rename(staged, output)
    return
  except OSError as error:
    found = outputs.owned(output)
    if not found:
      raise UserError(f'cannot put the dataset at {output}: {error}') from error
  _refuse_finished(output, found, overwrite)
  staging.write(output, marker, outputs.marker_text(found).encode())
  if marker in outputs.names(staged):
    return  # A duplicate of this worker was faster.
  try:
    _exchange(staged, output)
  except OSError as error:
    outputs.delete(output, [marker])
    raise UserError(f'cannot put the dataset at {output}: {error}') from error


def _mark(
  staged: str, output: str, marker: str, names: Set[str], overwrite: bool
) -> None:
  """Says on an object store that all that is at `output` is about to be replaced."""
  found = outputs.owned(output)
  _refuse_finished(output, found, overwrite)
  text = outputs.marker_text(found | names | {dataset.MANIFEST})
  staging.write(output, marker, text.encode())


def _refuse_finished(output: str, found: Set[str], overwrite: bool) -> None:
  if dataset.MANIFEST in found and not overwrite:
    raise UserError(
      f'another run has finished a dataset at {outputs.shown(output)} since this one '
      'began. Pass --overwrite to replace it, or another --output.'
    )


def _move(staged: str, output: str, marker: str, names: Set[str]) -> None:
  """Replaces one object after the other, the manifest first and last."""
  last = {dataset.MANIFEST}
  waiting, found = outputs.names(staged), outputs.names(output)
  stale = outputs.replaced(output) - {marker} - names - last
  # What is no longer staged was moved before a worker was lost.
  outputs.delete(output, found & waiting & last)
  outputs.delete(output, stale | (found & waiting - last))
  staging.move(staged, output, waiting & names)
  staging.move(staged, output, waiting & last)
  outputs.delete(output, [marker])


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
