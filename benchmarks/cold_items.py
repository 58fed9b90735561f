"""How well items that nobody has had are ranked, and what that costs the others.

    python benchmarks/cold_items.py --input=ml-1m/ratings.dat \
        --prepare_flags='--item_features=movies.csv'

Holds a tenth of the items out of train. Trains on ids alone and on features, and shows
more cold items by each of --cold_item_logits, which needs no training. Judges them all
beside the baselines that know items by what they are. What has ended is not done again.

Writes results/NAME.json, and prints a table of full HR@10 of validation and test.
"""

import json
import pathlib
import shlex
from typing import Any

import side_by_side
from absl import app, flags

_INPUT = flags.DEFINE_string('input', None, 'A log.', required=True)
_PREPARE = flags.DEFINE_string(
  'prepare_flags', None, 'Flags of prepare: which features.', required=True
)
_TRAIN = flags.DEFINE_string(
  'train_flags',
  '--members=1 --history_dim=64 --successor_logits=0 --ease_logits=0 --epochs=5 '
  '--batch_size=2048',
  'Flags of train, after those of --recipe.',
)
_RECIPE = flags.DEFINE_string('recipe', 'configs/history.cfg', 'A flagfile of train.')
_DROPOUT = flags.DEFINE_float('item_id_dropout', 0.2, 'Where features are used.')
_LOGITS = flags.DEFINE_list('cold_item_logits', ['.75', '1.5'], 'Values to judge.')
_BASELINES = flags.DEFINE_string(
  'baselines', 'content-knn,content-knn:last=3,category-popularity', 'Beside them.'
)
_WORK = flags.DEFINE_string('work_dir', 'runs/cold-items', 'Where data and runs go.')
_NAME = flags.DEFINE_string('name', 'cold_items', 'Of the result.')

_METRIC = 'hr@10'
_SPLITS = ('validation', 'test')


def _train(name: str, *options: str) -> pathlib.Path:
  work = pathlib.Path(_WORK.value)
  run = work / name
  side_by_side.once(
    work / 'seconds' / f'train-{name}',
    'ncf_tfdata.train', f'--flagfile={_RECIPE.value}', f'--data_dir={work}/data',
    f'--run_dir={run}', '--overwrite', *shlex.split(_TRAIN.value), *options,
  )  # fmt: skip
  return run


def _metrics(run: pathlib.Path) -> dict[str, Any]:
  return json.loads((run / 'metrics.json').read_text())


def _parted(judged: dict[str, Any]) -> dict[str, float]:
  """HR@10 of cold items' rows, of the others', and of all."""
  parts = judged['segments']['train_rows']['full']
  cold = [part for part in parts if part['segment'].startswith('0 ')]
  warm = [part for part in parts if not part['segment'].startswith('0 ')]
  return {
    'cold': _mean(cold),
    'warm': _mean(warm),
    'all': judged['full'][_METRIC],
    'cold_rows': sum(part['rows'] for part in cold),
  }


def _mean(parts: list[dict[str, Any]]) -> float:
  rows = sum(part['rows'] for part in parts)
  return sum(part['metrics'][_METRIC] * part['rows'] for part in parts) / rows


def main(_):
  work = pathlib.Path(_WORK.value)
  side_by_side.once(
    work / 'seconds' / 'prepare',
    'beam_pipelines.prepare', f'--input={_INPUT.value}', f'--output={work}/data',
    '--overwrite', '--successors=500', '--held_out_items=.1',
    *shlex.split(_PREPARE.value),
  )  # fmt: skip
  runs = {'ids alone': _train('ids', '--nouse_item_features')}
  features = _train('features', f'--item_id_dropout={_DROPOUT.value}')
  runs[f'features, --item_id_dropout={_DROPOUT.value}'] = features
  for logits in _LOGITS.value:
    flag = f'--cold_item_logits={logits}'
    runs[flag] = _train(
      f'features-{logits}', f'--warm_start={features}', '--epochs=0',
      f'--item_id_dropout={_DROPOUT.value}', flag,
    )  # fmt: skip
  for split in _SPLITS:
    side_by_side.once(
      work / 'seconds' / f'evaluate-{split}',
      'ncf_tfdata.evaluate', f'--run_dir={features}', f'--split={split}',
      f'--baselines={_BASELINES.value}',
    )  # fmt: skip
  judged = {name: _metrics(run) for name, run in runs.items()}
  judged |= _metrics(features)['baselines']
  found = {
    name: {split: _parted(each[split]) for split in _SPLITS}
    for name, each in judged.items()
  }
  side_by_side.save(_NAME.value, {'recipe': _RECIPE.value, 'systems': found})
  print('| | validation, cold | warm | test, cold | warm |')
  print('|---|---|---|---|---|')
  for name, by_split in found.items():
    cells = [by_split[s][part] for s in _SPLITS for part in ('cold', 'warm')]
    print(f'| {name} | ' + ' | '.join(f'{cell:.4f}' for cell in cells) + ' |')


if __name__ == '__main__':
  app.run(main)
