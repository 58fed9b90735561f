"""What a person reads while a search runs."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator, Sequence

from ncf_tfdata.reporting import table
from ncf_tfdata.tuning import space as space_lib
from ncf_tfdata.tuning import trials as trials_lib
from ncf_tfdata.tuning.config import TuneConfig
from ncf_tfdata.tuning.suggestions import Rules
from ncf_tfdata.tuning.trials import Trial


def header(
  rules: Rules, monitor: str, config: TuneConfig, path: pathlib.Path, done: int
) -> Iterator[str]:
  """What is searched, where, and how many trials have ended."""
  yield f'search   {path}, by {monitor} on validation'
  for name, each in rules.space.items():
    start = rules.start.get(name)
    given = 'outside' if start is None else space_lib.as_text(start)
    yield f'         {name} {each}, as given: {given}'
  most = config.most()
  yield (
    f'trials   {f"{most} in all" if most else "as time allows"}'
    f'{f", {done} of them done" * bool(done)}'
  )


def line(
  trials: Sequence[Trial], monitor: str, config: TuneConfig, left: float | None
) -> str:
  """The last trial in a line, the best so far, and what remains."""
  trial, best, most = trials[-1], trials_lib.best(trials), config.most()
  of = f'/{most - 1}' if most else ''
  value = '' if trial.value is None else f' {monitor} {table.number(trial.value)}'
  parts = [f'trial {trial.number}{of} {trial.state}{value} {trial.seconds:.0f} s']
  if best is not None:
    parts.append(f'best {table.number(best.value or 0.0)} (trial {best.number})')
  parts.append(_remaining(trials, most, left))
  if trial.reason:
    parts.append(trial.reason)
  elif trial.number:
    pairs = trial.values.items()
    parts.append(' '.join(f'{name}={space_lib.as_text(v)}' for name, v in pairs))
  return '  '.join(parts)


def _remaining(trials: Sequence[Trial], most: int | None, left: float | None) -> str:
  """How many trials and how much time remain."""
  mean = sum(trial.seconds for trial in trials) / len(trials)
  if most is None:
    return f'{_time(max(left or 0.0, 0.0))} left'
  count = most - len(trials)
  seconds = count * mean if left is None else min(count * mean, max(left, 0.0))
  return f'{count} left, about {_time(seconds)}' if count else 'none left'


def _time(seconds: float) -> str:
  if seconds < 100:
    return f'{seconds:.0f} s'
  return f'{seconds / 60:.0f} min' if seconds < 6000 else f'{seconds / 3600:.1f} h'
