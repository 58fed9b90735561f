"""From a ratings file to the table of test metrics: a recipe with several seeds.

    python benchmarks/headline.py --ratings=ml-1m/ratings.dat \
        --recipe=configs/neumf-ml-1m.cfg --prepare=configs/prepare-he2017.cfg

Prepares the --holdout=1 twin in both orders of rows that have the same timestamp,
trains on it with the seeds 0, 1, …, and judges each run once, on test, beside
baselines. What has ended is not done again.
"""

import json
import pathlib
import statistics

import side_by_side
from absl import app, flags

_RATINGS = flags.DEFINE_string('ratings', None, 'Ratings file.', required=True)
_FORMAT = flags.DEFINE_string('format', None, 'Its --format, if not the default.')
_RECIPE = flags.DEFINE_string('recipe', None, 'Flagfile of train.', required=True)
_PREPARE = flags.DEFINE_multi_string('prepare', [], 'Flagfiles of prepare.')
_SEEDS = flags.DEFINE_integer('seeds', 5, 'Number of seeds.', lower_bound=2)
_TIES = flags.DEFINE_list('tie_orders', ['input', 'random'], 'Orders to report.')
_BASELINES = flags.DEFINE_string(
  'baselines', 'popularity,ease,successors', 'What each run is compared with.'
)
_DIRECTORY = flags.DEFINE_string('directory', 'runs/headline', 'Where all of it goes.')

_METRICS = ('hr@10', 'ndcg@10')


def _prepare(directory: pathlib.Path, ties: str) -> float:
  flagfiles = [f'--flagfile={path}' for path in _PREPARE.value]
  kind = [f'--format={_FORMAT.value}'] if _FORMAT.value else []
  return side_by_side.once(
    directory / 'seconds' / 'prepare',
    'beam_pipelines.prepare',
    *flagfiles,
    *kind,
    f'--input={_RATINGS.value}',
    f'--output={directory}/data',
    f'--tie_order={ties}',
    '--holdout=1',
  )


def _judge(directory: pathlib.Path, seed: int) -> tuple[dict, float]:
  run = directory / f'seed-{seed}'
  seconds = side_by_side.once(
    directory / 'seconds' / f'train-{seed}',
    'ncf_tfdata.train',
    f'--flagfile={_RECIPE.value}',
    f'--data_dir={directory}/data',
    f'--run_dir={run}',
    f'--seed={seed}',
  )
  side_by_side.once(
    directory / 'seconds' / f'evaluate-{seed}',
    'ncf_tfdata.evaluate',
    f'--run_dir={run}',
    f'--baselines={_BASELINES.value}',
  )
  return json.loads((run / 'metrics.json').read_text()), seconds


def _spread(values: list[float]) -> dict[str, float]:
  return {'mean': statistics.mean(values), 'sd': statistics.stdev(values)}


def _summary(directory: pathlib.Path, ties: str) -> dict:
  prepare = _prepare(directory, ties)
  judged, seconds = zip(
    *(_judge(directory, seed) for seed in range(_SEEDS.value)), strict=True
  )
  columns = [(r, m) for r in ('sampled', 'full') for m in _METRICS]
  compared = [metrics['comparisons']['test'] for metrics in judged]
  return {
    'prepare_seconds': prepare,
    'train_seconds': list(seconds),
    'model': {
      f'{ranking} {metric}': _spread(
        [metrics['test'][ranking][metric] for metrics in judged]
      )
      for ranking, metric in columns
    },
    'seeds': [
      {f'{r} {m}': metrics['test'][r][m] for r, m in columns} for metrics in judged
    ],
    'intervals': judged[0]['test']['intervals'],
    'baselines': {
      name: {f'{r} {m}': splits['test'][r][m] for r, m in columns}
      for name, splits in judged[0]['baselines'].items()
    },
    # The largest p-value of any seed.
    'p': {
      name: {
        ranking: max(seed[name][ranking]['p_value'] for seed in compared)
        for ranking in ('sampled', 'full')
      }
      for name in compared[0]
    },
  }


def main(_):
  recipe = pathlib.Path(_RECIPE.value).stem
  root = pathlib.Path(_DIRECTORY.value) / recipe
  side_by_side.save(
    f'headline-{recipe}',
    {'recipe': recipe, **{ties: _summary(root / ties, ties) for ties in _TIES.value}},
  )


if __name__ == '__main__':
  app.run(main)
