"""The moments that split a log by time: exact quantiles, found in parallel.

A quantile of n timestamps is the one at rank ceil(q n), counted from 1 in ascending
order. It is found without sorting them all: a round counts the timestamps of a range
in 65,536 bins of equal width, and goes on in the bin that the rank falls into. Four
rounds are enough for all of int64.

    all times ─▶ span ─▶ up to four rounds ─▶ T ─▶ up to four rounds ─▶ T of validation
"""

import dataclasses
import fractions
import math

import numpy as np

BINS = 1 << 16
ROUNDS = 4  # BINS**ROUNDS covers int64


@dataclasses.dataclass(frozen=True)
class Times:
  """Timestamps of some rows, ascending.

  Attributes:
    since: Unsigned [n], since `epoch`.
    epoch: The earliest timestamp that may occur.
  """

  since: np.ndarray
  epoch: int

  def count_before(self, bounds: np.ndarray) -> np.ndarray:
    """How many are below each of some bounds, whole numbers: int64."""
    # As objects, for a bound may be beyond int64 and below the epoch.
    shifted = np.array([max(0, int(bound) - self.epoch) for bound in bounds], object)
    highest = int(self.since[-1]) if len(self.since) else 0
    clipped = np.minimum(shifted, highest + 1).astype(np.uint64)
    found = np.searchsorted(self.since.astype(np.uint64), clipped)
    return found.astype(np.int64)


@dataclasses.dataclass(frozen=True)
class Span:
  """How far some timestamps reach.

  Attributes:
    first: The earliest.
    last: The latest.
    count: How many there are.
  """

  first: int
  last: int
  count: int

  def join(self, other: 'Span') -> 'Span':
    """The span of both."""
    return Span(
      min(self.first, other.first), max(self.last, other.last), self.count + other.count
    )


def span(times: Times) -> Span | None:
  """The span of timestamps; None of none."""
  if not len(times.since):
    return None
  first, last = (times.epoch + int(times.since[place]) for place in (0, -1))
  return Span(first, last, len(times.since))


@dataclasses.dataclass(frozen=True)
class Search:
  """What is known of a timestamp that is looked for.

  Attributes:
    low: It is no earlier than this.
    high: Nor later than this.
    rank: Its rank among the timestamps in between, from 1.
  """

  low: int
  high: int
  rank: int

  @property
  def found(self) -> bool:
    return self.low == self.high

  @property
  def width(self) -> int:
    """Of a bin."""
    return -(-(self.high - self.low + 1) // BINS)


def rank_of(quantile: float, count: int) -> int:
  """The rank of a quantile, from 1: ceil(quantile * count), computed exactly.

  Args:
    quantile: In (0, 1), meant as its decimal digits say: .9 is nine tenths.
    count: Of timestamps, at least 1.
  """
  return max(1, math.ceil(fractions.Fraction(str(quantile)) * count))


def histogram(times: Times, search: Search) -> tuple[np.ndarray, np.ndarray]:
  """Counts the timestamps in the bins of a search.

  Returns:
    Bins that hold any, int64 [m], and the count of each, int64 [m].
  """
  # Only the part between low and high, which is contiguous.
  bounds = times.count_before(np.array([search.low, search.high + 1], object))
  part = times.since[bounds[0] : bounds[1]].astype(np.uint64)
  # since >= low - epoch here, and the difference fits: it is within [0, high - low].
  shift = search.low - times.epoch
  inside = part - np.uint64(shift) if shift >= 0 else part + np.uint64(-shift)
  bins = (inside // np.uint64(search.width)).astype(np.int64)
  # They are in order, as the times are.
  first = np.flatnonzero(np.diff(bins, prepend=-1))
  return bins[first], np.diff(first, append=len(bins))


def narrowed(search: Search, counts: np.ndarray) -> Search:
  """Goes on in the bin that the rank falls into.

  Args:
    search: So far.
    counts: int64 [BINS], timestamps in each bin.
  """
  ends = np.cumsum(counts)
  place = int(np.searchsorted(ends, search.rank))
  earlier = int(ends[place] - counts[place])
  low = search.low + place * search.width
  return Search(
    low=low,
    high=min(low + search.width - 1, search.high),
    rank=search.rank - earlier,
  )


@dataclasses.dataclass(frozen=True)
class Plan:
  """Which moments are looked for; see prepare's flags.

  Attributes:
    by_time: Whether the log is split by time; else only how far it reaches is.
    quantile: Share of the rows that come up to a cut.
    at: The cut before test rows, in place of its quantile; '' for none.
    validation: Whether what comes up to it is cut once more, for validation.
  """

  by_time: bool
  quantile: float
  at: str
  validation: bool
