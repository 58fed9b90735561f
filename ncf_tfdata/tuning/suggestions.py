"""What is tried next, and what is given up: Optuna's samplers and pruners.

A suggestion is a function of the trials that have ended, the seed and the number of the
trial. So a search that was killed goes on with what it would have tried anyway, and no
state of a sampler is kept.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ncf_tfdata.errors import UserError
from ncf_tfdata.tuning.space import Choice, Space, Value
from ncf_tfdata.tuning.trials import FINISHED, Trial

if TYPE_CHECKING:
  import optuna

# After so many draws of what was tried before, nothing new is left.
_DRAWS = 100

# The median says little of fewer trials.
_MEDIAN_TRIALS = 4


def _optuna() -> Any:
  """Optuna, imported when it is needed.

  Raises:
    UserError: It is not installed.
  """
  try:
    import optuna
  except ImportError as error:
    raise UserError(
      "a search needs Optuna. Run `pip install -c constraints.txt -e '.[tune]'` first."
    ) from error
  optuna.logging.set_verbosity(optuna.logging.ERROR)
  return optuna


@dataclasses.dataclass(frozen=True)
class Rules:
  """By what a search goes.

  Attributes:
    space: What is searched.
    start: What of it the first trial has; the rest is as the recipe has it.
    seed: Of the suggestions.
    pruner: As in `TuneConfig`.
    epochs: Most epochs of a trial.
  """

  space: Space
  start: Mapping[str, Value]
  seed: int
  pruner: str
  epochs: int

  def distributions(self) -> dict[str, Any]:
    """The space, as Optuna has it."""
    made = _optuna().distributions
    found: dict[str, Any] = {}
    for name, each in self.space.items():
      if isinstance(each, Choice):
        found[name] = made.CategoricalDistribution(each.values)
      elif each.whole:
        low, high = int(each.low), int(each.high)
        found[name] = made.IntDistribution(low, high, log=each.log)
      else:
        found[name] = made.FloatDistribution(each.low, each.high, log=each.log)
    return found

  def study(self, trials: Sequence[Trial], draw: int = 0) -> optuna.Study:
    """A study of trials that have ended, in memory, about to suggest the next one.

    Args:
      trials: All there are, in order.
      draw: 0 asks the sampler of the search, a higher number chance alone.
    """
    library = _optuna()
    study: optuna.Study = library.create_study(
      study_name='search', direction='maximize', pruner=self._pruner()
    )
    known = self.distributions()
    for trial in trials:
      study.enqueue_trial(dict(trial.values))
      asked = study.ask({name: known[name] for name in trial.values})
      for epoch, value in enumerate(trial.curve, 1):
        asked.report(value, epoch)
        if self.pruner == 'hyperband':
          asked.should_prune()  # Takes note of the rungs that it passes.
      if trial.state == FINISHED:
        study.tell(asked, trial.value)
      else:
        # One that failed counts as the worst, so that the sampler looks elsewhere.
        study.tell(asked, state=library.trial.TrialState.PRUNED)
    key = np.random.SeedSequence((self.seed, len(trials), draw))
    sampler = library.samplers.RandomSampler if draw else library.samplers.TPESampler
    study.sampler = sampler(seed=int(key.generate_state(1)[0]))
    return study

  def _pruner(self) -> Any:
    pruners = _optuna().pruners
    if self.pruner == 'median':
      # In the first half a decaying learning rate is high, and hides what it will give.
      return pruners.MedianPruner(_MEDIAN_TRIALS, n_warmup_steps=self.epochs // 2)
    if self.pruner == 'hyperband':
      return pruners.HyperbandPruner(min_resource=1, max_resource=self.epochs)
    return pruners.NopPruner()

  def suggest(self, trials: Sequence[Trial]) -> Suggestion | None:
    """What is tried after some trials; None where all that there is has been tried."""
    known = self.distributions()
    if not trials:
      study = self.study(())
      study.enqueue_trial(dict(self.start))
      asked = study.ask({name: known[name] for name in self.start})
      return Suggestion(asked, dict(self.start))
    tried = [trial.values for trial in trials]
    for draw in range(_DRAWS):
      asked = self.study(trials, draw).ask(known)
      values = {name: self.space[name].value(asked.params[name]) for name in self.space}
      if values not in tried:
        return Suggestion(asked, values)
    return None

  def importances(self, trials: Sequence[Trial]) -> dict[str, float]:
    """How much of the values' spread each setting explains (PED-ANOVA), the most first.

    Empty where that cannot be told of so few trials.
    """
    finished = [trial for trial in trials if trial.state == FINISHED]
    seen = set().union(*(trial.values for trial in finished))
    if len(finished) < 2 or not all(name in seen for name in self.space):
      return {}
    with warnings.catch_warnings():
      # That there are few trials is told by their number.
      warnings.simplefilter('ignore')
      found = _optuna().importance.get_param_importances(self.study(finished))
    return dict(sorted(found.items(), key=lambda pair: (-pair[1], pair[0])))


class Suggestion:
  """A trial that is to be run.

  Attributes:
    values: Searched settings by name of the flag.
  """

  def __init__(self, asked: optuna.Trial, values: Mapping[str, Value]):
    self._asked, self.values = asked, values

  def is_hopeless(self, epoch: int, value: float) -> bool:
    """Takes note of an epoch's value; whether the trial is to be given up after it."""
    self._asked.report(value, epoch)
    return bool(self._asked.should_prune())
