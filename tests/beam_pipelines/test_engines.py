"""Engines other than this process give the same bytes."""

import collections
import os
import re

import engines
import prepared
import pytest

from beam_pipelines import sample, sample_items
from ncf_tfdata import dataset as dataset_lib

pytestmark = pytest.mark.engine


@pytest.fixture(scope='module')
def log(sample_log, tmp_path_factory):
  return engines.cut_log(sample_log, tmp_path_factory.mktemp('cut') / 'log', 4)


@pytest.fixture(scope='module')
def asked(sample_log, tmp_path_factory):
  """Flags: to keep ids of an earlier dataset and times, to forget, for features."""
  directory = tmp_path_factory.mktemp('earlier')
  lines = sample_log.read_text().splitlines(keepends=True)
  (directory / 'ratings.dat').write_text(''.join(lines[: len(lines) // 2]))
  base = prepared.prepare_here(directory / 'ratings.dat', directory / 'base')
  user = base.vocabulary(dataset_lib.USERS).keys[0]
  (directory / 'forget').write_text(f'{user}\n')
  sample_items.write(directory / 'items.dat', sample.Spec(ratings=6000))
  (directory / 'users.csv').write_text(
    'user,club,age\n'
    + ''.join(f'{user},{user % 7},{user % 50}\n' for user in range(1, 100))
  )
  return (
    '--successors=20',
    '--inspect',
    f'--ids_from={base.directory}',
    f'--forget={directory / "forget"}',
    f'--item_features={directory / "items.dat"}',
    f'--user_features={directory / "users.csv"}',
    '--user_feature_columns=club:category,age',
    '--held_out_items=.1',
    '--keep_times',
  )


@pytest.fixture(scope='module')
def expected(log, asked, tmp_path_factory):
  output = tmp_path_factory.mktemp('direct') / 'out'
  prepared.prepare(log, output, '--runner=DirectRunner', *asked)
  return prepared.digests(output)


@pytest.fixture(scope='module')
def cluster(tmp_path_factory):
  with engines.dask(tmp_path_factory.mktemp('dask')) as running:
    yield running


@pytest.mark.slow
def test_prism(tmp_path, log, asked, expected):
  output = tmp_path / 'out'
  prepared.prepare(log, output, *engines.prism(), *asked)
  assert prepared.digests(output) == expected
  assert os.listdir(tmp_path) == ['out']


def test_dask_keeps_every_worker_busy(tmp_path, log, asked, expected, cluster):
  distributed = pytest.importorskip('distributed')
  output = tmp_path / 'out'
  with (
    distributed.Client(cluster.address) as client,
    distributed.get_task_stream(client) as record,
  ):
    prepared.prepare(log, output, *cluster.flags, *asked)
  assert prepared.digests(output) == expected
  assert os.listdir(tmp_path) == ['out']
  # Dask's own record of who ran what: the read, the items and the users.
  steps = ('CountItems', 'SelectItems', 'ReadRows', 'Gather', 'WriteShards')
  ran = collections.Counter(
    task['worker'] for task in record.data if any(s in str(task['key']) for s in steps)
  )
  assert len(ran) == len(cluster.workers)
  assert min(ran.values()) >= sum(ran.values()) / 4


@pytest.fixture(params=['prism', 'dask'])
def flags(request) -> tuple[str, ...]:
  if request.param == 'prism':
    return engines.prism()
  return request.getfixturevalue('cluster').flags


def test_movielens_100k(tmp_path, shared_data, flags):
  log = shared_data / 'ml-100k'
  prepared.prepare(log, tmp_path / 'direct')
  prepared.prepare(log, tmp_path / 'out', *flags)
  assert prepared.digests(tmp_path / 'out') == prepared.digests(tmp_path / 'direct')


def test_any_job_service(tmp_path, request, sample_log):
  """`make test-engine ENDPOINT=host:port` runs it."""
  endpoint = os.environ.get('ENDPOINT')
  if not endpoint:
    pytest.skip('no job service: `make test-engine ENDPOINT=host:port` names one')
  real = prepared.ROOT.parent / 'shared' / 'data' / 'ml-100k'
  log = real if real.is_dir() else sample_log
  engine = ('--runner=PortableRunner', f'--job_endpoint={endpoint}')
  chosen = os.environ.get('ENGINE_FLAGS', '--environment_type=LOOPBACK').split()
  prepared.prepare(log, tmp_path / 'direct')
  prepared.prepare(log, tmp_path / 'out', *engine, *chosen)
  assert prepared.digests(tmp_path / 'out') == prepared.digests(tmp_path / 'direct')


@pytest.mark.slow
@pytest.mark.parametrize('workers', [1, 3])
def test_workers_overrule_the_number_chosen_by_size(
  tmp_path, log, asked, expected, workers
):
  done = prepared.run(
    f'--input={log}', f'--output={tmp_path / "out"}', f'--workers={workers}', *asked
  )
  assert done.returncode == 0, done.stderr
  assert f'Running with FnApiRunner, {workers} × ' in done.stdout
  assert prepared.digests(tmp_path / 'out') == expected


@pytest.mark.parametrize(
  ('flags', 'message'),
  [
    (('--direct_num_workers=2',), 'and --direct_num_workers=2 are given. Pass one'),
    (('--runner=PrismRunner',), 'is for the direct runner, and --runner=PrismRunner'),
  ],
)
def test_workers_that_do_nothing_are_refused(tmp_path, log, flags, message):
  line = prepared.refused(
    f'--input={log}', f'--output={tmp_path / "out"}', '--workers=2', *flags
  )
  assert message in line


def test_the_plan_says_how_wide_the_work_is(tmp_path, log):
  flags = (f'--input={log}', f'--output={tmp_path / "out"}', '--num_shards=5')
  done = prepared.run(*flags)
  plan = re.search(
    r'Work: 4 ranges to read \((.*) of text each\), 8 item groups \((.*)\), '
    r'5 user groups \((.*)\)',
    done.stdout,
  )
  size = sum(path.stat().st_size for path in log.iterdir()) / 1e3
  assert plan is not None, done.stdout
  for given, groups in zip(plan.groups(), (4, 8, 5), strict=True):
    assert given == f'{size / groups:.1f} kB'


@pytest.mark.slow
def test_what_a_user_can_mend_is_the_last_line(tmp_path, flags):
  log = prepared.write_log(tmp_path / 'log', [('a', 'b', 5, i) for i in range(9)])
  done = prepared.run(
    f'--input={log}', f'--output={tmp_path / "out"}', '--min_item_count=10', *flags
  )
  assert done.returncode == 1, done.stdout + done.stderr
  # An engine may keep a log of its own above it.
  last = done.stderr.strip().split('\n')[-1]
  assert last.startswith('error: nothing is left of 9 ratings. Lower --min_item_count')
  assert os.listdir(tmp_path) == ['log']
