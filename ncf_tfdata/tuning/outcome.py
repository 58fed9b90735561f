"""What a search ends in: the best recipe as a flagfile, a table and a picture."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Sequence

from ncf_tfdata import atomic
from ncf_tfdata import dataset as dataset_lib
from ncf_tfdata.reporting import table
from ncf_tfdata.training.recipe import Recipe
from ncf_tfdata.tuning import directory as directory_lib
from ncf_tfdata.tuning import space as space_lib
from ncf_tfdata.tuning import trials as trials_lib
from ncf_tfdata.tuning.suggestions import Rules
from ncf_tfdata.tuning.trials import Trial

# Rows of the printed table; trials.csv has all.
_ROWS = 12


@dataclasses.dataclass
class Outcome:
  """A search's directory, and what came of it.

  Attributes:
    directory: Where it is kept.
    dataset: What was trained on.
    base: The recipe that it started from.
    rules: What was searched.
    trials: All that have ended, in order.
  """

  directory: directory_lib.Directory
  dataset: dataset_lib.Dataset
  base: Recipe
  rules: Rules
  trials: Sequence[Trial] = ()

  @property
  def best(self) -> Trial:
    """The finished trial with the best value."""
    found = trials_lib.best(self.trials)
    if found is None:
      raise ValueError('no trial has finished')
    return found

  @property
  def best_flagfile(self) -> pathlib.Path:
    return self.directory.path / directory_lib.BEST

  @property
  def picture(self) -> pathlib.Path:
    return self.directory.path / directory_lib.PICTURE

  def recipe(self) -> Recipe:
    """The best trial's recipe."""
    return Recipe.parse(self._lines())

  def _lines(self) -> list[str]:
    """The recipe in lines; one that stands later wins."""
    run = self.directory.run(self.best.number).directory
    lines = self.base.lines(str(self.dataset.directory), str(run))
    changes = self.best.values if self.best.number else {}
    return space_lib.lines([*lines.values()], changes)

  def write_best(self, trials: Sequence[Trial]) -> None:
    """Writes best.cfg."""
    self.trials = trials
    best, first = self.best, trials[0]
    monitor = self.base.train.monitor
    where = str(self.dataset.directory), str(self.directory.run(best.number).directory)
    lines = self.recipe().lines(*where)
    before = self.base.lines(*where)
    changed = {name for name, line in lines.items() if before.get(name) != line}
    gain = '' if best is first else f'; the recipe it started from: {_value(first)}'
    remarks = [
      f'# Found by ncf_tfdata.tune: trial {best.number} of {len(trials)}.',
      f'# Chosen on the validation interactions of dataset {self.dataset.sha256}',
      f'# by {monitor}: {_value(best)}, epoch {best.epoch}{gain}.',
      '# Its run is there: train takes it up, and judges it on test, once.',
      '# With another --run_dir, train repeats it.',
    ]
    parts = [
      [*remarks],
      ['', '# Found:', *(lines[name] for name in sorted(changed))] if changed else [],
      ['', '# As before:', *(lines[name] for name in lines if name not in changed)],
    ]
    text = '\n'.join(line for part in parts for line in part)
    atomic.write_text(self.best_flagfile, text + '\n')

  def finish(self, trials: Sequence[Trial]) -> None:
    """Writes all that follows from the trials."""
    from ncf_tfdata.tuning import picture  # Matplotlib takes a second to import.

    self.write_best(trials)
    drawn = picture.draw(trials, self.base.train.monitor, self.rules)
    with atomic.replaced(self.picture) as path:
      path.write_bytes(drawn)

  def table(self) -> str:
    """The trials with the best values, the recipe it started from, and how it ended."""
    names = list(self.rules.space)
    shown = sorted(
      (trial for trial in self.trials if trial.state == trials_lib.FINISHED),
      key=lambda trial: (-(trial.value or 0.0), trial.number),
    )[:_ROWS]
    if self.trials[0] not in shown:
      shown.append(self.trials[0])
    rows = [['trial', self.base.train.monitor, 'epoch', 'seconds', *names], []]
    for trial in shown:
      cells = [_cell(trial, name) for name in names]
      name = f'{trial.number}{", as given" * (not trial.number)}'
      seconds = f'{trial.seconds:.0f}'
      rows.append([name, _value(trial), str(trial.epoch), seconds, *cells])
    ended = [
      f'{count} {state}'
      for state in trials_lib.STATES
      if (count := sum(trial.state == state for trial in self.trials))
    ]
    return f'{table.align(rows)}\n\n{len(self.trials)} trials: {", ".join(ended)}'


def _value(trial: Trial) -> str:
  return '' if trial.value is None else table.number(trial.value)


def _cell(trial: Trial, name: str) -> str:
  return space_lib.as_text(trial.values[name]) if name in trial.values else ''
