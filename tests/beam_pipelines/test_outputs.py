"""Whatever is given for --output, nothing of the user's is lost."""

import os
import pathlib
import shutil

import commands
import prepared
import pytest

from beam_pipelines import outputs
from ncf_tfdata import dataset as dataset_lib
from ncf_tfdata.errors import UserError
from ncf_tfdata.manifest import File, Manifest

pytestmark = pytest.mark.slow


@pytest.fixture
def home(tmp_path, monkeypatch) -> pathlib.Path:
  """The directory one is in, which is one's home too."""
  monkeypatch.chdir(tmp_path)
  monkeypatch.setenv('HOME', str(tmp_path))
  return tmp_path


def tree(directory: pathlib.Path) -> dict[str, str | bytes]:
  """All below a directory: content of files, targets of links."""
  return {
    str(path.relative_to(directory)): os.readlink(path)
    if path.is_symlink()
    else path.read_bytes()
    if path.is_file()
    else 'folder'
    for path in directory.rglob('*')
  }


def typed(directory: pathlib.Path, *arguments: object):
  """`prepare` as typed in a directory."""
  return commands.run('beam_pipelines.prepare', *arguments, directory=directory)


@pytest.fixture
def log(tmp_path_factory) -> pathlib.Path:
  path = tmp_path_factory.mktemp('log') / 'ratings.dat'
  return prepared.write_log(path, prepared.LOG)


@pytest.mark.parametrize(
  ('given', 'expected'),
  [
    ('out', '{home}/out'),
    ('./a//b/../out///', '{home}/a/out'),
    ('~/out', '{home}/out'),
    ('file://out', '{home}/out'),
    ('file://{home}/out/', '{home}/out'),
    ('link', '{home}/real/deep'),
    ('link/out', '{home}/real/deep/out'),
    ('out[1]', '{home}/out[1]'),
    (' out', '{home}/ out'),
    ('gs://bucket/out//', 'gs://bucket/out'),
    ('s3://bucket/a/b', 's3://bucket/a/b'),
  ],
)
def test_an_output_is_one_path(home, given, expected):
  (home / 'real' / 'deep').mkdir(parents=True)
  (home / 'link').symlink_to('real/deep')
  assert outputs.resolve(given.format(home=home)) == expected.format(home=home)


@pytest.mark.parametrize(
  ('given', 'message'),
  [
    ('', 'is empty'),
    (' ', 'is empty'),
    ('file://', 'is empty'),
    ('/', 'is the root'),
    ('//', 'is the root'),
    ('///..', 'is the root'),
    ('file:///', 'is the root'),
    ('~nobody-of-this-name/out', 'no such user'),
    ('gs:/bucket/out', 'expected SCHEME://'),
    ('gs:', 'expected SCHEME://'),
    ('gs://', 'is a bucket'),
    ('gs://bucket', 'is a bucket'),
    ('gs://bucket//', 'is a bucket'),
    ('gs:///out', 'is a bucket'),
    ('gs://bucket/*', 'without'),
    ('gs://bucket/a/../b', 'without'),
    ('out\nnext', 'unprintable'),
    ('out\udcff', 'unprintable'),
  ],
)
def test_what_is_no_path_is_refused_in_a_line(home, given, message):
  with pytest.raises(UserError, match=message) as caught:
    outputs.resolve(given, 'cache_dir')
  assert '\n' not in str(caught.value)
  assert '--cache_dir=' in str(caught.value)


@pytest.mark.parametrize(
  'given', ['', '/', 'file://', ' ', '.', '..', '../v/', './x/..']
)
@pytest.mark.parametrize('overwrite', [False, True])
def test_the_directory_one_is_in_is_never_replaced(tmp_path, log, given, overwrite):
  here = tmp_path / 'v'
  here.mkdir()
  (here / 'thesis.tex').write_text('mine')
  before = tree(tmp_path)
  done = typed(
    here,
    f'--input={log}',
    f'--output={given}',
    *(['--overwrite'] if overwrite else []),
    *prepared.TOY,
  )
  prepared.error_line(done)
  assert tree(tmp_path) == before


def test_nor_is_it_where_it_is_empty_or_a_dataset(tmp_path, log, sample_dataset):
  (tmp_path / 'empty').mkdir()
  shutil.copytree(str(sample_dataset.directory), tmp_path / 'dataset')
  before = tree(tmp_path)
  for name in ('empty', 'dataset'):
    done = typed(tmp_path / name, f'--input={log}', '--output=.', '--overwrite')
    assert 'is the directory you are in' in prepared.error_line(done)
  assert tree(tmp_path) == before


@pytest.mark.parametrize('name', ['ncf-thesis/1.tex', 'users.tsv', 'ncf-train', 'a.b'])
@pytest.mark.parametrize('finished', [False, True])
def test_what_is_the_users_own_is_never_replaced(
  tmp_path, log, sample_dataset, name, finished
):
  output = tmp_path / 'out'
  if finished:
    if name == 'users.tsv':
      pytest.skip('a dataset has one')
    shutil.copytree(str(sample_dataset.directory), output)
  (output / name).parent.mkdir(parents=True, exist_ok=True)
  (output / name).write_text('mine')
  before = tree(tmp_path)
  flags = (f'--input={log}', f'--output={output}', *prepared.TOY)
  for more in ((), ('--overwrite',)):
    line = prepared.refused(*flags, *more)
    assert f'holds {name.split("/")[0]}, which is no part of a finished' in line
  assert tree(tmp_path) == before


def test_a_manifest_of_another_kind_proves_nothing(tmp_path):
  names = (dataset_lib.USERS, 'thesis.tex')
  (tmp_path / dataset_lib.USERS).write_text('mine')
  ours = Manifest({}, (), {}, {}, tuple(File(name, 0, '') for name in names)).to_json()
  for text in ('', '{}', '[]', '{"files": [{"name": "users.tsv"}]}', ours[:-5]):
    (tmp_path / dataset_lib.MANIFEST).write_text(text)
    with pytest.raises(UserError, match='is damaged, or none of a dataset'):
      outputs.owned(str(tmp_path))
  (tmp_path / dataset_lib.MANIFEST).write_text(ours)
  assert outputs.owned(str(tmp_path)) == {dataset_lib.USERS, dataset_lib.MANIFEST}
  # A name that no dataset has is not proven by any manifest.
  (tmp_path / 'thesis.tex').write_text('mine')
  with pytest.raises(UserError, match=r'holds thesis\.tex'):
    outputs.owned(str(tmp_path))


@pytest.mark.parametrize('kind', ['link', 'folder', 'pipe'])
def test_what_is_no_plain_file_is_not_ours(tmp_path, sample_dataset, kind):
  output = tmp_path / 'out'
  for name in (dataset_lib.USERS, dataset_lib.MANIFEST):
    shutil.copytree(str(sample_dataset.directory), output)
    path = output / name
    path.rename(tmp_path / name)
    if kind == 'link':
      path.symlink_to(tmp_path / name)
    elif kind == 'folder':
      path.mkdir()
    else:
      os.mkfifo(path)
    with pytest.raises(UserError, match='would be lost'):
      outputs.owned(str(output))
    shutil.rmtree(output)


def test_deleting_takes_plain_files_only(tmp_path):
  (tmp_path / 'file').touch()
  (tmp_path / 'folder').mkdir()
  (tmp_path / 'folder' / 'file').touch()
  (tmp_path / 'link').symlink_to('folder')
  outputs.delete(str(tmp_path), ['file', 'folder', 'link', 'gone'])
  assert sorted(tree(tmp_path)) == ['folder', 'folder/file', 'link']


@pytest.mark.parametrize('by', ['name', 'link', 'glob', 'hidden'])
def test_the_input_is_never_lost(tmp_path, sample_dataset, by):
  output = tmp_path / 'out'
  shutil.copytree(str(sample_dataset.directory), output)
  (tmp_path / 'link.tsv').symlink_to(output / 'users.tsv')
  (tmp_path / 'folder').symlink_to(output)
  before = tree(tmp_path)
  source = {
    'name': output / 'users.tsv',
    'link': tmp_path / 'link.tsv',
    'glob': tmp_path / 'folder' / 'users.t*',
    'hidden': tmp_path / 'out' / '..' / 'folder',
  }[by]
  flags = (f'--input={source}', f'--output={output}', '--overwrite')
  assert 'the input' in (line := prepared.refused(*flags))
  assert 'lies in --output=' in line
  assert tree(tmp_path) == before


def test_an_input_beside_or_above_the_output_is_none_in_it(home):
  for path in ('out.dat', 'out/../log', 'log/part-0', 'gs://bucket/out/x'):
    assert not outputs.holds_path(str(home / 'out'), path)
  assert outputs.holds_path(str(home / 'out'), 'out/log')
  assert outputs.holds_path('gs://b/out', 'gs://b/out/log')
  assert not outputs.holds_path('gs://b/out', 'gs://b/out.log')


def test_a_dataset_lands_where_a_link_or_the_home_leads(home, log):
  (home / 'disk').mkdir()
  (home / 'data').symlink_to('disk')
  for given, path in (('data/', 'disk'), ('~/mine', 'mine'), ('x/../y/', 'y')):
    done = typed(home, f'--input={log}', f'--output={given}', *prepared.TOY)
    assert done.returncode == 0, done.stderr
    dataset_lib.Dataset(str(home / path)).verify()
    assert f'--data_dir={path}\n' in done.stdout
  assert (home / 'data').is_symlink()
  assert sorted(os.listdir(home)) == ['data', 'disk', 'mine', 'y']


def test_an_empty_input_is_no_folder(tmp_path):
  line = prepared.refused('--input=', f'--output={tmp_path / "out"}')
  assert '--input= is empty' in line


def test_a_mount_point_is_refused_before_the_work(tmp_path, monkeypatch):
  outputs.refuse_unreplaceable(str(tmp_path), overwrite=False)
  monkeypatch.setattr(os.path, 'ismount', str(tmp_path).__eq__)
  with pytest.raises(UserError, match='is a mount point'):
    outputs.refuse_unreplaceable(str(tmp_path), overwrite=False)
