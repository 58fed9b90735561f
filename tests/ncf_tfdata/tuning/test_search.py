"""The search around trainings, which stand-ins take the place of."""

import json
import re
import sys

import pytest
import toy_dataset

from ncf_tfdata import config as config_lib
from ncf_tfdata import run as run_lib
from ncf_tfdata.errors import ArgumentError, UserError
from ncf_tfdata.models.configs import NeuMFConfig
from ncf_tfdata.training import recipe as recipe_lib
from ncf_tfdata.training.config import OptimizerConfig, TrainConfig
from ncf_tfdata.training.preemption import Sigterm, Terminated
from ncf_tfdata.tuning import search
from ncf_tfdata.tuning import trials as trials_lib
from ncf_tfdata.tuning.config import TuneConfig
from ncf_tfdata.tuning.directory import Directory

pytestmark = pytest.mark.slow

_SPACE = 'learning_rate=0.0001..0.1:log,gmf_dim=4,8'


def recipe(**settings) -> recipe_lib.Recipe:
  optimizer = OptimizerConfig(learning_rate=0.05)
  train = TrainConfig(epochs=4, optimizer=optimizer, **settings)
  return recipe_lib.Recipe.resolved(NeuMFConfig(gmf_dim=4), train)


class Training:
  """Stands in for the process of a trial: all its epochs are there at once."""

  def __init__(self, run, curve, code):
    self._code, self.stopped = code, False
    run.directory.mkdir(parents=True, exist_ok=True)
    run.checkpoints.mkdir(exist_ok=True)
    run.write_history(
      [{'epoch': n, 'ndcg@10': value} for n, value in enumerate(curve, 1)]
    )

  def end(self):
    return self._code

  def kill(self):
    self._code = -9

  def stop(self):
    self._code, self.stopped = 143, True

  def was_killed(self):
    return self._code < 0

  def reason(self):
    return f'ended with {self._code}'


class Trainings:
  """Begins stand-ins, whose curve and exit code follow from the learning rate."""

  def __init__(self, code=lambda number, rate: 0):
    self._code, self.begun = code, []

  def __call__(self, lines, log, lock):
    values = config_lib.parse(lines, *recipe_lib.configs())
    run = run_lib.Run(values['run_dir'].value)
    rate, number = values['learning_rate'].value, int(run.directory.name)
    self.begun.append(number)
    curve = [0.4 - abs(rate - 0.01) - 0.1 / epoch for epoch in (1, 2, 3, 4)]
    code = self._code(number, rate)
    return Training(run, curve if code == 0 else curve[:1], code)


@pytest.fixture(scope='module')
def dataset(tmp_path_factory):
  directory = tmp_path_factory.mktemp('toy')
  return toy_dataset.write(directory, toy_dataset.tastes(20), num_items=40)


@pytest.fixture
def run(dataset, tmp_path):
  """Runs a search; its outcome and what it said."""

  def run(start=None, base=None, sigterm=None, overwrite=False, output=None, **asked):
    asked = {'search': _SPACE, 'trials': 6, 'pruner': 'none', **asked}
    directory = Directory(output or tmp_path / 'out')
    made = search.Search(
      dataset, base or recipe(), TuneConfig(**asked), directory, start or Trainings()
    )
    said = []
    found = made.run(overwrite, sigterm, said.append)
    return found, said

  return run


def table(found) -> list:
  return [(t.state, dict(t.values), t.curve, t.reason) for t in found.trials]


def test_the_best_becomes_a_flagfile(run, dataset, tmp_path):
  found, said = run()
  best = max(found.trials, key=lambda trial: trial.value)
  assert found.best == best
  assert best.number > 0
  text = (tmp_path / 'out' / 'best.cfg').read_text()
  assert dataset.sha256 in text
  assert f'ndcg@10: {best.value:.4f}'.replace('0.', '.') in text
  lines = [line for line in text.split('\n') if line.startswith('--')]
  parsed = recipe_lib.Recipe.parse(lines)
  assert parsed == found.recipe()
  assert parsed.train.optimizer.learning_rate == best.values['learning_rate']
  assert parsed.train.epochs == 4
  assert len([line for line in said if line.startswith('trial ')]) == 6
  assert said[-1].startswith('trial 5/5 finished ndcg@10 ')
  assert 'none left' in said[-1]
  assert '6 finished' in found.table()
  assert (tmp_path / 'out' / 'trials.png').read_bytes().startswith(b'\x89PNG')


def test_the_first_trial_is_the_recipe_as_it_is(run):
  found, _ = run(trials=1)
  assert found.trials[0].values == {'learning_rate': 0.05, 'gmf_dim': '4'}
  assert found.recipe() == recipe()
  found, said = run(trials=2, search='learning_rate=0.001..0.01:log', overwrite=True)
  assert found.trials[0].values == {}
  assert any('as given: outside' in line for line in said)


def test_only_the_best_keeps_its_weights(run, tmp_path):
  found, _ = run()
  kept = [p.parent.name for p in (tmp_path / 'out' / 'trials').glob('*/checkpoints')]
  assert kept == [f'{found.best.number:04d}']


def test_it_goes_on_where_it_was_stopped_and_does_nothing_twice(run, tmp_path):
  whole, _ = run(output=tmp_path / 'whole')
  sigterm = Sigterm()

  class Stopping(Trainings):
    def __call__(self, lines, log, lock):
      if len(self.begun) == 3:
        sigterm.asked = True
      return super().__call__(lines, log, lock)

  # The signal comes while the fourth is under way.
  stopping = Stopping(code=lambda number, rate: None if number == 3 else 0)
  with pytest.raises(Terminated):
    run(stopping, sigterm=sigterm)
  assert (tmp_path / 'out' / 'best.cfg').exists()
  rest = Trainings()
  found, said = run(rest)
  assert rest.begun == [3, 4, 5]
  assert table(found) == table(whole)
  assert any('3 of them done' in line for line in said)
  none = Trainings()
  assert table(run(none)[0]) == table(whole)
  assert none.begun == []
  more = Trainings()
  run(more, trials=7)
  assert more.begun == [6]


def test_a_trial_that_fails_does_not_end_the_search(run):
  base_only = Trainings(code=lambda number, rate: 1 if number in (1, 2) else 0)
  found, said = run(base_only)
  assert [trial.state for trial in found.trials][:4] == [
    'finished',
    'failed',
    'failed',
    'finished',
  ]
  assert found.trials[1].reason == 'ended with 1'
  assert any('failed' in line and 'ended with 1' in line for line in said)
  assert base_only.begun == list(range(6))


def test_a_trial_that_was_killed_is_tried_again_once(run):
  killed = {1: 1, 2: 2}

  def code(number, rate):
    if killed.get(number):
      killed[number] -= 1
      return -9
    return 0

  trainings = Trainings(code)
  found, _ = run(trainings, trials=4)
  assert trainings.begun == [0, 1, 1, 2, 2, 3]
  assert [trial.state for trial in found.trials] == [
    'finished',
    'finished',
    'failed',
    'finished',
  ]


def test_a_recipe_that_cannot_be_trained_ends_it(run, tmp_path):
  with pytest.raises(UserError, match='starts from fails: ended with 1'):
    run(Trainings(code=lambda number, rate: 1))
  assert not (tmp_path / 'out' / 'best.cfg').exists()
  assert len(run()[0].trials) == 6


def test_a_combination_that_cannot_be_is_a_failed_trial(run):
  base = recipe_lib.Recipe.resolved(
    NeuMFConfig(), TrainConfig(patience=1, epochs=4, full_validation=True)
  )
  space = 'logq_correction=true,false,loss=bce,softmax'
  found, _ = run(base=base, search=space, trials=9)
  assert len(found.trials) == 4
  failed = [trial for trial in found.trials if trial.state == 'failed']
  assert [trial.values for trial in failed] == [
    {'logq_correction': 'true', 'loss': 'bce'}
  ]
  assert '--logq_correction' in failed[0].reason


def test_pruning_kills_the_training_and_keeps_what_decided(run):
  trainings = Trainings()
  found, _ = run(trainings, trials=12, pruner='median')
  pruned = [trial for trial in found.trials if trial.state == trials_lib.PRUNED]
  assert pruned
  assert {len(trial.curve) for trial in pruned} <= {2, 3}
  assert found.best not in pruned


def test_time_that_is_over_saves_the_trial(run, tmp_path, monkeypatch):
  clock, begun = [0.0], []
  monkeypatch.setattr(search.time, 'monotonic', lambda: clock[0])

  def forever(lines, log, lock):
    made = Trainings(code=lambda number, rate: None if number else 0)
    begun.append(made(lines, log, lock))
    clock[0] += 1700
    return begun[-1]

  found, said = run(forever, time_budget='30m', trials=None)
  assert [trial.seconds for trial in found.trials] == [1700]
  assert '2 min left' in said[-2]
  assert begun[1].stopped
  assert said[-1].startswith('time is over: trial 1 is saved')
  with pytest.raises(UserError, match=r'no trial has ended within --time_budget=1s'):
    run(
      Trainings(code=lambda number, rate: clock.__setitem__(0, clock[0] + 9)),
      time_budget='1s',
      output=tmp_path / 'short',
    )


def test_a_directory_of_something_else_is_refused(run, tmp_path):
  (tmp_path / 'other').mkdir()
  (tmp_path / 'other' / 'thesis.tex').write_text('')
  with pytest.raises(UserError, match='holds no search'):
    run(output=tmp_path / 'other')
  assert [path.name for path in (tmp_path / 'other').iterdir()] == ['thesis.tex']


@pytest.mark.parametrize(
  ('changed', 'told'),
  [
    ({'search': 'gmf_dim=4,8,16'}, 'space: .*gmf_dim=4,8, .* gmf_dim=4,8,16'),
    ({'search_seed': 1}, 'search_seed: .* 0, .* 1'),
    ({'pruner': 'median'}, 'pruner: .* none, .* median'),
    ({'base': recipe(batch_size=64)}, 'recipe: .*--batch_size=4096.*--batch_size=64'),
  ],
)
def test_another_search_is_refused_and_overwrite_removes_it(run, changed, told):
  run(trials=2)
  with pytest.raises(UserError) as error:
    run(trials=2, **changed)
  assert re.search(f'another {told}', str(error.value)), error.value
  trainings = Trainings()
  run(trainings, trials=2, overwrite=True, **changed)
  assert trainings.begun == [0, 1]


def test_two_searches_do_not_share_a_directory(run, tmp_path, monkeypatch):
  monkeypatch.setattr('ncf_tfdata.tuning.directory._WAIT_SECONDS', 0.1)
  with (
    Directory(tmp_path / 'out').held(),
    pytest.raises(UserError, match='in use by another search'),
  ):
    run()


@pytest.mark.parametrize('name', ['search.json', 'trials.csv'])
def test_damage_is_told(run, tmp_path, name):
  run(trials=2)
  (tmp_path / 'out' / name).write_text('{"trial"')
  with pytest.raises(UserError, match=f'{name} is damaged'):
    run(trials=2)


def test_what_is_left_of_another_trial_goes(run, tmp_path):
  """Its run would be refused, and the search could not go on."""
  run(trials=1)
  stale = tmp_path / 'out' / 'trials' / '0001'
  stale.mkdir()
  (stale / 'flags.cfg').write_text('--model=neumf\n--epochs=99\n')
  run(trials=2)
  assert not (stale / 'flags.cfg').exists()


def test_what_cannot_be_searched_is_told(tmp_path):
  items = toy_dataset.tastes(20)
  twin = toy_dataset.write(tmp_path / 'data', items, num_items=40, holdout=1)
  made = (recipe(), TuneConfig(), Directory(tmp_path / 'out'))
  with pytest.raises(UserError, match='no validation interactions'):
    search.Search(twin, *made)
  assert not (tmp_path / 'out').exists()


def test_a_loss_does_not_choose(dataset, tmp_path):
  with pytest.raises(ArgumentError, match='`monitor` must be a metric on validation'):
    search.Search(
      dataset, recipe(monitor='loss'), TuneConfig(), Directory(tmp_path / 'out')
    )


def test_without_optuna_a_line_says_what_to_install(run, tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, 'optuna', None)
  with pytest.raises(UserError, match=r"pip install .* '\.\[tune\]'"):
    run()
  assert not (tmp_path / 'out').exists()


def test_the_search_says_what_it_is_of(run, dataset, tmp_path):
  run(trials=1)
  note = json.loads((tmp_path / 'out' / 'search.json').read_text())
  assert note['dataset'] == dataset.sha256
  assert note['space'] == ['learning_rate=0.0001..0.1:log', 'gmf_dim=4,8']
