"""A dataset is there whole or not at all, and nothing else is ever lost."""

import os
import pathlib
import subprocess
import sys
import threading

import pytest

from beam_pipelines import staging
from ncf_tfdata import dataset
from ncf_tfdata.errors import UserError


def stage(output: pathlib.Path, **files: str) -> str:
  directory = staging.staging_directory(str(output))
  staging.create_directory(directory)
  for name, text in files.items():
    staging.write(directory, name, text.encode())
  return directory


def contents(directory: pathlib.Path) -> dict[str, str]:
  return {path.name: path.read_text() for path in directory.iterdir()}


def test_a_file_appears_whole_under_its_name(tmp_path):
  digest = staging.write(str(tmp_path), 'name', b'content')
  assert digest == 'ed7002b439e9ac845f22357d822bac1444730fbdb6016d3ec9432297b9ec9f73'
  assert contents(tmp_path) == {'name': 'content'}


def test_a_slow_duplicate_leaves_the_same_file(tmp_path):
  content = os.urandom(1 << 20)
  writers = [
    threading.Thread(target=staging.write, args=(str(tmp_path), 'shard', content))
    for _ in range(8)
  ]
  for writer in writers:
    writer.start()
  for writer in writers:
    writer.join()
  assert [path.name for path in tmp_path.iterdir()] == ['shard']
  assert (tmp_path / 'shard').read_bytes() == content


def test_pieces_are_joined_in_the_order_given(tmp_path):
  directory = stage(tmp_path / 'out')
  for name in 'bca':
    staging.write_piece(directory, name, name.encode())
  joined = staging.join_pieces(directory, 'users.tsv', list('bca'))
  assert (joined.name, joined.bytes) == ('users.tsv', 3)
  assert contents(pathlib.Path(directory)) == {'users.tsv': 'bca'}
  staging.discard_directory(directory)
  assert os.listdir(tmp_path) == []


def test_no_pieces_are_an_empty_file(tmp_path):
  assert staging.join_pieces(str(tmp_path), 'rejects.tsv', []).bytes == 0
  assert contents(tmp_path) == {'rejects.tsv': ''}


def test_publish(tmp_path):
  output = tmp_path / 'deep' / 'er' / 'out'
  directory = stage(output, **{dataset.ITEMS: 'new'})
  assert not output.exists()
  staging.publish(directory, str(output), '{}')
  assert contents(output) == {dataset.ITEMS: 'new', dataset.MANIFEST: '{}'}
  assert staging.finished(str(output))
  assert os.listdir(output.parent) == ['out']


def test_publish_takes_the_place_of_an_old_dataset(tmp_path):
  output = tmp_path / 'out'
  staging.publish(stage(output, **{dataset.ITEMS: 'old'}), str(output), 'old')
  staging.publish(stage(output, **{dataset.USERS: 'new'}), str(output), 'new')
  assert contents(output) == {dataset.USERS: 'new', dataset.MANIFEST: 'new'}
  assert os.listdir(tmp_path) == ['out']


def test_a_link_stays_a_link(tmp_path):
  (tmp_path / 'disk' / 'real').mkdir(parents=True)
  output = tmp_path / 'out'
  output.symlink_to(tmp_path / 'disk' / 'real')
  for text in ('old', 'new'):
    staging.publish(stage(output), str(output), text)
    assert output.is_symlink()
    assert contents(tmp_path / 'disk' / 'real') == {dataset.MANIFEST: text}
  assert os.listdir(tmp_path / 'disk') == ['real']


def test_without_an_exchange_in_one_step(tmp_path, monkeypatch):
  class NoExchange:
    def __init__(self, *args, **kwargs):
      pass

  monkeypatch.setattr(staging.ctypes, 'CDLL', NoExchange)
  output = tmp_path / 'out'
  for text in ('old', 'new'):
    staging.publish(stage(output), str(output), text)
  assert contents(output) == {dataset.MANIFEST: 'new'}
  assert os.listdir(tmp_path) == ['out']


@pytest.mark.parametrize('name', ['notes.txt', 'ratings.dat', 'run-1/epochs.csv'])
def test_what_is_no_dataset_is_never_replaced(tmp_path, name):
  output = tmp_path / 'out'
  (output / name).parent.mkdir(parents=True)
  (output / name).write_text('mine')
  (output / dataset.MANIFEST).write_text('{}')
  with pytest.raises(
    UserError, match='which is no part of a dataset and would be lost'
  ):
    staging.refuse_foreign(str(output))
  with pytest.raises(UserError, match=name.split('/')[0]):
    staging.publish(stage(output), str(output), 'new')
  assert (output / name).read_text() == 'mine'


def test_a_file_is_never_replaced(tmp_path):
  (tmp_path / 'out').write_text('mine')
  with pytest.raises(UserError, match='is a file'):
    staging.refuse_foreign(str(tmp_path / 'out'))


def test_an_empty_or_unfinished_directory_may_be_replaced(tmp_path):
  output = tmp_path / 'out'
  output.mkdir()
  staging.refuse_foreign(str(output))
  for name in (dataset.shard_name('train', 0, 1), dataset.USERS, dataset.DATASET_INFO):
    (output / name).touch()
  staging.refuse_foreign(str(output))
  staging.publish(stage(output), str(output), 'new')
  assert contents(output) == {dataset.MANIFEST: 'new'}


def test_sweep_takes_only_what_dead_runs_left(tmp_path):
  output = tmp_path / 'out[1]'
  alive = pathlib.Path(stage(output))
  child = subprocess.run(
      [
          sys.executable,
          '-c',
          'import sys; from beam_pipelines import staging\n'
          'path = staging.staging_directory(sys.argv[1])\n'
          'staging.write(path, "shard", b"")\n'
          'staging.write_piece(path, "piece", b"")\n'
          'print(path)',
          str(output),
      ],
      check=True, capture_output=True, text=True, cwd=pathlib.Path(__file__).parents[2],
  )  # fmt: skip
  dead = pathlib.Path(child.stdout.strip())
  assert dead.is_dir()
  elsewhere = tmp_path / 'out[1].incomplete-otherhost-1-abcdef01'
  other_output = tmp_path / dead.name.replace('out[1]', 'out1')
  for path in (elsewhere, other_output):
    path.mkdir()
  staging.sweep(str(output))
  assert not dead.exists()
  assert not dead.with_name(f'{dead.name}-pieces').exists()
  assert alive.exists()
  assert elsewhere.exists()
  assert other_output.exists()
  staging.discard_directory(str(alive))
  assert not alive.exists()


def test_no_right_to_write_is_told_at_once(tmp_path):
  (tmp_path / 'file').touch()
  with pytest.raises(UserError, match=r'cannot write .*Choose another --output'):
    staging.create_directory(staging.staging_directory(str(tmp_path / 'file' / 'out')))
  with pytest.raises(UserError, match=r'cannot write .*Free some room'):
    staging.write(str(tmp_path / 'file' / 'out'), 'name', b'')
