"""Timestamps of a log: the unit that they are in, and what they say to people.

This module imports neither TensorFlow nor Beam.
"""

import datetime

DAY = 86_400  # seconds

# Timestamps since 1970 are seconds up to the year 5138, milliseconds from 1973 on.
_UNITS = ((10**11, 1), (10**14, 10**3), (10**17, 10**6))


def units_per_second(last: int) -> int:
  """The unit of a log: 1 of seconds, 10**3 of milliseconds, 10**6, or 10**9.

  Args:
    last: The latest timestamp of the log, since 1970, whose size tells its unit.
  """
  return next((unit for limit, unit in _UNITS if abs(last) < limit), 10**9)


def date(timestamp: int, last: int) -> str:
  """A timestamp as a UTC date and time, where it can be one; else ''."""
  try:
    when = datetime.datetime.fromtimestamp(
      timestamp // units_per_second(last), datetime.UTC
    )
  except (OverflowError, OSError, ValueError):
    return ''
  return when.strftime('%Y-%m-%d %H:%M:%S')
