"""Files appear whole or not at all, and only what dead runs left is swept."""

import os
import pathlib
import threading

import commands
import pytest

from beam_pipelines import staging
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
  pieces = [f'users-00000{number}.tsv' for number in (1, 2, 0)]
  for name in pieces:
    staging.write_piece(directory, name, name[-5:-4].encode())
  joined = staging.join_pieces(directory, 'users.tsv', pieces)
  assert (joined.name, joined.bytes) == ('users.tsv', 3)
  assert contents(pathlib.Path(directory)) == {'users.tsv': '120'}
  staging.discard_directory(directory)
  assert os.listdir(tmp_path) == []


def test_no_pieces_are_an_empty_file(tmp_path):
  assert staging.join_pieces(str(tmp_path), 'rejects.tsv', []).bytes == 0
  assert contents(tmp_path) == {'rejects.tsv': ''}


@pytest.fixture
def dead(tmp_path) -> pathlib.Path:
  """What a killed run left beside the output out[1]: a shard and a piece."""
  program = """
import sys
from beam_pipelines import spill, staging
path = staging.staging_directory(sys.argv[1])
staging.write(path, 'ncf-train.tfrecord-00000-of-00001', b'')
staging.write(path, 'users.tsv', b'')
staging.write_piece(path, 'users-000000.tsv', b'')
scratch = staging.scratch_directory(path)
staging.create_directory(scratch)
spill.Store(scratch).put('rows')
print(path)
"""
  child = commands.run_code(program, tmp_path / 'out[1]')
  assert child.returncode == 0, child.stderr
  path = pathlib.Path(child.stdout.strip())
  assert len(list(path.iterdir())) == 2
  return path


def test_sweep_takes_only_what_dead_runs_left(tmp_path, dead):
  output = tmp_path / 'out[1]'
  alive = pathlib.Path(stage(output, name='text'))
  elsewhere = tmp_path / 'out[1].incomplete-otherhost-1-abcdef01'
  other_output = tmp_path / dead.name.replace('out[1]', 'out1')
  no_run = dead.with_name(f'{dead.name}-thesis')
  for path in (elsewhere, other_output, no_run):
    path.mkdir()
    (path / 'users.tsv').touch()
  staging.sweep(str(output), ())
  assert not dead.exists()
  assert not dead.with_name(f'{dead.name}-pieces').exists()
  assert not dead.with_name(f'{dead.name}-scratch').exists()
  for path in (alive, elsewhere, other_output, no_run):
    assert list(path.iterdir())


@pytest.mark.parametrize('name', ['thesis.tex', 'ncf-thesis/1.tex', 'users.tsv.bak'])
def test_sweep_leaves_what_no_run_writes(tmp_path, dead, name):
  (dead / name).parent.mkdir(exist_ok=True)
  (dead / name).write_text('mine')
  staging.sweep(str(tmp_path / 'out[1]'), ())
  assert (dead / name).read_text() == 'mine'
  assert not (dead / 'users.tsv').exists()


def test_sweep_follows_no_links(tmp_path, dead):
  elsewhere = tmp_path / 'elsewhere'
  dead.rename(elsewhere)
  dead.symlink_to(elsewhere)
  staging.sweep(str(tmp_path / 'out[1]'), ())
  assert (elsewhere / 'users.tsv').exists()


def test_sweep_leaves_what_is_read(tmp_path, dead):
  link = tmp_path / 'link.tsv'
  link.symlink_to(dead / 'users.tsv')
  staging.sweep(str(tmp_path / 'out[1]'), [str(link)])
  assert (dead / 'users.tsv').exists()


def test_removing_takes_no_other_directory_by_a_pattern(tmp_path):
  directory = stage(tmp_path / 'out[1]', **{'users.tsv': ''})
  twin = pathlib.Path(directory.replace('out[1]', 'out1'))
  twin.mkdir()
  (twin / 'users.tsv').write_text('mine')
  staging.keep_only(directory, ())
  staging.discard_directory(directory)
  assert not os.path.exists(directory)
  assert (twin / 'users.tsv').read_text() == 'mine'


def test_no_right_to_write_is_told_at_once(tmp_path):
  (tmp_path / 'file').touch()
  with pytest.raises(UserError, match=r'cannot write .*Choose another --output'):
    staging.create_directory(staging.staging_directory(str(tmp_path / 'file' / 'out')))
  with pytest.raises(UserError, match=r'cannot write .*Free some room'):
    staging.write(str(tmp_path / 'file' / 'out'), 'name', b'')
