"""Defaults of a history model go with density, from one tuned end to the other."""

import prepared
from hypothesis import given
from hypothesis import strategies as st

from ncf_tfdata import dataset as dataset_lib
from ncf_tfdata.models import history_defaults
from ncf_tfdata.models.configs import HistoryConfig


def test_the_ends_are_what_was_tuned():
  sparse = history_defaults.of(7.9, True, 12_101)
  dense = history_defaults.of(163.6, True, 3_706)
  assert sparse == (12, 64, False, 0.5, 0.1, 2.0, 0.5, 0.0, 0.0, False)
  assert dense == (50, 128, True, 0.2, 0.05, 1.5, 0.0, 2.0, 0.0, False)


def test_a_large_catalogue_gets_no_ease():
  assert history_defaults.of(163.6, True, 5_000).ease_logits == 2
  assert history_defaults.of(163.6, True, 5_001).ease_logits == 0


def test_users_are_left_out_as_often_as_validation_meets_new_ones(tmp_path):
  assert history_defaults.of(9.0, True, 9, new_users=0.8).user_dropout == 0.5
  log = tmp_path / 'log.csv'
  # Those of the validation time are a and two who are new.
  times = {'a': [*range(80), 101, 103, 300], 'b': [102, 107], 'c': [104, 108, 301]}
  lines = [
    f'{user},{user}{place},1,{time}\n'
    for user, found in times.items()
    for place, time in enumerate(found)
  ]
  log.write_text('user,item,rating,timestamp\n' + ''.join(lines))
  arguments = log, tmp_path / 'data', *prepared.TOY, '--split=time', '--time_at=200'
  made = prepared.prepare_here(*arguments)
  assert made.rows(dataset_lib.VALIDATION) == 3
  assert history_defaults.of_dataset(made).user_dropout == 0.5
  with log.open('a') as opened:
    opened.write('c,x,1,7\n')
  made = prepared.prepare_here(*arguments, '--overwrite')
  assert history_defaults.of_dataset(made).user_dropout == 0.333
  assert history_defaults.of_dataset(made).gaps


def test_without_successors_none_are_asked_for():
  assert history_defaults.of(30.0, False, 9).transition_logits == 0


def test_what_is_given_stays():
  defaults = history_defaults.of(163.6, True, 9)
  config = HistoryConfig(
    dim=32, user_embedding=False, transition_logits=0, ease_logits=0, user_dropout=0.3
  )
  assert defaults.under(config, 0.0) == (
    *(50, 32, False, 0.2, 0.0, 0.0, 0.0, 0, 0.3, False),
  )
  assert defaults.under(HistoryConfig(), None) == defaults


@given(st.floats(0, 1e6), st.floats(0, 1e6))
def test_more_rows_a_user_mean_longer_histories_and_less_regularisation(one, other):
  few, many = (history_defaults.of(rows, True, 9) for rows in sorted((one, other)))
  assert few.length <= many.length
  assert few.dropout >= many.dropout
  assert few.l2 >= many.l2
  assert many.user_embedding >= few.user_embedding
