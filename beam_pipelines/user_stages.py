"""Stages of the rows: from ranges to users, and from users to shards."""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import apache_beam as beam
import numpy as np
from apache_beam.pvalue import AsList, TaggedOutput
from apache_beam.typehints import with_output_types

from beam_pipelines import (
  beam_metrics,
  catalogue,
  histories,
  progress,
  publish,
  range_reader,
  ratings,
  shards,
  staging,
)
from beam_pipelines.catalogue import (
  Catalogue,
  GroupSize,
  ItemCounts,
  Numbering,
  RangeItems,
)
from beam_pipelines.files import RangeKey
from beam_pipelines.histories import Chunk, Users
from beam_pipelines.prepare_job import Job
from beam_pipelines.publish import Note, Piece
from beam_pipelines.stage import Stage
from beam_pipelines.transitions import TrainRows
from ncf_tfdata import dataset
from ncf_tfdata.errors import UserError


class ReadRowsOutput(NamedTuple):
  """What `ReadRows` makes.

  Attributes:
    chunks: (user group, some of its rows).
    notes: Of every range.
  """

  chunks: beam.PCollection[tuple[int, Chunk]]
  notes: beam.PCollection[Note]


class ReadRows(Stage):
  """Reads the ranges again, with numbers for items, and deals their rows to users.

  Takes (range, (item group, ids of the range's items within that group)).
  """

  def __init__(self, job: Job, item_sizes: beam.PCollection[GroupSize]):
    """Takes the job, and how many items each group keeps."""
    super().__init__()
    self._job, self._item_sizes = job, AsList(item_sizes)

  def expand(
    self, ids: beam.PCollection[tuple[RangeKey, tuple[int, np.ndarray]]]
  ) -> ReadRowsOutput:
    read = beam.ParDo(_ReadRows(self._job), self._item_sizes)
    rows = (
      ids
      | 'ByRange' >> beam.GroupByKey()
      | 'Read' >> read.with_outputs('notes', main='chunks')
    )
    return ReadRowsOutput(rows.chunks, rows.notes)


@with_output_types(tuple[int, Chunk], notes=Note)
class _ReadRows(beam.DoFn):
  def __init__(self, job: Job):
    self._job = job

  def process(
    self,
    element: tuple[RangeKey, Iterable[tuple[int, np.ndarray]]],
    item_sizes: list[GroupSize],
  ) -> Iterator[Any]:
    key, decided = element
    numbering = Numbering(item_sizes)
    # The provisional ids of the range's items, group by group.
    ids = {
      group: np.where(local >= 0, local + numbering.start(group), local)
      for group, local in decided
    }
    reader = range_reader.RangeReader(key)
    items = RangeItems(self._job.num_item_groups)
    counts = {'filtered_items': 0, 'filtered_ratings': 0}
    for block in ratings.read(reader, self._job.schema):
      number = items.number(block.item)
      item = _provisional(items, ids, reader)[number]
      rated = catalogue.high_enough(block, self._job.min_rating)
      counts['filtered_items'] += int((item == catalogue.RARE).sum())
      counts['filtered_ratings'] += int(((item != catalogue.RARE) & ~rated).sum())
      keep = np.flatnonzero((item >= 0) & rated)
      yield from histories.deal(
        block, reader.range.file_index, item, keep, self._job.num_shards
      )
      progress.advance('grouping', len(block))
    beam_metrics.count(**counts)
    yield TaggedOutput('notes', Note(counts=counts))


def _provisional(
  items: RangeItems, ids: dict[int, np.ndarray], reader: range_reader.RangeReader
) -> np.ndarray:
  """The provisional id of each item of the range that was met so far: int32 [m]."""
  result = np.empty(len(items.keys), np.int32)
  for group, mine in items.by_group():
    place = items.place[mine]
    if group not in ids or place.max() >= len(ids[group]):
      raise UserError(
        f'{reader.range.path} changed while it was read. Run again once nothing '
        'writes to it.'
      )
    result[mine] = ids[group][place]
  return result


class GatheredUsers(NamedTuple):
  """What `GatherUsers` makes.

  Attributes:
    users: (user group, its users' rows), of every group.
    sizes: How many users each group has.
    seen: (item group, provisional ids of it that occur in some user group).
    notes: Of every user group.
  """

  users: beam.PCollection[tuple[int, Users]]
  sizes: beam.PCollection[GroupSize]
  seen: beam.PCollection[tuple[int, np.ndarray]]
  notes: beam.PCollection[Note]


class GatherUsers(Stage):
  """Brings each user's rows together, puts them in order, and thins them."""

  def __init__(self, job: Job, item_sizes: beam.PCollection[GroupSize]):
    """Takes the job, and how many items each group keeps."""
    super().__init__()
    self._job, self._item_sizes = job, AsList(item_sizes)

  def expand(self, chunks: beam.PCollection[tuple[int, Chunk]]) -> GatheredUsers:
    # Every group is there, also one that no user falls to.
    every_group = chunks.pipeline | 'Groups' >> beam.Create(
      [(group, None) for group in range(self._job.num_shards)]
    )
    gather = beam.ParDo(_GatherUsers(self._job.rules), self._item_sizes)
    gathered = (
      (chunks, every_group)
      | 'AllGroups' >> beam.Flatten()
      | 'ByUserGroup' >> beam.GroupByKey()
      | 'Gather' >> gather.with_outputs('sizes', 'seen', 'notes', main='users')
    )
    return GatheredUsers(gathered.users, gathered.sizes, gathered.seen, gathered.notes)


@with_output_types(
  tuple[int, Users], sizes=GroupSize, seen=tuple[int, np.ndarray], notes=Note
)
class _GatherUsers(beam.DoFn):
  def __init__(self, rules: histories.Rules):
    self._rules = rules

  def process(
    self, element: tuple[int, Iterable[Chunk | None]], item_sizes: list[GroupSize]
  ) -> Iterator[Any]:
    group, chunks = element
    users = histories.gather(
      [chunk for chunk in chunks if chunk is not None], self._rules
    )
    counts = {**users.counts, 'kept': len(users.item), 'users': len(users.length)}
    beam_metrics.count(**counts)
    beam_metrics.distribute(beam_metrics.HISTORY_LENGTH, users.length)
    progress.advance('splitting', len(users.item))
    yield TaggedOutput('notes', Note(counts=counts))
    yield TaggedOutput('sizes', (group, len(users.length)))
    seen = np.unique(users.item)
    owner = Numbering(item_sizes).group(seen)
    for item_group in np.unique(owner).tolist():
      yield TaggedOutput('seen', (item_group, seen[owner == item_group]))
    yield group, users


class WrittenShards(NamedTuple):
  """What `WriteShards` makes.

  Attributes:
    counts: (item group, provisional ids of it and the train rows of each).
    train: (user group, its train rows), where transitions are counted.
    notes: Of every user group.
  """

  counts: beam.PCollection[tuple[int, ItemCounts]]
  train: beam.PCollection[tuple[int, TrainRows]]
  notes: beam.PCollection[Note]


class WriteShards(Stage):
  """Splits each group of users, draws negatives, and writes a shard of each split."""

  def __init__(
    self,
    job: Job,
    user_sizes: beam.PCollection[GroupSize],
    item_sizes: beam.PCollection[GroupSize],
    vanished: beam.PCollection[np.ndarray],
  ):
    """Takes the job, the users' and the items' numbering, and the latter's gaps."""
    super().__init__()
    self._job = job
    self._sides = AsList(user_sizes), AsList(item_sizes), AsList(vanished)

  def expand(self, users: beam.PCollection[tuple[int, Users]]) -> WrittenShards:
    write = beam.ParDo(_WriteShards(self._job), *self._sides)
    written = users | 'Write' >> write.with_outputs('train', 'notes', main='counts')
    return WrittenShards(written.counts, written.train, written.notes)


@with_output_types(tuple[int, ItemCounts], train=tuple[int, TrainRows], notes=Note)
class _WriteShards(beam.DoFn):
  def __init__(self, job: Job):
    self._job = job

  def process(
    self,
    element: tuple[int, Users],
    user_sizes: list[GroupSize],
    item_sizes: list[GroupSize],
    vanished: list[np.ndarray],
  ) -> Iterator[Any]:
    number, users = element
    items = Catalogue(Numbering(item_sizes), vanished)
    item = items.final(users.item)
    first_user = Numbering(user_sizes).start(number)
    shard = shards.make(users, first_user, item, items.size, self._job.recipe)
    yield TaggedOutput('notes', self._write(number, users, first_user, shard))
    train_rows = shard.split.train_rows
    ids, count = np.unique(users.item[train_rows], return_counts=True)
    owner = items.numbering.group(ids)
    for group in np.unique(owner).tolist():
      mine = owner == group
      yield group, (ids[mine], count[mine])
    if self._job.transitions.keep:
      user = np.repeat(np.arange(len(users.length)), shard.train_count)
      yield TaggedOutput('train', (number, TrainRows(user, item[train_rows])))

  def _write(
    self, number: int, users: Users, first_user: int, shard: shards.Shard
  ) -> Note:
    """Writes the group's shards, and its piece of the vocabulary of users."""
    written = tuple(
      self._write_shard(split, number, rows) for split, rows in shard.rows.items()
    )
    piece = f'users-{number:06d}.tsv'
    content = dataset.encode_vocabulary(users.keys.to_pylist(), shard.train_count)
    staging.write_piece(self._job.staging, piece, content)
    counts = dict(shard.split.counts)
    counts.update({split: len(rows) for split, rows in shard.rows.items()})
    beam_metrics.count(**counts, **{beam_metrics.NEGATIVES_REDRAWN: shard.redrawn})
    progress.advance('writing', len(users.item))
    return Note(
      counts=counts,
      files=written,
      pieces=(Piece(dataset.USERS, (number,), piece),),
      without_negatives=_first_few(
        users, first_user, shard.split.users_without_negatives
      ),
    )

  def _write_shard(self, split: str, number: int, rows: shards.Rows) -> dataset.File:
    content, records = shards.encode(rows)
    name = dataset.shard_name(split, number, self._job.num_shards)
    sha256 = staging.write(self._job.staging, name, content)
    return dataset.File(name, len(content), sha256, split, len(rows), records)


def _first_few(
  users: Users, first_user: int, chosen: np.ndarray
) -> tuple[tuple[int, dataset.UserRows], ...]:
  """The first few of the users under a mask: dense id, key, and number of rows."""
  return tuple(
    (
      first_user + user,
      dataset.UserRows(users.keys[user].as_py(), int(users.length[user])),
    )
    for user in np.flatnonzero(chosen)[: publish.NAMED_USERS].tolist()
  )
