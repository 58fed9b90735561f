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
  files,
  progress,
  range_reader,
  ratings,
  staging,
)
from beam_pipelines.catalogue import (
  Catalogue,
  GroupSize,
  ItemCounts,
  ItemTimes,
  Numbering,
  Tally,
)
from beam_pipelines.files import RangeKey
from beam_pipelines.prepare_job import Job
from beam_pipelines.publish import Note, Piece, SourcePart
from beam_pipelines.reject_limit import Limit
from beam_pipelines.rejects import Rejects
from beam_pipelines.stage import Stage
from ncf_tfdata import dataset, vocabulary


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
    tallies: (item group, (range, the range's items of that group)).
    notes: Of every range.
  """

  tallies: beam.PCollection[tuple[int, tuple[RangeKey, Tally]]]
  notes: beam.PCollection[Note]


class CountItems(Stage):
  """Reads the ranges: counts the ratings of items, and writes down what is none."""

  def __init__(self, job: Job):
    """Takes the job."""
    super().__init__()
    self._job = job

  def expand(self, ranges: beam.PCollection[RangeKey]) -> CountedItems:
    count = beam.ParDo(_CountItems(self._job)).with_outputs('notes', main='tallies')
    counted = ranges | 'Count' >> count
    return CountedItems(counted.tallies, counted.notes)


@with_output_types(tuple[int, tuple[RangeKey, Tally]], notes=Note)
class _CountItems(beam.DoFn):
  def __init__(self, job: Job):
    self._job = job

  def setup(self) -> None:
    self._limit = Limit(
      self._job.plan.max_reject_fraction, self._job.files, self._job.schema
    )

  def process(self, key: RangeKey) -> Iterator[Any]:
    reader = range_reader.RangeReader(key)
    tally = catalogue.RangeTally(self._job.num_item_groups, self._job.min_rating)
    rows, rejects = 0, []
    blocks = ratings.read(reader, self._job.schema)
    for block in self._limit.watch(reader, blocks):
      tally.add(block)
      rows += len(block)
      if len(block.rejects):
        rejects.append(block.rejects)
      progress.advance('reading', len(block))
    rejected = sum(map(len, rejects))
    counts = {'read': rows + rejected, 'rejected': rejected}
    beam_metrics.count(**counts)
    source = reader.range
    file = self._job.files[source.file_index]
    name = posixpath.basename(file.path)
    part = SourcePart(
      source.file_index, source.start, name, file.size, reader.sha256.hexdigest()
    )
    yield TaggedOutput('notes', Note(counts=counts, sources=(part,)))
    if rejects:
      yield TaggedOutput('notes', self._write_rejects(name, source, rejects))
    for group, tallied in tally.groups():
      yield group, (key, tallied)

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
    sizes: How many items each group keeps.
    keys: (item group, String array of the items that it keeps).
  """

  ids: beam.PCollection[tuple[RangeKey, tuple[int, np.ndarray]]]
  sizes: beam.PCollection[GroupSize]
  keys: beam.PCollection[tuple[int, pa.Array]]


class SelectItems(Stage):
  """Keeps the items with enough ratings, and numbers them within their group."""

  def __init__(self, min_item_count: int):
    """Takes the least number of ratings of an item."""
    super().__init__()
    self._min_item_count = min_item_count

  def expand(
    self, tallies: beam.PCollection[tuple[int, tuple[RangeKey, Tally]]]
  ) -> SelectedItems:
    select = _SelectItems(self._min_item_count)
    selected = (
      tallies
      | 'ByItemGroup' >> beam.GroupByKey()
      | 'Select' >> beam.ParDo(select).with_outputs('sizes', 'keys', main='ids')
    )
    return SelectedItems(selected.ids, selected.sizes, selected['keys'])


@with_output_types(
  tuple[RangeKey, tuple[int, np.ndarray]], sizes=GroupSize, keys=tuple[int, pa.Array]
)
class _SelectItems(beam.DoFn):
  def __init__(self, min_item_count: int):
    self._min_item_count = min_item_count

  def process(
    self, element: tuple[int, Iterable[tuple[RangeKey, Tally]]]
  ) -> Iterator[Any]:
    group, found = element
    tallied = sorted(found, key=lambda pair: pair[0])
    selection = catalogue.select([tally for _, tally in tallied], self._min_item_count)
    yield TaggedOutput('sizes', (group, len(selection.keys)))
    yield TaggedOutput('keys', (group, selection.keys))
    for (key, _), ids in zip(tallied, selection.ids, strict=True):
      yield key, (group, ids)


class FindVanishedItems(Stage):
  """Finds the kept items that lost all their rows to a later rule.

  Takes the sizes of item groups, and (item group, provisional ids in some rows); makes
  arrays of provisional ids.
  """

  def expand(
    self,
    inputs: tuple[
      beam.PCollection[GroupSize], beam.PCollection[tuple[int, np.ndarray]]
    ],
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
    for seen in found['seen']:
      absent[seen - start] = False
    if absent.any():
      yield start + np.flatnonzero(absent)


class WrittenItems(NamedTuple):
  """What `WriteItems` makes.

  Attributes:
    counts: (dense id of a group's first item, train rows of its items from there).
    notes: Of every group.
  """

  counts: beam.PCollection[tuple[int, np.ndarray]]
  notes: beam.PCollection[Note]


class WriteItems(Stage):
  """Writes the vocabulary of items, a piece a group.

  Takes (item group, keys); (item group, provisional ids and train rows of each); and
  (item group, provisional ids and the earliest time of each), where the log is cut.
  """

  def __init__(
    self,
    directory: str,
    item_sizes: beam.PCollection[GroupSize],
    vanished: beam.PCollection[np.ndarray],
    cuts: beam.PCollection[dataset.Cuts | None] | None = None,
  ):
    """Takes where to write, the items' numbering, its gaps, and how times begin."""
    super().__init__()
    self._directory = directory
    moments = () if cuts is None else (AsSingleton(cuts),)
    self._sides = AsList(item_sizes), AsList(vanished), *moments

  def expand(
    self,
    inputs: tuple[
      beam.PCollection[tuple[int, pa.Array]],
      beam.PCollection[tuple[int, ItemCounts]],
      beam.PCollection[tuple[int, ItemTimes]],
    ],
  ) -> WrittenItems:
    keys, counts, first_seen = inputs
    write = beam.ParDo(_WriteItems(self._directory), *self._sides)
    written = (
      {'keys': keys, 'counts': counts, 'first_seen': first_seen}
      | 'ByItemGroup' >> beam.CoGroupByKey()
      | 'Write' >> write.with_outputs('notes', main='counts')
    )
    return WrittenItems(written.counts, written.notes)


@with_output_types(tuple[int, np.ndarray], notes=Note)
class _WriteItems(beam.DoFn):
  def __init__(self, directory: str):
    self._directory = directory

  def process(
    self,
    element: tuple[int, dict[str, Iterable[Any]]],
    item_sizes: list[GroupSize],
    vanished: list[np.ndarray],
    cuts: dataset.Cuts | None = None,
  ) -> Iterator[Any]:
    group, found = element
    items = Catalogue(Numbering(item_sizes), vanished)
    start = items.numbering.start(group)
    (keys,) = found['keys']
    total = np.zeros(len(keys), np.int64)
    for ids, count in found['counts']:
      total[ids - start] += count
    present = items.present(start + np.arange(len(keys)))
    columns = [total[present]]
    if cuts is not None:
      first = np.full(len(keys), np.iinfo(np.int64).max)
      for ids, time in found['first_seen']:
        first[ids - start] = np.minimum(first[ids - start], time)
      columns.append(first[present] - cuts.first)
    piece = f'items-{group:06d}.tsv'
    names = keys.filter(pa.array(present)).to_pylist()
    content = vocabulary.encode(names, *columns)
    staging.write_piece(self._directory, piece, content)
    note = Note(
      counts={'items': len(names)}, pieces=(Piece(dataset.ITEMS, (group,), piece),)
    )
    yield TaggedOutput('notes', note)
    yield int(items.final(np.array(start))), columns[0]
