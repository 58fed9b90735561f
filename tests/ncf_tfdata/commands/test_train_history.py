"""The history model through the command line: successors, users kept out, report."""

import subprocess

import commands
import numpy as np
import prepared
import pytest
import trained

from ncf_tfdata import run as run_lib

_FLAGS = (*trained.HISTORY, '--dropout=0.2', '--learning_rate=0.01', '--epochs=6')


@pytest.fixture(scope='module')
def dataset(sample_log, tmp_path_factory):
  """The sample with four of ten users kept out of train, and successors."""
  return prepared.prepare(
    sample_log,
    tmp_path_factory.mktemp('apart') / 'data',
    '--held_out_users=0.4',
    '--successors=100',
  )


@pytest.fixture(scope='module')
def run_dir(dataset, tmp_path_factory):
  directory = tmp_path_factory.mktemp('history') / 'run'
  return trained.train(dataset.directory, directory, *_FLAGS, '--successor_logits=1')


def _evaluate(*flags: object) -> subprocess.CompletedProcess:
  return commands.run('ncf_tfdata.evaluate', *flags)


def test_users_who_were_not_trained_on_are_answered(run_dir, dataset):
  result = trained.metrics(run_dir)
  assert result['test']['users'] == dataset.rows('test') < dataset.num_users / 2
  popular = result['baselines']['popularity']['test']
  for ranking in ('sampled', 'full'):
    assert result['test'][ranking]['ndcg@10'] > popular[ranking]['ndcg@10']


def test_successors_are_part_of_the_answer(run_dir, dataset, tmp_path):
  without = trained.train(dataset.directory, tmp_path / 'run', *_FLAGS)
  # The network is the same bit by bit; its answers are not.
  assert [row['loss'] for row in trained.numbers(without)] == [
    row['loss'] for row in trained.numbers(run_dir)
  ]
  assert trained.metrics(without)['test'] != trained.metrics(run_dir)['test']


def test_the_report_shows_what_the_encoder_looks_at(run_dir, dataset):
  weights = run_lib.Run(run_dir).lags()
  assert weights.shape == (2, 10)
  assert np.abs(weights[:, 0]).min() > np.abs(weights[:, -1]).max()
  done = _evaluate(f'--run_dir={run_dir}', '--baselines=ease,successors')
  assert done.returncode == 0, done.stderr
  assert 'No row of theirs was trained on.' in (run_dir / 'report.html').read_text()
  assert (run_dir / 'plots' / 'lags.png').stat().st_size > 10_000


def test_what_knows_users_by_id_alone_is_refused(dataset, tmp_path):
  assert '--model=history' in trained.refused(dataset.directory, tmp_path / 'run')
  done = _evaluate(f'--data_dir={dataset.directory}', '--baselines=als')
  assert done.returncode == 1
  assert 'error: baseline als knows nothing of users' in done.stderr


def test_successor_logits_need_successors(sample_dataset, tmp_path):
  line = trained.refused(
    sample_dataset.directory, tmp_path / 'run', *_FLAGS, '--successor_logits=1'
  )
  assert '--successors=' in line
