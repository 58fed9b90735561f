"""What is tried next follows from what was tried, and from nothing else."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ncf_tfdata.tuning import trials as trials_lib
from ncf_tfdata.tuning.space import Choice, Range
from ncf_tfdata.tuning.suggestions import Rules
from ncf_tfdata.tuning.trials import FAILED, FINISHED, PRUNED, Trial

_SPACE = {
  'learning_rate': Range(1e-4, 1e-1, log=True),
  'members': Choice(('1', '2')),
  'length': Range(5, 50, whole=True),
}
_START = {'learning_rate': 0.05, 'members': '1', 'length': 10}


def rules(space=None, start=None, seed=0, pruner='none', epochs=4) -> Rules:
  start = _START if start is None else start
  return Rules(space or _SPACE, start, seed, pruner, epochs)


def quality(values) -> float:
  """Best at a learning rate of .002 and two members; the length does not matter."""
  away = abs(math.log(values.get('learning_rate', 0.05) / 0.002))
  return 0.5 - away / 20 + 0.1 * (values.get('members') == '2')


def extend(found, made, count):
  while len(found) < count:
    suggestion = made.suggest(found)
    curve, state = [], FINISHED
    for epoch in range(1, made.epochs + 1):
      curve.append(quality(suggestion.values) * (1 - 0.5**epoch))
      if suggestion.is_hopeless(epoch, curve[-1]):
        state = PRUNED
        break
    found.append(Trial(len(found), state, suggestion.values, tuple(curve), 1.0))
  return found


def test_the_same_seed_suggests_the_same_wherever_it_goes_on(tmp_path):
  whole = extend([], rules(), 16)
  path = tmp_path / 'trials.csv'
  trials_lib.write(path, extend([], rules(), 13), _SPACE)
  again = extend(trials_lib.read(path, _SPACE), rules(), 16)
  assert [t.values for t in whole] == [t.values for t in again]
  other = extend([], rules(seed=1), 3)
  assert other[0].values == whole[0].values == _START
  assert other[1].values != whole[1].values


def test_it_finds_what_is_good():
  found = extend([], rules(), 40)
  best = trials_lib.best(found)
  assert best.values['members'] == '2'
  assert 0.0005 < best.values['learning_rate'] < 0.008
  importances = rules().importances(found)
  assert next(iter(importances)) == 'learning_rate'
  assert abs(sum(importances.values()) - 1) < 1e-9


def test_a_start_that_the_space_does_not_hold_is_tried_with_what_it_holds():
  made = rules(start={'members': '1'})
  found = extend([], made, 3)
  assert found[0].values == {'members': '1'}
  assert set(found[1].values) == set(_SPACE)
  assert rules().importances(found[:1]) == {}


def test_nothing_is_tried_twice_and_the_end_is_seen():
  space = {'members': Choice(('1', '2')), 'length': Range(1, 3, whole=True)}
  made = rules(space, {'members': '1', 'length': 2})
  found = extend([], made, 6)
  assert len({tuple(trial.values.items()) for trial in found}) == 6
  assert made.suggest(found) is None


def test_what_failed_is_looked_for_less():
  space = {
    'members': Choice(('1', '2', '3', '4')),
    'length': Range(1, 1000, whole=True),
  }
  made, found = rules(space, {'members': '1', 'length': 2}), []
  while len(found) < 60:
    values = made.suggest(found).values
    failed = values['members'] == '4'
    state, curve = (FAILED, ()) if failed else (FINISHED, (0.1,))
    found.append(Trial(len(found), state, values, curve, 1.0, 'no memory' * failed))
  assert sum(trial.state == FAILED for trial in found[30:]) < 30 / 4


def test_a_bad_trial_is_given_up_and_the_first_never_is():
  for pruner in ('median', 'hyperband'):
    found = extend([], rules(pruner=pruner, epochs=9), 20)
    assert found[0].state == FINISHED
    pruned = [trial for trial in found if trial.state == PRUNED]
    assert pruned
    assert all(len(trial.curve) < 9 for trial in pruned)
    assert trials_lib.best(found).state == FINISHED
  assert {trial.state for trial in extend([], rules(), 20)} == {FINISHED}


def test_the_median_is_of_the_same_epoch():
  made = rules(pruner='median', epochs=4)
  curve = (0.1, 0.2, 0.3, 0.4)
  values = [{**_START, 'length': 10 + number} for number in range(4)]
  before = [Trial(n, FINISHED, each, curve, 1.0) for n, each in enumerate(values)]
  worse = made.suggest(before)
  assert [worse.is_hopeless(1, 0.0), worse.is_hopeless(2, 0.19)] == [False, True]
  better = made.suggest(before)
  assert not any(better.is_hopeless(epoch, 0.1 * epoch) for epoch in (1, 2, 3, 4))
  early = made.suggest(before[:3])
  assert not any(early.is_hopeless(epoch, 0.0) for epoch in (1, 2, 3, 4))


@pytest.fixture(scope='module')
def table(tmp_path_factory):
  return tmp_path_factory.mktemp('table') / 'trials.csv'


@given(
  st.lists(
    st.tuples(
      st.sampled_from(trials_lib.STATES),
      st.lists(st.floats(0, 1), max_size=3),
      st.floats(1e-4, 1e-1),
      st.sampled_from(['1', '2', None]),
      st.text(st.characters(codec='utf8', exclude_characters='\r'), max_size=20),
    ),
    max_size=4,
  )
)
@settings(max_examples=40)
def test_the_table_reads_back_as_it_was(table, rows):
  written = [
    Trial(
      number,
      state,
      {'learning_rate': rate, **({} if members is None else {'members': members})},
      tuple(curve),
      1.5,
      reason,
    )
    for number, (state, curve, rate, members, reason) in enumerate(rows)
  ]
  trials_lib.write(table, written, _SPACE)
  assert trials_lib.read(table, _SPACE) == written
