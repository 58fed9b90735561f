"""Datasets on object stores: the same bytes, nothing lost, and read for training."""

import hashlib
import itertools
import os
import pathlib
import pickle
import socket
import tempfile
import uuid

import commands
import fsspec
import prepared
import pytest
import stores
import trained
from apache_beam.io.filesystems import FileSystems
from apache_beam.options import pipeline_options

from beam_pipelines import (
  exchange,
  forgotten,
  kept_ids,
  outputs,
  sample,
  sample_job,
  spill,
  split_files,
  staging,
)
from ncf_tfdata import dataset as dataset_lib
from ncf_tfdata import object_store
from ncf_tfdata.errors import UserError
from ncf_tfdata.manifest import Base, File, Manifest

pytestmark = pytest.mark.slow

# Each file costs some requests, which a test need not repeat.
_SHARDS = '--num_shards=2'


@pytest.fixture(scope='module', params=[stores.s3, stores.gcs])
def store(request):
  with request.param() as running:
    yield running


@pytest.fixture
def told(store, monkeypatch):
  """The store, known to Beam in this process as a command makes it known."""
  options = pipeline_options.PipelineOptions(list(store.flags))
  monkeypatch.setattr(FileSystems, '_pipeline_options', options)
  if store.root.startswith('gs'):
    # Google's client has read where to look for credentials: none are looked for here.
    from apache_beam.internal.gcp import auth

    monkeypatch.setattr(auth, 'get_service_credentials', lambda _: None)
  for name, value in store.environment.items():
    monkeypatch.setenv(name, value)
  return store


@pytest.fixture(scope='module')
def logs(store, sample_log):
  store.put('logs/ratings.dat', sample_log.read_bytes())
  return f'{store.root}/logs'


@pytest.fixture(scope='module')
def local(sample_log, tmp_path_factory):
  output = tmp_path_factory.mktemp('local') / 'sample'
  return prepared.prepare(sample_log, output, _SHARDS)


@pytest.fixture(scope='module')
def output(store, logs, sample_dataset):
  """What a job made of a log on the store, over a dataset of more shards."""
  for file in sample_dataset.directory.iterdir():
    store.put(f'prepared/sample/{file.name}', file.read_bytes())
  path = f'{store.root}/prepared/sample'
  flags = (f'--input={logs}', f'--output={path}', *store.flags, _SHARDS)
  # The flags alone say where the store is.
  environment = {**store.environment, 'AWS_ENDPOINT_URL': 'http://127.0.0.1:1'}
  line = prepared.error_line(prepared.run(*flags, **environment))
  assert '--overwrite' in line
  done = prepared.run(*flags, '--overwrite', **environment)
  assert done.returncode == 0, done.stdout + done.stderr
  assert f'Next: python -m ncf_tfdata.train --data_dir={path}' in done.stdout
  return path


@pytest.fixture
def cache(tmp_path, monkeypatch):
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
  return object_store.cache_directory()


def test_the_bytes_are_those_of_a_local_run_and_nothing_else_is_left(
  store, output, local
):
  assert store.files('prepared') == {
    f'sample/{name}': digest
    for name, digest in prepared.digests(local.directory).items()
  }


def test_an_earlier_dataset_and_whom_to_forget_are_read_there(told, output, local):
  made = kept_ids.plan(output)
  assert made is not None
  assert made.base == Base(local.sha256, local.num_users, local.num_items)
  keys = [key for part in made.users for key in kept_ids.read(part).keys.to_pylist()]
  assert keys == list(local.vocabulary(dataset_lib.USERS).keys)
  path = told.put('forget.txt', keys[0].encode())
  assert forgotten.plan(path, None).keys()[0].to_pylist() == keys[:1]
  with pytest.raises(UserError, match='is no finished dataset'):
    kept_ids.plan(f'{told.root}/nowhere/at-all')


def test_the_split_as_files_is_that_of_a_local_run(store, logs, sample_log, tmp_path):
  prepared.prepare(
    sample_log, tmp_path / 'out', _SHARDS, f'--export_split={tmp_path / "files"}'
  )
  files = f'{store.root}/exported/files'
  flags = (f'--input={logs}', _SHARDS, f'--export_split={files}', *store.flags)
  done = prepared.run(
    *flags, f'--output={store.root}/exported/out', **store.environment
  )
  assert done.returncode == 0, done.stdout + done.stderr
  found = store.files('exported')
  assert {name: found[f'files/{name}'] for name in os.listdir(tmp_path / 'files')} == (
    prepared.digests(tmp_path / 'files')
  )
  # Nothing staged is left.
  assert {name.partition('/')[0] for name in found} == {'files', 'out'}
  line = prepared.error_line(
    prepared.run(*flags, f'--output={store.root}/exported/2', **store.environment)
  )
  assert 'holds split.json' in line


@pytest.mark.parametrize('call', range(3))
def test_the_split_is_whole_after_a_lost_publisher(told, call, tmp_path, monkeypatch):
  vocabulary = b'a\t1\nb\t2\n'
  output, root = str(tmp_path / 'out'), f'{told.root}/lost-{call}'
  made = split_files.plan(f'{root}/files', output, [], ('train', 'test'), False)
  assert made is not None
  directory = staging.staging_directory(output)
  staging.write(directory, dataset_lib.ITEMS, vocabulary)
  with monkeypatch.context() as patch:
    _lose(patch, call)
    with pytest.raises(RuntimeError, match='is lost'):
      split_files.publish(made, directory, [], '{}')
  assert split_files.INDEX not in outputs.names(made.directory)
  split_files.publish(made, directory, [], '{}')
  assert outputs.names(made.directory) == {*made.files, split_files.INDEX}
  assert not outputs.names(made.staging)


def test_what_cannot_be_written_is_refused_in_one_line(told, logs):
  flags = (f'--input={logs}', *told.flags)
  assert 'is a bucket' in prepared.refused(*flags, f'--output={told.root}')
  line = prepared.refused(*flags, f'--output={told.root}-not-there/sample')
  assert 'cannot write' in line


def test_no_object_is_lost_that_is_no_part_of_a_dataset(told, sample_log):
  path = told.put('mine/ratings.dat', sample_log.read_bytes())
  with pytest.raises(UserError, match=r'holds ratings\.dat'):
    outputs.owned(f'{told.root}/mine')
  line = prepared.refused(f'--input={path}', f'--output={told.root}/mine', *told.flags)
  assert 'would be lost' in line
  assert list(told.files('mine')) == ['ratings.dat']


_SHARD, _STALE = (dataset_lib.shard_name('train', 0, n) for n in (1, 2))
_NAMES = {'rejects.tsv', _SHARD}


def _manifest(*names: str, note: str = '') -> str:
  files = tuple(File(name, 3, '') for name in names)
  return Manifest({'note': note}, (), {}, {}, files).to_json()


def _staged(output: str) -> str:
  directory = staging.staging_directory(output)
  staging.create_directory(directory)
  staging.write(directory, 'rejects.tsv', b'')
  staging.write(directory, _SHARD, b'new')
  return directory


@pytest.fixture
def old(told, request):
  """A finished dataset, as some tools list it."""
  folder = f'old-{request.node.name.partition("[")[0]}-{uuid.uuid4().hex}'
  told.put(f'{folder}/manifest.json', _manifest(_SHARD, _STALE).encode())
  for name in (_SHARD, _STALE):
    told.put(f'{folder}/{name}', b'old')
  with FileSystems.create(f'{told.root}/{folder}/') as marker:
    marker.write(b' ')
  return f'{told.root}/{folder}'


def _published(told, output: str, manifest: str) -> None:
  assert outputs.names(output) == {*_NAMES, 'manifest.json'}
  assert outputs.read_manifest(output) == manifest
  folder = output.removeprefix(f'{told.root}/')
  assert told.files(folder)[_SHARD] == hashlib.sha256(b'new').hexdigest()
  assert not [name for name in told.files() if name.startswith(f'{folder}.incomplete')]


def test_a_file_is_uploaded_in_parts_or_with_none(told):
  directory = staging.staging_directory(f'{told.root}/parts')
  staging.write(directory, _SHARD, bytes(6 << 20))
  staging.write_piece(directory, 'users-000000.tsv', b'1')
  staging.write_piece(directory, 'users-000001.tsv', b'')
  pieces = ['users-000000.tsv', 'users-000001.tsv']
  assert staging.join_pieces(directory, 'users.tsv', pieces).bytes == 1
  assert outputs.names(directory) == {_SHARD, 'users.tsv'}
  staging.discard_directory(directory)
  assert not [name for name in told.files() if name.startswith('parts')]


def test_a_finished_dataset_is_replaced_only_when_asked(told, old):
  directory, manifest = _staged(old), _manifest(*_NAMES)
  before = outputs.names(old)
  with pytest.raises(UserError, match='another run has finished a dataset'):
    exchange.publish(directory, old, _NAMES, manifest, False)
  assert outputs.names(old) == before
  exchange.publish(directory, old, _NAMES, manifest, True)
  _published(told, old, manifest)


@pytest.mark.parametrize('call', range(7))
def test_a_publisher_lost_at_any_step_is_followed(told, old, call, monkeypatch):
  directory, manifest = _staged(old), _manifest(*_NAMES)
  with monkeypatch.context() as patch:
    _lose(patch, call)
    with pytest.raises(RuntimeError, match='is lost'):
      exchange.publish(directory, old, _NAMES, manifest, True)
  # While it is neither the old nor the new dataset, no reader accepts it.
  half_replaced = dataset_lib.MANIFEST not in outputs.names(old)
  assert half_replaced == (call in (2, 3, 4))
  exchange.publish(directory, old, _NAMES, manifest, True)
  _published(told, old, manifest)


def _lose(patch: pytest.MonkeyPatch, call: int) -> None:
  """Loses the worker before the removal or move of that number."""
  calls = itertools.count()

  def losing(step):
    def stepped(*arguments):
      if next(calls) == call:
        raise RuntimeError('the worker is lost')
      return step(*arguments)

    return stepped

  patch.setattr(outputs, 'delete', losing(outputs.delete))
  patch.setattr(staging, 'move', losing(staging.move))


def test_the_next_run_replaces_what_a_dead_one_left(told, old, monkeypatch):
  directory = _staged(old)
  with monkeypatch.context() as patch:
    _lose(patch, call=4)
    with pytest.raises(RuntimeError, match='is lost'):
      exchange.publish(directory, old, _NAMES, _manifest(*_NAMES), True)
  told.put(f'{old.rpartition("/")[2]}/thesis.tex', b'mine')
  with pytest.raises(UserError, match=r'holds thesis\.tex'):
    outputs.refuse_unreplaceable(old, overwrite=True)
  FileSystems.delete([f'{old}/thesis.tex'])
  outputs.refuse_unreplaceable(old, overwrite=False)
  manifest = _manifest(*_NAMES, note='next')
  exchange.publish(_staged(old), old, _NAMES, manifest, False)
  assert outputs.read_manifest(old) == manifest
  assert outputs.names(old) == {*_NAMES, 'manifest.json'}


def test_leftovers_of_dead_runs_are_swept_but_what_is_read(told, tmp_path, monkeypatch):
  monkeypatch.setattr(tempfile, 'tempdir', str(tmp_path))
  output = f'{told.root}/swept'
  host = socket.gethostname()
  dead, read, alive = (
    f'swept.incomplete-{host}-{pid}-0123456{number}'
    for number, pid in enumerate((4_194_305, 4_194_305, os.getpid()))
  )
  name = 'users.tsv'
  kept = [f'{dead}/thesis.tex', f'{read}/{name}', f'{alive}/{name}', f'swept/{name}']
  for path in (f'{dead}/{name}', f'{dead}-pieces/users-000000.tsv', *kept):
    told.put(path, b'1')
  # What was spilled is on a disk of this machine.
  scratch = {
    run: staging.scratch_directory(f'{told.root}/{run}') for run in (dead, alive)
  }
  for path in scratch.values():
    assert pathlib.Path(path).parent == tmp_path
    staging.create_directory(path)
    spill.Store(path).put('rows')
  staging.sweep(output, [f'{told.root}/{read}/{name}'])
  assert list(map(str, tmp_path.iterdir())) == [scratch[alive]]
  assert {name for name in told.files() if name.startswith('swept')} == set(kept)


def test_a_sample_replaces_no_object(told):
  told.put('samples/ratings-00000-of-00001.dat', b'mine')
  with pytest.raises(UserError, match='exists'):
    sample_job.run(sample.Spec(ratings=1_000), f'{told.root}/samples', told.flags)
  assert list(told.files('samples')) == ['ratings-00000-of-00001.dat']


def test_training_reads_copies_that_are_the_same(store, output, local, cache, tmp_path):
  pytest.importorskip('tensorflow', reason='no TensorFlow')
  if store.root.startswith('gs'):
    pytest.skip('the copies are made alike')
  trained.train(output, tmp_path / 'run', '--epochs=1')
  copies, whole = (
    prepared.digests(folder) for folder in (cache / local.sha256, local.directory)
  )
  assert copies == {name: whole[name] for name in copies}
  assert any('train' in name for name in copies)


def test_a_dataset_is_read_from_where_it_is(output, local, cache):
  dataset = dataset_lib.Dataset(output)
  assert dataset.sha256 == local.sha256
  dataset.verify()
  for name in (dataset_lib.USERS, dataset_lib.ITEMS):
    assert dataset.vocabulary(name).keys == local.vocabulary(name).keys
  assert not cache.exists()


# The rest needs no server: fsspec keeps files in memory as well.


def test_workers_of_dask_are_told_where_a_store_is(monkeypatch):
  pytest.importorskip('distributed', reason='no Dask: extra `dask`')
  from beam_pipelines import dask_runner

  monkeypatch.setattr(FileSystems, '_pipeline_options', None)
  options = pipeline_options.PipelineOptions(['--s3_endpoint_url=http://store:9000'])
  plugin = pickle.loads(pickle.dumps(dask_runner.FileSystemOptions(options)))
  plugin.setup(None)
  told = FileSystems._pipeline_options.view_as(pipeline_options.S3Options)
  assert told.s3_endpoint_url == 'http://store:9000'


@pytest.fixture
def in_memory(sample_dataset):
  system = fsspec.filesystem('memory')
  system.put(str(sample_dataset.directory), '/bucket/sample', recursive=True)
  yield 'memory://bucket/sample'
  system.rm('/bucket', recursive=True)


def test_copies_are_made_once_and_only_of_what_is_read(in_memory, cache):
  dataset = dataset_lib.Dataset(in_memory)
  paths = [pathlib.Path(path) for path in dataset.shards('test')]
  assert sorted(path.name for path in (cache / dataset.sha256).iterdir()) == [
    path.name for path in paths
  ]
  times = [path.stat().st_mtime_ns for path in paths]
  assert [pathlib.Path(path) for path in dataset.shards('test')] == paths
  assert [path.stat().st_mtime_ns for path in paths] == times
  paths[0].write_bytes(b'cut')
  dataset.shards('test')
  assert paths[0].stat().st_size > 3


def test_a_corrupt_object_is_not_copied(in_memory, cache):
  dataset = dataset_lib.Dataset(in_memory)
  name = pathlib.Path(dataset.shards('validation')[0]).name
  damaged = next(file for file in dataset.manifest.files if file.split == 'test')
  system = fsspec.filesystem('memory')
  system.pipe_file(f'/bucket/sample/{damaged.name}', bytes(damaged.bytes))
  with pytest.raises(UserError, match='is corrupt'):
    dataset.shards('test')
  assert damaged.name not in prepared.digests(cache / dataset.sha256)
  assert name in prepared.digests(cache / dataset.sha256)


def test_a_missing_object_is_told(in_memory):
  fsspec.filesystem('memory').rm('/bucket/sample/items.tsv')
  with pytest.raises(UserError, match=r'items\.tsv is missing'):
    dataset_lib.Dataset(in_memory)
  with pytest.raises(UserError, match='no finished dataset'):
    dataset_lib.Dataset('memory://bucket/other')


@pytest.mark.parametrize(
  ('module', 'flags'),
  [('evaluate', ()), ('recommend', ('--all',)), ('export', ('--output=model',))],
)
def test_runs_on_object_stores_are_refused_in_one_line(module, flags):
  done = commands.run(f'ncf_tfdata.{module}', '--run_dir=s3://bucket/run', *flags)
  line = prepared.error_line(done)
  assert 's3://bucket/run' in line
  assert 'aws s3 cp --recursive' in line
  assert not pathlib.Path(prepared.ROOT, 's3:').exists()


@pytest.mark.parametrize(
  ('path', 'error', 'extra'),
  [
    ('gs://bucket/x', ValueError('Unable to get filesystem'), 'gcp'),
    ('s3://bucket/x', OSError("AssertionError('Missing boto3 requirement')"), 'aws'),
  ],
)
def test_the_extra_that_is_missing_is_named(path, error, extra, monkeypatch):
  def match(_):
    raise error

  monkeypatch.setattr(FileSystems, 'match', match)
  with pytest.raises(UserError, match=rf"pip install 'ncf-tfdata\[{extra}\]'"):
    outputs.refuse_unreplaceable(path, overwrite=True)


def test_a_saved_model_on_s3_is_refused_in_one_line():
  flags = ('--saved_model=s3://bucket/model', '--users_file=u', '--output=a.jsonl')
  done = commands.run('beam_pipelines.recommend', *flags)
  assert '--saved_model=s3://bucket/model' in prepared.error_line(done)


def test_what_trains_writes_on_a_disk(sample_dataset):
  pytest.importorskip('tensorflow', reason='no TensorFlow')
  line = trained.refused(sample_dataset.directory, 'gs://bucket/run')
  assert 'gs://bucket/run' in line
  assert 'gcloud storage cp -r' in line
