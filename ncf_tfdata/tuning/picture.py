"""The picture of a search: value of each trial, and how much each setting mattered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib.figure
import matplotlib.layout_engine
import matplotlib.ticker
import numpy as np

from ncf_tfdata.reporting import plots
from ncf_tfdata.tuning import trials as trials_lib
from ncf_tfdata.tuning.suggestions import Rules
from ncf_tfdata.tuning.trials import Trial

# Importances of fewer finished trials would be noise.
_ENOUGH = 8


def draw(trials: Sequence[Trial], monitor: str, rules: Rules) -> bytes:
  """Draws a search; a PNG."""
  finished = [trial for trial in trials if trial.state == trials_lib.FINISHED]
  importances = rules.importances(trials) if len(finished) >= _ENOUGH else {}
  with plots.styled():
    layout = matplotlib.layout_engine.ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.1)
    figure = matplotlib.figure.Figure(figsize=(9.2, 3.6), layout=layout)
    ratios = [3, 2] if importances else [1]
    panels = figure.subplots(1, len(ratios), squeeze=False, width_ratios=ratios)[0]
    _values(panels[0], trials, monitor)
    figure.legend(loc='outside lower center', ncols=4)
    if importances:
      _importances(panels[1], importances, len(finished))
    return plots.png(figure)


def _values(axes: Any, trials: Sequence[Trial], monitor: str) -> None:
  colours = plots.colours(trials_lib.STATES)
  for state in (trials_lib.FINISHED, trials_lib.PRUNED):
    points = [
      (trial.number, trial.value)
      for trial in trials
      if trial.state == state and trial.value is not None
    ]
    if points:
      x, y = zip(*points, strict=True)
      axes.scatter(x, y, s=28, label=state, color=colours[state], zorder=3)
  best = [
    -np.inf
    if trial.state != trials_lib.FINISHED or trial.value is None
    else trial.value
    for trial in trials
  ]
  axes.step(
    range(len(trials)),
    np.maximum.accumulate(best),
    where='post',
    label='best so far',
    color=colours[trials_lib.FINISHED],
    alpha=0.5,
  )
  axes.axhline(
    best[0], label='as given', color=colours[trials_lib.FAILED], linestyle='--', lw=1.2
  )
  axes.set_title(f'{monitor} on validation')
  axes.set_xlabel('trial')
  axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(integer=True))


def _importances(axes: Any, importances: dict[str, float], finished: int) -> None:
  names = list(importances)[::-1]
  axes.barh(names, [importances[name] for name in names], height=0.6)
  axes.grid(axis='y', visible=False)
  axes.set_xlim(0, 1)
  axes.set_title(f'importance, {finished} finished trials')
