"""Inner parts of Beam and Dask: in one module, and as they are expected to be."""

import argparse
import ast
import functools
import importlib
import inspect
import io
import pickle
import types
from typing import Any

import apache_beam as beam
import prepared
import pytest
from apache_beam.options.pipeline_options import (
  DirectOptions,
  PipelineOptions,
  StandardOptions,
)
from apache_beam.runners.portability.fn_api_runner import worker_handlers
from apache_beam.runners.worker import data_plane
from apache_beam.transforms import core

from beam_pipelines import _compat

_LIBRARIES = ('apache_beam', 'dask', 'distributed')


def _inner(text: str) -> set[str]:
  """What a module uses of the inner parts of `_LIBRARIES`, and of others' names."""
  tree = ast.parse(text)
  found, own, bound = set(), {'_asdict', '_replace'}, {}
  for node in ast.walk(tree):
    if isinstance(node, ast.Import):
      bound |= {
        alias.asname or alias.name.split('.')[0]: importlib.import_module(
          alias.name if alias.asname else alias.name.split('.')[0]
        )
        for alias in node.names
        if alias.name.split('.')[0] in _LIBRARIES
      }
    elif isinstance(node, ast.ImportFrom):
      if str(node.module).split('.')[0] in _LIBRARIES:
        module = importlib.import_module(node.module)
        bound |= {a.asname or a.name: _member(module, a.name) for a in node.names}
        found |= {node.module} if _is_inner(module) else set()
    elif isinstance(node, ast.FunctionDef | ast.ClassDef):
      own.add(node.name)
    elif isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store):
      own.add(node.id if isinstance(node, ast.Name) else node.attr)
  for name, value in bound.items():
    found |= {name} if _is_inner(value) else set()
  for node in ast.walk(tree):
    if isinstance(node, ast.Attribute):
      name = node.attr
      if name.startswith('_') and not name.startswith('__') and name not in own:
        found.add(name)
      found |= {name} if _is_inner(_resolve(node, bound)) else set()
  return found


def _member(module: types.ModuleType, name: str) -> Any:
  if not hasattr(module, name):
    importlib.import_module(f'{module.__name__}.{name}')
  return getattr(module, name)


def _resolve(node: ast.AST, bound: dict[str, Any]) -> Any:
  """What a chain of attributes that begins with an import stands for, or None."""
  if isinstance(node, ast.Name):
    return bound.get(node.id)
  if isinstance(node, ast.Attribute):
    return getattr(_resolve(node.value, bound), node.attr, None)
  return None


def _is_inner(value: Any) -> bool:
  """Whether a docstring says so in its first lines; a class may inherit none."""
  if not isinstance(value, types.ModuleType | type | types.FunctionType):
    return False
  return 'for internal use' in ' '.join((value.__doc__ or '').lower().split())


def test_no_other_module_uses_inner_parts():
  paths = sorted((prepared.ROOT / 'beam_pipelines').rglob('*.py'))
  found = {path.name: _inner(path.read_text()) for path in paths}
  assert len(found) > 30
  assert found.pop('_compat.py') >= {
    '_OutputHandler',
    '_add_argparse_args',
    '_write_to_s3',
    'create_runner',
    'sideinputs',
    'PipelineVisitor',
  }
  assert {name: used for name, used in found.items() if used} == {}


def test_an_inner_use_is_seen():
  assert _inner('import dask\ndask._x(a)\n') == {'_x'}
  assert _inner('from apache_beam.runners import common\n') == {'common'}
  assert _inner('from apache_beam.runners.common import DoFnContext\n') == {
    'apache_beam.runners.common',
    'DoFnContext',
  }
  assert _inner('import apache_beam as beam\nbeam.pipeline.PipelineVisitor()\n') == {
    'PipelineVisitor'
  }
  assert _inner('import apache_beam as beam\nbeam.Map(self._f)\ndef _f(): 1\n') == set()


def test_type_hints_are_of_every_end():
  class Cut(beam.PTransform):
    def expand(self, words: tuple[Any, Any]) -> Any:
      return words[0]

    def default_type_hints(self) -> Any:
      return _compat.type_hints([str, tuple[int, list[str]]], [str])

  root = beam.Pipeline()
  words = root | 'Words' >> beam.Create(['a'])
  pairs = root | 'Pairs' >> beam.Create([(1, ['a'])])
  assert ((words, pairs) | 'Right' >> Cut()).element_type is str
  with pytest.raises(beam.typehints.TypeCheckError, match='Wrong'):
    _ = (pairs, words) | 'Wrong' >> Cut()


class Client:
  """Counts the parts of an upload to S3, which takes none without a part."""

  def __init__(self):
    self.parts = []

  def create_multipart_upload(self, request):
    return types.SimpleNamespace(upload_id='1')

  def upload_part(self, request):
    self.parts.append(bytes(request.bytes))
    return types.SimpleNamespace(etag='1', part_number=request.part_number)

  def complete_multipart_upload(self, request):
    assert request.parts, 'MalformedXML'


@pytest.fixture
def upload():
  s3io = pytest.importorskip('apache_beam.io.aws.s3io')
  client = Client()
  return client, s3io.S3IO(client).open('s3://bucket/file', 'w')


@pytest.mark.parametrize(
  ('content', 'parts'), [(b'', [b'']), (b'abc', [b'abc'])], ids=['empty', 'some']
)
def test_an_upload_ends_with_a_part(upload, content, parts):
  client, stream = upload
  stream.write(content)
  _compat.end_with_a_part(stream)
  stream.close()
  assert client.parts == parts


def test_beam_alone_still_ends_an_empty_upload_without_a_part(upload):
  # Once this fails, `end_with_a_part` can go.
  with pytest.raises(AssertionError, match='MalformedXML'):
    upload[1].close()


def test_streams_are_flushed_by_their_writers_only(monkeypatch):
  monkeypatch.setattr(worker_handlers, 'DATA_BUFFER_TIME_LIMIT_MS', 1000)
  timed = data_plane.TimeBasedBufferingClosableOutputStream

  def made() -> data_plane.ClosableOutputStream:
    limit = worker_handlers.DATA_BUFFER_TIME_LIMIT_MS
    return data_plane.ClosableOutputStream.create(None, lambda _: None, limit)

  stream = made()
  assert isinstance(stream, timed)
  stream.close()
  _compat.flush_by_size()
  assert not isinstance(made(), timed)
  # What makes the direct runner's streams reads the limit of this module, when it does.
  source = inspect.getsource(worker_handlers)
  assert source.count('DATA_BUFFER_TIME_LIMIT_MS') >= 2
  monkeypatch.delattr(worker_handlers, 'DATA_BUFFER_TIME_LIMIT_MS')
  with pytest.raises(AttributeError):
    _compat.flush_by_size()


def test_a_runner_has_a_name():
  assert isinstance(_compat.create_runner('FnApiRunner'), beam.runners.PipelineRunner)
  with pytest.raises((AttributeError, ImportError, ValueError)):
    _compat.create_runner('NoRunner')


def test_what_is_wrong_with_options_is_told():
  runner = _compat.create_runner('FnApiRunner')
  assert _compat.option_faults(PipelineOptions([]), runner) == []
  wrong = PipelineOptions(['--type_check_additional=nonsense'])
  (fault,) = _compat.option_faults(wrong, runner)
  assert 'type_check_additional' in fault
  dataflow = _compat.create_runner('DataflowRunner')
  faults = _compat.option_faults(PipelineOptions(['--region=r']), dataflow)
  assert 'Missing required option: project.' in faults


def test_unknown_options_are_told_from_beams():
  arguments = ['--temp_location=x', '--temp_locaton=x', '--direct_num_workers=2']
  unknown, known = _compat.unknown_options(arguments)
  assert unknown == ['--temp_locaton=x']
  assert {'--temp_location', '--direct_num_workers', '--runner'} <= set(known)
  with pytest.raises(argparse.ArgumentError):
    _compat.unknown_options(['--direct_num_workers=many'])


class Tell(beam.DoFn):
  """Says what it is called with, and ends with a number of its elements."""

  def setup(self):
    self.calls = ['setup']

  def start_bundle(self):
    self.calls.append('start')

  def process(self, element, side, suffix):
    self.calls.append('process')
    yield f'{element}{sorted(side)}{suffix}'
    yield beam.pvalue.TaggedOutput('calls', list(self.calls))


def test_a_bundle_is_what_a_runner_makes_of_a_par_do():
  root = beam.Pipeline()
  side = beam.pvalue.AsList(root | 'Side' >> beam.Create([1]))
  tell = beam.ParDo(Tell(), side, suffix='!').with_outputs('calls', main='main')
  _ = root | beam.Create(['x']) | 'Tell' >> tell
  applied = _compat.steps(root)
  labels = [step.full_label for step in applied]
  (position,) = [n for n, label in enumerate(labels) if label.startswith('Tell')]
  assert {label.split('/')[0] for label in labels[:position]} == {'Side', 'Create'}
  bundle = _compat.Bundle.of(applied[position])
  assert '/' not in bundle.__name__
  for _ in range(2):  # Nothing is left of the bundle before.
    assert bundle(['a', 'b'], [3, 2]) == {
      None: ['a[2, 3]!', 'b[2, 3]!'],
      'calls': [
        ['setup', 'start', 'process'],
        ['setup', 'start', 'process', 'process'],
      ],
    }


def test_dask_has_a_step_for_each_transform():
  pytest.importorskip('distributed', reason='no Dask: extra `dask`')
  root = beam.Pipeline()
  parts = [root | f'Create{n}' >> beam.Create([(n, n)]) for n in range(2)]
  _ = parts | beam.Flatten() | beam.Reshuffle() | beam.GroupByKey() | beam.Map(print)
  kinds = _compat.replace_for_dask(root)
  found = [type(step.transform) for step in _compat.steps(root)]
  # Beam's GroupByKey makes windowed values by a ParDo first.
  assert found == [
    *(kinds.create, kinds.create, kinds.flatten, kinds.reshuffle),
    *(beam.ParDo, kinds.group_by_key, kinds.group_by_window, beam.ParDo),
  ]
  values = [
    list(step.transform.values)
    for step in _compat.steps(root)
    if type(step.transform) is kinds.create
  ]
  assert values == [[(0, 0)], [(1, 1)]]


@pytest.mark.slow
def test_groups_go_to_the_partition_that_is_said():
  bags = pytest.importorskip('dask.bag', reason='no Dask: extra `dask`')
  bag = bags.from_sequence([(n % 6, n) for n in range(60)], npartitions=3)
  grouped = _compat.group_in_tasks(bag, lambda element: element[0], lambda key: key)
  found = [sorted(key for key, _ in part) for part in grouped.map_partitions(_whole)]
  assert found == [[0, 3], [1, 4], [2, 5]]


def _whole(partition):
  return [list(partition)]


def test_a_stream_that_is_no_upload_is_an_error():
  with pytest.raises(AttributeError):
    _compat.end_with_a_part(io.BufferedWriter(io.BytesIO()))


def test_what_is_done_on_s3_shares_a_client_of_the_same_options():
  pytest.importorskip('boto3', reason='no client of S3: extra `test`')
  from apache_beam.io.aws import s3io

  _compat.share_s3_clients()
  _compat.share_s3_clients()
  here = {'s3_endpoint_url': 'http://127.0.0.1:1', 's3_region_name': 'us-east-1'}
  first, second = (s3io.S3IO(options=here).client for _ in range(2))
  # Each has a stream of its own.
  assert first is not second
  assert first.client is second.client
  there = s3io.S3IO(options=here | {'s3_endpoint_url': 'http://127.0.0.1:2'}).client
  assert there.client is not first.client
  assert there.client.meta.endpoint_url == 'http://127.0.0.1:2'


def test_views_of_options_are_made_once_and_share_what_is_set():
  options = _compat.Options(['--runner=FnApiRunner', '--direct_num_workers=3'])
  direct = options.view_as(DirectOptions)
  assert direct.direct_num_workers == 3
  assert options.view_as(DirectOptions) is direct
  direct.direct_num_workers = 5
  for other in (options, pickle.loads(pickle.dumps(options))):
    assert other.view_as(DirectOptions).direct_num_workers == 5
    assert other.view_as(StandardOptions).runner == 'FnApiRunner'
  known, plain = options.get_all_options(), PipelineOptions(options._flags)
  assert known == plain.get_all_options() | {'direct_num_workers': 5}


class _Steps(beam.DoFn):
  def process(self, element, extra=3, *, named=4):
    yield element


def test_signatures_are_what_beam_reads_itself():
  read = core.get_function_args_defaults
  plain = getattr(read, 'read', read)
  step = _Steps()
  functions = [step.process, _Steps.process, step.setup, lambda x, y=2: x, len]
  functions.append(functools.partial(_Steps.process, step))
  expected = [plain(function) for function in functions]
  _compat.read_signatures_once()
  remembered = core.get_function_args_defaults
  for _ in range(2):
    assert [remembered(function) for function in functions] == expected
  names, _ = remembered(step.process)
  names.append('changed by who asked')
  assert remembered(step.process) == expected[0]
  _compat.read_signatures_once()
  assert core.get_function_args_defaults is remembered
