"""Whatever happens to the workers of a cluster, the output is the same.

`make faults` kills at many more moments than the suite does.
"""

import os
import random
import subprocess
import sys
import time

import engines
import prepared
import pytest
import worker_faults

pytestmark = [pytest.mark.slow, pytest.mark.engine]

distributed = pytest.importorskip('distributed', reason='no Dask: extra `dask`')

_MOMENTS = int(os.environ.get('FAULTS', '2'))
_SECONDS = 120


@pytest.fixture(scope='module')
def cluster(tmp_path_factory):
  with engines.dask(tmp_path_factory.mktemp('dask')) as running:
    yield running


@pytest.fixture
def client(cluster):
  with distributed.Client(cluster.address) as connected:
    yield connected
    connected.run(worker_faults.mend)


@pytest.fixture
def start(tmp_path, sample_log, cluster):
  def started() -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, '-m', 'beam_pipelines.prepare', f'--input={sample_log}',
         f'--output={tmp_path / "out"}', '--overwrite', '--dask_npartitions=4',
         *cluster.flags],
        cwd=prepared.ROOT, stdout=subprocess.DEVNULL,
    )  # fmt: skip

  return started


@pytest.fixture
def check(tmp_path, sample_dataset):
  expected = prepared.digests(sample_dataset.directory)

  def checked():
    assert prepared.digests(tmp_path / 'out') == expected
    assert os.listdir(tmp_path) == ['out']

  return checked


def test_bundles_that_fail_are_tried_again(client, start, check):
  client.run(worker_faults.fail_once)
  assert start().wait(_SECONDS) == 0
  check()


def test_a_publisher_lost_just_after_it_published(client, start, check):
  client.run(worker_faults.publish_twice)
  assert start().wait(_SECONDS) == 0
  check()


def test_a_slow_duplicate_that_writes_late(client, start, check, tmp_path):
  late = tmp_path.with_name(f'{tmp_path.name}-late')
  client.run(worker_faults.write_late, str(tmp_path / 'out'), str(late))
  assert start().wait(_SECONDS) == 0
  while not late.exists():
    time.sleep(0.01)
  client.run(worker_faults.mend)
  # What it wrote is outside the dataset, and the next run sweeps it.
  assert start().wait(_SECONDS) == 0
  check()


def test_two_jobs_at_once_write_one_output(client, start, check):
  jobs = [start(), start()]
  assert [job.wait(_SECONDS) for job in jobs] == [0, 0]
  check()


def test_workers_killed_at_any_moment(client, cluster, start, check):
  generator = random.Random(11)
  hits = 0
  for _ in range(_MOMENTS):
    moment = generator.random()
    job = start()
    while job.poll() is None:
      if client.run_on_scheduler(worker_faults.progress) > moment:
        break
    cluster.kill_worker(generator.choice(sorted(cluster.workers)))
    hits += job.poll() is None
    cluster.start_worker()
    assert job.wait(_SECONDS) == 0
    check()
    client.wait_for_workers(len(cluster.workers), timeout=_SECONDS)
  print(f'{hits} of {_MOMENTS} workers were killed in mid-run')
  assert hits
