"""Intervals and tests of significance against slow, plain ones."""

import numpy as np
import pytest
import scipy.stats

from ncf_tfdata.evaluation import metrics, statistics


def _ranks(users: int = 400, seed: int = 0) -> np.ndarray:
  return np.random.default_rng(seed).integers(0, 60, users) / 2


def test_intervals_are_those_of_resampled_users():
  rank = _ranks()
  found = statistics.intervals(rank, (5, 10), samples=4000)
  generator = np.random.default_rng(1)
  sample = rank[generator.integers(0, len(rank), (4000, len(rank)))]
  for name, metric, k in (('ndcg@10', metrics.ndcg, 10), ('hr@5', metrics.hit_rate, 5)):
    expected = np.percentile(metric(sample, k).mean(axis=1), [2.5, 97.5])
    np.testing.assert_allclose(found[name], expected, atol=0.004)
    lower, upper = found[name]
    assert lower < metric(rank, k).mean() < upper


def test_intervals_are_the_same_for_a_seed():
  assert statistics.intervals(_ranks(), (10,), seed=3) == statistics.intervals(
    _ranks(), (10,), seed=3
  )
  assert statistics.intervals(_ranks(), (10,), seed=3) != statistics.intervals(
    _ranks(), (10,), seed=4
  )


def test_intervals_cover_as_often_as_they_say():
  probability, hits = 0.3, 0
  for seed in range(200):
    rank = np.where(np.random.default_rng(seed).random(300) < probability, 0, 99)
    lower, upper = statistics.intervals(rank, (1,), seed, samples=500)['hr@1']
    hits += lower <= probability <= upper
  assert 0.9 <= hits / 200 <= 0.99


def test_p_value_is_scipys_permutation_test():
  generator = np.random.default_rng(0)
  first = metrics.ndcg(generator.integers(0, 30, 60), 10)
  second = metrics.ndcg(generator.integers(0, 14, 60), 10)
  oracle = scipy.stats.permutation_test(
    (first, second),
    lambda a, b, axis: np.mean(a - b, axis=axis),
    permutation_type='samples',
    vectorized=True,
    n_resamples=9999,
    rng=np.random.default_rng(1),
  )
  found = statistics.compare(first, second)
  assert 0.001 < found.p_value < 0.2
  assert found.p_value == pytest.approx(oracle.pvalue, abs=0.015)
  assert found.difference == pytest.approx(oracle.statistic)


def test_p_value_of_few_users_is_that_of_all_sign_flips():
  difference = np.array([0.5, 0.25, 0.25, -0.125, 0.0, 1.0])
  signs = np.array(np.meshgrid(*[[-1, 1]] * 6)).reshape(6, -1).T
  exact = np.mean(np.abs(signs @ difference) >= abs(difference.sum()) - 1e-12)
  found = statistics.compare(difference, np.zeros(6), samples=20_000)
  assert found.p_value == pytest.approx(exact, abs=0.01)


def test_a_system_does_not_differ_from_itself():
  values = metrics.ndcg(_ranks(), 10)
  found = statistics.compare(values, values)
  assert (found.difference, found.lower, found.upper, found.p_value) == (0, 0, 0, 1)


def test_a_difference_of_all_users_is_significant_both_ways():
  better, worse = np.full(500, 0.5), np.full(500, 0.4)
  found = statistics.compare(better, worse, samples=999)
  assert found.difference == pytest.approx(0.1)
  assert found.p_value == pytest.approx(1 / 1000)
  assert statistics.compare(worse, better).difference == pytest.approx(-0.1)


def test_p_values_of_equal_systems_are_spread_evenly():
  values = []
  for seed in range(200):
    generator = np.random.default_rng(seed)
    first, second = metrics.ndcg(generator.integers(0, 20, (2, 100)), 10)
    values.append(statistics.compare(first, second, seed, samples=499).p_value)
  assert np.mean(np.array(values) < 0.05) < 0.11
  assert 0.4 < np.mean(values) < 0.6


def test_holms_adjustment_is_the_textbooks():
  """Holm's steps, by hand."""
  # 4 × .010, 3 × .015 = .045, 2 × .022 = .044 < .045, and .250.
  found = statistics.holm([0.022, 0.010, 0.250, 0.015])
  assert found == pytest.approx([0.045, 0.040, 0.250, 0.045])


def _step_down(p_values, level):
  """Which hypotheses Holm's procedure rejects, as his paper states it."""
  left = sorted(range(len(p_values)), key=lambda i: p_values[i])
  rejected = set()
  while left and p_values[left[0]] <= level / len(left):
    rejected.add(left.pop(0))
  return rejected


@pytest.mark.parametrize('seed', range(20))
def test_an_adjusted_value_is_the_level_at_which_holm_rejects(seed):
  generator = np.random.default_rng(seed)
  values = (generator.integers(1, 400, generator.integers(1, 9)) / 4000).tolist()
  adjusted = statistics.holm(values)
  for level in (0.001, 0.01, 0.0499, 0.1, 0.3, 0.9):
    rejected = {i for i, value in enumerate(adjusted) if value <= level + 1e-12}
    assert rejected == _step_down(values, level + 1e-12)


def test_adjusted_values_end_at_one_and_one_test_stays_as_it_is():
  assert statistics.holm([0.4, 0.9, 0.6]) == [1, 1, 1]
  assert statistics.holm([0.03]) == [0.03]
  assert statistics.holm([]) == []


def _clustered(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
  """(rank, user) of 150 users of one to twelve rows, alike within a user."""
  generator = np.random.default_rng(seed)
  user = np.repeat(np.arange(150), generator.integers(1, 13, 150))
  skill = generator.integers(0, 30, 150)
  return skill[user] + generator.integers(0, 4, len(user)), user


@pytest.mark.slow
def test_intervals_of_several_rows_a_user_resample_users():
  rank, user = _clustered()
  found = statistics.intervals(rank, (10,), samples=4000, user=user)['ndcg@10']
  value = metrics.ndcg(rank, 10)
  generator = np.random.default_rng(1)
  means = []
  for _ in range(4000):
    drawn = generator.integers(0, 150, 150)
    rows = np.concatenate([np.flatnonzero(user == one) for one in drawn])
    means.append(value[rows].mean())
  np.testing.assert_allclose(found, np.percentile(means, [2.5, 97.5]), atol=0.006)
  as_if_independent = statistics.intervals(rank, (10,), samples=4000)['ndcg@10']
  assert np.ptp(found) > 1.5 * np.ptp(as_if_independent)


def test_a_row_a_user_is_as_ever():
  rank = _ranks()
  user = np.random.default_rng(2).permutation(len(rank))
  assert statistics.intervals(rank, (10,), user=user) == statistics.intervals(
    rank, (10,)
  )
  first, second = metrics.ndcg(rank, 10), metrics.ndcg(_ranks(seed=1), 10)
  assert statistics.compare(first, second, user=user) == statistics.compare(
    first, second
  )


def test_comparison_of_several_rows_a_user_flips_users():
  rank, user = _clustered()
  first, second = (
    metrics.ndcg(rank, 10),
    metrics.ndcg(_clustered(1)[0][: len(rank)], 10),
  )
  second = np.resize(second, len(first))
  found = statistics.compare(first, second, user=user)
  assert found.users == 150
  assert found.difference == pytest.approx((first - second).mean())
  sums = np.array([(first - second)[user == one].sum() for one in range(150)])
  oracle = scipy.stats.permutation_test(
    (sums, np.zeros(150)),
    lambda a, b, axis: np.sum(a - b, axis=axis),
    permutation_type='samples',
    vectorized=True,
    n_resamples=9999,
    rng=np.random.default_rng(1),
  )
  assert found.p_value == pytest.approx(oracle.pvalue, abs=0.02)
