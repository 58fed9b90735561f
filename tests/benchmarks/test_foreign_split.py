"""What runners of other libraries read of a split and judge, against ours."""

import json
import random

import numpy as np
import prepared
import pytest

import ncf_tfdata as ncf
from benchmarks import foreign_split
from ncf_tfdata.dataset import TEST, VALIDATION


def make_log() -> list[tuple[str, str, int, int]]:
  """Users of 3 to 20 rows over 40 items, with ties in time, in no order."""
  draw = random.Random(0)
  log = []
  for user in range(40):
    items = draw.sample(range(40), draw.randint(3, 20))
    log += [(f'u{user}', f'i{item}', 1, draw.randint(0, 60)) for item in items]
  draw.shuffle(log)
  return log


@pytest.fixture(scope='module')
def files(tmp_path_factory):
  """A log cut by time, as a dataset and as files."""
  directory = tmp_path_factory.mktemp('foreign')
  log = prepared.write_log(directory / 'log.dat', make_log())
  dataset = prepared.prepare_here(
    log, directory / 'data', *prepared.TOY, '--split=time', '--time_quantile=.7',
    f'--export_split={directory}/split',
  )  # fmt: skip
  return dataset, str(directory / 'split')


def test_histories_and_targets_are_those_of_the_dataset(files):
  dataset, directory = files
  split = foreign_split.read(directory)
  for name in (VALIDATION, TEST):
    asked = split.asked[name]
    found = {
      split.users[user]: (split.items[item], [split.items[i] for i in history])
      for user, item, history in zip(
        asked.targets.user, asked.targets.item, asked.histories(), strict=True
      )
    }
    expected = {
      row.user: (row.item, list(row.history)) for row in prepared.rows(dataset, name)
    }
    assert found == expected
    assert len(found) > 10


def test_evaluate_finds_in_the_file_what_the_runner_has_chosen(
  files, tmp_path, monkeypatch
):
  dataset, directory = files
  task = {'split': directory, 'output': str(tmp_path / 'lists')}
  monkeypatch.setattr('sys.argv', ['runner', json.dumps(task)])
  choice = foreign_split.Choice()

  def lists(seed):
    def of(asked):
      draw = np.random.default_rng(seed)
      shape = (len(asked.targets.user), choice.split.num_trained)
      # Few scores, so that there are ties; and items without one.
      scores = draw.integers(0, 8, shape).astype(float)
      scores[draw.random(shape) < 0.2] = np.nan
      return foreign_split.best(scores, asked.seen(shape[1]))

    return of

  judged = {seed: choice.judge({'seed': seed}, lists(seed)) for seed in range(4)}
  choice.end()
  note = json.loads((tmp_path / 'lists' / foreign_split.CHOSEN).read_text())
  assert note['ended']
  assert note['chosen']['settings']['seed'] == max(judged, key=judged.get)
  found = ncf.evaluate(
    dataset, predictions={'random': str(tmp_path / 'lists' / 'validation.csv')},
    baselines=(), split=VALIDATION, progress=False,
  )  # fmt: skip
  full = found.systems['random']['full']
  assert 0 < full['hr@10'] < 1
  for metric in ('hr@10', 'ndcg@10'):
    assert note['chosen'][metric] == pytest.approx(full[metric])
  assert (tmp_path / 'lists' / 'test.csv').exists()


def test_several_questions_of_a_user_are_refused(tmp_path):
  header = 'user\titem\tposition\n'
  for name in ('train', 'test', 'test-history', 'validation-history'):
    (tmp_path / f'{name}.tsv').write_text(f'{header}ann\tx\t0\n')
  (tmp_path / 'validation.tsv').write_text(f'{header}ann\ty\t1\nann\tz\t2\n')
  with pytest.raises(ValueError, match='several validation rows of a user'):
    foreign_split.read(str(tmp_path))
