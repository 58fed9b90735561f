"""Defaults of a history model go with density, from one tuned end to the other."""

from hypothesis import given
from hypothesis import strategies as st

from ncf_tfdata.models import history_defaults
from ncf_tfdata.models.configs import HistoryConfig


def test_the_ends_are_what_was_tuned():
  sparse, dense = history_defaults.of(7.9, True), history_defaults.of(163.6, True)
  assert sparse == (12, 64, False, 0.5, 0.1, 2.0, 0.5)
  assert dense == (50, 128, True, 0.2, 0.05, 1.5, 0.0)


def test_without_successors_none_are_asked_for():
  assert history_defaults.of(30.0, False).transition_logits == 0


def test_what_is_given_stays():
  defaults = history_defaults.of(163.6, True)
  config = HistoryConfig(dim=32, user_embedding=False, transition_logits=0)
  assert defaults.under(config, 0.0) == (50, 32, False, 0.2, 0.0, 0.0, 0.0)
  assert defaults.under(HistoryConfig(), None) == defaults


@given(st.floats(0, 1e6), st.floats(0, 1e6))
def test_more_rows_a_user_mean_longer_histories_and_less_regularisation(one, other):
  few, many = (history_defaults.of(rows, True) for rows in sorted((one, other)))
  assert few.length <= many.length
  assert few.dropout >= many.dropout
  assert few.l2 >= many.l2
  assert many.user_embedding >= few.user_embedding
