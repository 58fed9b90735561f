"""Seconds to a sampled HR@10: a recipe of ours and implicit's BPR, as a picture.

    python benchmarks/time_to_hr.py --data_dir=data/ml-1m \
        --recipe=configs/neumf-ml-1m.cfg --implicit_python=PYTHON

Both train on the dataset's train rows and are judged on its validation rows, after each
epoch, among the same negatives. Wall time from the start of the process to the line of
the epoch, so imports, reading, compilation and judging count on both sides; BPR reads
its rows from arrays in a file, which takes it next to nothing. The last target is the
recipe's own best. Writes results/time_to_hr.json, and a plot to docs/images.
"""

import json
import os
import pathlib
import re
import sys
import tempfile
from collections.abc import Iterable
from typing import Any

import matplotlib.ticker
import numpy as np
import printed
import side_by_side
from absl import app, flags

_DATA_DIR = flags.DEFINE_string('data_dir', None, 'With --holdout=2.', required=True)
_RECIPE = flags.DEFINE_string('recipe', None, 'Flagfile of train.', required=True)
_PYTHON = flags.DEFINE_string(
  'implicit_python', None, 'A Python with implicit.', required=True
)
_NAME = flags.DEFINE_string('name', 'NeuMF', "The recipe's name in the picture.")
_TARGETS = flags.DEFINE_list('targets', ['0.625', '0.70'], 'HR@10 to reach.')
_BPR = flags.DEFINE_string(
  'bpr',
  '{"factors": 100, "learning_rate": 0.01, "regularization": 0.01}',
  'Parameters; those of its own choice if left out.',
)
_ITERATIONS = flags.DEFINE_integer('iterations', 300, 'Epochs of BPR.', lower_bound=1)
_RUNS = flags.DEFINE_integer('runs', 3, 'Runs of each, in turn.', lower_bound=1)

_EPOCH = re.compile(r'epoch (\d+).*?hr@10 ([\d.]+)  ndcg@10 ([\d.]+)')

Curve = list[dict[str, float]]


def _curve(lines: Iterable[printed.Line]) -> Curve:
  """What the lines of epochs tell, ours or BPR's."""
  return [
    {
      'seconds': line.wall_seconds,
      'cpu_seconds': line.cpu_seconds,
      'epoch': int(match[1]),
      'hr@10': float(match[2]),
      'ndcg@10': float(match[3]),
    }
    for line in lines
    if (match := _EPOCH.match(line.text))
  ]


def _ours() -> Curve:
  with tempfile.TemporaryDirectory() as output:
    command = [sys.executable, '-m', 'ncf_tfdata.train', f'--flagfile={_RECIPE.value}']
    paths = [f'--data_dir={_DATA_DIR.value}', f'--run_dir={output}/run']
    return _curve(printed.lines([*command, *paths]))


def _bpr(rows: str) -> Curve:
  runner = str(pathlib.Path(__file__).with_name('implicit_runner.py'))
  parameters = {**json.loads(_BPR.value), 'iterations': _ITERATIONS.value}
  return _curve(printed.lines([_PYTHON.value, runner, rows, json.dumps(parameters)]))


def export(directory: str, path: str) -> None:
  """Writes a dataset's train rows, validation rows and their negatives to arrays."""
  from ncf_tfdata import dataset as dataset_lib
  from ncf_tfdata.data import records

  dataset = dataset_lib.Dataset(directory)
  user, item = records.train_rows(dataset)
  batches = list(records.evaluation_batches(dataset, 'validation', 1 << 30))
  held = {
    name: np.concatenate([getattr(batch, name) for batch in batches])
    for name in ('user', 'positive', 'negatives')
  }
  sizes = {'num_users': dataset.num_users, 'num_items': dataset.num_items}
  np.savez(path, train_user=user, train_item=item, **held, **sizes)


def _reached(curve: Curve, target: float) -> dict[str, float] | None:
  return next((point for point in curve if point['hr@10'] >= target), None)


def _draw(curves: dict[str, list[Curve]], targets: list[float]) -> None:
  from ncf_tfdata.reporting import plots

  with plots.styled():
    figure = matplotlib.figure.Figure(figsize=(7, 4.2), layout='constrained')
    axes = figure.subplots()
    for (name, runs), colour in zip(curves.items(), ('C0', 'C1'), strict=True):
      for curve in runs:
        axes.plot(
          [point['seconds'] for point in curve],
          [point['hr@10'] for point in curve],
          color=colour,
          marker='o' if len(curve) < 50 else None,
          markersize=4,
        )
      last = runs[0][-1]
      axes.annotate(
        name,
        (last['seconds'], last['hr@10']),
        xytext=(4, 10),
        textcoords='offset points',
        ha='right',
        color=colour,
        weight='bold',
        # The targets' lines stop behind the text.
        bbox={'facecolor': 'white', 'edgecolor': 'none', 'pad': 1},
      )
    for target in targets:
      axes.axhline(target, color='grey', linestyle=':', linewidth=1)
      axes.annotate(
        f'{target:.3f}',
        (1, target),
        xycoords=('axes fraction', 'data'),
        xytext=(4, 0),
        textcoords='offset points',
        va='center',
        color='grey',
      )
    axes.margins(y=0.12)
    axes.set_xscale('log')
    plain = matplotlib.ticker.FuncFormatter(lambda seconds, _: f'{seconds:g}')
    axes.xaxis.set_major_locator(matplotlib.ticker.LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(plain)
    axes.xaxis.set_minor_locator(matplotlib.ticker.NullLocator())
    axes.set(
      title='validation, sampled HR@10',
      xlabel='seconds since the process began, log scale',
    )
    (side_by_side.IMAGES / 'time_to_hr.png').write_bytes(plots.png(figure))


def main(_):
  os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
  ours, bpr = [], []
  with tempfile.TemporaryDirectory() as directory:
    export(_DATA_DIR.value, f'{directory}/rows.npz')
    for _run in range(_RUNS.value):
      ours.append(_ours())
      bpr.append(_bpr(f'{directory}/rows.npz'))
  # The least of the runs' bests, so that every run of ours has a time.
  best = min(max(point['hr@10'] for point in curve) for curve in ours)
  targets = [*map(float, _TARGETS.value), best]
  curves = {_NAME.value: ours, "implicit's BPR": bpr}
  reached: dict[str, Any] = {
    f'{target:.4f}': {
      name: [_reached(curve, target) for curve in runs] for name, runs in curves.items()
    }
    for target in targets
  }
  side_by_side.save(
    'time_to_hr',
    {
      'what': 'wall seconds of a process to a sampled HR@10 on validation',
      'bpr': json.loads(_BPR.value),
      'reached': reached,
      'curves': curves,
    },
  )
  _draw(curves, targets)


if __name__ == '__main__':
  app.run(main)
