"""`python -m ncf_tfdata.evaluate` as a whole process."""

import hashlib
import json
import shutil
import subprocess

import commands
import numpy as np
import pytest
import toy_dataset
import toy_run

from ncf_tfdata import run as run_lib
from ncf_tfdata.data import records
from ncf_tfdata.evaluation import ranking, top_lists
from ncf_tfdata.models import saved
from ncf_tfdata.serving import list_files, recommendation_files


def _evaluate(*flags: object) -> subprocess.CompletedProcess:
  return commands.run('ncf_tfdata.evaluate', *flags)


def _done(*flags: object) -> str:
  process = _evaluate(*flags)
  assert process.returncode == 0, process.stdout + process.stderr
  return process.stdout


def _refused(*flags: object) -> str:
  """The one line of a command that must fail."""
  process = _evaluate(*flags)
  assert process.returncode == 1, process.stdout + process.stderr
  assert 'Traceback' not in process.stderr
  errors = [line for line in process.stderr.splitlines() if line.startswith('error: ')]
  assert len(errors) == 1, process.stderr
  return errors[0]


def _dataset(directory, seed=0):
  items = toy_dataset.tastes(num_users=60, seed=seed)
  return toy_dataset.write(directory, items, num_items=40, seed=seed)


@pytest.fixture(scope='module')
def dataset(tmp_path_factory):
  return _dataset(tmp_path_factory.mktemp('evaluate') / 'data')


@pytest.fixture(scope='module')
def trained(dataset, tmp_path_factory):
  """Two runs, the first of which has been evaluated."""
  directory = tmp_path_factory.mktemp('runs')
  runs = [toy_run.write(directory / f'run{seed}', dataset, seed) for seed in (0, 1)]
  output = _done(
    f'--run_dir={runs[0].directory}', '--baselines=popularity,successors:reverse=0.5'
  )
  return runs, output


def _row(output: str, system: str, k: int) -> list[str]:
  """The cells of the first row of a system at K."""
  rows = (line.split() for line in output.splitlines())
  return next(row for row in rows if row[:2] == [system, str(k)])


def test_the_table_is_what_metrics_json_holds(trained):
  (run, _), output = trained
  metrics = run.metrics()
  for system, summary in (
    ('neumf', metrics['test']),
    ('popularity', metrics['baselines']['popularity']['test']),
    (
      'successors:reverse=0.5',
      metrics['baselines']['successors:reverse=0.5']['test'],
    ),
  ):
    for k in (1, 5, 10, 20):
      _, _, hr, _, ndcg, *_ = _row(output, system, k)
      assert float(hr) == pytest.approx(summary['sampled'][f'hr@{k}'], abs=6e-5)
      assert float(ndcg) == pytest.approx(summary['sampled'][f'ndcg@{k}'], abs=6e-5)
    assert summary['users'] == 60
    assert {'coverage@10', 'gini@10', 'novelty@10'} <= summary['full'].keys()


def test_what_else_metrics_json_says_stays(trained, dataset):
  (run, _), _ = trained
  metrics = run.metrics()
  assert metrics['best_epoch'] == 2
  assert metrics['dataset_sha256'] == dataset.sha256
  assert metrics['checkpoint_sha256'] == run.checkpoint_sha256()
  assert metrics['comparisons']['test'].keys() == {
    'popularity',
    'successors:reverse=0.5',
  }


def test_tables_are_aligned(trained):
  _, output = trained
  lines = [line for line in output.splitlines() if '±' in line]
  assert len({len(line) for line in lines}) == 1


def test_ranks_and_report_are_kept(trained):
  (run, _), output = trained
  assert (run.directory / 'report.html').exists()
  assert str(run.directory / 'report.html') in output
  names = {path.name for path in (run.directory / 'ranks' / 'test').iterdir()}
  assert names == {'model.npz', 'popularity.npz', 'successors,reverse=0.5.npz'}


def test_two_runs_are_compared_without_the_others_model(trained, dataset, tmp_path):
  (first, second), _ = trained
  other = run_lib.Run(shutil.copytree(first.directory, tmp_path / 'other'))
  shutil.rmtree(other.checkpoints)
  output = _done(
    f'--run_dir={second.directory}',
    f'--data_dir={dataset.directory}',
    f'--compare_to={other.directory}',
    '--baselines=',
  )
  found = second.metrics()['comparisons']['test'][str(other.directory)]
  difference = (
    second.metrics()['test']['full']['ndcg@10']
    - first.metrics()['test']['full']['ndcg@10']
  )
  assert found['full']['difference'] == pytest.approx(difference)
  assert 0 < found['full']['p_value'] <= 1
  assert f'neumf - {other.directory}' in output


def test_evaluating_again_writes_the_same(trained):
  (run, _), _ = trained
  names = ('metrics.json', 'ranks/test/model.npz', 'report.html')
  before = {name: (run.directory / name).read_bytes() for name in names}
  _done(f'--run_dir={run.directory}', '--baselines=popularity,successors:reverse=0.5')
  assert {name: (run.directory / name).read_bytes() for name in names} == before


def test_baselines_need_no_run(dataset):
  output = _done(
    f'--data_dir={dataset.directory}',
    '--baselines=popularity,item-knn,ease:l2=10,successors',
    '--split=validation',
    '--ks=3',
    '--nofull_ranking',
  )
  assert 'validation: among 15 sampled negatives' in output
  assert 'catalogue' not in output
  popularity = float(_row(output, 'popularity', 3)[2])
  # Even users like even items, which popularity cannot know.
  assert float(_row(output, 'ease:l2=10', 3)[2]) > popularity


def test_validation_rows_teach_baselines_on_request(dataset):
  flags = (f'--data_dir={dataset.directory}', '--baselines=successors', '--ks=10')
  assert (
    _done(*flags).splitlines()[2:]
    != (_done(*flags, '--fit_on=train+validation').splitlines()[2:])
  )
  line = _refused(*flags, '--fit_on=train+validation', '--split=validation')
  assert '--split=validation' in line


def test_a_dataset_that_the_run_was_not_trained_on(trained, dataset, tmp_path):
  (run, _), _ = trained
  other = _dataset(tmp_path / 'other', seed=5)
  line = _refused(f'--run_dir={run.directory}', f'--data_dir={other.directory}')
  assert other.sha256[:12] in line
  assert dataset.sha256[:12] in line


def test_what_is_not_there_is_told(trained, dataset, tmp_path):
  (run, second), _ = trained
  data = f'--data_dir={dataset.directory}'
  assert 'ncf_tfdata.train' in _refused(f'--run_dir={tmp_path / "none"}')
  assert '--data_dir' in _refused()
  assert "no baseline 'eaze'" in _refused(data, '--baselines=eaze')
  assert 'nothing to judge' in _refused(data, '--baselines=')
  assert '--ks=0' in _refused(data, '--ks=0')
  assert 'ncf_tfdata.evaluate' in _refused(
    f'--run_dir={second.directory}', '--split=validation',
    f'--compare_to={run.directory}',
  )  # fmt: skip
  assert 'prepare' in _refused(f'--data_dir={tmp_path / "none"}')


def test_what_is_missed_is_a_line_each_and_an_exit_code_of_its_own(trained):
  (run, _), _ = trained
  process = _evaluate(
    f'--run_dir={run.directory}', '--baselines=', '--require=hr@10>=0',
    '--require=sampled/hr@10>1,ndcg@10<0',
  )  # fmt: skip
  assert process.returncode == 4, process.stderr
  told = [line for line in process.stderr.splitlines() if line]
  assert [line.partition(' is ')[0] for line in told] == [
    'error: test/sampled/hr@10 of neumf',
    'error: test/full/ndcg@10 of neumf',
  ]
  assert 'report: ' in process.stdout


def test_an_unfinished_run_is_not_judged(dataset, tmp_path):
  run = toy_run.write(tmp_path / 'run', dataset)
  (run.directory / 'metrics.json').unlink()
  assert 'has not finished' in _refused(f'--run_dir={run.directory}')
  assert not (run.directory / 'metrics.json').exists()


def test_metrics_json_is_json_that_others_read(trained):
  (run, _), _ = trained
  text = (run.directory / 'metrics.json').read_text()
  json.loads(text, parse_constant=lambda name: pytest.fail(f'{name} is not JSON'))


def _own_lists(run, dataset) -> bytes:
  """The run's top 20 before the test rows, in the form of `recommend`."""
  model = saved.load_finished(run, dataset)
  labels = recommendation_files.Labels(dataset.vocabulary('items.tsv').keys)
  users = dataset.vocabulary('users.tsv').keys
  parts = []
  for batch in records.evaluation_batches(dataset, 'test', 1000):
    scores = np.array(model.score_all(batch))
    ranking.mask_history(scores, batch)
    top = top_lists.top_items(scores, 20)
    parts.append(
      recommendation_files.Lists(
        [users[user] for user in batch.user],
        labels.key[top],
        np.take_along_axis(scores, top, axis=1).astype(np.float32),
        np.ones(len(top), bool),
      )
    )
  return list_files.encode('.csv', recommendation_files.types(), parts)


@pytest.fixture(scope='module')
def by_file(trained, dataset, tmp_path_factory):
  """The first run, judged again beside its own lists and those of `recommend`."""
  (run, other), _ = trained
  directory = tmp_path_factory.mktemp('by_file')
  (directory / 'own.csv').write_bytes(_own_lists(run, dataset))
  done = commands.run(
    'ncf_tfdata.recommend',
    f'--run_dir={other.directory}',
    '--all',
    f'--output={directory / "other.jsonl"}',
  )
  assert done.returncode == 0, done.stderr
  copy = run_lib.Run(shutil.copytree(run.directory, directory / 'run'))
  output = _done(
    f'--run_dir={copy.directory}',
    '--baselines=popularity',
    f'--predictions=by file={directory / "own.csv"}',
    f'--predictions=other={directory / "other.jsonl"}',
  )
  return copy, directory, output


def test_lists_of_a_model_are_judged_as_the_model_was(by_file):
  run, _, output = by_file
  metrics = run.metrics()
  judged = metrics['predictions']['by file']['test']
  assert judged['full'] == pytest.approx(metrics['test']['full'])
  assert 'sampled' not in judged
  assert judged['file'] == 'own.csv'
  assert judged['counts']['held_out'] == 60
  assert 'neumf - by file' in output
  assert 'of the sampled candidates, not all: no sampled ranking' in output
  found = metrics['comparisons']['test']['by file']
  assert found.keys() == {'full'}
  assert found['full']['difference'] == 0
  ranks = {path.stem for path in (run.directory / 'ranks' / 'test').iterdir()}
  assert {'by file', 'other'} <= ranks


def test_lists_of_recommend_leave_out_what_was_held_out_which_is_told(by_file):
  run, _, output = by_file
  judged = run.metrics()['predictions']['other']['test']
  assert judged['counts']['listed'] == 0
  assert judged['full']['hr@20'] == 0
  assert 'No list holds its held-out item.' in output


def test_p_values_are_of_all_that_the_run_was_compared_with(by_file):
  run, _, output = by_file
  kept = run.metrics()['comparisons']['test']
  # Two rankings of each baseline, one of which was judged before; one of each file.
  assert kept.keys() == {'popularity', 'successors:reverse=0.5', 'by file', 'other'}
  results = [result for each in kept.values() for result in each.values()]
  assert {result['family'] for result in results} == {6}
  assert 'adjusted for 6 comparisons' in output
  smallest = min(results, key=lambda result: result['p_value'])
  assert smallest['p_holm'] == pytest.approx(min(1, 6 * smallest['p_value']))
  report = (run.directory / 'report.html').read_text()
  assert 'for all 6 comparisons' in report
  assert '<code>other.jsonl</code>' in report


def test_the_card_says_what_the_numbers_stand_on(by_file, dataset):
  run, directory, _ = by_file
  card = run.metrics()['protocol']['test']
  assert card['prepared_with'].items() >= {'holdout': 2, 'tie_order': 'input'}.items()
  assert card['sha256']['dataset'] == dataset.sha256
  assert card['sha256']['weights'] == run.checkpoint_sha256()
  content = (directory / 'own.csv').read_bytes()
  assert card['sha256']['predictions_of_by file'] == hashlib.sha256(content).hexdigest()
  assert card['chosen']['epoch'] == '2 of 3, by ndcg@10 of validation rows'
  assert '15 sampled negatives' in card['ranking']['sampled_candidates']
  report = (run.directory / 'report.html').read_text()
  for text in ('<code>--tie_order=input</code>', card['sha256']['test_shards']):
    assert text in report


def test_files_alone_need_no_run_and_are_compared_with_the_first(by_file, dataset):
  _, directory, _ = by_file
  output = _done(
    f'--data_dir={dataset.directory}',
    '--baselines=',
    f'--predictions=one={directory / "own.csv"}',
    f'--predictions=two={directory / "other.jsonl"}',
  )
  assert 'one - two' in output
  assert 'sampled negatives' not in output
  assert 'one, own.csv' in output


def test_a_file_that_does_not_suit_is_told(by_file, trained, dataset, tmp_path):
  run, directory, _ = by_file
  data = f'--data_dir={dataset.directory}'
  own = directory / 'own.csv'

  def refused(content, *flags):
    path = tmp_path / 'lists.csv'
    path.write_text(content)
    return _refused(data, f'--predictions=mine={path}', *flags)

  assert 'no user of' in refused('0,i1\n1,i2\n')
  assert "such as 'i0'" in refused('u0,1\nu1,2\n')
  assert 'one column' in refused('u0\n')
  assert 'contradict' in refused('user,item,score,rank\nu0,i1,1,1\nu0,i2,2,2\n')
  assert '--nofull_ranking' in _refused(
    data, f'--predictions=mine={own}', '--nofull_ranking'
  )
  assert 'No such file' in _refused(data, '--predictions=mine=nowhere.csv')
  for wrong in ('nowhere.csv', '=x.csv', 'a/b=x.csv', 'model=x.csv', 'name='):
    assert 'must be NAME=FILE' in _refused(data, f'--predictions={wrong}')
  assert 'of a baseline' in _refused(data, f'--predictions=ease={own}')
  assert 'names of their own' in _refused(data, *[f'--predictions=mine={own}'] * 2)
  line = _refused(f'--run_dir={run.directory}', f'--predictions=neumf={own}')
  assert 'name neumf of the model' in line
