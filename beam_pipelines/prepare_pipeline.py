"""The graph: ratings files in, a published dataset out.

    files → ranges ─┬▶ count items ─▶ by item group: select ─▶ by range: read rows
                    └▶ …                                             │
    publish ◀─ write shards ◀─ (dense ids) ◀─ gather ◀─ by user group ┘

Blocks of columns move, never single ratings. The input is read twice, which is
cheaper than to shuffle it once more; between the two readings only the distinct
items of each range travel. A group of users is one shard, so nothing is shuffled
to be written, but for the pairs that --successors asks for (successors.py). Side
inputs are a number per group, and the items that lost all rows to a later rule.
"""

import dataclasses
import posixpath
from collections.abc import Iterable, Iterator

import apache_beam as beam
import numpy as np
import pyarrow as pa

from beam_pipelines import (
  beam_metrics,
  catalogue,
  files,
  histories,
  progress,
  publish,
  ratings,
  shards,
  splits,
  staging,
  successors,
)
from beam_pipelines.publish import Note, Piece, SourcePart
from beam_pipelines.schema import Schema
from ncf_tfdata import dataset
from ncf_tfdata.errors import UserError

_NOTES = 'notes'


@dataclasses.dataclass(frozen=True)
class Job:
  """Everything that decides what the job does; small, and sent to every worker.

  Attributes:
    files: The sources.
    schema: How to read them.
    staging: Directory where files are written until they are published.
    min_item_count: Least number of ratings of an item.
    min_rating: Least rating.
    rules: How a user's rows are thinned and ordered.
    recipe: How they are split.
    num_item_groups: Groups of items to spread the work over.
    num_shards: Groups of users, each one shard.
    successors: Which of what followed what is kept.
    plan: For the leaf.
  """

  files: tuple[files.File, ...]
  schema: Schema
  staging: str
  min_item_count: int
  min_rating: float
  rules: histories.Rules
  recipe: splits.Recipe
  num_item_groups: int
  num_shards: int
  successors: successors.Plan
  plan: publish.Plan


def build(root: beam.Pipeline, job: Job) -> None:
  """Adds the whole job to a pipeline."""
  ranges = (
    root
    | 'Files' >> beam.Create(job.files)
    | 'Ranges' >> beam.FlatMap(_ranges)
    | 'Spread' >> beam.Reshuffle()
  )
  counted = ranges | 'CountItems' >> beam.ParDo(_CountItems(job)).with_outputs(
    _NOTES, main='items'
  )
  selected = (
    counted.items
    | 'ByItemGroup' >> beam.GroupByKey()
    | 'SelectItems'
    >> beam.ParDo(_SelectItems(job)).with_outputs('sizes', 'keys', main='ids')
  )
  item_sizes = beam.pvalue.AsList(selected.sizes)
  read = (
    selected.ids
    | 'ByRange' >> beam.GroupByKey()
    | 'ReadRows'
    >> beam.ParDo(_ReadRows(job), item_sizes).with_outputs(_NOTES, main='chunks')
  )
  # Every shard is there, also one that no user falls to.
  every_shard = root | 'Shards' >> beam.Create(
    [(s, None) for s in range(job.num_shards)]
  )
  gathered = (
    (read.chunks, every_shard)
    | 'AllShards' >> beam.Flatten()
    | 'ByUserGroup' >> beam.GroupByKey()
    | 'Gather'
    >> beam.ParDo(_Gather(job), item_sizes).with_outputs(
      _NOTES, 'sizes', 'seen', main='users'
    )
  )
  vanished = beam.pvalue.AsList(
    {'size': selected.sizes, 'seen': gathered.seen}
    | 'BySeenItemGroup' >> beam.CoGroupByKey()
    | 'FindVanished' >> beam.ParDo(_find_vanished, item_sizes)
  )
  user_sizes = beam.pvalue.AsList(gathered.sizes)
  written = gathered.users | 'WriteShards' >> beam.ParDo(
    _WriteShards(job), user_sizes, item_sizes, vanished
  ).with_outputs(_NOTES, 'pairs', main='counts')
  items = (
    {'keys': selected.keys, 'counts': written.counts}
    | 'ByCountedItemGroup' >> beam.CoGroupByKey()
    | 'WriteItems'
    >> beam.ParDo(_WriteItems(job), item_sizes, vanished).with_outputs(
      'counts', main=_NOTES
    )
  )
  notes = [counted.notes, read.notes, gathered.notes, written.notes, items.notes]
  if job.successors.keep:
    notes.append(
      successors.write(
        written.pairs, items.counts, item_sizes, vanished, job.successors
      )
    )
  _ = (
    notes
    | 'Notes' >> beam.Flatten()
    | 'ToLeaf' >> beam.WithKeys(0)
    | 'Together' >> beam.GroupByKey()
    | 'Publish' >> beam.ParDo(_publish, job.plan)
  )


def _ranges(file: files.File) -> Iterator[tuple]:
  return files.ranges(files.File(*file))


def _note(**fields) -> beam.pvalue.TaggedOutput:
  return beam.pvalue.TaggedOutput(_NOTES, Note(**fields))


class _Step(beam.DoFn):
  """A step with tagged outputs, which Beam would else take for part of the main one."""

  def __init__(self, job: Job):
    self._job = job

  def infer_output_type(self, input_type):
    return beam.typehints.Any


class _CountItems(_Step):
  """Range → (item group, (range, `Tally`)); parses, and keeps what it cannot."""

  def process(self, key: tuple):
    reader = files.RangeReader(key)
    tally = catalogue.RangeTally(self._job.num_item_groups, self._job.min_rating)
    rows, rejects = 0, []
    for block in ratings.read(reader, self._job.schema):
      tally.add(block)
      rows += len(block)
      rejects += block.rejects
      progress.advance('reading', len(block))
    counts = {'read': rows + len(rejects), 'rejected': len(rejects)}
    beam_metrics.count(**counts)
    source = reader.range
    file = self._job.files[source.file_index]
    name = posixpath.basename(file.path)
    part = SourcePart(
      source.file_index, source.start, name, file.size, reader.sha256.hexdigest()
    )
    yield _note(counts=counts, sources=(part,))
    if rejects:
      yield self._write_rejects(name, source, rejects)
    for group, tallied in tally.groups():
      yield group, (key, tallied)

  def _write_rejects(self, name: str, source: files.Range, rejects: list):
    lines = [
      '\t'.join(
        [
          dataset.escape_key(name),
          str(reject.offset),
          dataset.escape_key(reject.reason),
          dataset.escape_key(reject.line),
        ]
      )
      for reject in rejects
    ]
    order = (source.file_index, source.start)
    piece = f'rejects-{source.file_index:06d}-{source.start:015d}.tsv'
    text = ''.join(line + '\n' for line in lines)
    staging.write_piece(self._job.staging, piece, text.encode())
    first = f'{name} at {rejects[0].offset}: {rejects[0].reason}'
    return _note(
      pieces=(Piece(dataset.REJECTS, order, piece),), first_reject=(order, first)
    )


class _SelectItems(_Step):
  """(item group, [(range, `Tally`)]) → (range, (item group, ids within the group))."""

  def process(self, element):
    group, tallied = element
    tallied = sorted(tallied, key=lambda pair: pair[0])
    selection = catalogue.select(
      [tally for _, tally in tallied], self._job.min_item_count
    )
    yield beam.pvalue.TaggedOutput('sizes', (group, len(selection.keys)))
    yield beam.pvalue.TaggedOutput('keys', (group, selection.keys))
    for (key, _), ids in zip(tallied, selection.ids, strict=True):
      yield key, (group, ids)


class _ReadRows(_Step):
  """(range, [(item group, ids)]) → (user group, `Chunk`); reads the range again."""

  def process(self, element, item_sizes: list[tuple[int, int]]):
    key, decided = element
    numbering = catalogue.Numbering(item_sizes)
    # The provisional ids of the range's items, group by group.
    ids = {
      group: np.where(local >= 0, local + numbering.start(group), local)
      for group, local in decided
    }
    reader = files.RangeReader(key)
    items = catalogue.RangeItems(self._job.num_item_groups)
    counts = {'filtered_items': 0, 'filtered_ratings': 0}
    for block in ratings.read(reader, self._job.schema):
      number = items.number(block.item)
      item = self._provisional(items, ids, reader)[number]
      rated = catalogue.high_enough(block, self._job.min_rating)
      counts['filtered_items'] += int((item == catalogue.RARE).sum())
      counts['filtered_ratings'] += int(((item != catalogue.RARE) & ~rated).sum())
      keep = np.flatnonzero((item >= 0) & rated)
      yield from histories.deal(
        block, reader.range.file_index, item, keep, self._job.num_shards
      )
      progress.advance('grouping', len(block))
    beam_metrics.count(**counts)
    yield _note(counts=counts)

  def _provisional(self, items, ids, reader) -> np.ndarray:
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


class _Gather(_Step):
  """(user group, [`Chunk`]) → (user group, `Users`)."""

  def process(self, element, item_sizes: list[tuple[int, int]]):
    group, chunks = element
    users = histories.gather(
      [chunk for chunk in chunks if chunk is not None], self._job.rules
    )
    counts = {**users.counts, 'kept': len(users.item), 'users': len(users.length)}
    beam_metrics.count(**counts)
    beam_metrics.distribute(beam_metrics.HISTORY_LENGTH, users.length)
    progress.advance('splitting', len(users.item))
    yield _note(counts=counts)
    yield beam.pvalue.TaggedOutput('sizes', (group, len(users.length)))
    seen = np.unique(users.item)
    owner = catalogue.Numbering(item_sizes).group(seen)
    for item_group in np.unique(owner):
      yield beam.pvalue.TaggedOutput(
        'seen', (int(item_group), seen[owner == item_group])
      )
    yield group, users


def _find_vanished(element, item_sizes) -> Iterator[np.ndarray]:
  """Provisional ids of a group's items that no kept row names."""
  group, found = element
  start = catalogue.Numbering(item_sizes).start(group)
  absent = np.ones(sum(found['size']), bool)
  for seen in found['seen']:
    absent[seen - start] = False
  if absent.any():
    yield start + np.flatnonzero(absent)


class _WriteShards(_Step):
  """(user group, `Users`) → files, and (item group, (ids, train rows of each)).

  And, where they are asked for, pairs of train rows by range of the later item.
  """

  def process(self, element, user_sizes, item_sizes, vanished):
    number, users = element
    items = catalogue.Catalogue(catalogue.Numbering(item_sizes), vanished)
    item = items.final(users.item)
    first_user = catalogue.Numbering(user_sizes).start(number)
    shard = shards.make(users, first_user, item, items.size, self._job.recipe)
    written = tuple(
      self._write(split, number, rows) for split, rows in shard.rows.items()
    )
    names = [dataset.escape_key(key) for key in users.keys.to_pylist()]
    lines = zip(names, shard.train_count.tolist(), strict=True)
    piece = f'users-{number:06d}.tsv'
    text = ''.join(f'{name}\t{count}\n' for name, count in lines)
    staging.write_piece(self._job.staging, piece, text.encode())
    counts = dict(shard.split.counts)
    counts.update({split: len(rows) for split, rows in shard.rows.items()})
    beam_metrics.count(**counts, **{beam_metrics.NEGATIVES_REDRAWN: shard.redrawn})
    progress.advance('writing', len(users.item))
    yield _note(
      counts=counts,
      files=written,
      pieces=(Piece(dataset.USERS, (number,), piece),),
      without_negatives=_named(
        users, first_user, np.flatnonzero(shard.split.users_without_negatives)
      ),
    )
    ids, count = np.unique(users.item[shard.split.train_rows], return_counts=True)
    owner = items.numbering.group(ids)
    for group in np.unique(owner):
      mine = owner == group
      yield int(group), (ids[mine], count[mine])
    plan = self._job.successors
    if plan.keep:
      owner = np.repeat(np.arange(len(users.length)), shard.train_count)
      pairs = successors.count(owner, item[shard.split.train_rows])
      for number, part in pairs.deal(pairs.later, plan.starts(items.size)):
        yield beam.pvalue.TaggedOutput('pairs', (number, part))

  def _write(self, split: str, number: int, rows: shards.Rows) -> dataset.File:
    content, records = shards.encode(rows)
    name = dataset.shard_name(split, number, self._job.num_shards)
    sha256 = staging.write(self._job.staging, name, content)
    return dataset.File(name, len(content), sha256, split, len(rows), records)


def _named(
  users: histories.Users, first_user: int, chosen: np.ndarray
) -> tuple[tuple[int, dataset.UserRows], ...]:
  """The first few of some users, by dense id."""
  return tuple(
    (
      first_user + user,
      dataset.UserRows(users.keys[user].as_py(), int(users.length[user])),
    )
    for user in chosen[: publish.NAMED_USERS].tolist()
  )


class _WriteItems(_Step):
  """(item group, its keys and counts) → a piece of the vocabulary, and the counts."""

  def process(self, element, item_sizes, vanished):
    group, found = element
    numbering = catalogue.Numbering(item_sizes)
    start = numbering.start(group)
    (names,) = found['keys']
    total = np.zeros(len(names), np.int64)
    for ids, count in found['counts']:
      total[ids - start] += count
    items = catalogue.Catalogue(numbering, vanished)
    present = items.present(start + np.arange(len(names)))
    total = total[present]
    escaped = [
      dataset.escape_key(key) for key in names.filter(pa.array(present)).to_pylist()
    ]
    lines = zip(escaped, total.tolist(), strict=True)
    piece = f'items-{group:06d}.tsv'
    text = ''.join(f'{name}\t{count}\n' for name, count in lines)
    staging.write_piece(self._job.staging, piece, text.encode())
    yield Note(
      counts={'items': int(present.sum())},
      pieces=(Piece(dataset.ITEMS, (group,), piece),),
    )
    plan = self._job.successors
    if plan.keep:
      first = int(items.final(np.array(start)))
      for part in successors.deal_counts(first, total, plan.starts(items.size)):
        yield beam.pvalue.TaggedOutput('counts', part)


def _publish(element, plan: publish.Plan) -> Iterable[str]:
  _, notes = element
  publish.publish(plan, list(notes))
  return []
