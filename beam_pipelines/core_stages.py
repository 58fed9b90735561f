"""The stage that thins a log to its k-core; see cores.py."""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import apache_beam as beam
import numpy as np
from apache_beam.pvalue import AsList, AsSingleton, TaggedOutput
from apache_beam.typehints import with_output_types

from beam_pipelines import beam_metrics, catalogue, cores, histories
from beam_pipelines.catalogue import GroupSize, Numbering
from beam_pipelines.narrow import narrow
from beam_pipelines.prepare_job import Job
from beam_pipelines.publish import Note
from beam_pipelines.spill import Stored, StoringDoFn
from beam_pipelines.stage import Stage
from ncf_tfdata.errors import UserError


class CoreUsers(NamedTuple):
  """What `PeelCore` makes.

  Attributes:
    users: (user group, `Users` with their rows of the core), of every group.
    notes: Of every user group.
  """

  users: beam.PCollection[tuple[int, Stored]]
  notes: beam.PCollection[Note]


class PeelCore(Stage):
  """Takes items and users out until each that is left has `core` rows.

  A graph cannot loop, so it has `rounds` rounds, of which those after the last that is
  needed find nothing to do. More needed is an error.
  """

  def __init__(self, job: Job, item_sizes: beam.PCollection[GroupSize]):
    """Takes the job, and how many items each group keeps."""
    super().__init__()
    self._core, self._rounds, self._scratch = job.core, job.core_rounds, job.scratch
    self._sizes = AsList(item_sizes)

  def expand(self, users: beam.PCollection[tuple[int, Stored]]) -> CoreUsers:
    removed: list[AsSingleton] = []
    for number in range(1, self._rounds + 1):
      count = beam.ParDo(_CountItems(self._core), self._sizes, *removed)
      found = (
        users
        | f'Count{number}' >> count
        | f'ByItemGroup{number}' >> beam.GroupByKey()
        | f'Find{number}' >> beam.ParDo(_FindRare(self._core))
        # One element a round, so that none is never taken for nothing found.
        | f'Join{number}' >> beam.CombineGlobally(_join)
      )
      removed.append(AsSingleton(found))
    peel = beam.ParDo(_Peel(self._core, self._scratch), self._sizes, *removed)
    peeled = users | 'Peel' >> peel.with_outputs('notes', main='users')
    return CoreUsers(peeled.users, peeled.notes)


def _join(found: Iterable[np.ndarray]) -> np.ndarray:
  return np.concatenate([np.zeros(0, np.int64), *found])


@with_output_types(tuple[int, tuple[np.ndarray, np.ndarray]])
class _CountItems(beam.DoFn):
  """Rows of items that are left → (item group, (provisional ids, rows of each))."""

  def __init__(self, core: int):
    self._core = core

  def process(
    self,
    element: tuple[int, Stored],
    item_sizes: list[GroupSize],
    *removed: Any,  # an array a round; Beam reads no types of *args
  ) -> Iterator[tuple[int, tuple[np.ndarray, np.ndarray]]]:
    # Once a round has found nothing, there is nothing to do.
    if not removed or len(removed[-1]):
      users, numbering = element[1].get(), Numbering(item_sizes)
      left = cores.rows_left(users, removed, numbering.size, self._core)
      ids, count = catalogue.occurring(users.item[left], numbering.size)
      for group, mine in numbering.deal(ids):
        yield group, (narrow(ids[mine]), narrow(count[mine]))


@with_output_types(np.ndarray)
class _FindRare(beam.DoFn):
  """The counts of an item group → those of its items that have too few rows."""

  def __init__(self, core: int):
    self._core = core

  def process(
    self, element: tuple[int, Iterable[tuple[np.ndarray, np.ndarray]]]
  ) -> Iterator[np.ndarray]:
    ids, counts = zip(*element[1], strict=True)
    distinct, place = np.unique(np.concatenate(ids), return_inverse=True)
    total = np.zeros(len(distinct), np.int64)
    np.add.at(total, place, np.concatenate(counts))
    rare = distinct[total < self._core]
    if len(rare):
      yield rare


@with_output_types(tuple[int, Stored], notes=Note)
class _Peel(StoringDoFn):
  def __init__(self, core: int, scratch: str | None):
    super().__init__(scratch)
    self._core = core

  def process(
    self,
    element: tuple[int, Stored],
    item_sizes: list[GroupSize],
    *removed: Any,  # an array a round; Beam reads no types of *args
  ) -> Iterator[Any]:
    number, users = element[0], element[1].get()
    if len(removed[-1]):
      raise UserError(
        f'--core={self._core} is not reached in --core_rounds={len(removed)}: the last '
        f'round still took out {len(removed[-1]):,} item(s). Allow more rounds.'
      )
    num_items = Numbering(item_sizes).size
    left = cores.rows_left(users, removed, num_items, self._core)
    counts = {'filtered_core': len(left) - int(left.sum())}
    beam_metrics.count(**counts)
    if number == 0:
      # Every round that took something out, and the one that found nothing more.
      counts['core_rounds'] = 1 + sum(1 for found in removed if len(found))
    yield TaggedOutput('notes', Note(counts=counts))
    yield number, self.store.put(histories.keep_rows(users, left))
