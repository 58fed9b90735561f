"""A dataset is there whole or not at all, and nothing else is ever lost."""

import os
import pathlib

import pytest

from beam_pipelines import exchange, outputs, staging
from ncf_tfdata import dataset
from ncf_tfdata.errors import UserError
from ncf_tfdata.manifest import File, Manifest


def manifest(names, note: str) -> str:
  files = tuple(File(name, 1, '') for name in sorted(names))
  return Manifest({'note': note}, (), {}, {}, files).to_json()


def stage(output: pathlib.Path, **files: str) -> str:
  directory = staging.staging_directory(os.path.realpath(output))
  staging.create_directory(directory)
  for name, text in files.items():
    staging.write(directory, name, text.encode())
  return directory


def publish(directory: str, output: pathlib.Path, note: str, overwrite: bool = False):
  """Publishes all that is staged; returns the manifest."""
  names = outputs.names(directory)
  text = manifest(names, note)
  exchange.publish(directory, os.path.realpath(output), names, text, overwrite)
  return text


def contents(directory: pathlib.Path) -> dict[str, str]:
  return {path.name: path.read_text() for path in directory.iterdir()}


def test_a_dataset_appears_whole(tmp_path):
  output = tmp_path / 'deep' / 'er' / 'out'
  directory = stage(output, **{dataset.ITEMS: 'new'})
  assert not output.exists()
  text = publish(directory, output, 'new')
  assert contents(output) == {dataset.ITEMS: 'new', dataset.MANIFEST: text}
  assert os.listdir(output.parent) == ['out']


def test_an_empty_directory_is_no_hindrance(tmp_path):
  output = tmp_path / 'out'
  output.mkdir()
  publish(stage(output, **{dataset.ITEMS: 'new'}), output, 'new')
  assert dataset.ITEMS in contents(output)


def test_it_takes_the_place_of_an_old_one(tmp_path):
  output = tmp_path / 'out'
  publish(stage(output, **{dataset.ITEMS: 'old'}), output, 'old')
  text = publish(stage(output, **{dataset.USERS: 'new'}), output, 'new', True)
  assert contents(output) == {dataset.USERS: 'new', dataset.MANIFEST: text}
  assert os.listdir(tmp_path) == ['out']


def test_of_two_the_later_is_refused(tmp_path):
  output = tmp_path / 'out'
  both = [stage(output, **{dataset.ITEMS: text}) for text in ('first', 'later')]
  text = publish(both[0], output, 'first')
  for note in ('later', 'first'):  # Also where both would be the same.
    with pytest.raises(UserError, match='another run has finished a dataset at'):
      publish(both[1], output, note)
    (pathlib.Path(both[1]) / dataset.MANIFEST).unlink()
  assert contents(output) == {dataset.ITEMS: 'first', dataset.MANIFEST: text}


def test_a_link_stays_a_link(tmp_path):
  (tmp_path / 'disk' / 'real').mkdir(parents=True)
  output = tmp_path / 'out'
  output.symlink_to(tmp_path / 'disk' / 'real')
  for note in ('old', 'new'):
    text = publish(stage(output), output, note, overwrite=True)
    assert output.is_symlink()
    assert contents(tmp_path / 'disk' / 'real') == {dataset.MANIFEST: text}
  assert os.listdir(tmp_path / 'disk') == ['real']


def test_without_an_exchange_in_one_step(tmp_path, monkeypatch):
  class NoExchange:
    def __init__(self, *args, **kwargs):
      pass

  monkeypatch.setattr(exchange.ctypes, 'CDLL', NoExchange)
  output = tmp_path / 'out'
  for note in ('old', 'new'):
    text = publish(stage(output), output, note, overwrite=True)
  assert contents(output) == {dataset.MANIFEST: text}
  assert os.listdir(tmp_path) == ['out']


@pytest.mark.parametrize(
  'name', ['notes.txt', 'ratings.dat', 'run-1/epochs.csv', 'ncf-thesis/1.tex']
)
def test_what_came_in_the_meantime_is_never_replaced(tmp_path, name):
  output = tmp_path / 'out'
  old = publish(stage(output, **{dataset.ITEMS: 'old'}), output, 'old')
  (output / name).parent.mkdir(exist_ok=True)
  (output / name).write_text('mine')
  with pytest.raises(UserError, match='is no part of a finished dataset'):
    publish(stage(output, **{dataset.USERS: ''}), output, 'new', overwrite=True)
  assert (output / name).read_text() == 'mine'
  assert (output / dataset.MANIFEST).read_text() == old


@pytest.mark.parametrize('step', ['_exchange', 'remove', 'discard_half_written'])
@pytest.mark.parametrize('when', ['before', 'after'])
@pytest.mark.parametrize('note', ['old', 'new'])
def test_a_worker_follows_one_that_was_lost(tmp_path, monkeypatch, step, when, note):
  """At no moment does it take the old shards for the new ones, nor lose either."""
  output = tmp_path / 'out'
  shard = dataset.shard_name(dataset.TRAIN, 0, 1)
  publish(stage(output, **{shard: 'old'}), output, 'old')
  directory = stage(output, **{shard: 'new'})
  module = exchange if step == '_exchange' else staging
  original = getattr(module, step)

  def lost(*args):
    if when == 'after':
      original(*args)
    raise RuntimeError('the worker is lost')

  names = {shard}
  arguments = (directory, str(output), names, manifest(names, note), True)
  with monkeypatch.context() as patch:
    patch.setattr(module, step, lost)
    with pytest.raises(RuntimeError, match='is lost'):
      exchange.publish(*arguments)
  # A worker that follows begins by what all workers do before they publish.
  staging.write(directory, 'features.json', b'')
  exchange.publish(*arguments)
  assert contents(output) == {shard: 'new', dataset.MANIFEST: manifest(names, note)}
  assert os.listdir(tmp_path) == ['out']


def test_a_dataset_of_which_files_are_lost_is_not_published(tmp_path):
  output = tmp_path / 'out'
  old = publish(stage(output, **{dataset.ITEMS: 'old'}), output, 'old')
  directory = stage(output, **{dataset.ITEMS: 'new'})
  names = {dataset.ITEMS, dataset.USERS}
  with pytest.raises(UserError, match='has lost files'):
    exchange.publish(directory, str(output), names, manifest(names, 'new'), True)
  assert contents(output) == {dataset.ITEMS: 'old', dataset.MANIFEST: old}
