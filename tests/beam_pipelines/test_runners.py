import time

import apache_beam as beam
import prepared
import pytest
from apache_beam.runners.portability.fn_api_runner import worker_handlers
from apache_beam.runners.worker import data_plane
from apache_beam.testing import util

from beam_pipelines import runners


def test_threads_of_the_direct_runner_flush_their_own_streams_only():
  runners.options(
    ['--direct_num_workers=2', '--direct_running_mode=multi_threading'], 0
  )
  stream = data_plane.ClosableOutputStream.create(
    None, None, worker_handlers.DATA_BUFFER_TIME_LIMIT_MS
  )
  assert not isinstance(stream, data_plane.TimeBasedBufferingClosableOutputStream)


def _some(number):
  for part in range(40):
    time.sleep(0.001)
    yield number, bytes(100_000 + part)


def _size(element):
  return element[0], sum(len(part) for part in element[1])


@pytest.mark.slow
def test_nothing_is_lost_between_threads(monkeypatch):
  # A copy that takes a while is where a flush by another thread would lose rows.
  original = data_plane._GrpcDataChannel._enqueue_to_send

  def slowly(self, element):
    time.sleep(0.05)
    original(self, element)

  monkeypatch.setattr(data_plane._GrpcDataChannel, '_enqueue_to_send', slowly)
  options = runners.options(
    ['--direct_num_workers=2', '--direct_running_mode=multi_threading'], 0
  )
  expected = sum(len(part) for _, part in _some(0))
  with beam.Pipeline(options=options) as root:
    sizes = (
      root
      | beam.Create(range(60))
      | beam.Reshuffle()
      | beam.FlatMap(_some)
      | beam.GroupByKey()
      | beam.Map(_size)
    )
    util.assert_that(sizes, util.equal_to([(n, expected) for n in range(60)]))


@pytest.mark.slow
@pytest.mark.parametrize('binary', ['none', 'no program', 'a folder'])
def test_an_engine_that_cannot_be_started_is_one_line(tmp_path, sample_log, binary):
  path = tmp_path / 'prism'
  if binary == 'no program':
    path.write_text('text')
  elif binary == 'a folder':
    path.mkdir()
  line = prepared.refused(
    f'--input={sample_log}',
    f'--output={tmp_path / "out"}',
    *('--runner=PrismRunner', f'--prism_location={path}'),
  )
  assert line.startswith('error: --runner=PrismRunner cannot be started: ')
  assert line.endswith('Run `make prism`, and pass --prism_location=.venv/bin/prism.')
  assert not list(tmp_path.glob('out*'))


def test_an_engine_without_its_options_is_one_line(tmp_path, sample_log):
  line = prepared.refused(
    f'--input={sample_log}', f'--output={tmp_path / "out"}', '--runner=DataflowRunner'
  )
  assert line.startswith('error: --runner=DataflowRunner: ')
  for name in ('project', 'region', 'temp_location', 'staging_location'):
    assert f'option: {name}.' in line


def test_other_errors_are_none_of_an_engines_start():
  options = runners.options([], 0)
  assert runners.start_error(options, ValueError('prism')) is None
  assert not runners.interrupted(ValueError('no KeyboardInterrupt'))
