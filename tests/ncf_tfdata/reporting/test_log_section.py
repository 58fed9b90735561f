"""What the report draws of a log's inspection."""

import pytest

from ncf_tfdata.inspection import Inspection
from ncf_tfdata.reporting import log_section, plots

_COUNTS = {
  'rows': 10,
  'users': 4,
  'tied_rows': 6,
  'tied_users': 1,
  'log_rows': 12,
  'repeated_rows': 3,
  'rules': 0,
  'shuffled_rules': 0,
  'bot_rows': 0,
}
_DISTANCES = {'test_since_row_before': (0, 60, 7_200), 'test_since_train': (1, 2, 3)}


def _inspection(distances):
  return Inspection(_COUNTS, distances, {})


def _texts(figure):
  with plots.styled():
    return plots.svg(figure)


def test_shares_are_of_their_own_whole_and_none_of_nothing():
  found = {each.title: each for each in log_section.shares(_inspection({}))}
  tied, repeated = list(found.values())[:3:2]
  assert (tied.part, tied.whole, tied.value) == (6, 10, 0.6)
  assert (repeated.part, repeated.whole, repeated.value) == (3, 12, 0.25)
  assert not any('rules' in title for title in found)  # 0 of 0


def test_plot_has_each_share_and_each_distance():
  text = _texts(log_section.figure(_inspection(_DISTANCES), last=10**9))
  assert '60.0 %' in text
  assert '25.0 %' in text
  assert text.count('test,') == 2
  assert '1 min' in text
  assert '1 d' not in text  # The longest distance is two hours.


@pytest.mark.parametrize('last', [None, 10**9, 10**12])
def test_ticks_follow_the_unit_of_the_log(last):
  factor = 1000 if last == 10**12 else 1
  scaled = {
    name: tuple(factor * each for each in quartiles)
    for name, quartiles in _DISTANCES.items()
  }
  text = _texts(log_section.figure(_inspection(scaled), last))
  assert ('1 min' in text) == (last is not None)
  unit_is_said = 'in the unit of the log' in log_section.caption(
    _inspection(scaled), last
  )
  assert unit_is_said == (last is None)


def test_numbers_say_what_the_plot_shows():
  table = log_section.numbers(_inspection(_DISTANCES), last=10**9)
  assert '6 of 10' in table
  assert '2 hours' in table
  assert '7,200' in log_section.numbers(_inspection(_DISTANCES), None)


def test_log_without_times_has_shares_alone():
  figure = log_section.figure(_inspection({}), None)
  assert len(figure.axes) == 1
  assert 'Right' not in log_section.caption(_inspection({}), None)
