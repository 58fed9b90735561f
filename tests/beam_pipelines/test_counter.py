"""Draws depend on their coordinates alone, and are as good as random."""

import numpy as np
import pytest
from scipy import stats

from beam_pipelines import counter_rng


def test_splitmix64_as_published():
  # The first outputs of the reference implementation (Vigna, splitmix64.c) for the
  # seed 1234567, whose state goes up by the golden gamma at each step.
  gamma = 0x9E3779B97F4A7C15
  states = [(1234567 + step * gamma) % 2**64 for step in range(3)]
  assert counter_rng.mix(np.array(states, np.uint64)).tolist() == [
    6457827717110365317,
    3203168211198807973,
    9817491932198370423,
  ]


def test_a_draw_is_the_same_alone_and_in_any_array():
  users, draws = np.arange(7), np.arange(5)
  table = counter_rng.bits(3, 1, users[:, None], draws)
  assert table.shape == (7, 5)
  for user in users:
    for draw in draws:
      assert counter_rng.bits(3, 1, user, draw) == table[user, draw]
  assert (
    counter_rng.bits(3, 1, users[::-1, None], draws[::-1]) == table[::-1, ::-1]
  ).all()


def test_every_coordinate_counts():
  seen = {
    int(counter_rng.bits(*point))
    for point in [(0,), (1,), (0, 0), (0, 1), (1, 0), (1, 1), (0, 0, 0), (2**63 - 1,)]
  }
  assert len(seen) == 8


@pytest.mark.parametrize('limit', [1, 2, 3, 100, 3416, 2**32])
def test_draws_are_below_the_limit(limit):
  draws = counter_rng.below(limit, 0, np.arange(10_000))
  assert draws.dtype == np.int64
  assert draws.min() >= 0
  assert draws.max() < limit


@pytest.mark.parametrize('seed', range(4))
def test_draws_are_uniform_and_independent(seed):
  draws = counter_rng.below(100, seed, np.arange(300)[:, None], np.arange(200))
  assert stats.chisquare(np.bincount(draws.ravel(), minlength=100)).pvalue > 1e-4
  # Pairs of neighbours, along either coordinate.
  for pairs in (draws[:, :-1] // 10 * 10 + draws[:, 1:] // 10,
                draws[:-1] // 10 * 10 + draws[1:] // 10):  # fmt: skip
    counts = np.bincount(pairs.ravel(), minlength=100)
    assert stats.chisquare(counts).pvalue > 1e-4
