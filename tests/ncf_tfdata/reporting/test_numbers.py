"""What stands behind a report's figures: numbers, bins of lags, times in words."""

import re

import numpy as np
import pytest

from ncf_tfdata import times
from ncf_tfdata.reporting import in_words, numbers, plots

_DAY = 86_400


@pytest.mark.parametrize(
  ('seconds', 'said'),
  [
    (0, '0 seconds'),
    (1, '1 second'),
    (35, '35 seconds'),
    (119, '119 seconds'),
    (120, '2 minutes'),
    (3 * 3600, '3 hours'),
    (3 * _DAY, '3 days'),
    (10_763_283, '4 months'),
    (3 * 365 * _DAY, '3 years'),
  ],
)
def test_times_are_said_in_words(seconds, said):
  assert times.words(seconds, 1) == said
  assert times.words(seconds * 1000, 1000) == said


def test_a_time_below_a_second_is_said_as_such():
  assert times.words(400, 1000) == 'under a second'


def test_segments_of_time_are_named_in_words_and_others_are_not():
  def parts(*names):
    return {'full': [{'segment': name, 'users': 3} for name in names]}

  found = {'segments': {'gap': parts('0', '35–10,763,283'), 'activity': parts('5–9')}}
  told = in_words.systems({'model': found}, 1)['model']['segments']
  names = [part['segment'] for part in told['gap']['full']]
  assert names == ['0 seconds', '35 seconds to 4 months']
  assert told['activity'] == found['segments']['activity']
  assert found['segments']['gap']['full'][1]['segment'] == '35–10,763,283'
  # A range that words do not tell apart is one.
  assert in_words.span('172,801–172,900', 1) == '2 days'


@pytest.mark.parametrize('lags', [1, 2, 5, 6, 20, 50, 77])
def test_lags_fall_into_bins_once_each(lags):
  bins = plots.lag_bins(lags)
  assert [lag for a, b in bins for lag in range(a, b + 1)] == list(range(1, lags + 1))
  assert bins[:5] == [(lag, lag) for lag in range(1, min(lags, 5) + 1)]
  weights = np.random.default_rng(0).normal(size=(3, lags))
  share = plots.lag_shares(weights)
  np.testing.assert_allclose(share.sum(axis=1), 1)
  size = np.abs(weights)
  expected = size[1, bins[-1][0] - 1 :].sum() / size[1].sum()
  assert share[1, -1] == pytest.approx(expected)


def _cells(html: str) -> list[list[str]]:
  rows = re.findall(r'<tr[^>]*>(.*?)</tr>', html, re.DOTALL)
  return [
    [re.sub('<[^>]*>', ' ', cell).strip() for cell in re.findall('<td.*?</td>', row)]
    for row in rows
    if '<td' in row
  ]


def test_tables_hold_what_figures_show():
  assert _cells(numbers.lags(np.array([[3.0, -1.0]]))) == [['head 1', '75%', '25%']]
  ranks = {'full': {'<b>': np.array([0.0, 1.5, 30.0, 99.0])}}
  ((name, *rates),) = _cells(numbers.hit_rate_by_k(ranks, {'full': 60}))
  assert name == '&lt;b&gt;, full'
  assert rates == ['.2500', '.5000', '.5000', '.5000', '.5000', '.7500', '']
  count = np.array([1, 97, 1, 1])
  lists = {'model': np.array([0, 4, 4, 0])}
  found = _cells(numbers.popularity(count, np.array([1, 1, 0, 0]), lists))
  assert [row[0] for row in found] == ['held out', 'train rows', 'model']
  assert [row[-1] for row in found] == ['100.0%', '98.0%', '50.0%']
  history = [{'epoch': 1, 'loss': 0.5, 'hr@10': 0.25, 'seconds': 3}]
  assert _cells(numbers.learning_curves(history)) == [['1', '.5000', '.2500']]
