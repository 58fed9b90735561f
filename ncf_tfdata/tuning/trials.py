"""Trials that have ended, and their table, trials.csv.

A search that was killed goes on from this file. So each line has all that the next
suggestion follows from.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import pathlib
from collections.abc import Mapping, Sequence

from ncf_tfdata import atomic
from ncf_tfdata.errors import UserError
from ncf_tfdata.tuning.space import Space, Value, as_text

FINISHED, PRUNED, FAILED = STATES = ('finished', 'pruned', 'failed')

_COLUMNS = ('trial', 'state', 'value', 'epoch', 'seconds', 'curve', 'reason')
# Between the metric's values of a trial's epochs.
_BETWEEN = ' '


@dataclasses.dataclass(frozen=True)
class Trial:
  """A trial that has ended.

  Attributes:
    number: From 0 on; 0 is the recipe that the search began with.
    state: Of `STATES`.
    values: Searched settings by name of the flag; what is not there is the recipe's.
    curve: The watched metric on validation, epoch by epoch.
    seconds: Time it took.
    reason: Why it failed.
  """

  number: int
  state: str
  values: Mapping[str, Value]
  curve: tuple[float, ...]
  seconds: float
  reason: str = ''

  @property
  def value(self) -> float | None:
    """The best of the curve; None without an epoch."""
    return max(self.curve, default=None)

  @property
  def epoch(self) -> int | None:
    """The epoch of `value`, from 1 on."""
    return None if self.value is None else self.curve.index(self.value) + 1


def best(trials: Sequence[Trial]) -> Trial | None:
  """The finished trial with the best value, the first of several."""
  finished = [trial for trial in trials if trial.state == FINISHED]
  return max(finished, key=lambda trial: trial.value or 0.0, default=None)


def write(path: pathlib.Path, trials: Sequence[Trial], space: Space) -> None:
  """Writes the table; its numbers read back as they are, bit by bit."""
  text = io.StringIO(newline='')
  writer = csv.writer(text, lineterminator='\n')
  writer.writerow([*_COLUMNS, *space])
  for trial in trials:
    cells: list[object] = [
      trial.number,
      trial.state,
      '' if trial.value is None else trial.value,
      trial.epoch or '',
      f'{trial.seconds:.1f}',
      _BETWEEN.join(map(repr, trial.curve)),
      trial.reason,
      *(as_text(trial.values[name]) if name in trial.values else '' for name in space),
    ]
    writer.writerow(cells)
  atomic.write_text(path, text.getvalue())


def read(path: pathlib.Path, space: Space) -> list[Trial]:
  """Reads what `write` wrote; no trials where there is no file.

  Raises:
    UserError: It is damaged.
  """
  try:
    with path.open(encoding='utf8', newline='') as stream:
      reader = csv.DictReader(stream)
      found = [_trial(row, space) for row in reader]
    if list(reader.fieldnames or ()) != [*_COLUMNS, *space]:
      raise ValueError('its columns are others')
    if [trial.number for trial in found] != list(range(len(found))):
      raise ValueError('its trials are not numbered from 0 on')
  except FileNotFoundError:
    return []
  except (AttributeError, KeyError, TypeError, ValueError, csv.Error) as error:
    raise UserError(
      f'{path} is damaged: {error}. Start the search again with --overwrite.'
    ) from error
  return found


def _trial(row: Mapping[str, str], space: Space) -> Trial:
  if row['state'] not in STATES:
    raise ValueError(f'a state {row["state"]!r}')
  return Trial(
    int(row['trial']),
    row['state'],
    {name: space[name].parse(row[name]) for name in space if row[name]},
    tuple(map(float, row['curve'].split())),
    float(row['seconds']),
    row['reason'],
  )
