"""What is searched, for how long, and by which rules."""

from __future__ import annotations

import dataclasses
import re

from ncf_tfdata.config import Config, setting
from ncf_tfdata.training import recipe

_PIECE = re.compile(r'(\d+(?:\.\d+)?)([smh])')
_SECONDS = {'s': 1, 'm': 60, 'h': 3600}

# Without --time_budget.
_TRIALS = 20


@dataclasses.dataclass(frozen=True, kw_only=True)
class TuneConfig(Config):
  """A search over recipes."""

  search: str | None = setting(
    None,
    'What is searched, between commas: learning_rate=0.0005..0.01:log is a range, here '
    'on a logarithmic scale, members=1,2 are values, mlp_layers=64+32,16 are lists. Or '
    'a file of these, one a line. Names are those of flags. Default: of the model.',
  )
  trials: int | None = setting(
    None,
    'Trials in all, with those of earlier calls; the first is the recipe as it is. '
    f'Default: {_TRIALS}, without --time_budget.',
    minimum=1,
  )
  time_budget: str | None = setting(
    None,
    'Time of this call, such as 90s, 30m or 1h30m. A trial that it cuts off is saved, '
    'and the next call goes on with it.',
  )
  search_seed: int = setting(0, 'Of the suggestions.', minimum=0)
  pruner: str = setting(
    'median',
    'What ends a trial early, by its validation metric after an epoch: being worse '
    'than the median of the trials before it, rounds of Hyperband, or nothing.',
    choices=('median', 'hyperband', 'none'),
  )

  def check(self) -> None:
    self.seconds()

  def seconds(self) -> float | None:
    """The time budget in seconds; None where there is none.

    Raises:
      ArgumentError: It is no time.
    """
    if self.time_budget is None:
      return None
    pieces = _PIECE.findall(self.time_budget)
    total = sum(float(count) * _SECONDS[unit] for count, unit in pieces)
    if ''.join(map(''.join, pieces)) != self.time_budget or not total:
      raise self.invalid(
        '`time_budget` must be a time, such as 90s, 30m or 1h30m.', 'time_budget'
      )
    return total

  def most(self) -> int | None:
    """How many trials there are to be; None where time alone ends the search."""
    return self.trials or (None if self.time_budget else _TRIALS)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TuneCommand(recipe.RunConfig):
  """What the command `tune` takes beside the search and the recipe."""

  run_dir: str | None = setting(
    None,
    'Not used: taken so that the flags.cfg of a run can be the --flagfile. Trials have '
    'run directories within --output.',
  )
  output: str | None = setting(
    None, 'Directory of the search. Default: tuned/ and the name of --data_dir.'
  )
  overwrite: bool = setting(False, 'Removes an earlier search in --output.')


def command_configs() -> tuple[type[Config], ...]:
  """The classes that the command `tune` takes its flags from."""
  return (TuneCommand, TuneConfig, *recipe.content_configs())
