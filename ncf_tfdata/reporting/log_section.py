"""The report's section on the log itself: whether results on it can be trusted."""

import dataclasses

import matplotlib
import matplotlib.axes
import matplotlib.figure
import matplotlib.ticker
import numpy as np

from ncf_tfdata import times
from ncf_tfdata.inspection import BOT_FACTOR, MIN_SUPPORT, Inspection
from ncf_tfdata.reporting import markup, plots

# (what is drawn, the count, the count it is a share of).
_SHARES = (
  ('interactions at the same time as another of their user', 'tied_rows', 'rows'),
  ('users whose last interaction is tied', 'tied_users', 'users'),
  ('interactions with an item the user had before', 'repeated_rows', 'log_rows'),
  ('sequential rules left once histories are shuffled', 'shuffled_rules', 'rules'),
  ('interactions of suspected bots', 'bot_rows', 'rows'),
  (
    'test targets of items seen only after the cut',
    'test_cold_targets',
    'test_targets',
  ),
  ('users seen only after the cut', 'users_after_test_cut', 'users'),
  ('interactions after the cut', 'rows_after_test_cut', 'rows'),
)
# Seconds by the words for them.
_TICKS = {
  '1 s': 1,
  '1 min': 60,
  '1 h': 3_600,
  '1 d': times.DAY,
  '30 d': 30 * times.DAY,
  '1 y': 365 * times.DAY,
}
_DISTANCES = {
  'since_row_before': "since the user's interaction before",
  'since_train': "since the user's last train interaction",
}


@dataclasses.dataclass(frozen=True)
class Share:
  """One measure as a share.

  Attributes:
    title: What is counted.
    part: How many there are.
    whole: Of how many.
  """

  title: str
  part: int
  whole: int

  @property
  def value(self) -> float:
    """The part of the whole, 0 to 1."""
    return self.part / self.whole


def shares(inspection: Inspection) -> list[Share]:
  """Those measures that the log has, in the order of the plot."""
  counts = inspection.counts
  return [
    Share(title, counts[part], counts[whole])
    for title, part, whole in _SHARES
    if part in counts and counts.get(whole)
  ]


def caption(inspection: Inspection, last: int | None) -> str:
  """What the plot shows, in words; `last` as in `figure`."""
  text = (
    'What decides whether results on this log can be trusted. Ties make the order of '
    'interactions a convention. Where few sequential rules are left after a shuffle, '
    f'order matters; a rule is a pair that follows at least {MIN_SUPPORT} times. A '
    f'suspected bot has more than {BOT_FACTOR} times the mean of interactions.'
  )
  if inspection.distances:
    text += (
      ' Right: the middle half and the median of the time between a held-out '
      'interaction and what the user did before'
      f'{"" if last else ", in the unit of the log"}.'
    )
  return text


def figure(inspection: Inspection, last: int | None) -> matplotlib.figure.Figure:
  """Draws shares as bars, and distances in time as quartiles where there are any.

  Args:
    inspection: What was measured.
    last: The log's latest timestamp, which tells its unit, where it is known.
  """
  found, distances = shares(inspection), _spans(inspection)
  drawn = matplotlib.figure.Figure(
    figsize=(9.2, 0.9 + 0.36 * max(len(found), 3)), layout='constrained'
  )
  if distances:
    left, right = drawn.subplots(1, 2, width_ratios=(1.25, 1))
    _draw_distances(right, distances, last)
  else:
    left = drawn.subplots()
  _draw_shares(left, found)
  return drawn


def numbers(inspection: Inspection, last: int | None) -> str:
  """The same as a table; `last` as in `figure`."""
  rows = [
    [each.title, f'{each.part:,} of {each.whole:,}', f'{each.value:.1%}']
    for each in shares(inspection)
  ]
  for title, quartiles in _spans(inspection).items():
    told = [
      times.words(each, times.units_per_second(last)) if last else f'{each:,}'
      for each in quartiles
    ]
    rows.append([title, f'median {told[1]}', f'half: {told[0]} to {told[2]}'])
  return markup.table(
    ['', '', ''], [[markup.escape(cell) for cell in row] for row in rows]
  )


def _colour() -> str:
  return plots.colours(['log'])['log']


def _spans(inspection: Inspection) -> dict[str, tuple[int, ...]]:
  """Quartiles by the words for them."""
  return {
    f'{split}, {words}': inspection.distances[f'{split}_{name}']
    for split in ('validation', 'test')
    for name, words in _DISTANCES.items()
    if f'{split}_{name}' in inspection.distances
  }


def _draw_shares(panel: matplotlib.axes.Axes, found: list[Share]) -> None:
  places = np.arange(len(found))[::-1]
  panel.barh(places, [share.value for share in found], 0.62, color=_colour())
  for place, share in zip(places, found, strict=True):
    panel.text(
      share.value + 0.015, place, f'{100 * share.value:.1f} %', va='center', fontsize=8
    )
  panel.set_yticks(places, [share.title for share in found], fontsize=8)
  panel.set(title='shares', xlim=(0, 1.12))
  panel.set_xticks([0, 0.25, 0.5, 0.75, 1])
  panel.xaxis.set_major_formatter(matplotlib.ticker.PercentFormatter(1))
  panel.grid(visible=False, axis='y')
  panel.tick_params(axis='y', length=0)


def _draw_distances(
  panel: matplotlib.axes.Axes, spans: dict[str, tuple[int, ...]], last: int | None
) -> None:
  ink = matplotlib.rcParams['text.color']
  places = np.arange(len(spans))[::-1]
  for place, (low, middle, high) in zip(places, spans.values(), strict=True):
    panel.plot([low, high], [place, place], color=_colour(), linewidth=5)
    panel.plot([middle], [place], 'o', color=ink, markersize=6)
  panel.set_yticks(places, [name.replace(', ', ',\n') for name in spans], fontsize=8)
  unit = times.units_per_second(last) if last else 1
  panel.set_xscale('symlog', linthresh=unit)
  longest = 2 * max(max(quartiles) for quartiles in spans.values()) + 2 * unit
  panel.set(title='time between', ylim=(-0.6, len(spans) - 0.4), xlim=(0, longest))
  ticks = (
    _TICKS if last else {f'$10^{{{power}}}$': 10**power for power in range(0, 19, 3)}
  )
  at = {words: unit * seconds for words, seconds in ticks.items()}
  shown = {words: place for words, place in at.items() if place <= longest}
  panel.set_xticks(list(shown.values()), list(shown), fontsize=7)
  panel.minorticks_off()
  panel.grid(visible=False, axis='y')
  panel.tick_params(axis='y', length=0)
