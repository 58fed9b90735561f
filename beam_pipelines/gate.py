"""What is asked of a log before it becomes a dataset, and what is said of it."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from beam_pipelines.config import InspectionConfig
from ncf_tfdata.config import Config
from ncf_tfdata.dataset import TEST, VALIDATION
from ncf_tfdata.errors import UserError
from ncf_tfdata.inspection import BOT_FACTOR, MIN_SUPPORT, Inspection


class Question(NamedTuple):
  """A share of a log that has a threshold.

  Attributes:
    flag: The threshold's name.
    share: None where it cannot be known.
    least: Whether the threshold is the least that passes; else it is the largest.
    what: What it is a share of.
    unknown: Why it cannot be known.
    advice: What may be done.
  """

  flag: str
  share: float | None
  least: bool
  what: str
  unknown: str
  advice: str


def questions(found: Inspection) -> Iterator[Question]:
  """What may be asked of a log that was inspected."""
  yield Question(
    'max_tied',
    found.tied,
    False,
    'of the rows share their timestamp with another row of their user',
    'there are no timestamps',
    'Their order is that of the file: compare with --tie_order=random, or allow more',
  )
  yield Question(
    'max_cold_targets',
    found.cold_targets,
    False,
    'of the test targets are items that nobody had up to the cut',
    'there are no test targets',
    'Cut elsewhere by --time_quantile or --time_at, or allow more',
  )
  yield Question(
    'min_order_effect',
    found.order_effect,
    True,
    "of the sequential rules are gone once each user's rows are shuffled",
    f'no two items follow each other {MIN_SUPPORT} times',
    'Their order says little: use a model without order, or allow less',
  )
  yield Question(
    'max_bot_rows',
    found.bot_share,
    False,
    f'of the rows are of users with more than {BOT_FACTOR} times the mean number of '
    'rows',
    'there are no rows',
    f'The first: {_named(found)}. Leave them out, lower --max_user_history, or allow '
    'more',
  )


def refuse_unknown(limits: InspectionConfig, times: bool, layout: object) -> None:
  """Makes sure before a job starts that what is asked can be known.

  Args:
    limits: What is asked.
    times: Whether the log has timestamps.
    layout: Its columns, to be shown.

  Raises:
    UserError: It needs timestamps.
  """
  if limits.max_tied is not None and not times:
    raise UserError(
      f'--max_tied={limits.max_tied:g} needs timestamps, and the log has none: '
      f'{layout}. Name their column by --columns or --timestamp_column, or leave '
      '--max_tied out.'
    )


def check(limits: Config, asked: Iterable[Question]) -> None:
  """Compares what was measured with the thresholds.

  Args:
    limits: Holds the thresholds, None where nothing is asked.
    asked: What was measured.

  Raises:
    UserError: A log is beyond one, or it cannot be known whether it is.
  """
  for one in asked:
    limit = getattr(limits, one.flag)
    if limit is None:
      continue
    if one.share is None:
      raise UserError(
        f'--{one.flag}={limit:g} cannot be checked: {one.unknown}. Leave it out.'
      )
    if one.share < limit if one.least else one.share > limit:
      word = 'less' if one.least else 'more'
      raise UserError(
        f'{percent(one.share)} {one.what}, {word} than --{one.flag}={limit:g} allows. '
        f'{one.advice}.'
      )


def percent(share: float) -> str:
  """A share in words."""
  return f'{100 * share:.3g} %'


def _named(found: Inspection) -> str:
  bots = sorted(found.bots.items(), key=lambda bot: (-bot[1], bot[0]))
  return ', '.join(f'{user!r} with {rows:,}' for user, rows in bots)


def lines(found: Inspection) -> list[str]:
  """What the summary says of a log that was inspected."""
  shares = [
    ('rows tied in time with another of the user', 'tied_rows', 'rows'),
    ('users whose last row is tied', 'tied_users', 'users'),
    ('rows of the log that repeat an item', 'repeated_rows', 'log_rows'),
    ('  that of the row before', 'consecutive_repeats', 'log_rows'),
  ]
  shown = [(label, found.share(*names)) for label, *names in shares]
  result = [line(label, percent(share)) for label, share in shown if share is not None]
  for split in (VALIDATION, TEST):
    result += _held_out_lines(found, split)
  result.append(
    line(f'pairs in a row {MIN_SUPPORT} times or more', f'{found.counts["rules"]:,}')
  )
  if found.order_effect is not None:
    result.append(line('  gone once rows are shuffled', percent(found.order_effect)))
  result.append(
    line(f'users of {BOT_FACTOR} times the mean: bots?', f'{found.counts["bots"]:,}')
  )
  if found.bots:
    result.append(line('  share of all rows', percent(found.bot_share or 0)))
    result.append(f'    {_named(found)}')
  return result


def _held_out_lines(found: Inspection, split: str) -> Iterator[str]:
  """What comes after a split's cut, and how far its rows are from what was before."""
  if (rows := found.counts.get(f'rows_after_{split}_cut')) is not None:
    users, items = (
      found.counts[f'{what}_after_{split}_cut'] for what in ('users', 'items')
    )
    yield line(f'rows after the {split} cut', f'{rows:,}')
    yield line('  users seen only then', f'{users:,}')
    yield line('  items seen only then', f'{items:,}')
    cold = found.share(f'{split}_cold_targets', f'{split}_targets')
    if cold is not None:
      yield line(f'  {split} rows of such items', percent(cold))
  for name, since in (('row_before', 'row before'), ('train', 'last train row')):
    if quartiles := found.distances.get(f'{split}_since_{name}'):
      text = ' · '.join(f'{one:,}' for one in quartiles)
      yield line(f'{split}: quartiles of time since {since}', text)


def line(label: str, value: str) -> str:
  """A line of the summary."""
  return f'{label:<45}{value:>15}' if len(value) <= 15 else f'{label:<45} {value}'
