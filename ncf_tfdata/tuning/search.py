"""The search: suggests a recipe, has it trained, takes note; until it is enough."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from ncf_tfdata import config as config_lib
from ncf_tfdata import dataset as dataset_lib
from ncf_tfdata.errors import ArgumentError, UserError
from ncf_tfdata.models import registry
from ncf_tfdata.training.config import OPERATIONAL
from ncf_tfdata.training.preemption import Sigterm, Terminated
from ncf_tfdata.training.recipe import Recipe
from ncf_tfdata.tuning import outcome, progress, trials
from ncf_tfdata.tuning import space as space_lib
from ncf_tfdata.tuning.config import TuneConfig
from ncf_tfdata.tuning.directory import Directory
from ncf_tfdata.tuning.process import Process
from ncf_tfdata.tuning.suggestions import Rules, Suggestion
from ncf_tfdata.tuning.trials import Trial

_LOOK_SECONDS = 0.1

# A process that a signal has ended is started again so often, from its checkpoint.
_STARTS = 2

# Begins to train: lines of the flagfile, file for what it says, the lock it is to hold.
Start = Callable[..., Process]


class Search:
  """A search over the recipes of a dataset, judged by its validation interactions.

  Attributes:
    trials: Those that have ended, in order.
    monitor: The metric that they are compared by.
    rules: What is searched, and how.
  """

  def __init__(
    self,
    dataset: dataset_lib.Dataset,
    recipe: Recipe,
    config: TuneConfig,
    directory: Directory,
    start: Start = Process,
  ):
    """Sets a search up.

    Args:
      dataset: What is trained on.
      recipe: What the search starts from, and the first trial.
      config: What is searched, and for how long.
      directory: Where it is kept.
      start: What begins a training.

    Raises:
      ArgumentError: The space does not suit the recipe.
      UserError: The dataset has no validation interactions, or Optuna is not there.
    """
    self.monitor = recipe.train.monitor
    if not dataset.rows(dataset_lib.VALIDATION):
      raise UserError(
        f'{dataset.directory} has no validation interactions, by which trials are '
        'judged. Prepare it with --holdout=2.'
      )
    if self.monitor == 'loss':
      raise recipe.train.invalid(
        '`monitor` must be a metric on validation: a loss chooses what overfits.',
        'monitor',
      )
    if not recipe.train.epochs:
      raise recipe.train.invalid('`epochs` must be at least 1 in a search.', 'epochs')
    self.trials: list[Trial] = []
    self._dataset, self._recipe, self._config = dataset, recipe, config
    self._directory, self._start = directory, start
    self._lines = [*self._trial_lines(0).values()]
    space = space_lib.parse(config.search, self._lines)
    self.rules = Rules(
      space,
      _start(space, recipe, dataset),
      config.search_seed,
      config.pruner,
      recipe.train.epochs,
    )
    self.rules.study(())  # Tells that Optuna is not there.
    self._deadline: float | None = None

  def _trial_lines(self, number: int) -> dict[str, str]:
    run = self._directory.run(number)
    return self._recipe.lines(str(self._dataset.directory), str(run.directory))

  def identity(self) -> dict[str, Any]:
    """What the search is of: one of something else is another."""
    recipe = config_lib.lines(self._recipe.model, self._recipe.train)
    model = registry.of(self._recipe.model).name
    lines = [line for name, line in recipe.items() if name not in OPERATIONAL]
    return {
      'dataset': self._dataset.sha256,
      'recipe': [f'--model={model}', *lines],
      'space': [f'{name}={each}' for name, each in self.rules.space.items()],
      'search_seed': self._config.search_seed,
      'pruner': self._config.pruner,
    }

  def run(
    self,
    overwrite: bool = False,
    sigterm: Sigterm | None = None,
    say: Callable[[str], None] = lambda line: None,
  ) -> outcome.Outcome:
    """Searches until there are enough trials, or the time is over.

    Args:
      overwrite: Whether to remove an earlier search first.
      sigterm: What asks to stop; None for nothing.
      say: Takes a line for people.

    Raises:
      UserError: The directory holds something else or is in use, the dataset was
        replaced, the recipe itself cannot be trained, or no trial has ended in time.
      Terminated: SIGTERM came; the trial at work is saved.
    """
    sigterm = sigterm or Sigterm()
    budget = self._config.seconds()
    if budget is not None:
      self._deadline = time.monotonic() + budget
    found = outcome.Outcome(self._directory, self._dataset, self._recipe, self.rules)
    with self._directory.held() as lock:
      self._directory.begin(self.identity(), overwrite)
      self.trials = trials.read(self._directory.table, self.rules.space)
      for line in self._header():
        say(line)
      while (trial := self._next(lock, sigterm, say)) is not None:
        self.trials.append(trial)
        self._keep(found)
        say(progress.line(self.trials, self.monitor, self._config, self._left()))
      if trials.best(self.trials) is None:
        raise UserError(
          f'no trial has ended within --time_budget={self._config.time_budget}. The '
          'same command goes on from here; a longer time saves it the stops.'
        )
      found.finish(self.trials)
    return found

  def _header(self) -> Iterator[str]:
    path, done = self._directory.path, len(self.trials)
    return progress.header(self.rules, self.monitor, self._config, path, done)

  def _left(self) -> float | None:
    return None if self._deadline is None else self._deadline - time.monotonic()

  def _keep(self, found: outcome.Outcome) -> None:
    """Writes what is known by now: the table first, from which all else follows."""
    trials.write(self._directory.table, self.trials, self.rules.space)
    if (best := trials.best(self.trials)) is not None:
      found.write_best(self.trials)
      self._directory.tidy(self.trials[-1].number, best.number)

  def _next(
    self, lock: int, sigterm: Sigterm, say: Callable[[str], None]
  ) -> Trial | None:
    """The next trial, to its end; None where there is to be none, or not now."""
    most, left = self._config.most(), self._left()
    if (most and len(self.trials) >= most) or (left is not None and left <= 0):
      return None
    self._dataset.check_unchanged()
    suggestion = self.rules.suggest(self.trials)
    if suggestion is None:
      say('every combination has been tried')
      return None
    begin = time.monotonic()
    ended = self._train(suggestion, lock, sigterm)
    if ended is None:
      say(f'time is over: trial {len(self.trials)} is saved, the next call goes on')
      return None
    state, curve, reason = ended
    number, seconds = len(self.trials), time.monotonic() - begin
    if state == trials.FAILED and not number:
      raise UserError(f'the recipe that the search starts from fails: {reason}')
    return Trial(number, state, suggestion.values, tuple(curve), seconds, reason)

  def _train(
    self, suggestion: Suggestion, lock: int, sigterm: Sigterm
  ) -> tuple[str, Sequence[float], str] | None:
    """State, curve and reason of a trial; None if its time was over."""
    number = len(self.trials)
    try:
      lines = self._prepare(number, suggestion.values)
    except (ArgumentError, UserError) as error:
      reason = error.as_flags() if isinstance(error, ArgumentError) else str(error)
      return trials.FAILED, (), reason
    curve: list[float] = []
    for _ in range(_STARTS):
      process = self._start(lines, self._directory.log(number), lock)
      try:
        state = self._watch(process, number, suggestion, curve, sigterm)
      finally:
        if process.end() is None:
          process.stop()
      if state != trials.FAILED:
        return None if state is None else (state, curve, '')
      if not process.was_killed():
        break
    return trials.FAILED, curve, process.reason()

  def _prepare(self, number: int, values: Mapping[str, space_lib.Value]) -> list[str]:
    """The lines of a trial's flagfile; what is left of another one there goes.

    The first trial is the recipe as it is, with what it leaves open.
    """
    lines = [*self._trial_lines(number).values()]
    recipe = Recipe.parse(space_lib.lines(lines, values) if number else lines)
    run = self._directory.run(number)
    if run.directory.exists():
      try:
        known = Recipe.parse(run.flags()).differences(recipe) == ([], [])
      except (ArgumentError, UserError):
        known = False
      if not known:
        shutil.rmtree(run.directory)
    where = str(self._dataset.directory), str(run.directory)
    return [line for text in recipe.lines(*where).values() for line in text.split('\n')]

  def _watch(
    self,
    process: Process,
    number: int,
    suggestion: Suggestion,
    curve: list[float],
    sigterm: Sigterm,
  ) -> str | None:
    """Follows a training by its epochs.csv; its state, or None if time was over."""
    run = self._directory.run(number)
    while True:
      code = process.end()  # Before the look, so that no line is missed.
      for row in run.history()[len(curve) :]:
        curve.append(row[self.monitor])
        if suggestion.is_hopeless(len(curve), curve[-1]):
          process.kill()
          return trials.PRUNED
      if code is not None:
        return trials.FAILED if code else trials.FINISHED
      if sigterm.asked:
        process.stop()
        raise Terminated
      if (left := self._left()) is not None and left <= 0:
        process.stop()
        # It may have ended by itself meanwhile.
        if process.end():
          return None
        continue
      time.sleep(_LOOK_SECONDS)


def _start(
  space: space_lib.Space, recipe: Recipe, dataset: dataset_lib.Dataset
) -> dict[str, space_lib.Value]:
  """What the recipe has of the searched settings, where the space holds it."""
  entry = registry.of(recipe.model)
  has = config_lib.values(recipe.model) | config_lib.values(recipe.train)
  if recipe.train.warm_start is None:  # A base decides what is left open there.
    has |= entry.settled(recipe.model, recipe.train.objective, dataset)
  found: dict[str, space_lib.Value] = {}
  for name, each in space.items():
    value = has[name]
    if isinstance(each, space_lib.Choice) and value is not None:
      value = space_lib.as_text(value)
    if each.holds(value):
      found[name] = value
  return found
