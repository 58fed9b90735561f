"""All that this package uses of the inner parts of Beam and Dask.

Inner are names with a leading underscore, and what its docstring says is for internal
use only. No other module touches these; a test looks. Each part here says why there is
no public way, and `test_compat.py` fails where an upgrade changes it. Last looked at in
Beam 2.77 and Dask 2026.8.
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import os
import threading
import traceback
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import apache_beam as beam
from apache_beam.options import pipeline_options
from apache_beam.runners import common, runner
from apache_beam.transforms import core, sideinputs, window
from apache_beam.typehints import decorators, native_type_compatibility
from apache_beam.utils import windowed_value

if TYPE_CHECKING:
  import dask.bag as db


def type_hints(takes: list[Any], makes: list[Any]) -> decorators.IOTypeHints:
  """Beam's form of the element types of what a composite takes, and of what it makes.

  Beam's own reading of `expand`'s annotations knows single PCollections only
  (https://github.com/apache/beam/pull/12009), and its decorators want their types
  before the class is there. `PTransform.default_type_hints` is the public place to say
  more, but what it returns has no public maker.
  """
  convert: Any = native_type_compatibility.convert_to_beam_types
  empty: Any = decorators.IOTypeHints.empty()
  return empty.with_input_types(*convert(takes)).with_output_types(*convert(makes))


def end_with_a_part(stream: BinaryIO) -> None:
  """Lets a file on S3 be empty.

  Beam ends such an upload without a part, which S3 refuses:
  https://github.com/apache/beam/issues/21369, open.

  Args:
    stream: What `FileSystems.create` gave for an `s3://` path, before it is closed.
  """
  stream.flush()
  uploader = stream.raw._uploader  # type: ignore[attr-defined]
  if not uploader.parts and not uploader.buffer:
    uploader._write_to_s3(b'')


class _SharedClients:
  """What Beam's client of S3 takes for boto3, and its session: makes each client once.

  Clients may be shared by threads (boto3's guide, Clients), sessions may not. A fork
  makes its own.
  """

  def __init__(self, boto3: Any) -> None:
    self._boto3, self._lock = boto3, threading.Lock()
    self._clients: dict[Any, Any] = {}
    self.session, self.Session = self, lambda: self

  def client(self, **settings: Any) -> Any:
    key = os.getpid(), *sorted(settings.items())
    with self._lock:
      if key not in self._clients:
        self._clients[key] = self._boto3.session.Session().client(**settings)
      return self._clients[key]


def share_s3_clients() -> None:
  """Has all that Beam does on S3 in a process share one client of the same options.

  For each operation, such as to open or to rename, it makes a session and a client,
  .07 s of CPU. No issue is open upstream.
  """
  from apache_beam.io.aws.clients.s3 import boto3_client

  if not isinstance(boto3_client.boto3, _SharedClients | None):
    boto3_client.boto3 = _SharedClients(boto3_client.boto3)


def flush_by_size() -> None:
  """Keeps the direct runner's threads from losing rows.

  Every second a thread of Beam flushes the stream that a worker writes to, without a
  lock that the writer would take: what is written between the flush's copy and its
  reset is gone. Streams that are flushed at 10 MB by their writers only are safe. The
  flush by time came with https://github.com/apache/beam/pull/10246; we know of no issue
  of the loss. The limit is an option of remote workers only.
  """
  from apache_beam.runners.portability.fn_api_runner import worker_handlers

  if not hasattr(worker_handlers, 'DATA_BUFFER_TIME_LIMIT_MS'):
    raise AttributeError('Beam has no DATA_BUFFER_TIME_LIMIT_MS any more.')
  worker_handlers.DATA_BUFFER_TIME_LIMIT_MS = 0


class Options(pipeline_options.PipelineOptions):
  """Pipeline options that make a view of each class once.

  Beam asks for a view with every type that it compares, 480 times in a job of ours, and
  makes a parser of command lines each time: a quarter of what a small job takes.
  """

  def __init__(self, flags: list[str]) -> None:
    super().__init__(flags)
    object.__setattr__(self, '_views', {})

  def view_as(self, cls: type[Any]) -> Any:
    views = self.__dict__.get('_views', {})
    view = views.get(cls)
    if view is None or view._all_options is not self._all_options:
      view = views[cls] = super().view_as(cls)
    return view

  def __getstate__(self) -> dict[str, Any]:
    state = super().__getstate__()  # type: ignore[no-untyped-call]
    return {**state, '_views': {}}


def read_signatures_once() -> None:
  """Has Beam look at the signature of a function once.

  For each step it asks eight times for those of all methods of a DoFn, inherited ones
  included, in search of state and timers: a quarter of what a small job takes. No issue
  is open upstream.

  Raises:
    AttributeError: Beam looks at them in another way.
  """
  read = core.get_function_args_defaults
  if hasattr(read, 'read'):
    return
  known: dict[Any, tuple[list[str], list[Any]]] = {}

  def remembered(f: Any) -> tuple[list[str], list[Any]]:
    # Bound, it has an argument less.
    bound = getattr(f, '__self__', None) is not None
    key = getattr(f, '__func__', f), bound
    if key not in known:
      known[key] = read(f)
    names, defaults = known[key]
    return list(names), list(defaults)

  remembered.read = read  # type: ignore[attr-defined]
  core.get_function_args_defaults = remembered


def create_runner(name: str) -> runner.PipelineRunner:
  """Makes a runner by its name, as `Pipeline` does too late to tell a wrong one.

  Raises:
    AttributeError, ImportError, ValueError: There is none.
  """
  return runner.create_runner(name)


def in_job_server(error: BaseException) -> bool:
  """Whether an error was raised while Beam started an engine's job server.

  It raises whatever the download, the build or the start of a binary raised: a
  RuntimeError, an OSError, an AssertionError. Only the place says what it is.
  """
  frames = traceback.walk_tb(error.__traceback__)
  home = 'apache_beam.runners.portability.job_server'
  return any(
    frame.f_globals.get('__name__') == home and frame.f_code.co_name == 'start'
    for frame, _ in frames
  )


def option_faults(
  options: pipeline_options.PipelineOptions, chosen: runner.PipelineRunner
) -> list[str]:
  """What Beam finds wrong with options, as `Pipeline` would say in a traceback."""
  from apache_beam.options import pipeline_options_validator

  found = pipeline_options_validator.PipelineOptionsValidator(options, chosen)
  return list(found.validate())


def unknown_options(arguments: list[str]) -> tuple[list[str], list[str]]:
  """Arguments that no options class of Beam declares, and the names of those declared.

  Beam drops the unknown with a warning at most:
  https://github.com/apache/beam/issues/28402. The classes declare theirs in a hook
  that is meant to be overridden, not called.

  Raises:
    argparse.ArgumentError: An argument has no such value.
  """
  parser = argparse.ArgumentParser(
    allow_abbrev=False, add_help=False, exit_on_error=False
  )
  for kind in _subclasses(pipeline_options.PipelineOptions):
    try:
      kind._add_argparse_args(parser)  # type: ignore[arg-type]
    except argparse.ArgumentError:
      continue  # the same option, declared by two kinds
  _, unknown = parser.parse_known_args(arguments)
  return unknown, [text for action in parser._actions for text in action.option_strings]


def _subclasses(
  kind: type[pipeline_options.PipelineOptions],
) -> list[type[pipeline_options.PipelineOptions]]:
  found = []
  for child in kind.__subclasses__():
    found += [child, *_subclasses(child)]
  return found


class DaskSteps(NamedTuple):
  """The transforms that `dask_overrides` puts in the place of Beam's own.

  Beam tells its DaskRunner which step is which by these private classes, as do we, who
  subclass it (docs/design/dask-runner.md). It has no public translation to extend;
  https://github.com/apache/beam/pull/27618 was to mend side inputs, and was closed.
  """

  create: type[beam.PTransform[Any, Any]]
  reshuffle: type[beam.PTransform[Any, Any]]
  flatten: type[beam.PTransform[Any, Any]]
  group_by_key: type[beam.PTransform[Any, Any]]
  group_by_window: type[beam.PTransform[Any, Any]]


def replace_for_dask(pipeline: beam.Pipeline) -> DaskSteps:
  """Replaces transforms of a pipeline by those that DaskRunner translates."""
  from apache_beam.runners.dask import overrides

  pipeline.replace_all(overrides.dask_overrides())
  return DaskSteps(
    overrides._Create,
    overrides._Reshuffle,
    overrides._Flatten,
    overrides._GroupByKeyOnly,
    overrides._GroupAlsoByWindow,
  )


def steps(pipeline: beam.Pipeline) -> list[Any]:
  """The applied transforms that are no composites, each after those it reads from.

  A runner gets the pipeline as an object, and the only way through it is a visitor that
  Beam keeps to itself; so is the class of what it visits, AppliedPTransform.
  """
  found: list[Any] = []

  class Visitor(beam.pipeline.PipelineVisitor):
    def visit_transform(self, transform_node: Any) -> None:
      found.append(transform_node)

  pipeline.visit(Visitor())
  return found


def group_in_tasks(
  bag: db.Bag, key: Callable[[Any], Any], partition: Callable[[Any], int]
) -> db.Bag:
  """Groups a bag's elements by key, each key in the partition that a function says.

  `Bag.groupby` is public, and deals by a hash of its own choice only.
  """
  from dask.bag import core

  return core.groupby_tasks(bag, key, hash=partition)


@dataclasses.dataclass(frozen=True)
class Bundle:
  """Processes elements as one bundle of a ParDo, in the global window.

  Beam's runners share the code that calls a DoFn, and keep it to themselves. We need it
  since DaskRunner's own shares one receiver among bundles.

  Attributes:
    label: The step's.
    fn: Its DoFn.
    arguments: Of `process` beside the element, with placeholders for side inputs.
    views: Class and options of each side input.
  """

  label: str
  fn: beam.DoFn
  arguments: tuple[Iterable[Any], dict[str, Any]]
  views: list[tuple[Any, dict[str, Any]]]

  @classmethod
  def of(cls, applied: Any) -> Bundle:
    """That of an applied ParDo (see `steps`)."""
    transform = applied.transform
    views = [(type(side), side._view_options()) for side in applied.side_inputs]
    arguments = transform.args, transform.kwargs
    return cls(applied.full_label, transform.fn, arguments, views)

  @property
  def __name__(self) -> str:
    """What Dask calls the task."""
    return self.label.replace('/', '.')

  def __call__(
    self, elements: Iterable[Any], *sides: list[Any]
  ) -> dict[str | None, list[Any]]:
    """Lists of what comes out, by tag; None is the main output's."""
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
  def __init__(self) -> None:
    self.values: list[Any] = []

  def receive(self, windowed_value: windowed_value.WindowedValue) -> None:
    self.values.append(windowed_value.value)


class _Received(collections.defaultdict[str | None, _Receiver]):
  def __init__(self) -> None:
    super().__init__(_Receiver)


_GLOBAL = window.GlobalWindow()


def _windowed(value: Any) -> windowed_value.WindowedValue:
  return windowed_value.WindowedValue(value, 0, (_GLOBAL,))
