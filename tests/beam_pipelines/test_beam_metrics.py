"""What Beam's metrics count of a preparation, from a log counted by hand."""

import dataclasses
import types

import apache_beam as beam
import engines
import prepared
import pytest
import toy_job
from apache_beam.metrics import monitoring_infos
from apache_beam.portability.api import beam_job_api_pb2
from apache_beam.runners import runner
from apache_beam.runners.portability import portable_runner

from beam_pipelines import (
  beam_metrics,
  counter_rng,
  files,
  prepare_pipeline,
  runners,
)
from ncf_tfdata import dataset as dataset_lib

_FLAGS = (
  '--min_item_count=2',
  '--min_rating=2',
  '--min_user_count=2',
  '--max_user_history=4',
  '--max_reject_fraction=.5',
  '--eval_negatives=1',
  '--train_negatives=4',
  '--num_shards=2',
)
# Items of each user in order; `c` of user 5 is rated 1, and z is rated once.
_LOG = {'1': 'abcde', '2': 'abca', '3': 'dez', '4': 'a', '5': 'bc'}
_TRAIN = {'1': 'bc', '2': 'a', '3': 'de'}  # user 3 has too few rows to be split
_COUNTS = {
  'read': 17,
  'rejected': 2,
  'filtered_items': 1,  # z
  'filtered_ratings': 1,  # c of 5
  'duplicates': 1,  # the second a of 2
  'filtered_users': 2,  # what is left of 4 and 5
  'dropped_history': 1,  # the first of 1
  'kept': 9,
  'users': 3,
}
_LENGTHS = beam_metrics.Distribution(count=3, sum=4 + 3 + 2, min=2, max=4)


@pytest.fixture(scope='module')
def log(tmp_path_factory):
  path = tmp_path_factory.mktemp('log') / 'log'
  rows = [
    (user, item, 1 if (user, item) == ('5', 'c') else 5, time)
    for user, items in _LOG.items()
    for time, item in enumerate(items)
  ]
  prepared.write_log(path, rows)
  path.write_text(path.read_text() + 'no rating\n1::a\n')
  return path


def _run(log, output, *beam_flags) -> runner.PipelineResult:
  """Prepares a log by `_FLAGS` in this process; returns what the runner says."""
  job = toy_job.make(log, output, min_item_count=2, min_rating=2)
  rules = dataclasses.replace(job.rules, min_user_count=2, max_user_history=4)
  job = dataclasses.replace(job, rules=rules)
  options = runners.options(list(beam_flags), files.text_bytes(list(job.files)))
  with beam.Pipeline(options=options) as root:
    prepare_pipeline.build(root, job)
  return root.result


def _redrawn(dataset: dataset_lib.Dataset) -> int:
  """Draws of train negatives that named an item of the user, one by one."""
  users = dataset.vocabulary(dataset_lib.USERS).keys
  items = dataset.vocabulary(dataset_lib.ITEMS).keys
  assert sorted(items) == list('abcde')
  refused = 0
  for user, taken in _TRAIN.items():
    for draw in range(4 * len(taken)):
      tries = 0
      while items[counter_rng.below(5, 0, 1, users.index(user), draw, tries)] in taken:
        tries += 1
      refused += tries
  return refused


@pytest.mark.parametrize('threads', [1, 2])
def test_counts_are_those_of_the_log(tmp_path, log, threads):
  mode = 'multi_threading' if threads > 1 else 'in_memory'
  flags = (f'--direct_num_workers={threads}', f'--direct_running_mode={mode}')
  found = beam_metrics.read(_run(log, tmp_path / 'out', *flags))
  assert found is not None
  assert {name: found.counters[name] for name in _COUNTS} == _COUNTS
  assert found.distributions == {beam_metrics.HISTORY_LENGTH: _LENGTHS}
  assert not found.attempted
  redrawn = _redrawn(dataset_lib.Dataset(str(tmp_path / 'out')))
  assert redrawn > 0
  assert found.counters[beam_metrics.NEGATIVES_REDRAWN] == redrawn


def test_the_summary_has_a_line_of_them(tmp_path, log):
  output = tmp_path / 'out'
  done = prepared.run(f'--input={log}', f'--output={output}', *_FLAGS)
  assert done.returncode == 0, done.stderr
  redrawn = _redrawn(dataset_lib.Dataset(str(output)))
  assert (
    f'Counted by Beam: 17 read, 2 rejected, 6 filtered, {redrawn} negatives redrawn, '
    '3 histories of 2 to 4 (mean 3.0)\n'
  ) in done.stdout


@pytest.mark.engine
def test_prism_counts_the_same(tmp_path, log):
  lines = []
  for name, flags in (('direct', ()), ('prism', engines.prism())):
    done = prepared.run(
      f'--input={log}', f'--output={tmp_path / name}', *_FLAGS, *flags
    )
    assert done.returncode == 0, done.stderr
    (line,) = [text for text in done.stdout.split('\n') if 'Counted by Beam' in text]
    lines.append(line.partition(': ')[2])
  assert lines[0] == lines[1]
  assert prepared.digests(tmp_path / 'prism') == prepared.digests(tmp_path / 'direct')


def test_a_dataset_does_not_depend_on_them(tmp_path, log, monkeypatch):
  _run(log, tmp_path / 'with')
  monkeypatch.setattr(beam_metrics, 'count', lambda **counts: None)
  monkeypatch.setattr(beam_metrics, 'distribute', lambda name, values: None)
  result = _run(log, tmp_path / 'without')
  assert beam_metrics.describe(beam_metrics.read(result)) == ''
  assert prepared.digests(tmp_path / 'without') == prepared.digests(tmp_path / 'with')
  manifest = dataset_lib.Dataset(str(tmp_path / 'with')).manifest
  assert {name: manifest.counts[name] for name in _COUNTS} == _COUNTS
  assert beam_metrics.NEGATIVES_REDRAWN not in manifest.counts


def _reported(**of: list) -> types.SimpleNamespace:
  """A job as a job service reports it: `attempted` and `committed` metrics."""
  response = beam_job_api_pb2.GetJobMetricsResponse()
  for kind, infos in of.items():
    getattr(response.metrics, kind).extend(infos)
  found = portable_runner.PortableMetrics(response)
  return types.SimpleNamespace(metrics=lambda: found)


def _counter(
  name: str, value: int, step: str = 'step', namespace=beam_metrics.NAMESPACE
):
  return monitoring_infos.int64_user_counter(namespace, name, value, ptransform=step)


def _lengths(*values: int, step: str = 'step'):
  data = beam.metrics.cells.DistributionData(
    sum(values), len(values), min(values, default=0), max(values, default=0)
  )
  return monitoring_infos.int64_user_distribution(
    beam_metrics.NAMESPACE, beam_metrics.HISTORY_LENGTH, data, ptransform=step
  )


def test_attempted_metrics_stand_in_for_committed_ones():
  infos = [_counter('read', 20), _counter('rejected', 1), _lengths(4, 4, 2)]
  found = beam_metrics.read(_reported(attempted=infos))
  assert found is not None
  assert found.attempted
  assert found.counters == {'read': 20, 'rejected': 1}
  lengths = beam_metrics.Distribution(count=3, sum=10, min=2, max=4)
  assert found.distributions == {beam_metrics.HISTORY_LENGTH: lengths}
  assert beam_metrics.describe(found) == (
    'Counted by Beam, attempts that failed included: 20 read, 1 rejected, '
    '3 histories of 2 to 4 (mean 3.3)'
  )


def test_committed_metrics_are_preferred_and_nought_is_one():
  found = beam_metrics.read(
    _reported(
      attempted=[_counter('read', 40), _counter('rejected', 2), _lengths(9, 9)],
      committed=[_counter('read', 20), _counter('rejected', 0), _lengths(9)],
    )
  )
  assert found is not None
  assert found.counters == {'read': 20, 'rejected': 0}
  assert found.distributions[beam_metrics.HISTORY_LENGTH].count == 1
  assert not found.attempted


def test_steps_are_added_up_and_other_namespaces_left_alone():
  found = beam_metrics.read(
    _reported(
      committed=[
        *(_counter('read', 10 + n, step=f'step {n}') for n in range(3)),
        _counter('read', 1000, namespace='elsewhere'),
        _lengths(5, 7, step='one'),
        _lengths(2, step='two'),
        _lengths(step='none'),
      ]
    )
  )
  assert found is not None
  assert found.counters == {'read': 33}
  lengths = beam_metrics.Distribution(count=3, sum=14, min=2, max=7)
  assert found.distributions == {beam_metrics.HISTORY_LENGTH: lengths}


def test_a_runner_without_metrics_says_nothing():
  assert beam_metrics.read(runner.PipelineResult('DONE')) is None
  assert beam_metrics.read(_reported()) is None
  assert beam_metrics.describe(None) == ''


def test_dask_has_no_metrics():
  dask_runner = pytest.importorskip('apache_beam.runners.dask.dask_runner')
  assert (
    beam_metrics.read(dask_runner.DaskRunnerResult(client=None, futures=())) is None
  )
