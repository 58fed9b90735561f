"""How sure a metric is: bootstrap intervals, and paired comparisons of systems.

Users are resampled. Means over users depend only on how often each distinct value
occurs, so a resample is one multinomial draw over distinct values (as a set of sign
flips is one binomial draw each): exact, and independent of the number of users.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from ncf_tfdata.evaluation import metrics

# Draws held in memory at a time.
_DRAWS = 1 << 22


def _resampled_means(
  values: np.ndarray, count: np.ndarray, samples: int, generator: np.random.Generator
) -> np.ndarray:
  """Means of resamples: values [j, m] that occur count [j] times → [samples, m]."""
  total = count.sum()
  step = max(1, _DRAWS // len(count))
  draws = [
    generator.multinomial(total, count / total, size=min(step, samples - start))
    @ values
    for start in range(0, samples, step)
  ]
  return np.concatenate(draws) / total


def _bounds(means: np.ndarray, level: float) -> np.ndarray:
  """Percentile interval: [samples, …] → [2, …]."""
  tail = 50 * (1 - level)
  return np.percentile(means, [tail, 100 - tail], axis=0)


def intervals(
  rank: np.ndarray,
  ks: Sequence[int],
  seed: int = 0,
  samples: int = 1000,
  level: float = 0.95,
) -> dict[str, tuple[float, float]]:
  """Percentile bootstrap intervals of every metric of `metrics.per_row`.

  Source: Efron and Tibshirani, An introduction to the bootstrap (1993), chapter 13.

  Args:
    rank: float [n].
    ks: Cut-offs.
    seed: Of the resampling.
    samples: Number of resamples.
    level: Nominal coverage.

  Returns:
    (lower, upper) by metric name.
  """
  # From the largest k on all metrics are zero, and ranks need not be told apart.
  distinct, count = np.unique(np.minimum(rank, max(ks)), return_counts=True)
  columns = metrics.per_row(distinct, ks)
  values = np.stack(list(columns.values()), axis=1)
  means = _resampled_means(values, count, samples, np.random.default_rng(seed))
  lower, upper = _bounds(means, level).tolist()
  return dict(zip(columns, zip(lower, upper, strict=True), strict=True))


@dataclasses.dataclass(frozen=True)
class Comparison:
  """Mean difference of two systems on the same users.

  Attributes:
    difference: Mean of first minus second.
    lower: Lower end of its 95 % bootstrap interval.
    upper: Upper end of it.
    p_value: Two-sided, of a paired randomisation test.
    users: How many were compared.
  """

  difference: float
  lower: float
  upper: float
  p_value: float
  users: int


def compare(
  first: np.ndarray, second: np.ndarray, seed: int = 0, samples: int = 9999
) -> Comparison:
  """Paired randomisation (sign-flip) test of equal means, and the interval.

  Were the systems exchangeable, each user's difference would as likely have the
  other sign; p = (1 + flips at least as extreme) / (1 + samples). Sources: Smucker,
  Allan and Carterette, A comparison of statistical significance tests for
  information retrieval evaluation (CIKM 2007); for the two ones: Phipson and Smyth,
  Permutation p-values should never be zero (2010).

  Args:
    first: float [n], a metric of each user.
    second: float [n], the same of the other system, in the same order of users.
    seed: Of the draws.
    samples: Number of sign flips and of resamples.
  """
  users = len(first)
  difference = np.asarray(first, np.float64) - second
  generator = np.random.default_rng(seed)

  size, count = np.unique(np.abs(difference), return_counts=True)
  step = max(1, _DRAWS // len(size))
  flipped = []
  for start in range(0, samples, step):
    shape = (min(step, samples - start), len(size))
    flipped.append((2 * generator.binomial(count, 0.5, shape) - count) @ size)
  # Sums that are equal in exact arithmetic count as equally extreme.
  extreme = np.abs(np.concatenate(flipped)) >= np.abs(difference.sum()) - 1e-9
  p_value = float(1 + np.count_nonzero(extreme)) / (1 + samples)

  value, count = np.unique(difference, return_counts=True)
  means = _resampled_means(value[:, None], count, samples, generator)
  lower, upper = _bounds(means[:, 0], 0.95).tolist()
  return Comparison(float(difference.mean()), lower, upper, p_value, users)


def holm(p_values: Sequence[float]) -> list[float]:
  """Adjusts p-values of a family of tests, so that one false alarm in all is as rare.

  The j-th smallest of m, from 1, becomes the largest of (m - i + 1) p_i over i <= j,
  and 1 at most. It holds whether or not the tests depend on each other. Source: Holm, A
  simple sequentially rejective multiple test procedure (Scandinavian Journal of
  Statistics, 1979).

  Args:
    p_values: Of all tests of the family, in any order.

  Returns:
    The adjusted ones, in the same order.
  """
  values = np.asarray(p_values, np.float64)
  order = np.argsort(values, kind='stable')
  steps = np.arange(len(values), 0, -1) * values[order]
  adjusted = np.empty(len(values))
  adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1)
  return adjusted.tolist()
