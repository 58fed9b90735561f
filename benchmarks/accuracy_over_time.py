"""Accuracy over time: recipes in turn on one dataset, beside peers and baselines.

    python benchmarks/accuracy_over_time.py --data_dir=data/ml-1m \
        --recipes=configs/ml-1m.cfg,configs/neumf-ml-1m.cfg \
        --names='history model,NeuMF' --curves=sasrec.jsonl

Accuracy is of validation after each epoch; seconds are of the training steps before it.
Peers' curves were recorded before: JSON lines of `name`, `seconds` and the metrics, as
recbole_peer.py writes them. Baselines have no epochs: a line each. Writes
results/accuracy_over_time.json, and a plot to docs/images; --redraw draws the plot from
the JSON.
"""

import csv
import itertools
import json
import pathlib
from collections.abc import Mapping, Sequence

import matplotlib.axes
import matplotlib.figure
import matplotlib.ticker
import side_by_side
from absl import app, flags

_DATA_DIR = flags.DEFINE_string('data_dir', None, 'With --holdout=2.')
_RECIPES = flags.DEFINE_list('recipes', [], 'Flagfiles of train.')
_NAMES = flags.DEFINE_list('names', [], "The recipes' names; their files' if left out.")
_CURVES = flags.DEFINE_list('curves', [], "Files of peers' curves.")
_BASELINES = flags.DEFINE_string('baselines', 'ease,successors', 'Lines beside them.')
_RUNS = flags.DEFINE_string('runs_dir', 'runs/over_time', 'Where the runs go.')
_REDRAW = flags.DEFINE_bool('redraw', False, 'Only draw the result that is there.')

_METRICS = {'ndcg@10': 'sampled NDCG@10', 'full_ndcg@10': 'full NDCG@10'}
_MORE = ('hr@10', 'full_hr@10')  # In the result, not in the picture.
_LINE_NAMES = {'ease': 'EASE', 'successors': 'successor\ncounts'}
_LABEL_GAP = 22  # Points between the middles of two labels, which may be two lines.

Curve = list[dict[str, float]]
Lines = dict[str, dict[str, float]]


def _points(rows: Sequence[Mapping[str, str]]) -> Curve:
  names = [name for name in (*_METRICS, *_MORE) if name in rows[0]]
  seconds = itertools.accumulate(float(row['seconds']) for row in rows)
  return [
    {'seconds': total, **{name: float(row[name]) for name in names}}
    for total, row in zip(seconds, rows, strict=True)
  ]


def _curve(recipe: pathlib.Path) -> tuple[pathlib.Path, Curve]:
  """A run of a recipe, and seconds and metrics after each epoch."""
  run = pathlib.Path(_RUNS.value) / recipe.stem
  paths = (f'--data_dir={_DATA_DIR.value}', f'--run_dir={run}')
  side_by_side.module(
    'ncf_tfdata.train', f'--flagfile={recipe}', *paths, '--full_validation'
  )
  with (run / 'epochs.csv').open() as stream:
    return run, _points(list(csv.DictReader(stream)))


def peers(paths: Sequence[str]) -> dict[str, Curve]:
  """Recorded curves by name; a point keeps whatever else was written of it."""
  curves: dict[str, Curve] = {}
  for path in paths:
    for line in pathlib.Path(path).read_text().splitlines():
      point = json.loads(line)
      curves.setdefault(point.pop('name'), []).append(point)
  return curves


def _lines(run: pathlib.Path) -> Lines:
  """Validation metrics of the baselines."""
  baselines = f'--baselines={_BASELINES.value}'
  side_by_side.module(
    'ncf_tfdata.evaluate', f'--run_dir={run}', baselines, '--split=validation'
  )
  judged = json.loads((run / 'metrics.json').read_text())['baselines']
  return {
    name: {
      f'{prefix}{metric}': judged[name]['validation'][ranking][metric]
      for prefix, ranking in (('', 'sampled'), ('full_', 'full'))
      for metric in ('hr@10', 'ndcg@10')
    }
    for name in _BASELINES.value.split(',')
  }


def _duration(seconds: float, _=None) -> str:
  for size, unit in ((3600, 'h'), (60, 'min')):
    if seconds >= size:
      return f'{seconds / size:g} {unit}'
  return f'{seconds:g} s'


def _time_axis(axes: matplotlib.axes.Axes, curves: dict[str, Curve]) -> None:
  """Seconds on a log scale, in the units of a clock."""
  seconds = [point['seconds'] for curve in curves.values() for point in curve]
  axes.set_xscale('log')
  axes.set_xlim(min(seconds) / 1.5, max(seconds) * 1.3)
  ticks = [1, 3, 10, 30, 60, 180, 600, 1800, 3600, 10_800, 36_000]
  axes.xaxis.set_major_locator(matplotlib.ticker.FixedLocator(ticks))
  axes.xaxis.set_major_formatter(matplotlib.ticker.FuncFormatter(_duration))
  axes.xaxis.set_minor_locator(matplotlib.ticker.NullLocator())


def _spread(heights: Sequence[float]) -> list[float]:
  """Heights in points, moved upwards until no two of them are too near."""
  moved: dict[int, float] = {}
  above = float('-inf')
  for index in sorted(range(len(heights)), key=heights.__getitem__):
    above = moved[index] = max(heights[index], above + _LABEL_GAP)
  return [moved[index] for index in range(len(heights))]


def _label_lines(axes: matplotlib.axes.Axes, heights: dict[str, float]) -> None:
  """The baselines' names in the margin, each at its line."""
  point = axes.bbox.height * 72 / axes.figure.dpi / axes.get_ylim()[1]
  at = _spread([height * point for height in heights.values()])
  for name, y in zip(heights, at, strict=True):
    axes.annotate(
      _LINE_NAMES.get(name, name),
      (1, 0),
      xycoords='axes fraction',
      xytext=(5, y),
      textcoords='offset points',
      va='center',
      color='grey',
      fontsize='small',
      annotation_clip=False,
    )


def _label_curve(
  axes: matplotlib.axes.Axes, name: str, end: tuple[float, float], colour: str
) -> None:
  """A name right of a curve's last point; above it where the axis ends soon."""
  late = axes.transAxes.inverted().transform(axes.transData.transform(end))[0] > 0.65
  axes.annotate(
    name,
    end,
    xytext=(4, 9) if late else (8, 0),
    textcoords='offset points',
    ha='right' if late else 'left',
    va='bottom' if late else 'center',
    color=colour,
    weight='bold',
    # Lines and grid stop behind the text.
    bbox={'facecolor': 'white', 'edgecolor': 'none', 'pad': 1},
  )


def _panel(
  axes: matplotlib.axes.Axes, metric: str, curves: dict[str, Curve], lines: Lines
) -> None:
  heights = {name: values[metric] for name, values in lines.items()}
  for height in heights.values():
    axes.axhline(height, color='grey', linestyle='--', linewidth=1)
  drawn = {
    name: [(point['seconds'], point[metric]) for point in curve if metric in point]
    for name, curve in curves.items()
  }
  top = max([*heights.values(), *(y for curve in drawn.values() for _, y in curve)])
  axes.set(title=f'validation, {_METRICS[metric]}', ylim=(0, 1.15 * top))
  axes.set_xlabel('time of training, log scale')
  _time_axis(axes, curves)
  for index, (name, points) in enumerate(drawn.items()):
    if points:
      colour = f'C{index}'
      axes.plot(*zip(*points, strict=True), marker='o', markersize=4, color=colour)
      _label_curve(axes, name, points[-1], colour)
  _label_lines(axes, heights)


def _draw(curves: dict[str, Curve], lines: Lines) -> None:
  from ncf_tfdata.reporting import plots

  with plots.styled():
    figure = matplotlib.figure.Figure(figsize=(11, 4.2))
    # Room at the right of each panel, for labels are placed in points.
    figure.subplots_adjust(left=0.05, right=0.92, wspace=0.32, bottom=0.13, top=0.9)
    for axes, metric in zip(figure.subplots(1, 2), _METRICS, strict=True):
      _panel(axes, metric, curves, lines)
    (side_by_side.IMAGES / 'accuracy_over_time.png').write_bytes(plots.png(figure))


def main(_):
  if not _REDRAW.value:
    names = _NAMES.value or [pathlib.Path(path).stem for path in _RECIPES.value]
    curves = {}
    for name, recipe in zip(names, map(pathlib.Path, _RECIPES.value), strict=True):
      run, curves[name] = _curve(recipe)
    side_by_side.save(
      'accuracy_over_time',
      {
        'recipes': curves,
        'peers': peers(_CURVES.value),
        'baselines': _lines(run),
      },
    )
  result = json.loads((side_by_side.RESULTS / 'accuracy_over_time.json').read_text())
  _draw({**result['recipes'], **result['peers']}, result['baselines'])


if __name__ == '__main__':
  app.run(main)
