"""The dense ids of an earlier dataset, which its keys keep.

The vocabularies of that dataset are cut into parts of consecutive ids. A part is read
by one worker, its keys are dealt to the groups that new keys are dealt to, and there
they meet: no worker holds all keys. In the numbering of things, parts come before all
groups, by numbers below zero, so that a part's ids are what they were.
"""

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Sequence
from typing import BinaryIO, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
from apache_beam.io.filesystems import FileSystems

from beam_pipelines import files, keys, outputs
from ncf_tfdata import dataset, vocabulary
from ncf_tfdata.errors import UserError
from ncf_tfdata.manifest import Base, File, Manifest

# Of a vocabulary, in memory at once: about 700,000 keys.
PART_BYTES = 8 << 20
# Dense ids of some users of one part, the train rows of each, and all its rows.
UserCounts = tuple[np.ndarray, np.ndarray, np.ndarray]
# In place of an id: a key that the earlier dataset does not hold.
NEW = -1


class Part(NamedTuple):
  """Consecutive lines of a vocabulary.

  Attributes:
    number: Below zero; in the order of the lines.
    path: Of the vocabulary.
    start: Where the lines begin, in bytes.
    end: Where they end.
    first: Dense id of the first line.
    size: Lines.
    sha256: Of the lines.
  """

  number: int
  path: str
  start: int
  end: int
  first: int
  size: int
  sha256: str


@dataclasses.dataclass(frozen=True)
class Plan:
  """Whose ids are kept.

  Attributes:
    directory: Of the earlier dataset, as it is shown to a user.
    base: What the manifest says of it.
    users: Parts of its users.tsv.
    items: Parts of its items.tsv.
    example_user: A key of its users, to be shown; '' where none has one.
  """

  directory: str
  base: Base
  users: tuple[Part, ...]
  items: tuple[Part, ...]
  example_user: str


@dataclasses.dataclass(frozen=True)
class KeptKeys:
  """Some keys of the earlier dataset, all of one group.

  Attributes:
    keys: String array [m].
    ids: int64 [m], the dense id of each.
  """

  keys: pa.Array
  ids: np.ndarray


@dataclasses.dataclass(frozen=True)
class KeptLines:
  """The lines of a part.

  Attributes:
    keys: String array [size]; '' of whom was forgotten.
    train: int64 [size], train rows in the earlier dataset.
  """

  keys: pa.Array
  train: np.ndarray


def sizes(parts: tuple[Part, ...]) -> list[tuple[int, int]]:
  """How many ids each part has, as a numbering is told of it."""
  return [(part.number, part.size) for part in parts]


def plan(given: str | None) -> Plan | None:
  """Reads an earlier dataset's vocabularies as far as to plan the work; None of none.

  Args:
    given: Its directory, as a user names it.

  Raises:
    UserError: It is missing, no finished dataset, or its vocabularies are corrupt.
  """
  if given is None:
    return None
  directory = outputs.resolve(given, 'ids_from')
  shown = f'--ids_from={outputs.shown(directory)}'
  text = _manifest(directory, shown)
  try:
    manifest = Manifest.from_json(text)
    listed = {file.name: file for file in manifest.files}
    vocabularies = listed[dataset.USERS], listed[dataset.ITEMS]
    size = manifest.counts['users'], manifest.counts['items']
  except (AttributeError, KeyError, TypeError, ValueError) as error:
    raise UserError(
      f'{shown} holds a {dataset.MANIFEST} that this version does not read ({error}). '
      'Name the directory of a dataset that `prepare` wrote.'
    ) from error
  users, items = (_parts(directory, file, shown) for file in vocabularies)
  if (_total(users), _total(items)) != size:
    raise UserError(
      f'{shown} has {_total(users):,} users and {_total(items):,} items, and its '
      f'{dataset.MANIFEST} says {size[0]:,} and {size[1]:,}. Prepare it again.'
    )
  sha256 = hashlib.sha256(text.encode()).hexdigest()
  return Plan(shown, Base(sha256, *size), users, items, _example(users))


def _manifest(directory: str, shown: str) -> str:
  try:
    text = outputs.read_manifest(directory)
  except Exception as error:  # each store has its own
    reason = str(error).partition('\n')[0]
    raise UserError(f'cannot read {shown}: {reason}.') from error
  if text is None:
    raise UserError(
      f'{shown} is no finished dataset (no {dataset.MANIFEST}). Name a directory that '
      '`prepare` wrote, or leave --ids_from out for the first dataset.'
    )
  return text


def _parts(directory: str, file: File, shown: str) -> tuple[Part, ...]:
  """Cuts a vocabulary, and compares it with the manifest."""
  path = FileSystems.join(directory, file.name)
  digest, found = hashlib.sha256(), []
  start = first = 0
  with files.open_raw(path) as stream:
    for lines in _whole_lines(stream):
      digest.update(lines)
      size, end = lines.count(b'\n'), start + len(lines)
      sha256 = hashlib.sha256(lines).hexdigest()
      found.append((path, start, end, first, size, sha256))
      start, first = end, first + size
  if digest.hexdigest() != file.sha256:
    raise UserError(
      f"{shown} is corrupt: the sha256 of {file.name} is not the manifest's. Name "
      'another dataset, or prepare it again.'
    )
  return tuple(
    Part(number - len(found), *fields) for number, fields in enumerate(found)
  )


def _whole_lines(stream: BinaryIO) -> Iterator[bytes]:
  """The lines of a file, about `PART_BYTES` of them at a time."""
  rest = b''
  while piece := stream.read(PART_BYTES):
    lines, end, rest_of_piece = piece.rpartition(b'\n')
    if end:
      yield rest + lines + end
      rest = rest_of_piece
    else:
      rest += piece
  if rest:
    yield rest


def _total(parts: tuple[Part, ...]) -> int:
  return sum(part.size for part in parts)


def _example(parts: tuple[Part, ...]) -> str:
  for part in parts:
    known = read(part).keys
    for key in known.filter(pc.not_equal(known, ''))[:1].to_pylist():
      return key
  return ''


def read(part: Part) -> KeptLines:
  """Reads a part.

  Raises:
    UserError: It is not what it was when the job began.
  """
  with files.open_raw(part.path) as stream:
    stream.seek(part.start)
    content = stream.read(part.end - part.start)
  if hashlib.sha256(content).hexdigest() != part.sha256:
    raise UserError(
      f'{part.path} changed while it was read. Run again once nothing writes to it.'
    )
  # Lines hold no quotes that mean anything, and no tab or line end within a key.
  table = pa_csv.read_csv(
    pa.BufferReader(content),
    read_options=pa_csv.ReadOptions(
      autogenerate_column_names=True, block_size=len(content) + 1
    ),
    parse_options=pa_csv.ParseOptions(delimiter='\t', quote_char=False),
    convert_options=pa_csv.ConvertOptions(
      include_columns=['f0', 'f1'],
      column_types={'f0': pa.string(), 'f1': pa.int64()},
      strings_can_be_null=False,
    ),
  )
  known, count = (table[name].combine_chunks() for name in ('f0', 'f1'))
  return KeptLines(_unescaped(known), count.to_numpy(zero_copy_only=False))


def _unescaped(texts: pa.Array) -> pa.Array:
  escaped = pc.match_substring(texts, '\\')
  if not pc.any(escaped).as_py():
    return texts
  meant = map(vocabulary.unescape_key, texts.filter(escaped).to_pylist())
  return pc.replace_with_mask(texts, escaped, pa.array(meant, pa.string()))


def deal(
  known: pa.Array, first: int, num_groups: int
) -> Iterator[tuple[int, KeptKeys]]:
  """Deals the keys of a part to their groups; who has none is in no group.

  Args:
    known: String array [n].
    first: Dense id of the first of them.
    num_groups: Of users, or of items.

  Yields:
    (group, its keys), for each group that has any.
  """
  named = np.flatnonzero(pc.not_equal(known, '').to_numpy(zero_copy_only=False))
  known = known.take(pa.array(named))
  group = keys.groups(known, num_groups)
  order = np.argsort(group, kind='stable')
  numbers, starts = np.unique(group[order], return_index=True)
  for number, mine in zip(
    numbers.tolist(), np.split(order, starts[1:]) if len(order) else [], strict=True
  ):
    yield number, KeptKeys(known.take(pa.array(mine)), first + named[mine])


def look_up(names: pa.Array, kept: Sequence[KeptKeys]) -> np.ndarray:
  """The dense id that each key keeps, `NEW` of others: int64 [n].

  Args:
    names: String array [n] of distinct keys of one group.
    kept: All that is kept of that group, in any order.
  """
  if not kept:
    return np.full(len(names), NEW)
  ids = np.concatenate([one.ids for one in kept])
  known = pa.concat_arrays([one.keys for one in kept])
  place = pc.fill_null(pc.index_in(names, value_set=known), -1).to_numpy()
  return np.where(place >= 0, ids[place], NEW)


def check_overlap(made: Plan, users: int, items: int, example_user: str) -> None:
  """Makes sure that a log is of the kind of keys that the earlier one was.

  Args:
    made: Whose ids are kept.
    users: How many users of the log are in that dataset.
    items: How many items.
    example_user: A user of the log.

  Raises:
    UserError: Not one item is, or not one user and their keys are of another kind.
  """
  if not items:
    raise UserError(
      f'no item of the log is among the {made.base.items:,} of {made.directory}, so '
      'that no id would be kept. Is it of another log, or are items named anew?'
    )
  if not users and _whole_number(example_user) != _whole_number(made.example_user):
    raise UserError(
      f'no user of the log, such as {json.dumps(example_user, ensure_ascii=False)}, is '
      f'among the {made.base.users:,} of {made.directory}, such as '
      f'{json.dumps(made.example_user, ensure_ascii=False)}, so that no id would be '
      'kept. Name users as they were, or leave --ids_from out.'
    )


def _whole_number(key: str) -> bool:
  return key.isascii() and key.isdigit()
