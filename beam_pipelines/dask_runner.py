"""Beam's DaskRunner, with what a job of more than one path needs.

Beam 2.77's own sends every tagged output of a step to every consumer, computes a
side input anew for each element, and leaves a job that starts from one file in one
partition, and so on one worker. Here outputs are told apart, a side input is a task
like any other, and every shuffle has `--dask_npartitions` partitions. Failed tasks
are tried again, as on other engines.

For bounded input in the global window. A Reshuffle and a side input pass through
one worker, and so must be small.
"""

import collections
import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

import apache_beam as beam
import dask
import dask.bag as db
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners import common
from apache_beam.runners.dask import dask_runner, overrides
from apache_beam.transforms import sideinputs, window
from apache_beam.utils.windowed_value import WindowedValue
from dask import distributed
from dask.bag import core

_RETRIES = 3
_GLOBAL = window.GlobalWindow()


class DaskRunner(dask_runner.DaskRunner):
  """Runs a pipeline whose last step depends on all others on a Dask cluster."""

  def run_pipeline(self, pipeline, options):
    given = options.view_as(dask_runner.DaskOptions).get_all_options(
      drop_default=True, current_only=True
    )
    partitions = dask_runner.DaskOptions._extract_bag_kwargs(given).get(
      'npartitions', 1
    )
    client = distributed.Client(**given)
    client.register_plugin(FileSystemOptions(options))
    pipeline.replace_all(overrides.dask_overrides())
    visitor = _Translator(partitions)
    pipeline.visit(visitor)
    (graph,) = dask.optimize(visitor.last)
    return dask_runner.DaskRunnerResult(
      client, client.compute([graph], retries=_RETRIES)
    )


class FileSystemOptions(distributed.WorkerPlugin):
  """Tells a worker, one that joins later too, what Beam's file systems are told."""

  name = 'beam-file-systems'  # the next job's takes its place

  def __init__(self, options: PipelineOptions):
    self._options = options.get_all_options(drop_default=True)

  def setup(self, worker):
    FileSystems.set_options(PipelineOptions.from_dictionary(self._options))


class _Translator(beam.pipeline.PipelineVisitor):
  """Makes a bag of each PCollection.

  Attributes:
    last: What the last step gives.
  """

  def __init__(self, partitions: int):
    self._partitions = partitions
    self._bags: dict[beam.pvalue.PCollection, db.Bag] = {}
    self._lists: dict[beam.pvalue.PCollection, Any] = {}
    self._steps: dict[type, Callable] = {
      overrides._Create: self._create,
      overrides._Reshuffle: self._reshuffle,
      overrides._Flatten: self._flatten,
      overrides._GroupByKeyOnly: self._group,
      # The one window's values are all of a key's.
      overrides._GroupAlsoByWindow: lambda applied, bag: bag,
      beam.ParDo: self._par_do,
    }
    self.last: db.Bag | None = None

  def visit_transform(self, transform_node):
    step = self._steps.get(type(transform_node.transform))
    if step is None:
      raise NotImplementedError(f'DaskRunner: {transform_node.full_label}')
    inputs = [self._bags[main] for main in transform_node.inputs if main in self._bags]
    self.last = step(transform_node, *inputs)
    if type(transform_node.transform) is not beam.ParDo:
      (output,) = transform_node.outputs.values()
      self._bags[output] = self.last

  def _create(self, applied):
    values = list(applied.transform.values)
    return db.from_sequence(values, npartitions=min(self._partitions, len(values)))

  def _reshuffle(self, applied, bag):
    everything = dask.delayed(_concatenate)(bag.to_delayed())
    return db.from_delayed(
      [
        dask.delayed(_deal)(everything, number, self._partitions)
        for number in range(self._partitions)
      ]
    )

  def _flatten(self, applied, *bags):
    return db.concat(bags)

  def _group(self, applied, bag):
    missing = self._partitions - bag.npartitions
    if missing > 0:
      empty = db.from_delayed([dask.delayed(list)()] * missing)
      bag = db.concat([bag, empty])
    elif missing < 0:
      bag = bag.repartition(npartitions=self._partitions)
    return core.groupby_tasks(bag, _key, hash=_partition).map(_values)

  def _par_do(self, applied, bag):
    transform = applied.transform
    sides = [self._list(side.pvalue) for side in applied.side_inputs]
    views = [(type(side), side._view_options()) for side in applied.side_inputs]
    bundle = _Bundle(applied.full_label, transform.fn, transform.raw_side_inputs, views)
    # A partition of it is no list but lists by tag.
    found = bag.map_partitions(bundle, *sides)
    for output in applied.outputs.values():
      self._bags[output] = found.map_partitions(_output, output.tag)
    return self._bags.get(applied.outputs.get(None), found)

  def _list(self, collection: beam.pvalue.PCollection):
    """A side input, whole."""
    if collection not in self._lists:
      partitions = self._bags[collection].to_delayed()
      self._lists[collection] = dask.delayed(_concatenate)(partitions)
    return self._lists[collection]


@dataclasses.dataclass(frozen=True)
class _Bundle:
  """Processes a partition as one bundle of a ParDo.

  Attributes:
    label: The step's.
    fn: Its DoFn.
    arguments: Of `process` beside the element, with placeholders for side inputs.
    views: Class and options of each side input.
  """

  label: str
  fn: beam.DoFn
  arguments: tuple[Iterable, dict]
  views: list[tuple[Any, dict]]

  @property
  def __name__(self) -> str:
    """What Dask calls the task."""
    return self.label.replace('/', '.')

  def __call__(self, elements: Iterable, *sides: list) -> dict[str | None, list]:
    received = _Received()
    args, kwargs = self.arguments
    invoker = common.DoFnInvoker.create_invoker(
      common.DoFnSignature(self.fn),
      common._OutputHandler(
        window_fn=window.GlobalWindows(),
        main_receivers=received[None],
        tagged_receivers=received,
        per_element_output_counter=None,
        output_batch_converter=None,
        process_yields_batches=False,
        process_batch_yields_elements=False,
      ),
      context=common.DoFnContext(self.label, state=None),
      side_inputs=[
        sideinputs.SideInputMap(kind, options, [_windowed(value) for value in side])
        for (kind, options), side in zip(self.views, sides, strict=True)
      ],
      input_args=list(args),
      input_kwargs=kwargs,
      bundle_finalizer_param=beam.DoFn.BundleFinalizerParam(),
    )
    invoker.invoke_setup()
    invoker.invoke_start_bundle()
    for element in elements:
      invoker.invoke_process(_windowed(element))
    invoker.invoke_finish_bundle()
    invoker.invoke_teardown()
    return {tag: receiver.values for tag, receiver in received.items()}


class _Receiver(common.Receiver):
  def __init__(self):
    self.values: list = []

  def receive(self, windowed_value: WindowedValue):
    self.values.append(windowed_value.value)


class _Received(collections.defaultdict):
  def __init__(self):
    super().__init__(_Receiver)


def _windowed(value: Any) -> WindowedValue:
  return WindowedValue(value, 0, (_GLOBAL,))


def _output(found: dict[str | None, list], tag: str | None) -> list:
  return found.get(tag, [])


def _key(element: tuple) -> Any:
  return element[0]


def _partition(key: Any) -> int:
  # Numbers from zero, as of our groups, deal evenly; other keys by chance.
  return key if isinstance(key, int) else int(dask.base.tokenize(key), 16)


def _values(group: tuple[Any, list]) -> tuple[Any, list]:
  key, elements = group
  return key, [value.value for _, value in elements]


def _concatenate(partitions: Iterable[Iterable]) -> list:
  return [element for partition in partitions for element in partition]


def _deal(elements: list, number: int, of: int) -> list:
  return elements[number::of]
