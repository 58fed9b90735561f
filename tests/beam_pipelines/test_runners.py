import time

import apache_beam as beam
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
