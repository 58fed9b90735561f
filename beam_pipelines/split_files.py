"""The split as plain files, on which other systems train and are asked.

    train.tsv                         what may be learnt from
    validation.tsv, test.tsv          what is asked
    validation-history.tsv, test-history.tsv
                                      what came before that and is not in train.tsv
    split.json                        hash of the dataset, rows and sha256 of each file

Lines are `user`, `item`, `position`, and `timestamp` where the log has them, below a
header. `position` counts the user's kept rows before, ties in their order. So the
history of a held-out row is what train and history hold of the user at lower positions.

Workers know items by number. So they write pieces with numbers, and the leaf, which has
the vocabulary, makes text of one group of users after the other.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from apache_beam.io.filesystems import FileSystems

from beam_pipelines import outputs, staging, tsv
from beam_pipelines.histories import Users
from beam_pipelines.splits import Split
from ncf_tfdata import dataset
from ncf_tfdata.errors import UserError

INDEX = 'split.json'
_COLUMNS = ('user', 'item', 'position')
_TIMESTAMP = 'timestamp'
_LINES = 1 << 20  # that are made text at once


@dataclasses.dataclass(frozen=True)
class Plan:
  """Where the files go.

  Attributes:
    directory: Resolved; holds nothing.
    staging: Directory where they are written until they are whole.
    splits: Those of the dataset.
    times: Whether the log has timestamps.
  """

  directory: str
  staging: str
  splits: tuple[str, ...]
  times: bool

  @property
  def files(self) -> tuple[str, ...]:
    """Their names, in the order of `kind` in pieces."""
    held_out = [split for split in self.splits if split != dataset.TRAIN]
    histories = (f'{split}-history' for split in held_out)
    return tuple(f'{name}.tsv' for name in (*self.splits, *histories))

  @property
  def columns(self) -> tuple[str, ...]:
    return (*_COLUMNS, _TIMESTAMP) if self.times else _COLUMNS


def plan(
  given: str | None,
  output: str,
  sources: Iterable[str],
  splits: tuple[str, ...],
  times: bool,
) -> Plan | None:
  """Plans the files of a dataset; None where none are asked for.

  Args:
    given: The directory, as a user names it.
    output: The dataset's, resolved.
    sources: Paths that are read.
    splits: Of the dataset.
    times: Whether the log has timestamps.

  Raises:
    UserError: It cannot be used, holds something, or is in the dataset's place.
  """
  if given is None:
    return None
  directory = outputs.resolve(given, 'export_split')
  shown = f'--export_split={outputs.shown(directory)}'
  if outputs.is_local(directory) and os.path.isfile(directory):
    raise UserError(f'{shown} is a file, expected a new or an empty directory.')
  if found := sorted(outputs.names(directory)):
    raise UserError(f'{shown} holds {found[0]}. Name a new or an empty directory.')
  pairs = ((output, directory), (directory, output))
  if any(outputs.holds_path(*pair) for pair in pairs):
    raise UserError(
      f'{shown} and --output={outputs.shown(output)} lie in one another. Name a '
      'directory beside it.'
    )
  staged = staging.staging_directory(directory)
  staging.sweep(directory, sources)
  return Plan(directory, staged, splits, times)


def piece(users: Users, item: np.ndarray, split: Split, made: Plan) -> bytes:
  """Encodes the rows of a group of users, for all files.

  Args:
    users: Whose rows.
    item: int64 [rows], dense ids.
    split: Where the rows went.
    made: Which files there are.
  """
  position = users.position()
  owner = users.owner()
  chosen = [np.flatnonzero(split.train_rows)]
  held_out = [split.targets[name] for name in made.splits if name != dataset.TRAIN]
  chosen += held_out
  for targets in held_out:
    last = np.zeros(len(users.length), np.int64)
    np.maximum.at(last, owner[targets], position[targets])
    earlier = (position < last[owner]) & ~split.train_rows
    chosen.append(np.flatnonzero(earlier))
  rows = np.concatenate(chosen)
  names = tsv.escaped(users.keys)
  columns = {
    'kind': pa.array(np.repeat(np.arange(len(chosen)), list(map(len, chosen)))),
    'user': names.take(pa.array(owner[rows])),
    'item': pa.array(item[rows]),
    'position': pa.array(position[rows]),
  }
  if made.times:
    time = np.zeros(0, np.int64) if users.time is None else users.time
    columns[_TIMESTAMP] = pa.array(users.epoch + time[rows].astype(np.int64))
  table = pa.table(columns)
  sink = pa.BufferOutputStream()
  with pa.ipc.new_stream(sink, table.schema) as writer:
    writer.write_table(table)
  return sink.getvalue().to_pybytes()


def publish(made: Plan, staged: str, pieces: list[str], manifest: str) -> None:
  """Writes the files, and puts them in their place.

  May be called again by a worker that follows a lost one.

  Args:
    made: Which files, and where.
    staged: The dataset's staging directory, which holds the vocabulary of items.
    pieces: Names of the pieces, in order of the groups of users.
    manifest: Text of the dataset's manifest.

  Raises:
    UserError: They cannot be written, or something is in their place.
  """
  files = _write(made, staged, pieces)
  index = {
    'dataset': hashlib.sha256(manifest.encode()).hexdigest(),
    'columns': made.columns,
    'files': files,
  }
  text = json.dumps(index, indent=2, sort_keys=True) + '\n'
  staging.write(made.staging, INDEX, text.encode())
  if outputs.is_local(made.directory):
    _rename(made, text)
  else:
    # The index comes last, so that a reader knows that all are there. What is there
    # already was put by a worker that was lost.
    outputs.delete(made.directory, outputs.names(made.directory) & {INDEX, *made.files})
    staging.move(made.staging, made.directory, made.files)
    staging.move(made.staging, made.directory, [INDEX])
  staging.remove(made.staging)


def _rename(made: Plan, text: str) -> None:
  try:
    # Fails by itself where there is anything but an empty directory.
    os.rename(made.staging, made.directory)
  except OSError as error:
    path = os.path.join(made.directory, INDEX)
    with contextlib.suppress(OSError), open(path) as stream:
      if stream.read() == text:
        return  # by a worker that was lost later
    raise UserError(
      f'cannot put the split at --export_split={outputs.shown(made.directory)}: {error}'
    ) from error


def _write(made: Plan, staged: str, pieces: list[str]) -> dict[str, dict[str, Any]]:
  """Writes the files to their staging directory; what is to be known of each."""
  keys = _item_keys(staged)
  digests = {name: hashlib.sha256() for name in made.files}
  rows, size = dict.fromkeys(made.files, 0), dict.fromkeys(made.files, 0)
  with contextlib.ExitStack() as stack:
    streams = {
      name: stack.enter_context(staging.whole_file(made.staging, name))
      for name in made.files
    }

    def write(name: str, content: bytes) -> None:
      streams[name].write(content)
      digests[name].update(content)
      size[name] += len(content)

    for name in made.files:
      write(name, ('\t'.join(made.columns) + '\n').encode())
    for one in pieces:
      table = _read(staging.piece_path(staged, one))
      kind = table['kind'].to_numpy()
      bounds = np.searchsorted(kind, np.arange(len(made.files) + 1))
      for number, name in enumerate(made.files):
        part = table.slice(bounds[number], bounds[number + 1] - bounds[number])
        rows[name] += len(part)
        for content in _text(part, keys, made.columns):
          write(name, content)
  return {
    name: {'rows': rows[name], 'bytes': size[name], 'sha256': digests[name].hexdigest()}
    for name in made.files
  }


def _item_keys(staged: str) -> pa.Array:
  """The keys of items by dense id, as they stand in a TSV file."""
  with FileSystems.open(FileSystems.join(staged, dataset.ITEMS)) as stream:
    lines = stream.read().decode().split('\n')[:-1]
  return pa.array([line.partition('\t')[0] for line in lines], pa.string())


def _read(path: str) -> pa.Table:
  with FileSystems.open(path) as stream:
    return pa.ipc.open_stream(stream.read()).read_all()


def _text(table: pa.Table, keys: pa.Array, columns: tuple[str, ...]) -> Iterator[bytes]:
  """The lines of rows, some at a time."""
  for start in range(0, len(table), _LINES):
    part = table.slice(start, _LINES).combine_chunks()
    item = keys.take(part['item'].combine_chunks())
    numbers = [part[name].combine_chunks().cast(pa.string()) for name in columns[2:]]
    user = part['user'].combine_chunks()
    lines = pc.binary_join_element_wise(user, item, *numbers, '\t')
    whole = pa.ListArray.from_arrays(pa.array([0, len(lines)], pa.int32()), lines)
    yield pc.binary_join(whole, '\n')[0].as_py().encode() + b'\n'
