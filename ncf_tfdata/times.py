"""Timestamps of a log: the unit that they are in, and what they say to people.

This module imports neither TensorFlow nor Beam.
"""

import datetime

from ncf_tfdata.errors import UserError

DAY = 86_400  # seconds

# Timestamps since 1970 are seconds up to the year 5138, milliseconds from 1973 on.
_UNITS = ((10**11, 1), (10**14, 10**3), (10**17, 10**6))


def units_per_second(last: int) -> int:
  """The unit of a log: 1 of seconds, 10**3 of milliseconds, 10**6, or 10**9.

  Args:
    last: The latest timestamp of the log, since 1970, whose size tells its unit.
  """
  return next((unit for limit, unit in _UNITS if abs(last) < limit), 10**9)


# Seconds of what people count in, and from where on; largest first.
_WORDS = (
  (2 * 365 * DAY, 365 * DAY, 'year'),
  (60 * DAY, 30 * DAY, 'month'),
  (2 * DAY, DAY, 'day'),
  (2 * 3600, 3600, 'hour'),
  (120, 60, 'minute'),
  (0, 1, 'second'),
)


def words(length: int, per_second: int) -> str:
  """A length of time as people say it: `35 seconds`, `3 days`, `4 months`.

  Args:
    length: In the log's unit, from 0.
    per_second: `units_per_second` of the log.
  """
  seconds = length / per_second
  if 0 < seconds < 1:
    return 'under a second'
  size, name = next((size, name) for start, size, name in _WORDS if seconds >= start)
  number = round(seconds / size)
  return f'{number:,} {name}{"" if number == 1 else "s"}'


def date(timestamp: int, last: int) -> str:
  """A timestamp as a UTC date and time, where it can be one; else ''."""
  try:
    when = datetime.datetime.fromtimestamp(
      timestamp // units_per_second(last), datetime.UTC
    )
  except (OverflowError, OSError, ValueError):
    return ''
  return when.strftime('%Y-%m-%d %H:%M:%S')


def told(timestamp: int, last: int) -> str:
  """A timestamp, and behind it the UTC date and time, where it can be one."""
  when = date(timestamp, last)
  return f'{timestamp} ({when})' if when else str(timestamp)


def moment(text: str, last: int, flag: str) -> int:
  """A moment that a user names, as a timestamp of the log.

  Args:
    text: A whole number in the log's unit, or a date or time in ISO 8601; without a
      zone it is UTC.
    last: The latest timestamp of the log, whose size tells its unit: seconds,
      milliseconds, microseconds or nanoseconds since 1970.
    flag: That it was given by, for the error.

  Raises:
    UserError: It is neither.
  """
  try:
    return int(text)
  except ValueError:
    pass
  try:
    when = datetime.datetime.fromisoformat(text)
  except ValueError as error:
    raise UserError(
      f'--{flag}={text} is neither a date like 2001-02-03 (or a time like '
      '2001-02-03T04:05:06) nor a whole number in the unit of the log.'
    ) from error
  if when.tzinfo is None:
    when = when.replace(tzinfo=datetime.UTC)
  since = when - datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
  microseconds = since // datetime.timedelta(microseconds=1)
  return microseconds * units_per_second(last) // 10**6
