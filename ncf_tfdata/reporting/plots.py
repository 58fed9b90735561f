"""Figures of a report. Each is drawn once, for a white page and for an inline SVG."""

import io
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import matplotlib
import matplotlib.axes
import matplotlib.figure
import matplotlib.layout_engine
import matplotlib.patches
import matplotlib.ticker
import numpy as np

# One colour a system, the model first; legible on white and on near-black.
_COLOURS = ('#3b7ddd', '#e8883a', '#2fa57c', '#c9569c', '#8f7ae5', '#b59a2b', '#8a8f98')
# Text and axes; in an SVG it becomes the page's own text colour.
_INK = '#26282b'

_STYLE: dict[Any, Any] = {
  'axes.edgecolor': _INK,
  'axes.facecolor': 'none',
  'axes.grid': True,
  'axes.labelcolor': _INK,
  'axes.labelsize': 10,
  'axes.spines.right': False,
  'axes.spines.top': False,
  'axes.titlecolor': _INK,
  'axes.titlelocation': 'left',
  'axes.titlepad': 10,
  'axes.titlesize': 11,
  'axes.titleweight': 'bold',
  'figure.facecolor': 'none',
  'font.size': 10,
  'grid.alpha': 0.14,
  'grid.color': _INK,
  'grid.linewidth': 0.8,
  'legend.frameon': False,
  'legend.labelcolor': _INK,
  'lines.linewidth': 2,
  'svg.fonttype': 'none',
  # Without it, ids in an SVG differ from run to run.
  'svg.hashsalt': 'ncf',
  'text.color': _INK,
  'xtick.color': _INK,
  'xtick.labelsize': 9,
  'ytick.color': _INK,
  'ytick.labelsize': 9,
}


def styled() -> Any:
  """The context that figures are made and rendered in."""
  return matplotlib.rc_context(_STYLE)


def png(figure: matplotlib.figure.Figure) -> bytes:
  """Renders a figure on white."""
  stream = io.BytesIO()
  figure.savefig(stream, format='png', dpi=160, facecolor='white', metadata={})
  return stream.getvalue()


def svg(figure: matplotlib.figure.Figure) -> str:
  """Renders a figure as an `svg` element whose text takes the page's colour."""
  stream = io.StringIO()
  figure.savefig(stream, format='svg', metadata={'Date': None, 'Creator': None})
  text = stream.getvalue()
  return text[text.index('<svg') :].replace(_INK, 'currentColor')


def colours(systems: Sequence[str]) -> dict[str, str]:
  """The colour of each system, by their order."""
  return {
    system: _COLOURS[index % len(_COLOURS)] for index, system in enumerate(systems)
  }


def _above(index: int) -> float:
  """Where a system's line lies: the model's over all others."""
  return 3 - index / 100


def _figure(columns: int, rows: int = 1, height: float = 3.4) -> Any:
  layout = matplotlib.layout_engine.ConstrainedLayoutEngine(
    w_pad=0.12, h_pad=0.1, wspace=0.04
  )
  figure = matplotlib.figure.Figure(figsize=(9.2, height * rows), layout=layout)
  return figure, figure.subplots(rows, columns, squeeze=False)


def _legend(figure: matplotlib.figure.Figure, *axes: matplotlib.axes.Axes) -> None:
  """Explains each line once, whichever panels it is in."""
  found: dict[Any, Any] = {}
  for panel in axes:
    handles, labels = panel.get_legend_handles_labels()
    found |= dict(zip(labels, handles, strict=True))
  lines = -(-len(found) // 6)
  figure.legend(
    list(found.values()),
    list(found),
    loc='outside lower center',
    ncols=-(-len(found) // lines),
    handlelength=1.6,
    columnspacing=1.8,
  )


def learning_curves(
  history: Sequence[Mapping[str, float]], best_epoch: int | None
) -> matplotlib.figure.Figure:
  """Loss, and where there are validation rows their metrics, by epoch.

  Args:
    history: Lines of epochs.csv.
    best_epoch: The epoch whose weights were kept, if validation chose one.
  """
  panels = [('training loss', ['loss'])]
  for title, prefix in (
    ('validation, sampled', ''),
    ('validation, full catalogue', 'full_'),
  ):
    names = [f'{prefix}{name}' for name in ('hr@10', 'ndcg@10')]
    if names[0] in history[0]:
      panels.append((title, names))
  figure, axes = _figure(len(panels))
  epochs = [row['epoch'] for row in history]
  for panel, (title, names) in zip(axes[0], panels, strict=True):
    for name, colour in zip(names, _COLOURS, strict=False):
      values = [row[name] for row in history]
      label = name.removeprefix('full_').upper()
      panel.plot(
        epochs,
        values,
        color=colour,
        label=label,
        marker='o' * (len(epochs) < 30),
        markersize=4,
      )
    if best_epoch and title != 'training loss':
      panel.axvline(
        best_epoch, color=_INK, linewidth=1, linestyle=(0, (3, 3)), label='kept epoch'
      )
    panel.set(title=title, xlabel='epoch')
    panel.margins(y=0.12)
    panel.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(integer=True))
  if len(panels) > 1:
    _legend(figure, axes[0][-1])
  return figure


# Where lags are put together: by themselves up to 5, and then ever more of them.
_LAGS = (1, 2, 3, 4, 5, 10, 20, 50, 100, 200, 500, 1000)


def lag_bins(lags: int) -> list[tuple[int, int]]:
  """First and last lag of each bin of the lags 1 … `lags`."""
  bounds = [bound for bound in _LAGS if bound < lags] + [lags]
  return [(before + 1, bound) for before, bound in itertools.pairwise([0, *bounds])]


def lag_shares(weights: np.ndarray) -> np.ndarray:
  """Share of each bin of lags in what a head sums up: float64 [heads, bins].

  Args:
    weights: float [heads, lags], the last item first.
  """
  share = np.abs(weights) / np.abs(weights).sum(axis=1, keepdims=True)
  bins = lag_bins(weights.shape[1])
  return np.stack([share[:, a - 1 : b].sum(axis=1) for a, b in bins], axis=1)


def lags(weights: np.ndarray) -> matplotlib.figure.Figure:
  """Share of the lags in what a head of the pool encoder sums up, as a map.

  Args:
    weights: float [heads, lags], the last item first.
  """
  share = lag_shares(weights)
  heads, bins = share.shape
  figure, axes = _figure(1, height=1.1 + 0.3 * heads)
  panel = axes[0][0]
  for head, bin_ in np.ndindex(heads, bins):
    cell = (bin_ - 0.48, head - 0.46), 0.96, 0.92
    alpha = 0.06 + 0.74 * float(share[head, bin_])
    panel.add_patch(
      matplotlib.patches.Rectangle(*cell, color=_COLOURS[0], alpha=alpha, linewidth=0)
    )
    panel.text(
      bin_, head, f'{share[head, bin_]:.0%}', ha='center', va='center', fontsize=9
    )
  names = [f'{a}' if a == b else f'{a:,}–{b:,}' for a, b in lag_bins(weights.shape[1])]
  panel.set(
    title='what the encoder looks at: share of the weights',
    xlabel='lag: 1 is the last item',
    xlim=(-0.5, bins - 0.5),
    ylim=(heads - 0.5, -0.5),
  )
  panel.set_yticks(range(heads), [f'head {head}' for head in range(1, heads + 1)])
  panel.set_xticks(range(bins), names)
  panel.tick_params(length=0)
  panel.grid(visible=False)
  for side in ('left', 'bottom'):
    panel.spines[side].set_visible(False)
  return figure


def hit_rate_by_k(
  ranks: Mapping[str, Mapping[str, np.ndarray]],
  candidates: Mapping[str, int],
  shade: Mapping[str, str],
) -> matplotlib.figure.Figure:
  """HR@K for K from 1 to 100.

  Args:
    ranks: By ranking (a panel each) and system, float [n].
    candidates: Number of items that are ranked, by ranking.
    shade: `colours` of all systems; not each is in every ranking.
  """
  figure, axes = _figure(len(ranks), height=3.8)
  for panel, (ranking, systems) in zip(axes[0], ranks.items(), strict=True):
    k = np.arange(1, min(100, candidates[ranking]) + 1)
    for index, (system, colour) in enumerate(shade.items()):
      if system not in systems:
        continue
      ordered = np.sort(systems[system])
      rate = np.searchsorted(ordered, k, side='left') / len(ordered)
      panel.plot(k, rate, color=colour, label=system, zorder=_above(index))
    panel.plot(
      k,
      k / candidates[ranking],
      color=_INK,
      linewidth=1,
      linestyle=(0, (3, 3)),
      label='chance',
    )
    panel.set(
      title=f'{ranking}: {candidates[ranking]:,} candidates',
      xlabel='K, list length',
      ylabel='HR@K, share of users',
      xscale='log',
      ylim=(0, None),
      xlim=(1, k[-1]),
    )
    panel.set_xticks([1, 2, 5, 10, 20, 50, 100])
    panel.xaxis.set_major_formatter(matplotlib.ticker.StrMethodFormatter('{x:.0f}'))
    panel.xaxis.set_minor_locator(matplotlib.ticker.NullLocator())
  _legend(figure, *axes[0])
  return figure


def _labels(segments: Sequence[Mapping[str, Any]]) -> list[str]:
  """Names over several lines, for there are up to four side by side."""
  return [
    f'{segment["segment"]}, {_shown_size(segment)}'.replace(', ', '\n')
    .replace(' to ', '\nto ')
    .replace(' train', '\ntrain')
    for segment in segments
  ]


def _shown_size(segment: Mapping[str, Any]) -> str:
  users, rows = segment['users'], segment.get('rows', segment['users'])
  return f'{users:,} users' if users == rows else f'{rows:,} interactions'


def segment_groups(systems: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
  """Titles of the groups of segments that all systems have."""
  titles = {
    'activity': 'by length of the history',
    'popularity': "by the held-out item's popularity",
    'train_rows': "by the held-out item's train rows",
    'gap': 'by time since the row before',
  }
  known = [summary['segments'] for summary in systems.values()]
  return {
    group: title for group, title in titles.items() if all(group in k for k in known)
  }


def segments(
  systems: Mapping[str, Mapping[str, Any]],
  rankings: Sequence[str],
  metric: str,
) -> matplotlib.figure.Figure:
  """A metric with its interval in each segment.

  Args:
    systems: `summary.summarize` of each.
    rankings: A column of panels each.
    metric: Such as `ndcg@10`.
  """
  groups = segment_groups(systems)
  figure, axes = _figure(len(rankings), len(groups), height=3.0)
  shade = colours(list(systems))
  for row, (group, title) in zip(axes, groups.items(), strict=True):
    for panel, ranking in zip(row, rankings, strict=True):
      shown = {name: each for name, each in systems.items() if ranking in each}
      for index, (system, summary) in enumerate(shown.items()):
        parts = summary['segments'][group][ranking]
        value = np.array([part['metrics'][metric] for part in parts])
        bounds = np.array([part['intervals'][metric] for part in parts])
        offset = (index - (len(shown) - 1) / 2) * 0.7 / max(len(shown), 3)
        panel.errorbar(
          np.arange(len(parts)) + offset,
          value,
          yerr=np.abs(bounds.T - value),
          fmt='o',
          markersize=5,
          capsize=0,
          linewidth=1.6,
          color=shade[system],
          label=system,
          clip_on=False,
        )
      panel.set_xticks(range(len(parts)), _labels(parts), fontsize=8)
      panel.set(
        title=f'{ranking}, {title}',
        ylabel=metric.upper(),
        ylim=(0, None),
        xlim=(-0.6, len(parts) - 0.4),
      )
      panel.grid(visible=False, axis='x')
      panel.tick_params(axis='x', length=0)
  _legend(figure, *axes[0])
  return figure


def popularity(
  count: np.ndarray, positive: np.ndarray, recommended: Mapping[str, np.ndarray], k: int
) -> matplotlib.figure.Figure:
  """Cumulative share of lists, and of held-out items, from the most popular item on.

  Args:
    count: int64 [num_items], train rows of each item.
    positive: int64 [n], held-out items.
    recommended: int64 [num_items] by system, how many top-k lists hold each item.
    k: Length of the lists.
  """
  figure, axes = _figure(1, height=3.9)
  panel = axes[0][0]
  order = np.argsort(-count, kind='stable')
  position = np.arange(1, len(count) + 1)
  shade = colours(list(recommended))
  for label, lists, style in popularity_lines(count, positive, recommended, shade):
    share = np.cumsum(lists[order]) / max(lists.sum(), 1)
    panel.plot(position, share, label=label, **style)
  panel.set(
    title=f'popularity of what the top {k} hold, and of what was held out',
    xlabel='items, from the most to the least popular in train (log scale)',
    ylabel='cumulative share',
    xscale='log',
    xlim=(1, len(count)),
    ylim=(0, 1.02),
  )
  panel.xaxis.set_major_formatter(matplotlib.ticker.StrMethodFormatter('{x:,.0f}'))
  panel.yaxis.set_major_formatter(matplotlib.ticker.PercentFormatter(1))
  _legend(figure, panel)
  return figure


def popularity_lines(
  count: np.ndarray,
  positive: np.ndarray,
  recommended: Mapping[str, np.ndarray],
  shade: Mapping[str, str],
) -> Iterator[tuple[str, np.ndarray, dict[str, Any]]]:
  """Label, int64 [num_items] counts and line style of each line of `popularity`."""
  held_out = np.bincount(positive, minlength=len(count))
  dashes = {'color': _INK, 'linewidth': 1.6}
  yield 'held out', held_out, dashes | {'linestyle': (0, (4, 2))}
  yield 'train rows', count, dashes | {'linestyle': (0, (1, 1.5))}
  for index, (system, lists) in enumerate(recommended.items()):
    yield system, lists, {'color': shade[system], 'zorder': _above(index)}
