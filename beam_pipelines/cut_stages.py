"""The stage that finds the moments at which a log is cut; see cuts.py."""

import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import apache_beam as beam
import numpy as np
from apache_beam.pvalue import AsSingleton
from apache_beam.typehints import with_output_types

from beam_pipelines import cuts
from beam_pipelines.cuts import Plan, Search, Span
from beam_pipelines.spill import Stored
from beam_pipelines.stage import Stage
from ncf_tfdata import times as times_lib
from ncf_tfdata.errors import UserError
from ncf_tfdata.manifest import Cuts

# Bins and counts of no timestamps. What is combined always has some part, so that no
# default has to be brought in by a side input.
_NOTHING = (np.zeros(0, np.int64), np.zeros(0, np.int64))


class FindCuts(Stage):
  """Finds how far a log reaches and where it is cut: one `Cuts`, None of an empty log.

  Takes the `Times` of kept rows, ascending, some at a time.
  """

  def __init__(self, plan: Plan):
    """Takes which moments to look for."""
    super().__init__()
    self._plan = plan

  def expand(self, times: beam.PCollection[Stored]) -> beam.PCollection[Cuts | None]:
    plan = self._plan
    join = beam.CombineGlobally(_join).without_defaults()
    span = (
      times
      | 'Spans' >> beam.Map(_span)
      | 'Span' >> join
      | 'CheckSpan' >> beam.Map(_checked)
    )
    found = {'span': span}
    if plan.by_time:
      begun = span | 'BeginTest' >> beam.Map(_begin_test, plan)
      # A cut that is given needs no search, which is most of a small job's graph.
      test = found['test'] = begun if plan.at else _found(times, begun, 'Test')
      if plan.validation:
        up_to = (
          times
          | 'CountUpToTest' >> beam.Map(_count_up_to, AsSingleton(test))
          | 'SumUpToTest' >> beam.CombineGlobally(sum).without_defaults()
        )
        begun = _together(
          'BeginValidation',
          functools.partial(_begin_validation, plan.quantile),
          span=span,
          test=test,
          up_to=up_to,
        )
        found['validation'] = _found(times, begun, 'Validation')
    return _together('Cuts', _cuts, **found)


def _found(
  times: beam.PCollection[Stored], search: beam.PCollection[Search | None], name: str
) -> beam.PCollection[Search | None]:
  """Goes on until the moment is found."""
  histogram, add = _Histogram(), _SumBins()  # type: ignore[no-untyped-call]
  for number in range(1, cuts.ROUNDS + 1):
    counts = (
      times
      | f'{name}Bins{number}' >> beam.ParDo(histogram, AsSingleton(search))
      | f'{name}Sum{number}' >> beam.CombineGlobally(add).without_defaults()
    )
    search = _together(f'{name}Narrow{number}', _narrow, search=search, counts=counts)
  return search


def _together(
  label: str, function: Callable[..., Any], **parts: beam.PCollection[Any]
) -> beam.PCollection[Any]:
  """Calls a function with the one element of each of some PCollections.

  They meet in a group. As side inputs, the direct runner of Beam 2.77 takes long chains
  of them for empty ones.
  """
  keyed = {
    name: part | f'{label}Of{name.title()}' >> beam.WithKeys(0)
    for name, part in parts.items()
  }

  def call(element: tuple[int, dict[str, Iterable[Any]]]) -> Any:
    return function(**{name: next(iter(found)) for name, found in element[1].items()})

  return keyed | f'{label}Together' >> beam.CoGroupByKey() | label >> beam.Map(call)


def _span(times: Stored) -> Span | None:
  return cuts.span(times.get())


def _join(spans: Iterable[Span | None]) -> Span | None:
  result = None
  for one in spans:
    if one is not None:
      result = one if result is None else result.join(one)
  return result


def _checked(span: Span | None) -> Span | None:
  if span is not None and span.last - span.first > np.iinfo(np.int64).max:
    raise UserError(
      f'timestamps from {span.first} to {span.last} are too far apart to cut a log by, '
      'or to be kept. Take out what stands for no time.'
    )
  return span


def _begin_test(span: Span | None, plan: Plan) -> Search | None:
  if span is None:
    return None
  if not plan.at:
    return Search(span.first, span.last, cuts.rank_of(plan.quantile, span.count))
  at = times_lib.moment(plan.at, span.last, 'time_at')
  if not span.first <= at < span.last:
    first, last = (_told(time, span.last) for time in (span.first, span.last))
    raise UserError(
      f'--time_at={plan.at} leaves no row on one of its sides: the kept rows are from '
      f'{first} to {last}.'
    )
  return Search(at, at, 1)


def _told(timestamp: int, last: int) -> str:
  return f'{timestamp} ({times_lib.date(timestamp, last)} UTC)'


def _begin_validation(
  quantile: float, span: Span | None, test: Search | None, up_to: int
) -> Search | None:
  if test is None or span is None:
    return None
  return Search(span.first, test.low, cuts.rank_of(quantile, up_to))


@with_output_types(tuple[np.ndarray, np.ndarray])
class _Histogram(beam.DoFn):
  def process(
    self, times: Stored, search: Search | None
  ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    if search is None or search.found:
      yield _NOTHING
    else:
      yield cuts.histogram(times.get(), search)


class _SumBins(beam.CombineFn):
  """Sums histograms: (bins, counts) of each to int64 [BINS]."""

  def create_accumulator(self) -> np.ndarray:
    return np.zeros(cuts.BINS, np.int64)

  def add_input(
    self, total: np.ndarray, counted: tuple[np.ndarray, np.ndarray]
  ) -> np.ndarray:
    bins, counts = counted
    total[bins] += counts
    return total

  def merge_accumulators(self, totals: Iterable[np.ndarray]) -> np.ndarray:
    return np.sum(list(totals), axis=0)

  def extract_output(self, total: np.ndarray) -> np.ndarray:
    return total


def _narrow(search: Search | None, counts: np.ndarray) -> Search | None:
  if search is None or search.found:
    return search
  return cuts.narrowed(search, counts)


def _count_up_to(times: Stored, search: Search | None) -> int:
  if search is None:
    return 0
  return int(times.get().count_before(np.array([search.low + 1], object))[0])


def _cuts(
  span: Span | None, test: Search | None = None, validation: Search | None = None
) -> Cuts | None:
  if span is None:
    return None
  return Cuts(
    span.first,
    span.last,
    None if test is None else test.low,
    None if validation is None else validation.low,
  )
