"""How sure a metric is: bootstrap intervals, and paired comparisons of systems.

Users are resampled. Means over users depend only on how often each distinct value
occurs, so a resample is one multinomial draw over distinct values (as a set of sign
flips is one binomial draw each): exact, and independent of the number of users.

Rows of one user are not independent. Where users have several, they are resampled, and
their signs flipped, with all their rows (Field and Welsh, Bootstrapping clustered data,
JRSS B 2007). Nearly every user is then a value of their own, so that very many users
get fewer resamples.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from ncf_tfdata.evaluation import metrics

# Draws held in memory at a time, and made at most for one number.
_DRAWS, _ALL_DRAWS = 1 << 22, 1 << 30


def _affordable(samples: int, values: int) -> int:
  """As many samples of so many values as can be drawn: a hundred at least."""
  return min(samples, max(100, _ALL_DRAWS // values))


def _clusters(user: np.ndarray | None) -> np.ndarray | None:
  """The place of each row's user, int64 [n]; None where no user has two rows."""
  if user is None:
    return None
  distinct, place = np.unique(user, return_inverse=True)
  return None if len(distinct) == len(user) else place


def _by_cluster(place: np.ndarray, columns: Sequence[np.ndarray]) -> np.ndarray:
  """Sums of float [n] columns over each user's rows, and how many: [users, m + 1]."""
  sums = [np.bincount(place, weights=column) for column in columns]
  return np.stack([*sums, np.bincount(place)], axis=1)


def _resampled_ratios(
  clusters: np.ndarray, samples: int, generator: np.random.Generator
) -> np.ndarray:
  """Means over rows, of resamples of users: sums [users, m + 1] → [samples, m]."""
  distinct, count = np.unique(clusters, axis=0, return_counts=True)
  samples = _affordable(samples, len(distinct))
  sums = _resampled_means(distinct, count, samples, generator)
  return sums[:, :-1] / sums[:, -1:]


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
  user: np.ndarray | None = None,
) -> dict[str, tuple[float, float]]:
  """Percentile bootstrap intervals of every metric of `metrics.per_row`.

  Source: Efron and Tibshirani, An introduction to the bootstrap (1993), chapter 13.

  Args:
    rank: float [n].
    ks: Cut-offs.
    seed: Of the resampling.
    samples: Number of resamples.
    level: Nominal coverage.
    user: int [n], whose rows they are; each is a user of its own by default.

  Returns:
    (lower, upper) by metric name.
  """
  generator = np.random.default_rng(seed)
  place = _clusters(user)
  if place is not None:
    columns = metrics.per_row(rank, ks)
    clusters = _by_cluster(place, list(columns.values()))
    lower, upper = _bounds(_resampled_ratios(clusters, samples, generator), level)
    bounds = zip(lower.tolist(), upper.tolist(), strict=True)
    return dict(zip(columns, bounds, strict=True))
  # From the largest k on all metrics are zero, and ranks need not be told apart.
  distinct, count = np.unique(np.minimum(rank, max(ks)), return_counts=True)
  columns = metrics.per_row(distinct, ks)
  values = np.stack(list(columns.values()), axis=1)
  means = _resampled_means(values, count, samples, generator)
  lower, upper = _bounds(means, level).tolist()
  return dict(zip(columns, zip(lower, upper, strict=True), strict=True))


@dataclasses.dataclass(frozen=True)
class Comparison:
  """Mean difference of two systems on the same rows.

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
  first: np.ndarray,
  second: np.ndarray,
  seed: int = 0,
  samples: int = 9999,
  user: np.ndarray | None = None,
) -> Comparison:
  """Paired randomisation (sign-flip) test of equal means, and the interval.

  Were the systems exchangeable, each user's difference would as likely have the
  other sign; p = (1 + flips at least as extreme) / (1 + samples). Sources: Smucker,
  Allan and Carterette, A comparison of statistical significance tests for
  information retrieval evaluation (CIKM 2007); for the two ones: Phipson and Smyth,
  Permutation p-values should never be zero (2010).

  Args:
    first: float [n], a metric of each row.
    second: float [n], the same of the other system, in the same order of rows.
    seed: Of the draws.
    samples: Number of sign flips and of resamples.
    user: int [n], whose rows they are; each is a user of its own by default.
  """
  difference = np.asarray(first, np.float64) - second
  mean = float(difference.mean())
  generator = np.random.default_rng(seed)
  place = _clusters(user)
  if place is not None:
    clusters = _by_cluster(place, [difference])
    difference = clusters[:, 0]

  size, count = np.unique(np.abs(difference), return_counts=True)
  samples = _affordable(samples, len(size))
  step = max(1, _DRAWS // len(size))
  flipped = []
  for start in range(0, samples, step):
    shape = (min(step, samples - start), len(size))
    flipped.append((2 * generator.binomial(count, 0.5, shape) - count) @ size)
  # Sums that are equal in exact arithmetic count as equally extreme.
  extreme = np.abs(np.concatenate(flipped)) >= np.abs(difference.sum()) - 1e-9
  p_value = float(1 + np.count_nonzero(extreme)) / (1 + samples)

  if place is None:
    value, count = np.unique(difference, return_counts=True)
    means = _resampled_means(value[:, None], count, samples, generator)
  else:
    means = _resampled_ratios(clusters, samples, generator)
  lower, upper = _bounds(means[:, 0], 0.95).tolist()
  return Comparison(mean, lower, upper, p_value, len(difference))


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
