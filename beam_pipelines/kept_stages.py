"""Stages of ids that are kept: read, written again, and compared; see kept_ids.py."""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from apache_beam.pvalue import TaggedOutput
from apache_beam.typehints import with_output_types

from beam_pipelines import drift, forgotten, kept_ids, staging, tsv
from beam_pipelines.drift import Changes
from beam_pipelines.kept_ids import KeptKeys, KeptLines, Part, UserCounts
from beam_pipelines.prepare_job import Job
from beam_pipelines.publish import Note, Piece
from beam_pipelines.stage import Stage
from ncf_tfdata import dataset
from ncf_tfdata.manifest import Base


class ReadKeptOutput(NamedTuple):
  """What `ReadKept` makes.

  Attributes:
    keys: (group of users or of items, keys that have an id).
    lines: (part, its lines).
    notes: Of every part, where keys are forgotten.
  """

  keys: beam.PCollection[tuple[int, KeptKeys]]
  lines: beam.PCollection[tuple[int, KeptLines]]
  notes: beam.PCollection[Note]


class ReadKept(Stage):
  """Reads a vocabulary of the earlier dataset, and deals its keys to groups."""

  def __init__(
    self,
    parts: tuple[Part, ...],
    place: int,
    num_groups: int,
    forget: forgotten.Plan,
  ):
    """Takes a vocabulary, and what becomes of its keys.

    Args:
      parts: Of the vocabulary.
      place: Whose: `forgotten.USERS` or `forgotten.ITEMS`.
      num_groups: That new keys of the kind are dealt to.
      forget: Whose keys are left out.
    """
    super().__init__()
    self._parts = parts
    self._read = _ReadKept(place, num_groups, forget)

  def expand(self, root: beam.pvalue.PBegin) -> ReadKeptOutput:
    found = (
      root
      | 'Parts' >> beam.Create(self._parts)
      | 'Spread' >> beam.Reshuffle()
      | 'Read' >> beam.ParDo(self._read).with_outputs('lines', 'notes', main='keys')
    )
    return ReadKeptOutput(found['keys'], found.lines, found.notes)


@with_output_types(tuple[int, KeptKeys], lines=tuple[int, KeptLines], notes=Note)
class _ReadKept(beam.DoFn):
  def __init__(self, place: int, num_groups: int, forget: forgotten.Plan):
    self._place, self._num_groups, self._forget = place, num_groups, forget

  def process(self, element: Part) -> Iterator[Any]:
    part = Part(*element)
    lines = kept_ids.read(part)
    if self._forget:
      forgetting = forgotten.Forgetting(self._forget)
      gone = forgetting.known(lines.keys, self._place)
      names = pc.if_else(pa.array(gone), '', lines.keys)
      lines = KeptLines(names, lines.train)
      yield TaggedOutput('notes', Note(forgotten=forgetting.found()))
    yield TaggedOutput('lines', (part.number, lines))
    yield from kept_ids.deal(lines.keys, part.first, self._num_groups)


class WriteKeptUsers(Stage):
  """Writes the vocabulary of the users whose ids are kept, a piece a part.

  Takes (part, its lines), and (part, counts of some of its users).
  """

  def __init__(self, job: Job):
    """Takes the job."""
    super().__init__()
    self._job = job

  def expand(
    self,
    inputs: tuple[
      beam.PCollection[tuple[int, KeptLines]],
      beam.PCollection[tuple[int, UserCounts]],
    ],
  ) -> beam.PCollection[Note]:
    lines, counts = inputs
    return (
      {'lines': lines, 'counts': counts}
      | 'ByPart' >> beam.CoGroupByKey()
      | 'Write' >> beam.ParDo(_WriteKeptUsers(self._job))
    )


class _WriteKeptUsers(beam.DoFn):
  def __init__(self, job: Job):
    assert job.kept is not None
    self._directory = job.staging
    self._first = {part.number: part.first for part in job.kept.users}

  def process(self, element: tuple[int, dict[str, Iterable[Any]]]) -> Iterator[Note]:
    number, found = element
    (lines,) = found['lines']
    train, rows = np.zeros((2, len(lines.keys)), np.int64)
    for ids, train_count, count in found['counts']:
      place = ids - self._first[number]
      train[place], rows[place] = train_count, count
    piece = staging.piece_name('users', number)
    names = tsv.escaped(lines.keys)
    content = tsv.lines(names, tsv.numbers(train), tsv.numbers(rows))
    staging.write_piece(self._directory, piece, content)
    counts = {'users': len(rows)}
    if unused := len(rows) - int(np.count_nonzero(rows)):
      counts['unused_users'] = unused
    yield Note(counts=counts, pieces=(Piece(dataset.USERS, (number,), piece),))


class MeasureDrift(Stage):
  """Says how the log differs from that of the earlier dataset; makes one note."""

  def __init__(self, base: Base):
    """Takes the earlier dataset."""
    super().__init__()
    self._base = base

  def expand(
    self, parts: tuple[beam.PCollection[Changes], ...]
  ) -> beam.PCollection[Note]:
    return (
      parts
      | 'Changes' >> beam.Flatten()
      | 'ToOne' >> beam.WithKeys(0)
      | 'Together' >> beam.GroupByKey()
      | 'Measure' >> beam.Map(_note, self._base).with_output_types(Note)
    )


def _note(keyed: tuple[int, Iterable[Changes]], base: Base) -> Note:
  return Note(drift=drift.total(keyed[1], base))
