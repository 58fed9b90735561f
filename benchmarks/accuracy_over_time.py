"""Accuracy over time: recipes in turn on one dataset, beside baselines, as a picture.

    python benchmarks/accuracy_over_time.py --data_dir=data/ml-1m \
        --recipes=configs/ml-1m.cfg,configs/neumf-ml-1m.cfg

Accuracy is of validation after each epoch; seconds are of the training steps before it.
Baselines have no epochs: a line each. Writes results/accuracy_over_time.json and .png.
"""

import csv
import json
import pathlib

import matplotlib.figure
import side_by_side
from absl import app, flags

_DATA_DIR = flags.DEFINE_string('data_dir', None, 'With --holdout=2.', required=True)
_RECIPES = flags.DEFINE_list('recipes', None, 'Flagfiles of train.', required=True)
_BASELINES = flags.DEFINE_string('baselines', 'ease,successors', 'Lines beside them.')
_RUNS = flags.DEFINE_string('runs_dir', 'runs/over_time', 'Where the runs go.')

_METRICS = {'ndcg@10': 'sampled NDCG@10', 'full_ndcg@10': 'full NDCG@10'}


def _curve(recipe: pathlib.Path) -> tuple[pathlib.Path, list[dict[str, float]]]:
  """A run of a recipe, and seconds and metrics after each epoch."""
  run = pathlib.Path(_RUNS.value) / recipe.stem
  paths = (f'--data_dir={_DATA_DIR.value}', f'--run_dir={run}')
  side_by_side.module(
    'ncf_tfdata.train', f'--flagfile={recipe}', *paths, '--full_validation'
  )
  with (run / 'epochs.csv').open() as stream:
    rows = list(csv.DictReader(stream))
  total, curve = 0.0, []
  for row in rows:
    total += float(row['seconds'])
    curve.append({'seconds': total, **{name: float(row[name]) for name in _METRICS}})
  return run, curve


def _lines(run: pathlib.Path) -> dict[str, dict[str, float]]:
  """Validation metrics of the baselines."""
  baselines = f'--baselines={_BASELINES.value}'
  side_by_side.module(
    'ncf_tfdata.evaluate', f'--run_dir={run}', baselines, '--split=validation'
  )
  judged = json.loads((run / 'metrics.json').read_text())['baselines']
  return {
    name: {
      'ndcg@10': judged[name]['validation']['sampled']['ndcg@10'],
      'full_ndcg@10': judged[name]['validation']['full']['ndcg@10'],
    }
    for name in _BASELINES.value.split(',')
  }


def _draw(curves: dict[str, list], lines: dict[str, dict[str, float]]) -> None:
  figure = matplotlib.figure.Figure(figsize=(10, 4), layout='constrained')
  for panel, (metric, title) in zip(
    figure.subplots(1, 2), _METRICS.items(), strict=True
  ):
    for name, curve in curves.items():
      x = [point['seconds'] for point in curve]
      panel.plot(x, [point[metric] for point in curve], marker='o', label=name)
    for index, (name, values) in enumerate(lines.items()):
      style = ('--', ':', '-.')[index % 3]
      panel.axhline(values[metric], color='grey', linestyle=style, label=name)
    panel.set(
      title=f'validation, {title}', xlabel='seconds of training', ylim=(0, None)
    )
    panel.grid(alpha=0.2)
  panel.legend(loc='lower right')
  figure.savefig(side_by_side.RESULTS / 'accuracy_over_time.png', dpi=120)


def main(_):
  curves = {}
  for recipe in map(pathlib.Path, _RECIPES.value):
    run, curves[recipe.stem] = _curve(recipe)
  lines = _lines(run)
  side_by_side.save('accuracy_over_time', {'recipes': curves, 'baselines': lines})
  _draw(curves, lines)


if __name__ == '__main__':
  app.run(main)
