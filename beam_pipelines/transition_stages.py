"""The stage that counts transitions; see transitions.py for what is counted."""

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
import numpy as np
from apache_beam.pvalue import AsList

from beam_pipelines import staging, transitions
from beam_pipelines.catalogue import Catalogue, GroupSize, Numbering
from beam_pipelines.publish import Note
from beam_pipelines.spill import Stored, StoringDoFn
from beam_pipelines.stage import Stage
from beam_pipelines.transitions import Plan
from ncf_tfdata import dataset
from ncf_tfdata.manifest import File

# The dense id of an item, and the train rows of the items from there on.
CountsFrom = tuple[int, np.ndarray]


class CountTransitions(Stage):
  """Counts the transitions of train rows, and writes the best of each item.

  Takes (user group, its `TrainRows`), and train rows of items, from some dense ids on;
  makes the notes of the shards.
  """

  def __init__(
    self,
    plan: Plan,
    item_sizes: beam.PCollection[GroupSize],
    vanished: beam.PCollection[np.ndarray],
  ):
    """Takes what to keep, the items' numbering, and its gaps."""
    super().__init__()
    self._plan, self._sides = plan, (AsList(item_sizes), AsList(vanished))

  def expand(
    self,
    inputs: tuple[beam.PCollection[tuple[int, Stored]], beam.PCollection[CountsFrom]],
  ) -> beam.PCollection[Note]:
    train, counts = inputs
    count, deal, rank = (
      beam.ParDo(step(self._plan), *self._sides)
      for step in (_CountPairs, _DealCounts, _SumPairs)
    )
    ranked = (
      {'pairs': train | 'Count' >> count, 'counts': counts | 'DealCounts' >> deal}
      | 'ByLaterItem' >> beam.CoGroupByKey()
      | 'Sum' >> rank
    )
    # Every shard is there, also one whose items nothing followed.
    every_shard = train.pipeline | 'Shards' >> beam.Create(
      [(shard, None) for shard in range(self._plan.num_shards)]
    )
    return (
      (ranked, every_shard)
      | 'AllShards' >> beam.Flatten()
      | 'ByEarlierItem' >> beam.GroupByKey()
      | 'Write' >> beam.ParDo(_WriteShard(self._plan))
    )


class _Step(StoringDoFn):
  def __init__(self, plan: Plan):
    super().__init__(plan.scratch)
    self._plan = plan

  def _starts(
    self, item_sizes: list[GroupSize], vanished: list[np.ndarray]
  ) -> np.ndarray:
    """The first dense id of each range of items, and the number of items."""
    return self._plan.starts(Catalogue(Numbering(item_sizes), vanished).num_ids)


class _CountPairs(_Step):
  """Train rows → (range of later items, `Pairs`)."""

  def process(
    self,
    element: tuple[int, Stored],
    item_sizes: list[GroupSize],
    vanished: list[np.ndarray],
  ) -> Iterator[tuple[int, Stored]]:
    pairs = transitions.count(element[1].get())
    for number, part in pairs.deal(pairs.later, self._starts(item_sizes, vanished)):
      yield number, self.store.put(part)


class _DealCounts(_Step):
  """Counts of consecutive items → (range, those of them that are in it)."""

  def process(
    self,
    element: CountsFrom,
    item_sizes: list[GroupSize],
    vanished: list[np.ndarray],
  ) -> Iterator[tuple[int, CountsFrom]]:
    starts = self._starts(item_sizes, vanished)
    yield from transitions.deal_counts(*element, starts)


class _SumPairs(_Step):
  """(range of later items, pairs and counts) → (range of earlier items, `Pairs`)."""

  def process(
    self,
    element: tuple[int, dict[str, Iterable[Any]]],
    item_sizes: list[GroupSize],
    vanished: list[np.ndarray],
  ) -> Iterator[tuple[int, Stored]]:
    number, found = element
    starts = self._starts(item_sizes, vanished)
    pairs = transitions.merge(part.get() for part in found['pairs'])
    if not len(pairs):
      return
    counts = sorted(found['counts'], key=lambda part: part[0])
    item_count = np.concatenate([part for _, part in counts])
    later_count = item_count[pairs.later - starts[number]]
    pairs = dataclasses.replace(pairs, later_count=later_count)
    if np.unique(pairs.earlier, return_counts=True)[1].max() > self._plan.keep:
      pairs = transitions.best(pairs, self._plan.keep)
    for number, part in pairs.deal(pairs.earlier, starts):
      yield number, self.store.put(part)


class _WriteShard(_Step):
  """(range of earlier items, [`Pairs`]) → a shard's `Note`."""

  def process(self, element: tuple[int, Iterable[Stored | None]]) -> Iterator[Note]:
    number, found = element
    parts = [part.get() for part in found if part is not None]
    pairs = transitions.best(transitions.join(parts), self._plan.keep)
    content, records = transitions.encode(pairs)
    name = dataset.shard_name(dataset.SUCCESSORS, number, self._plan.num_shards)
    sha256 = staging.write(self._plan.staging, name, content)
    file = File(name, len(content), sha256, dataset.SUCCESSORS, len(pairs), records)
    yield Note(counts={dataset.SUCCESSORS: len(pairs)}, files=(file,))
