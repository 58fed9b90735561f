"""Stages of the rows: from ranges to the users whose they are."""

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import apache_beam as beam
import numpy as np
from apache_beam.pvalue import AsList, TaggedOutput
from apache_beam.typehints import with_output_types

from beam_pipelines import (
  beam_metrics,
  catalogue,
  forgotten,
  histories,
  kept_ids,
  progress,
  range_reader,
  ratings,
)
from beam_pipelines.catalogue import GroupSize, ItemTimes, Numbering, RangeItems
from beam_pipelines.cuts import Times
from beam_pipelines.files import RangeKey
from beam_pipelines.histories import Chunk
from beam_pipelines.kept_ids import KeptKeys
from beam_pipelines.narrow import narrow
from beam_pipelines.parsed import Parsed
from beam_pipelines.prepare_job import Job
from beam_pipelines.publish import Note
from beam_pipelines.ratings import Ratings
from beam_pipelines.spill import Stored, StoringDoFn
from beam_pipelines.stage import Stage
from ncf_tfdata.errors import UserError


class ReadRowsOutput(NamedTuple):
  """What `ReadRows` makes.

  Attributes:
    chunks: (user group, a `Chunk` of its rows).
    notes: Of every range.
  """

  chunks: beam.PCollection[tuple[int, Stored]]
  notes: beam.PCollection[Note]


class ReadRows(Stage):
  """Reads the ranges again, with numbers for items, and deals their rows to users.

  Takes (range, (item group, ids of the range's items within that group)), and (range,
  its ratings), where the first reading has kept them.
  """

  def __init__(self, job: Job, item_sizes: beam.PCollection[GroupSize]):
    """Takes the job, and how many items each group keeps."""
    super().__init__()
    self._job, self._item_sizes = job, AsList(item_sizes)

  def expand(
    self,
    inputs: tuple[
      beam.PCollection[tuple[RangeKey, tuple[int, np.ndarray]]],
      beam.PCollection[tuple[RangeKey, Parsed]],
    ],
  ) -> ReadRowsOutput:
    ids, parsed = inputs
    read = beam.ParDo(_ReadRows(self._job), self._item_sizes)
    rows = (
      {'ids': ids, 'parsed': parsed}
      | 'ByRange' >> beam.CoGroupByKey()
      | 'Read' >> read.with_outputs('notes', main='chunks')
    )
    return ReadRowsOutput(rows.chunks, rows.notes)


@with_output_types(tuple[int, Stored], notes=Note)
class _ReadRows(StoringDoFn):
  def __init__(self, job: Job):
    super().__init__(job.scratch)
    self._job = job

  def process(
    self,
    element: tuple[RangeKey, dict[str, Iterable[Any]]],
    item_sizes: list[GroupSize],
  ) -> Iterator[Any]:
    key, found = element
    numbering = Numbering(item_sizes)
    # The provisional ids of the range's items, group by group. Kept ones are that.
    ids = {
      group: np.where(
        local >= numbering.num_kept,
        local + (numbering.start(group) - numbering.num_kept),
        local,
      )
      for group, local in found['ids']
    }
    reader = range_reader.RangeReader(key)
    items = RangeItems(self._job.num_item_groups)
    counts = {'filtered_items': 0, 'filtered_ratings': 0}
    for block in self._blocks(reader, list(found['parsed'])):
      number = items.number(block.item)
      item = _provisional(items, ids, reader)[number]
      rated = catalogue.high_enough(block, self._job.min_rating)
      counts['filtered_items'] += int((item == catalogue.RARE).sum())
      counts['filtered_ratings'] += int(((item != catalogue.RARE) & ~rated).sum())
      keep = np.flatnonzero((item >= 0) & rated)
      for group, chunk in histories.deal(
        block, reader.range.file_index, item, keep, self._job.num_shards
      ):
        yield group, self.store.put(chunk)
      progress.advance('grouping', len(block))
    beam_metrics.count(**counts)
    yield TaggedOutput('notes', Note(counts=counts))

  def _blocks(
    self, reader: range_reader.RangeReader, parsed: list[Parsed]
  ) -> Iterator[Ratings]:
    """What the first reading has kept of a range, or else the range."""
    if parsed:
      return parsed[0].read()
    forgetting = forgotten.Forgetting(self._job.forget)
    return map(forgetting.leave_out, ratings.read(reader, self._job.schema))


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
    users: (user group, `Users` with their rows), of every group.
    notes: Of every user group.
  """

  users: beam.PCollection[tuple[int, Stored]]
  notes: beam.PCollection[Note]


class GatherUsers(Stage):
  """Brings each user's rows together, puts them in order, and thins them."""

  def __init__(
    self, job: Job, kept: beam.PCollection[tuple[int, KeptKeys]] | None = None
  ):
    """Takes the job, and who has a dense id already."""
    super().__init__()
    self._job, self._kept = job, () if kept is None else (kept,)

  def expand(self, chunks: beam.PCollection[tuple[int, Stored]]) -> GatheredUsers:
    # Every group is there, also one that no user falls to.
    every_group = chunks.pipeline | 'Groups' >> beam.Create(
      [(group, None) for group in range(self._job.num_shards)]
    )
    gather = beam.ParDo(_GatherUsers(self._job))
    gathered = (
      (chunks, every_group, *self._kept)
      | 'AllGroups' >> beam.Flatten()
      | 'ByUserGroup' >> beam.GroupByKey()
      | 'Gather' >> gather.with_outputs('notes', main='users')
    )
    return GatheredUsers(gathered.users, gathered.notes)


@with_output_types(tuple[int, Stored], notes=Note)
class _GatherUsers(StoringDoFn):
  def __init__(self, job: Job):
    super().__init__(job.scratch)
    self._rules, self._keep_ids = job.rules, job.kept is not None

  def process(
    self, element: tuple[int, Iterable[Stored | KeptKeys | None]]
  ) -> Iterator[Any]:
    group, found = element
    chunks: list[Chunk] = []
    kept: list[KeptKeys] = []
    for one in found:
      if isinstance(one, KeptKeys):
        kept.append(one)
      elif one is not None:
        chunks.append(one.get())
    users = histories.gather(chunks, self._rules)
    if self._keep_ids:
      users = dataclasses.replace(users, kept=kept_ids.look_up(users.keys, kept))
    beam_metrics.count(**users.counts)
    yield TaggedOutput('notes', Note(counts=users.counts))
    yield group, self.store.put(users)


class MeasuredUsers(NamedTuple):
  """What `MeasureUsers` makes, of every user group.

  Attributes:
    sizes: How many users without a dense id each group has.
    seen: (item group, provisional ids of it that occur in some user group).
    first_seen: (item group, `ItemTimes` of those ids), and
    times: `Times` of all rows, ascending; both only where they are written.
    notes: What is kept.
  """

  sizes: beam.PCollection[GroupSize]
  seen: beam.PCollection[tuple[int, Stored]]
  first_seen: beam.PCollection[tuple[int, Stored]]
  times: beam.PCollection[Stored]
  notes: beam.PCollection[Note]


class MeasureUsers(Stage):
  """Counts the users and rows that are kept, and finds which items they are of."""

  def __init__(self, job: Job, item_sizes: beam.PCollection[GroupSize]):
    """Takes the job, and how many items each group keeps."""
    super().__init__()
    self._job, self._item_sizes = job, AsList(item_sizes)

  def expand(self, users: beam.PCollection[tuple[int, Stored]]) -> MeasuredUsers:
    measure = beam.ParDo(_MeasureUsers(self._job), self._item_sizes)
    measured = users | 'Measure' >> measure.with_outputs(
      'seen', 'first_seen', 'times', 'notes', main='sizes'
    )
    return MeasuredUsers(
      measured.sizes, measured.seen, measured.first_seen, measured.times, measured.notes
    )


@with_output_types(
  GroupSize,
  seen=tuple[int, Stored],
  first_seen=tuple[int, Stored],
  times=Stored,
  notes=Note,
)
class _MeasureUsers(StoringDoFn):
  def __init__(self, job: Job):
    super().__init__(job.scratch)
    self._cut = job.cut is not None

  def process(
    self, element: tuple[int, Stored], item_sizes: list[GroupSize]
  ) -> Iterator[Any]:
    group, users = element[0], element[1].get()
    new = int(users.new().sum())
    counts = {'kept': len(users.item), 'users': new}
    beam_metrics.count(**counts)
    beam_metrics.distribute(beam_metrics.HISTORY_LENGTH, users.length)
    progress.advance('splitting', len(users.item))
    yield TaggedOutput('notes', Note(counts=counts))
    yield group, new
    numbering = Numbering(item_sizes)
    seen = narrow(catalogue.occurring(users.item, numbering.size)[0])
    first = None
    if self._cut:
      # A group of no rows has no times either.
      time = np.zeros(0, np.uint8) if users.time is None else users.time
      times = Times(np.sort(time), users.epoch)
      yield TaggedOutput('times', self.store.put(times))
      first = _earliest(seen, numbering.size, users.item, time)
    for item_group, mine in numbering.deal(seen):
      yield TaggedOutput('seen', (item_group, self.store.put(seen[mine])))
      if first is not None:
        found = ItemTimes(seen[mine], first[mine], users.epoch)
        yield TaggedOutput('first_seen', (item_group, self.store.put(found)))


def _earliest(
  ids: np.ndarray, size: int, item: np.ndarray, time: np.ndarray
) -> np.ndarray:
  """The earliest time of each of `ids`, all items of rows, ascending: unsigned.

  Args:
    ids: [m], distinct, in [0, size).
    size: Of the catalogue.
    item: [rows].
    time: Unsigned [rows].
  """
  table = size <= catalogue.MANY_TIMES * len(item)
  place = item if table else np.searchsorted(ids, item)
  first = np.full(size if table else len(ids), np.iinfo(time.dtype).max, time.dtype)
  np.minimum.at(first, place, time)
  return first[ids] if table else first
