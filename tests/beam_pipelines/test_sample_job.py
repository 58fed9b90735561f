import os
import pathlib

import commands
import prepared
import pytest

from beam_pipelines import sample, sample_job
from ncf_tfdata.errors import UserError


def _blocks(spec):
  return [sample.block(spec, index) for index in range(sample.num_blocks(spec))]


def test_the_files_in_order_are_the_sample(tmp_path, monkeypatch):
  monkeypatch.setattr(sample_job, '_BLOCKS_PER_FILE', 1)
  spec = sample.Spec(ratings=200_000, seed=3)
  sample_job.run(spec, str(tmp_path / 'log'))
  files = sorted((tmp_path / 'log').iterdir())
  assert [file.name for file in files] == [
    f'ratings-{index:05d}-of-{len(files):05d}.dat' for index in range(len(files))
  ]
  assert [file.read_bytes() for file in files] == _blocks(spec)
  assert [path.name for path in tmp_path.iterdir()] == ['log']


def test_a_failed_job_leaves_nothing(tmp_path, monkeypatch):
  def fail(spec, index):
    raise OSError('disk full')

  monkeypatch.setattr(sample, 'block', fail)
  with pytest.raises(Exception, match='disk full'):
    sample_job.run(sample.Spec(ratings=1_000), str(tmp_path / 'log'))
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('kind', ['file', 'folder', 'link'])
def test_what_is_there_is_not_replaced(tmp_path, kind):
  log = tmp_path / 'log'
  make = {'file': log.touch, 'folder': log.mkdir, 'link': lambda: log.symlink_to('x')}
  make[kind]()
  with pytest.raises(UserError, match='exists'):
    sample_job.run(sample.Spec(ratings=1_000), str(log))
  assert os.listdir(tmp_path) == ['log']


def test_what_came_in_the_meantime_is_not_replaced(tmp_path, monkeypatch):
  log, block = tmp_path / 'log', sample.block

  def slowly(spec, index):
    log.mkdir(exist_ok=True)
    (log / 'thesis.tex').write_text('mine')
    return block(spec, index)

  monkeypatch.setattr(sample, 'block', slowly)
  with pytest.raises(UserError, match='cannot put the sample at'):
    sample_job.run(sample.Spec(ratings=1_000), str(log))
  assert os.listdir(log) == ['thesis.tex']
  assert os.listdir(tmp_path) == ['log']


@pytest.mark.parametrize('output', ['', '/', 'file://'])
def test_an_empty_output_is_refused_before_the_work(output):
  done = commands.run('beam_pipelines.sample_job', f'--output={output}')
  assert f'--output={output} is' in prepared.error_line(done)


def test_blocks_are_written_in_order_whatever_ends_first(tmp_path, monkeypatch):
  spec = sample.Spec(ratings=1_000_000)
  expected = b''.join(_blocks(spec))
  path = pathlib.Path(tmp_path / 'ratings.dat')
  sample.write(str(path), spec)
  assert path.read_bytes() == expected
