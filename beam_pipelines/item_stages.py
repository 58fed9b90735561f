"""Stages of the catalogue: which items there are, and the numbers they get."""

import posixpath
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import apache_beam as beam
import numpy as np
import pyarrow as pa
from apache_beam.pvalue import AsList, AsSingleton, TaggedOutput
from apache_beam.typehints import with_output_types

from beam_pipelines import (
  beam_metrics,
  catalogue,
  drift,
  files,
  forgotten,
  progress,
  range_reader,
  ratings,
  staging,
  tsv,
)
from beam_pipelines.catalogue import (
  Catalogue,
  GroupSize,
  Numbering,
  Tally,
)
from beam_pipelines.drift import Changes
from beam_pipelines.files import RangeKey
from beam_pipelines.kept_ids import KeptKeys, KeptLines
from beam_pipelines.parsed import Parsed, ParsedWriter
from beam_pipelines.prepare_job import Job
from beam_pipelines.publish import Note, Piece, SourcePart
from beam_pipelines.reject_limit import Limit
from beam_pipelines.rejects import Rejects
from beam_pipelines.spill import Stored, StoringDoFn
from beam_pipelines.stage import Stage
from ncf_tfdata import dataset
from ncf_tfdata.manifest import Cuts


class CutFiles(Stage):
  """Cuts the files into ranges, and spreads these over the workers."""

  def __init__(self, sources: tuple[files.File, ...]):
    """Takes the files, in reading order."""
    super().__init__()
    self._sources = sources

  def expand(self, root: beam.pvalue.PBegin) -> beam.PCollection[RangeKey]:
    return (
      root
      | 'Files' >> beam.Create(self._sources)
      | 'Cut' >> beam.FlatMap(_ranges)
      | 'Spread' >> beam.Reshuffle()
    )


def _ranges(file: files.File) -> Iterator[RangeKey]:
  return files.ranges(files.File(*file))


class CountedItems(NamedTuple):
  """What `CountItems` makes.

  Attributes:
    tallies: (item group, (range, a `Tally` of the range's items of that group)).
    parsed: (range, its ratings), where they are kept on a disk for the next reading.
    notes: Of every range.
  """

  tallies: beam.PCollection[tuple[int, tuple[RangeKey, Stored]]]
  parsed: beam.PCollection[tuple[RangeKey, Parsed]]
  notes: beam.PCollection[Note]


class CountItems(Stage):
  """Reads the ranges: counts the ratings of items, and writes down what is none."""

  def __init__(self, job: Job):
    """Takes the job."""
    super().__init__()
    self._job = job

  def expand(self, ranges: beam.PCollection[RangeKey]) -> CountedItems:
    count = beam.ParDo(_CountItems(self._job))
    counted = ranges | 'Count' >> count.with_outputs('parsed', 'notes', main='tallies')
    return CountedItems(counted.tallies, counted.parsed, counted.notes)


@with_output_types(
  tuple[int, tuple[RangeKey, Stored]], parsed=tuple[RangeKey, Parsed], notes=Note
)
class _CountItems(StoringDoFn):
  def __init__(self, job: Job):
    super().__init__(job.scratch)
    self._job = job

  def setup(self) -> None:
    self._limit = Limit(
      self._job.plan.max_reject_fraction, self._job.files, self._job.schema
    )

  def process(self, key: RangeKey) -> Iterator[Any]:
    reader = range_reader.RangeReader(key)
    tally = catalogue.RangeTally(self._job.num_item_groups, self._job.min_rating)
    forgetting = forgotten.Forgetting(self._job.forget)
    rows, rejects = 0, []
    scratch = self._job.scratch
    writer = None if scratch is None else ParsedWriter(scratch, self._job.min_rating)
    blocks = ratings.read(reader, self._job.schema)
    for block in map(forgetting.leave_out, self._limit.watch(reader, blocks)):
      tally.add(block)
      rows += len(block)
      if len(block.rejects):
        rejects.append(block.rejects)
      if writer is not None:
        writer.put(block)
      progress.advance('reading', len(block))
    if writer is not None:
      yield TaggedOutput('parsed', (key, writer.close()))
    rejected = sum(map(len, rejects))
    counts = {'read': rows + forgetting.rows + rejected, 'rejected': rejected}
    if self._job.forget:
      counts['forgotten'] = forgetting.rows
    beam_metrics.count(**counts)
    source = reader.range
    file = self._job.files[source.file_index]
    name = posixpath.basename(file.path)
    part = SourcePart(
      source.file_index, source.start, name, file.size, reader.sha256.hexdigest()
    )
    found = forgetting.found() if self._job.forget else None
    yield TaggedOutput('notes', Note(counts=counts, sources=(part,), forgotten=found))
    if rejects:
      yield TaggedOutput('notes', self._write_rejects(name, source, rejects))
    for group, tallied in tally.groups():
      yield group, (key, self.store.put(tallied))

  def _write_rejects(
    self, name: str, source: files.Range, rejects: list[Rejects]
  ) -> Note:
    order = (source.file_index, source.start)
    piece = f'rejects-{source.file_index:06d}-{source.start:015d}.tsv'
    text = b''.join(block.tsv(name) for block in rejects)
    staging.write_piece(self._job.staging, piece, text)
    return Note(
      pieces=(Piece(dataset.REJECTS, order, piece),),
      first_reject=(order, rejects[0].first(name)),
    )


class SelectedItems(NamedTuple):
  """What `SelectItems` makes.

  Attributes:
    ids: (range, (item group, ids of the range's items within that group)).
    sizes: How many new items each group keeps.
    keys: (item group, String array of the new items that it keeps).
  """

  ids: beam.PCollection[tuple[RangeKey, tuple[int, np.ndarray]]]
  sizes: beam.PCollection[GroupSize]
  keys: beam.PCollection[tuple[int, pa.Array]]


class SelectItems(Stage):
  """Keeps the items with enough ratings, and numbers them within their group."""

  def __init__(
    self,
    min_item_count: int,
    kept: beam.PCollection[tuple[int, KeptKeys]] | None = None,
    num_kept: int = 0,
  ):
    """Takes the least number of ratings of an item, and which have ids already."""
    super().__init__()
    self._select = _SelectItems(min_item_count, num_kept)
    self._kept = () if kept is None else (kept,)

  def expand(
    self, tallies: beam.PCollection[tuple[int, tuple[RangeKey, Stored]]]
  ) -> SelectedItems:
    select = beam.ParDo(self._select).with_outputs('sizes', 'keys', main='ids')
    selected = (
      (tallies, *self._kept)
      | 'WithKept' >> beam.Flatten()
      | 'ByItemGroup' >> beam.GroupByKey()
      | 'Select' >> select
    )
    return SelectedItems(selected.ids, selected.sizes, selected['keys'])


@with_output_types(
  tuple[RangeKey, tuple[int, np.ndarray]], sizes=GroupSize, keys=tuple[int, pa.Array]
)
class _SelectItems(beam.DoFn):
  def __init__(self, min_item_count: int, num_kept: int):
    self._min_item_count, self._num_kept = min_item_count, num_kept

  def process(
    self, element: tuple[int, Iterable[tuple[RangeKey, Stored] | KeptKeys]]
  ) -> Iterator[Any]:
    group, found = element
    kept, tallied = [], []
    for one in found:
      if isinstance(one, KeptKeys):
        kept.append(one)
      else:
        tallied.append(one)
    if not tallied:
      return
    tallied.sort(key=lambda pair: pair[0])
    tallies: list[Tally] = [tally.get() for _, tally in tallied]
    selection = catalogue.select(tallies, self._min_item_count, kept, self._num_kept)
    yield TaggedOutput('sizes', (group, len(selection.keys)))
    yield TaggedOutput('keys', (group, selection.keys))
    for (key, _), ids in zip(tallied, selection.ids, strict=True):
      yield key, (group, ids)


class FindVanishedItems(Stage):
  """Finds the kept items that lost all their rows to a later rule, or never had any.

  Takes the sizes of item groups, and (item group, provisional ids in some rows); makes
  arrays of provisional ids.
  """

  def expand(
    self,
    inputs: tuple[beam.PCollection[GroupSize], beam.PCollection[tuple[int, Stored]]],
  ) -> beam.PCollection[np.ndarray]:
    sizes, seen = inputs
    return (
      {'size': sizes, 'seen': seen}
      | 'ByItemGroup' >> beam.CoGroupByKey()
      | 'Find' >> beam.ParDo(_FindVanished(), AsList(sizes))  # type: ignore[no-untyped-call]
    )


class _FindVanished(beam.DoFn):
  def process(
    self, element: tuple[int, dict[str, Iterable[Any]]], item_sizes: list[GroupSize]
  ) -> Iterator[np.ndarray]:
    group, found = element
    start = Numbering(item_sizes).start(group)
    absent = np.ones(sum(found['size']), bool)
    for seen in map(Stored.get, found['seen']):
      absent[seen - start] = False
    if absent.any():
      yield start + np.flatnonzero(absent)


class WrittenItems(NamedTuple):
  """What `WriteItems` makes.

  Attributes:
    counts: (dense id of a group's first item, train rows of its items from there).
    changes: Of every group, where ids are kept.
    notes: Of every group.
  """

  counts: beam.PCollection[tuple[int, np.ndarray]]
  changes: beam.PCollection[Changes]
  notes: beam.PCollection[Note]


class WriteItems(Stage):
  """Writes the vocabulary of items, a piece a group.

  Takes (item group, keys), of kept ids with the train rows that they had; (item group,
  provisional ids and rows of each); and (item group, provisional ids and the earliest
  time of each), where times are written.
  """

  def __init__(
    self,
    directory: str,
    item_sizes: beam.PCollection[GroupSize],
    vanished: beam.PCollection[np.ndarray],
    cuts: beam.PCollection[Cuts | None] | None = None,
    keep_ids: bool = False,
  ):
    """Takes where to write, the items' numbering, its gaps, and how times begin.

    Args:
      directory: Of staging.
      item_sizes: Items of each group.
      vanished: Those without rows.
      cuts: From when times count; None where none are written.
      keep_ids: Whether ids of an earlier dataset are kept, and all rows are counted.
    """
    super().__init__()
    self._write = _WriteItems(directory, keep_ids)
    moments = () if cuts is None else (AsSingleton(cuts),)
    self._sides = AsList(item_sizes), AsList(vanished), *moments

  def expand(
    self,
    inputs: tuple[
      beam.PCollection[tuple[int, pa.Array | KeptLines]],
      beam.PCollection[tuple[int, Stored]],
      beam.PCollection[tuple[int, Stored]],
    ],
  ) -> WrittenItems:
    keys, counts, first_seen = inputs
    write = beam.ParDo(self._write, *self._sides)
    written = (
      {'keys': keys, 'counts': counts, 'first_seen': first_seen}
      | 'ByItemGroup' >> beam.CoGroupByKey()
      | 'Write' >> write.with_outputs('changes', 'notes', main='counts')
    )
    return WrittenItems(written.counts, written.changes, written.notes)


@with_output_types(tuple[int, np.ndarray], changes=Changes, notes=Note)
class _WriteItems(beam.DoFn):
  def __init__(self, directory: str, keep_ids: bool):
    self._directory, self._keep_ids = directory, keep_ids

  def process(
    self,
    element: tuple[int, dict[str, Iterable[Any]]],
    item_sizes: list[GroupSize],
    vanished: list[np.ndarray],
    cuts: Cuts | None = None,
  ) -> Iterator[Any]:
    group, found = element
    items = Catalogue(Numbering(item_sizes), vanished)
    start = items.numbering.start(group)
    (keys,) = found['keys']
    before = None
    if isinstance(keys, KeptLines):
      keys, before = keys.keys, keys.train
    train, rows = np.zeros((2, len(keys)), np.int64)
    for ids, train_count, count in map(Stored.get, found['counts']):
      train[ids - start] += train_count
      if self._keep_ids:
        rows[ids - start] += count
    present = items.present(start + np.arange(len(keys)))
    train, rows = train[present], rows[present]
    columns = [train]
    if cuts is not None:
      # Later than all, of what nobody has.
      first = np.full(len(keys), cuts.last + 1)
      for seen in map(Stored.get, found['first_seen']):
        place = seen.ids - start
        first[place] = np.minimum(first[place], seen.times())
      columns.append(first[present] - cuts.first)
    if self._keep_ids:
      columns.append(rows)
      yield TaggedOutput('changes', drift.of_items(rows, train, before))
    names = keys.filter(pa.array(present))
    yield TaggedOutput('notes', self._write(group, names, columns, rows))
    yield int(items.final(np.array(start))), train

  def _write(
    self, group: int, names: pa.Array, columns: list[np.ndarray], rows: np.ndarray
  ) -> Note:
    piece = staging.piece_name('items', group)
    content = tsv.lines(tsv.escaped(names), *map(tsv.numbers, columns))
    staging.write_piece(self._directory, piece, content)
    counts = {'items': len(names)}
    unused = len(names) - int(np.count_nonzero(rows))
    if self._keep_ids and unused:
      counts['unused_items'] = unused
    return Note(counts=counts, pieces=(Piece(dataset.ITEMS, (group,), piece),))
