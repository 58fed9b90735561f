"""The stage that measures if results on a log can be trusted; see inspection.py."""

from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
import numpy as np
from apache_beam.pvalue import AsList, AsSingleton, TaggedOutput
from apache_beam.typehints import with_output_types

from beam_pipelines import inspection, progress
from beam_pipelines.catalogue import GroupSize, Numbering
from beam_pipelines.inspection import Findings, HeldOut
from beam_pipelines.prepare_job import Job
from beam_pipelines.publish import Note
from beam_pipelines.spill import Stored, StoringDoFn
from beam_pipelines.stage import Stage
from ncf_tfdata.manifest import Cuts


class InspectUsers(Stage):
  """Measures a log; makes one note.

  Takes (user group, its users' rows) and the held-out rows of every group; and (item
  group, provisional ids and the earliest time of each), where the log is cut.
  """

  def __init__(
    self,
    job: Job,
    item_sizes: beam.PCollection[GroupSize],
    cuts: beam.PCollection[Cuts | None] | None = None,
  ):
    """Takes the job, how many items each group keeps, and where the log is cut."""
    super().__init__()
    self._job, self._item_sizes = job, AsList(item_sizes)
    self._cuts = (AsSingleton(cuts),) if job.by_time and cuts is not None else ()

  def expand(
    self,
    inputs: tuple[
      beam.PCollection[tuple[int, Stored]],
      beam.PCollection[HeldOut],
      beam.PCollection[tuple[int, Stored]],
    ],
  ) -> beam.PCollection[Note]:
    users, held_out, first_seen = inputs
    size = users | 'Sizes' >> beam.Map(_size) | 'Size' >> beam.CombineGlobally(_total)
    measure = beam.ParDo(
      _Measure(self._job), self._item_sizes, AsSingleton(size), *self._cuts
    )
    measured = users | 'Measure' >> measure.with_outputs('grams', main='findings')
    rules = (
      measured.grams | 'ByRange' >> beam.GroupByKey() | 'CountRules' >> beam.Map(_rules)
    )
    distances = held_out | 'Distances' >> beam.Map(inspection.of_held_out)
    findings = [measured.findings, rules, distances]
    if self._cuts:
      findings.append(self._new_items(held_out, first_seen))
    return (
      findings
      | 'Findings' >> beam.Flatten()
      | 'Add' >> beam.CombineGlobally(_sum)
      | 'Note' >> beam.Map(lambda found: Note(inspection=found.inspection()))
    )

  def _new_items(
    self,
    held_out: beam.PCollection[HeldOut],
    first_seen: beam.PCollection[tuple[int, Stored]],
  ) -> beam.PCollection[Findings]:
    deal = _DealTargets()  # type: ignore[no-untyped-call]
    targets = held_out | 'Targets' >> beam.ParDo(deal, self._item_sizes)
    return (
      {'first_seen': first_seen, 'targets': targets}
      | 'ByItemGroup' >> beam.CoGroupByKey()
      | 'NewItems' >> beam.Map(_new_items, *self._cuts)
    )


def _size(element: tuple[int, Stored]) -> tuple[int, int]:
  users = element[1].get()
  return len(users.item), len(users.length)


def _total(sizes: Iterable[tuple[int, int]]) -> tuple[int, int]:
  found = list(sizes)
  return sum(rows for rows, _ in found), sum(users for _, users in found)


def _sum(parts: Iterable[Findings]) -> Findings:
  total = Findings()
  for part in parts:
    total = total.add(part)
  return total


def _rules(ranged: tuple[int, Iterable[Stored]]) -> Findings:
  return inspection.of_grams([grams.get() for grams in ranged[1]])


@with_output_types(Findings, grams=tuple[int, Stored])
class _Measure(StoringDoFn):
  """The users of a group → their `Findings`, and (range, `Grams`)."""

  def __init__(self, job: Job):
    super().__init__(job.scratch)
    self._job = job

  def process(
    self,
    element: tuple[int, Stored],
    item_sizes: list[GroupSize],
    size: tuple[int, int],
    cuts: Cuts | None = None,
  ) -> Iterator[Any]:
    users = element[1].get()
    num_ids, job = Numbering(item_sizes).size, self._job
    yield inspection.of_users(users, *size, cuts)
    seed = job.recipe.seed
    for number, grams in inspection.grams(users, num_ids, job.num_shards, seed):
      yield TaggedOutput('grams', (number, self.store.put(grams)))
    progress.advance('inspecting', len(users.item))


@with_output_types(tuple[int, tuple[str, np.ndarray]])
class _DealTargets(beam.DoFn):
  """The held-out rows of a group → (item group, (split, those of its items))."""

  def process(
    self, held_out: HeldOut, item_sizes: list[GroupSize]
  ) -> Iterator[tuple[int, tuple[str, np.ndarray]]]:
    numbering = Numbering(item_sizes)
    for split, items in held_out.items.items():
      for group, mine in numbering.deal(items):
        yield group, (split, items[mine])


def _new_items(
  element: tuple[int, dict[str, Iterable[Any]]], cuts: Cuts | None
) -> Findings:
  found = element[1]
  if cuts is None:
    return Findings()  # of an empty log
  return inspection.of_items(
    [seen.get() for seen in found['first_seen']], list(found['targets']), cuts
  )
