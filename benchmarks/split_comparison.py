"""How far leave-last-out flatters: the same systems on one log under two splits.

    python benchmarks/split_comparison.py --input=ml-1m/ratings.dat

Each split is prepared with --core=5 and transitions. The recipe is trained, chosen on
validation and judged on test as it is, once a seed, and baselines beside it. The splits
hold out each user's last row, or by time each user's last row or all later ones. The
two splits by time have the same train rows, so their model is trained once. Splits by
time are measured again with equal times in random order. What has ended is not done
again.

Writes results/split_comparison.json and draws docs/images/split_comparison.png.
--redraw draws from the JSON.
"""

import dataclasses
import json
import pathlib
import statistics
from typing import Any

import matplotlib.figure
import numpy as np
import side_by_side
from absl import app, flags

_INPUT = flags.DEFINE_string('input', None, 'A log with timestamps.')
_RECIPE = flags.DEFINE_string('recipe', 'configs/history.cfg', 'A flagfile of train.')
_SEEDS = flags.DEFINE_integer('seeds', 5, 'Trainings of each split by time.')
_LAST_OUT_SEEDS = flags.DEFINE_integer('last_out_seeds', 1, 'Of leave-last-out.')
_RANDOM_TIE_SEEDS = flags.DEFINE_integer('random_tie_seeds', 5, 'With random ties.')
_BASELINES = flags.DEFINE_string(
  'baselines', 'popularity,item-knn,ease,successors,sequence-knn', 'Beside the model.'
)
_OF_TIMES = flags.DEFINE_string(
  'baselines_of_times', 'recent-popularity,item-knn-decay', 'Where there are times.'
)
_WORK = flags.DEFINE_string('work_dir', 'runs/splits', 'Where data and runs go.')
_REDRAW = flags.DEFINE_bool('redraw', False, 'Only draw the result that is there.')

_METRICS = {'hr@10': 'HR@10', 'ndcg@10': 'NDCG@10'}


@dataclasses.dataclass(frozen=True)
class _Split:
  """One way to hold out, as prepare's flags.

  Attributes:
    options: Flags of prepare.
    seeds: How many trainings there are.
    trained_by: The split that has the same train rows and was trained before.
    drawn: Whether it is in the plot.
  """

  options: tuple[str, ...]
  seeds: flags.FlagHolder[int] = _SEEDS
  trained_by: str | None = None
  drawn: bool = True


_RANDOM = '--tie_order=random'
_SPLITS = {
  'each user, last': _Split(('--keep_times',), _LAST_OUT_SEEDS),
  'by time, last': _Split(('--split=time', '--targets=last')),
  'by time, successive': _Split(
    ('--split=time', '--targets=successive'), trained_by='by time, last'
  ),
  'by time, last, random ties': _Split(
    ('--split=time', '--targets=last', _RANDOM), _RANDOM_TIE_SEEDS, drawn=False
  ),
  'by time, successive, random ties': _Split(
    ('--split=time', '--targets=successive', _RANDOM),
    _RANDOM_TIE_SEEDS,
    'by time, last, random ties',
    drawn=False,
  ),
}


def _directory(name: str) -> pathlib.Path:
  return pathlib.Path(_WORK.value) / name.replace(', ', '-').replace(' ', '-')


def _judged(name: str, split: _Split) -> dict[str, Any]:
  """Full ranking of each system on the test rows of one split, by seed."""
  directory = _directory(name)
  data = directory / 'data'
  side_by_side.once(
    directory / 'seconds' / 'prepare',
    'beam_pipelines.prepare', f'--input={_INPUT.value}', f'--output={data}',
    '--overwrite', '--core=5', '--successors=500', *split.options,
  )  # fmt: skip
  baselines = f'{_BASELINES.value},{_OF_TIMES.value}'
  found: dict[str, Any] = {}
  for seed in range(split.seeds.value):
    run = directory / f'seed-{seed}'
    trained: tuple[str, ...] = ()
    if split.trained_by:
      trained = (
        f'--warm_start={_directory(split.trained_by)}/seed-{seed}', '--epochs=0'
      )  # fmt: skip
    side_by_side.once(
      directory / 'seconds' / f'train-{seed}',
      'ncf_tfdata.train', f'--flagfile={_RECIPE.value}', f'--data_dir={data}',
      f'--run_dir={run}', '--overwrite', f'--seed={seed}', *trained,
    )  # fmt: skip
    side_by_side.once(
      directory / 'seconds' / f'evaluate-{seed}',
      'ncf_tfdata.evaluate', f'--run_dir={run}',
      f'--baselines={baselines if not seed else "popularity"}',
    )  # fmt: skip
    metrics = json.loads((run / 'metrics.json').read_text())
    found.setdefault('model', []).append(_numbers(metrics['test']))
    if not seed:
      for system, by_split in metrics['baselines'].items():
        found[system] = [_numbers(by_split['test'])]
    print(name, seed, json.dumps(found['model'][-1]), flush=True)
  manifest = json.loads((data / 'manifest.json').read_text())
  seconds = [
    json.loads((directory / 'seconds' / f'train-{seed}').read_text())
    for seed in range(split.seeds.value)
  ]
  return {
    'systems': found,
    'counts': manifest['counts'],
    'cuts': manifest.get('cuts'),
    'train_seconds': seconds,
  }


def _numbers(judged: dict[str, Any]) -> dict[str, Any]:
  full, bounds = judged['full'], judged['intervals']['full']
  return {
    name: {'value': full[name], 'interval': bounds[name]} for name in _METRICS
  } | {'coverage@10': full['coverage@10']}


def _draw(result: dict[str, Any]) -> None:
  from ncf_tfdata.reporting import plots

  splits = result['splits']
  systems = list(splits['by time, last']['systems'])
  with plots.styled():
    figure = matplotlib.figure.Figure(figsize=(11, 4.2), layout='constrained')
    panels = figure.subplots(1, len(_METRICS))
    drawn = [(name, splits[name]) for name, split in _SPLITS.items() if split.drawn]
    for axes, (metric, title) in zip(panels, _METRICS.items(), strict=True):
      for index, (name, found) in enumerate(drawn):
        at, heights, errors = [], [], []
        for place, system in enumerate(systems):
          seeds = found['systems'].get(system)
          if seeds:
            at.append(place + (index - 1) * 0.26)
            heights.append(statistics.fmean(seed[metric]['value'] for seed in seeds))
            lower, upper = seeds[0][metric]['interval']
            errors.append((upper - lower) / 2)
        axes.bar(at, heights, 0.25, yerr=errors, label=name, color=f'C{index}')
      axes.set_xticks(np.arange(len(systems)), systems, rotation=30, ha='right')
      axes.set_title(f'test, whole catalogue, {title}')
    panels[0].legend(frameon=False)
    (side_by_side.IMAGES / 'split_comparison.png').write_bytes(plots.png(figure))


def main(_):
  if _REDRAW.value:
    path = side_by_side.RESULTS / 'split_comparison.json'
    _draw(json.loads(path.read_text()))
    return
  result = {
    'recipe': _RECIPE.value,
    'splits': {
      name: _judged(name, split) for name, split in _SPLITS.items() if split.seeds.value
    },
  }
  side_by_side.save('split_comparison', result)
  _draw(result)


if __name__ == '__main__':
  app.run(main)
