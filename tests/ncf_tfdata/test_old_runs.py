"""Datasets and runs that an earlier version made still read, to the same end.

Its model.json names modules that have moved since, and its metrics.json has no sha256
of model.json.
"""

import csv
import json
import pathlib
import shutil

import commands
import pytest

OLD = commands.ROOT / 'tests' / 'support' / 'old_run'


@pytest.fixture(scope='module')
def old(tmp_path_factory) -> pathlib.Path:
  return shutil.copytree(OLD, tmp_path_factory.mktemp('old') / 'old')


def _rows(path: pathlib.Path) -> list[dict[str, str]]:
  with path.open(newline='') as stream:
    return list(csv.DictReader(stream))


@pytest.mark.parametrize('name', ['neumf', 'history'])
def test_an_old_run_recommends_the_same(old, name, tmp_path):
  output = tmp_path / 'everyone.csv'
  done = commands.run(
    'ncf_tfdata.recommend',
    f'--run_dir={old / name}',
    f'--data_dir={old / "dataset"}',
    '--all',
    '--k=5',
    f'--output={output}',
  )
  assert done.returncode == 0, done.stderr
  expected, found = _rows(OLD / f'{name}.csv'), _rows(output)
  assert len(expected) > 100
  for column in ('user', 'rank', 'item', 'source'):
    assert [row[column] for row in found] == [row[column] for row in expected]
  scores = [float(row['score']) for row in expected]
  assert [float(row['score']) for row in found] == pytest.approx(scores, abs=1e-5)


@pytest.mark.parametrize('name', ['neumf', 'history'])
def test_an_old_run_is_judged_the_same(old, name):
  done = commands.run(
    'ncf_tfdata.evaluate',
    f'--run_dir={old / name}',
    f'--data_dir={old / "dataset"}',
    '--baselines=popularity',
  )
  assert done.returncode == 0, done.stderr
  expected = json.loads((OLD / name / 'metrics.json').read_text())
  found = json.loads((old / name / 'metrics.json').read_text())
  for ranking in ('sampled', 'full'):
    assert found['test'][ranking] == pytest.approx(expected['test'][ranking])
    assert found['baselines']['popularity']['test'][ranking] == pytest.approx(
      expected['baselines']['popularity']['test'][ranking]
    )
  assert found['dataset_sha256'] == expected['dataset_sha256']
  assert found['checkpoint_sha256'] == expected['checkpoint_sha256']
