"""What Beam's metrics count of a job: for its monitoring and a line of the summary.

Never for data. A bundle that is tried again may be counted twice, and some runners have
no metrics; the counts of a manifest travel through the job like its rows (publish.py).
"""

import dataclasses
import logging
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from apache_beam.metrics import Metrics, MetricsFilter
from apache_beam.runners import runner

from beam_pipelines import publish

NAMESPACE = 'prepare'
NEGATIVES_REDRAWN = 'negatives_redrawn'
HISTORY_LENGTH = 'history_length'


@dataclasses.dataclass(frozen=True)
class Distribution:
  """What Beam keeps of some whole numbers."""

  count: int
  sum: int
  min: int
  max: int


@dataclasses.dataclass(frozen=True)
class Found:
  """The metrics of a job, over all its steps.

  Attributes:
    counters: By name.
    distributions: By name; of at least one value each.
    attempted: Whether bundles that were tried again may be in them more than once.
  """

  counters: dict[str, int]
  distributions: dict[str, Distribution]
  attempted: bool


def count(**counts: int) -> None:
  """Adds to counters; to be called once a block, not once a row."""
  for name, value in counts.items():
    Metrics.counter(NAMESPACE, name).inc(value)


def distribute(name: str, values: np.ndarray) -> None:
  """Adds int [n] values to a distribution.

  Beam takes them one by one, at about .2 µs: few enough where there is one a user.
  """
  update: Any = Metrics.distribution(NAMESPACE, name).update
  for value in values.tolist():
    update(value)


def read(result: runner.PipelineResult, namespace: str = NAMESPACE) -> Found | None:
  """Asks a runner for a job's metrics, committed ones where it knows them.

  Args:
    result: Of the job, which is done.
    namespace: Of the metrics.

  Returns:
    What the runner knows, or None where that is nothing.
  """
  try:
    found = result.metrics().query(MetricsFilter().with_namespace(namespace))
  except Exception as error:
    # The job is done and its output is there, whatever becomes of this question.
    logging.getLogger(__name__).info('no metrics: %s', error)
    return None
  counters: dict[str, int] = {}
  distributions: dict[str, Distribution] = {}
  attempted = False
  for name, value, only_attempted in _values(found['counters']):
    counters[name] = counters.get(name, 0) + value
    attempted |= only_attempted
  for name, value, only_attempted in _values(found['distributions']):
    if value.count:
      one = Distribution(value.count, value.sum, value.min, value.max)
      other = distributions.get(name)
      distributions[name] = one if other is None else _merge(one, other)
      attempted |= only_attempted
  return Found(counters, distributions, attempted) if counters else None


def _values(results: Iterable[Any]) -> Iterator[tuple[str, Any, bool]]:
  """(name, value, whether it is of attempts) of each MetricResult with a value."""
  for result in results:
    attempted = result.committed is None
    value = result.attempted if attempted else result.committed
    if value is not None:
      yield result.key.metric.name, value, attempted


def _merge(one: Distribution, other: Distribution) -> Distribution:
  return Distribution(
    one.count + other.count,
    one.sum + other.sum,
    min(one.min, other.min),
    max(one.max, other.max),
  )


def describe(found: Found | None) -> str:
  """One line for the summary, of what was counted; empty where nothing was."""
  if found is None:
    return ''
  left_out = [name for name in publish.LEFT_OUT if name in found.counters]
  counts = {
    'read': found.counters.get('read'),
    'rejected': found.counters.get('rejected'),
    'filtered': sum(found.counters[name] for name in left_out) if left_out else None,
    'negatives redrawn': found.counters.get(NEGATIVES_REDRAWN),
  }
  parts = [f'{n:,} {name}' for name, n in counts.items() if n is not None]
  if lengths := found.distributions.get(HISTORY_LENGTH):
    mean = lengths.sum / lengths.count
    parts.append(
      f'{lengths.count:,} histories of {lengths.min:,} to {lengths.max:,} '
      f'(mean {mean:,.1f})'
    )
  if not parts:
    return ''
  tried = ', attempts that failed included' if found.attempted else ''
  return f'Counted by Beam{tried}: {", ".join(parts)}'
