"""Beam's DaskRunner, with what a job of more than one path needs.

Beam 2.77's own sends every tagged output of a step to every consumer, computes a
side input anew for each element, and leaves a job that starts from one file in one
partition, and so on one worker. Here outputs are told apart, a side input is a task
like any other, and every shuffle has `--dask_npartitions` partitions. Failed tasks
are tried again, as on other engines.

For bounded input in the global window. A Reshuffle and a side input pass through
one worker, and so must be small.
"""

from collections.abc import Callable, Iterable
from typing import Any

import apache_beam as beam
import dask
import dask.bag as db
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.dask import dask_runner
from dask import distributed

from beam_pipelines import _compat

_RETRIES = 3


class DaskRunner(dask_runner.DaskRunner):
  """Runs a pipeline whose last step depends on all others on a Dask cluster."""

  def run_pipeline(
    self, pipeline: beam.Pipeline, options: PipelineOptions
  ) -> dask_runner.DaskRunnerResult:
    given = options.view_as(dask_runner.DaskOptions).get_all_options(
      drop_default=True, current_only=True
    )
    # These two are no arguments of a client.
    given.pop('partition_size', None)
    partitions = given.pop('npartitions', None) or 1
    client = distributed.Client(**given)
    client.register_plugin(FileSystemOptions(options))
    translator = _Translator(partitions, _compat.replace_for_dask(pipeline))
    for step in _compat.steps(pipeline):
      translator.translate(step)
    (graph,) = dask.optimize(translator.last)
    return dask_runner.DaskRunnerResult(
      client, client.compute([graph], retries=_RETRIES)
    )


class FileSystemOptions(distributed.WorkerPlugin):
  """Tells a worker, one that joins later too, what Beam's file systems are told."""

  name = 'beam-file-systems'  # the next job's takes its place

  def __init__(self, options: PipelineOptions):
    self._options = options.get_all_options(drop_default=True)

  def setup(self, worker: distributed.Worker) -> None:
    FileSystems.set_options(PipelineOptions.from_dictionary(self._options))


class _Translator:
  """Makes a bag of each PCollection.

  Attributes:
    last: What the last step gives.
  """

  def __init__(self, partitions: int, steps: _compat.DaskSteps):
    self._partitions = partitions
    self._bags: dict[beam.PCollection[Any], db.Bag] = {}
    self._lists: dict[beam.PCollection[Any], Any] = {}
    self._steps: dict[type[beam.PTransform[Any, Any]], Callable[..., db.Bag]] = {
      steps.create: self._create,
      steps.reshuffle: self._reshuffle,
      steps.flatten: self._flatten,
      steps.group_by_key: self._group,
      # The one window's values are all of a key's.
      steps.group_by_window: lambda applied, bag: bag,
      beam.ParDo: self._par_do,
    }
    self.last: db.Bag | None = None

  def translate(self, applied: Any) -> None:
    """Makes a step's bags of those of the steps before (see `_compat.steps`)."""
    step = self._steps.get(type(applied.transform))
    if step is None:
      raise NotImplementedError(f'DaskRunner: {applied.full_label}')
    inputs = [self._bags[main] for main in applied.inputs if main in self._bags]
    self.last = step(applied, *inputs)
    if type(applied.transform) is not beam.ParDo:
      (output,) = applied.outputs.values()
      self._bags[output] = self.last

  def _create(self, applied: Any) -> db.Bag:
    values = list(applied.transform.values)
    return db.from_sequence(values, npartitions=min(self._partitions, len(values)))

  def _reshuffle(self, applied: Any, bag: db.Bag) -> db.Bag:
    everything = dask.delayed(_concatenate)(bag.to_delayed())
    return db.from_delayed(
      [
        dask.delayed(_deal)(everything, number, self._partitions)
        for number in range(self._partitions)
      ]
    )

  def _flatten(self, applied: Any, *bags: db.Bag) -> db.Bag:
    return db.concat(bags)

  def _group(self, applied: Any, bag: db.Bag) -> db.Bag:
    missing = self._partitions - bag.npartitions
    if missing > 0:
      empty = db.from_delayed([dask.delayed(list)()] * missing)
      bag = db.concat([bag, empty])
    elif missing < 0:
      bag = bag.repartition(npartitions=self._partitions)
    return _compat.group_in_tasks(bag, _key, _partition).map(_values)

  def _par_do(self, applied: Any, bag: db.Bag) -> db.Bag:
    sides = [self._list(side.pvalue) for side in applied.side_inputs]
    # A partition of it is no list but lists by tag.
    found = bag.map_partitions(_compat.Bundle.of(applied), *sides)
    for output in applied.outputs.values():
      self._bags[output] = found.map_partitions(_output, output.tag)
    return self._bags.get(applied.outputs.get(None), found)

  def _list(self, collection: beam.PCollection[Any]) -> Any:
    """A side input, whole."""
    if collection not in self._lists:
      partitions = self._bags[collection].to_delayed()
      self._lists[collection] = dask.delayed(_concatenate)(partitions)
    return self._lists[collection]


def _output(found: dict[str | None, list[Any]], tag: str | None) -> list[Any]:
  return found.get(tag, [])


def _key(element: tuple[Any, Any]) -> Any:
  return element[0]


def _partition(key: Any) -> int:
  # Numbers from zero, as of our groups, deal evenly; other keys by chance.
  return key if isinstance(key, int) else int(dask.base.tokenize(key), 16)


def _values(group: tuple[Any, list[Any]]) -> tuple[Any, list[Any]]:
  key, elements = group
  return key, [value.value for _, value in elements]


def _concatenate(partitions: Iterable[Iterable[Any]]) -> list[Any]:
  return [element for partition in partitions for element in partition]


def _deal(elements: list[Any], number: int, of: int) -> list[Any]:
  return elements[number::of]
