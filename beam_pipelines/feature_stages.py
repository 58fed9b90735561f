"""Stages of features: read, joined with the keys of the dataset, and written.

ReadFeatures ─▶ JoinFeatures ─┬▶ NumberCategories ─▶ WriteFeatures ─▶ notes
keys of the dataset ──┘       └─────────────────────────┘
"""

import hashlib
from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
from apache_beam.pvalue import AsList, AsSingleton, TaggedOutput
from apache_beam.typehints import with_output_types

from beam_pipelines import (
  feature_shards,
  features,
  files,
  forgotten,
  progress,
  staging,
  tsv,
)
from beam_pipelines.features import Chunk, Counted, Joined, Part, Plan
from beam_pipelines.id_stages import Numbered
from beam_pipelines.prepare_job import Job
from beam_pipelines.publish import Note, Piece
from beam_pipelines.rejects import Rejects
from beam_pipelines.stage import Stage
from ncf_tfdata import dataset, feature_rows, item_features
from ncf_tfdata.errors import UserError
from ncf_tfdata.feature_columns import CATEGORY
from ncf_tfdata.manifest import File


class WriteFeatures(Stage):
  """Joins a file of features with the keys of the dataset, and writes it."""

  def __init__(self, job: Job, made: Plan):
    """Takes the job, and the file."""
    super().__init__()
    self._job, self._plan = job, made

  def expand(self, numbered: Numbered) -> beam.PCollection[Note]:
    root, made = numbered.ids.pipeline, self._plan
    read = beam.ParDo(_ReadFeatures(self._job, made))
    rows = (
      root
      | 'File' >> beam.Create([made.path], reshuffle=False)
      | 'Read' >> read.with_outputs('parts', 'notes', main='chunks')
    )
    size = AsSingleton(numbered.size)
    joined = (
      {'rows': rows.chunks, 'known': numbered.ids}
      | 'ByGroup' >> beam.CoGroupByKey()
      | 'Join'
      >> beam.ParDo(_JoinFeatures(made), size).with_outputs(
        'counted', 'parts', main='joined'
      )
    )
    named = (
      (joined.counted, self._every_column(root))
      | 'AllColumns' >> beam.Flatten()
      | 'ByColumn' >> beam.GroupByKey()
      | 'NumberCategories'
      >> beam.ParDo(_NumberCategories(self._job, made)).with_outputs(
        'parts', 'notes', main='vocabularies'
      )
    )
    write = beam.ParDo(
      _WriteFeatures(self._job, made), size, AsList(named.vocabularies)
    )
    shards = (
      (joined.joined, self._every_shard(root))
      | 'AllShards' >> beam.Flatten()
      | 'ByShard' >> beam.GroupByKey()
      | 'Write' >> write
    )
    summary = (
      (rows.parts, joined.parts, named.parts)
      | 'Parts' >> beam.Flatten()
      | 'ToOne' >> beam.WithKeys(0)
      | 'Together' >> beam.GroupByKey()
      | 'Summarise' >> beam.Map(_summary, made).with_output_types(Note)
    )
    return (rows.notes, named.notes, shards, summary) | 'Notes' >> beam.Flatten()

  def _every_column(
    self, root: beam.Pipeline
  ) -> beam.PCollection[tuple[int, Counted | None]]:
    """Every column of categories is there, also one that nobody has any of."""
    places = [
      (place, None)
      for place, column in enumerate(self._plan.layout.columns)
      if column.kind == CATEGORY
    ]
    return root | 'Columns' >> beam.Create(places, reshuffle=False)

  def _every_shard(
    self, root: beam.Pipeline
  ) -> beam.PCollection[tuple[int, Joined | None]]:
    shards = [(shard, None) for shard in range(self._plan.num_shards)]
    return root | 'Shards' >> beam.Create(shards, reshuffle=False)


@with_output_types(tuple[int, Chunk], parts=Part, notes=Note)
class _ReadFeatures(beam.DoFn):
  """Reads the file from its beginning to its end; see `ncf_tfdata.feature_text`."""

  def __init__(self, job: Job, made: Plan):
    self._job, self._plan = job, made

  def process(self, path: str) -> Iterator[Any]:
    made, forget = self._plan, self._job.forget
    forgetting = forgotten.Forgetting(forget)
    counts = dict.fromkeys(('read', 'rejected', 'forgotten'), 0)
    example, found = '', []
    with files.open_raw(path) as stream:
      sha256 = _sha256(stream)
      for rows in feature_rows.read(stream, path, made.layout):
        gone = forgetting.known(rows.keys, made.forgotten)
        counts['read'] += len(gone) + len(rows.bad)
        counts['rejected'] += len(rows.bad)
        counts['forgotten'] += int(gone.sum())
        if rows.bad:
          found.append(_rejects(rows))
        progress.advance('features', len(gone))
        if gone.any():
          rows = feature_rows.take(rows, np.flatnonzero(~gone))
        example = min(filter(None, (example, *rows.keys[:1].to_pylist())), default='')
        yield from features.deal(rows, made.num_groups)
    if forget:
      found = [forgotten.without_text(one) for one in found]
    self._check(counts, found)
    yield TaggedOutput('parts', Part(-1, counts, sha256, example=(example, '')))
    if found:
      yield TaggedOutput('notes', self._write_rejects(found))

  def _check(self, counts: dict[str, int], found: list[Rejects]) -> None:
    made, fraction = self._plan, self._job.plan.max_reject_fraction
    if not counts['read']:
      raise UserError(f'{made.path} holds no row, expected features.')
    if counts['rejected'] > fraction * counts['read']:
      raise UserError(
        f'{counts["rejected"]:,} of {counts["read"]:,} rows of {made.path} are no '
        f'features, more than --max_reject_fraction={fraction:g} allows; the first: '
        f'{found[0].first(made.name)}. Check --{made.role}_feature_columns and '
        '--feature_encoding, or allow more.'
      )

  def _write_rejects(self, found: list[Rejects]) -> Note:
    made = self._plan
    piece = f'rejects-{made.number:06d}-{0:015d}.tsv'
    text = b''.join(one.tsv(made.name) for one in found)
    staging.write_piece(self._job.staging, piece, text)
    return Note(pieces=(Piece(dataset.REJECTS, (made.number, 0), piece),))


def _sha256(stream: Any) -> str:
  digest = hashlib.sha256()
  while piece := stream.read(1 << 20):
    digest.update(piece)
  return digest.hexdigest()


def _rejects(rows: feature_rows.Rows) -> Rejects:
  texts = (pa.array(texts, pa.string()) for texts in (rows.reasons, rows.lines))
  return Rejects(np.array(rows.bad, np.int64), *texts)


@with_output_types(tuple[int, Joined], counted=tuple[int, Counted], parts=Part)
class _JoinFeatures(beam.DoFn):
  def __init__(self, made: Plan):
    self._plan = made

  def process(
    self, element: tuple[int, dict[str, Iterable[Any]]], size: int
  ) -> Iterator[Any]:
    group, found = element
    joined, part = features.join(found['rows'], found['known'], self._plan, group)
    yield TaggedOutput('parts', part)
    if not len(joined.ids):
      return
    for place, column in enumerate(self._plan.layout.columns):
      if column.kind == CATEGORY:
        yield TaggedOutput('counted', (place, features.count(joined.values[place])))
    yield from joined.deal(self._plan.starts(size))


@with_output_types(tuple[int, pa.Array], parts=Part, notes=Note)
class _NumberCategories(beam.DoFn):
  """Writes the vocabulary of a column of categories."""

  def __init__(self, job: Job, made: Plan):
    self._directory, self._plan = job.staging, made

  def process(self, element: tuple[int, Iterable[Counted | None]]) -> Iterator[Any]:
    place, found = element
    ranked = features.rank(one for one in found if one is not None)
    column = self._plan.layout.columns[place]
    name = item_features.vocabulary_name(self._plan.role, column.name)
    content = tsv.lines(tsv.escaped(ranked.values), tsv.numbers(ranked.counts))
    sha256 = staging.write(self._directory, name, content)
    yield TaggedOutput('notes', Note(files=(File(name, len(content), sha256),)))
    yield TaggedOutput('parts', Part(values={place: len(ranked.values)}))
    yield place, ranked.values


class _WriteFeatures(beam.DoFn):
  """Writes a shard: the features of a range of dense ids."""

  def __init__(self, job: Job, made: Plan):
    self._directory, self._plan = job.staging, made

  def process(
    self,
    element: tuple[int, Iterable[Joined | None]],
    size: int,
    vocabularies: list[tuple[int, pa.Array]],
  ) -> Iterator[Note]:
    made = self._plan
    shard, found = element
    starts = made.starts(size)
    first, count = int(starts[shard]), int(starts[shard + 1] - starts[shard])
    parts = [part for part in found if part is not None]
    content, records = feature_shards.encode(
      parts, made, first, count, dict(vocabularies)
    )
    name = dataset.shard_name(made.kind, shard, made.num_shards)
    sha256 = staging.write(self._directory, name, content)
    yield Note(files=(File(name, len(content), sha256, made.kind, count, records),))


def _summary(keyed: tuple[int, Iterable[Part]], made: Plan) -> Note:
  return Note(features=((made.role, features.table(made, list(keyed[1]))),))
