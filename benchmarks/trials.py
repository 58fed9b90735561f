"""Trains a list of recipes on one dataset and tabulates what validation says of each.

    python benchmarks/trials.py --trials=benchmarks/trials/neumf_ablations.txt \
        --base=configs/neumf-ml-1m.cfg --data_dir=data/ml-1m-holdout-2

A line of the list is `name: --flag=value …`, flags that come after those of --base;
`{runs}` in it is the directory of all runs, so that a trial can start from another.
A trial that ended is not run again, and one that was killed is taken up, so the
search may be stopped at any moment. Nothing of the test split is tabulated.
"""

import csv
import json
import pathlib
import shlex

import side_by_side
from absl import app, flags

_TRIALS = flags.DEFINE_string('trials', None, 'List of trials.', required=True)
_BASE = flags.DEFINE_string('base', None, 'Flagfile of them all.', required=True)
_DATA_DIR = flags.DEFINE_string('data_dir', None, 'Dataset.', required=True)
_RUNS = flags.DEFINE_string('runs_dir', 'runs/trials', 'Where the runs go.')

_METRICS = ('hr@10', 'ndcg@10')


def read(path: str) -> dict[str, list[str]]:
  """Flags of each trial by its name; a line that begins with # is a remark."""
  lines = pathlib.Path(path).read_text().splitlines()
  pairs = [line.partition(':') for line in lines if line and not line.startswith('#')]
  return {name: shlex.split(arguments) for name, _, arguments in pairs}


def _train(run: pathlib.Path, arguments: list[str]) -> None:
  if (run / 'metrics.json').exists():
    return
  paths = (f'--data_dir={_DATA_DIR.value}', f'--run_dir={run}')
  flagfile = f'--flagfile={_BASE.value}'
  side_by_side.module(
    'ncf_tfdata.train', flagfile, *paths, '--full_validation', *arguments
  )


def _row(name: str, run: pathlib.Path, arguments: list[str]) -> dict[str, object]:
  metrics = json.loads((run / 'metrics.json').read_text())
  with (run / 'epochs.csv').open() as stream:
    seconds = sum(float(line['seconds']) for line in csv.DictReader(stream))
  row = {'trial': name, 'flags': ' '.join(arguments), 'epoch': metrics['best_epoch']}
  for ranking in ('sampled', 'full'):
    for metric in _METRICS:
      row[f'{ranking} {metric}'] = f'{metrics["validation"][ranking][metric]:.4f}'
  return {**row, 'seconds': f'{seconds:.0f}'}


def main(_):
  runs = pathlib.Path(_RUNS.value)
  path = side_by_side.RESULTS / f'{pathlib.Path(_TRIALS.value).stem}.csv'
  rows = []
  for name, arguments in read(_TRIALS.value).items():
    arguments = [argument.format(runs=runs) for argument in arguments]
    _train(runs / name, arguments)
    rows.append(_row(name, runs / name, arguments))
    with path.open('w', newline='') as stream:
      writer = csv.DictWriter(stream, rows[0], lineterminator='\n')
      writer.writeheader()
      writer.writerows(rows)
  print(path.read_text(), end='')


if __name__ == '__main__':
  app.run(main)
