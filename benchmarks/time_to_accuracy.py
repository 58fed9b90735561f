"""Seconds to the seed's best accuracy, from ratings.dat: a recipe of ours and the seed.

    python benchmarks/time_to_accuracy.py --ratings=../shared/data/ml-1m/ratings.dat \
        --recipe=configs/neumf-ml-1m.cfg --seed_python=PYTHON \
        --seed_script=../shared/bench/seed_run.py \
        --seed_file=../shared/reference/seed_notebook.md

Preparation counts on both sides, and so does judging each epoch. Ours is judged on
validation, the seed, as it does, on test.
"""

import csv
import json
import sys
import tempfile
import time
from typing import Any

import side_by_side
from absl import app, flags

_RATINGS = flags.DEFINE_string('ratings', None, 'ratings.dat', required=True)
_RECIPE = flags.DEFINE_string('recipe', None, 'Flagfile of train.', required=True)
_SEED_PYTHON = flags.DEFINE_string('seed_python', None, 'Its Python.', required=True)
_SEED_SCRIPT = flags.DEFINE_string('seed_script', None, 'Its runner.', required=True)
_SEED_FILE = flags.DEFINE_string('seed_file', None, 'Its notebook.', required=True)
_EPOCHS = flags.DEFINE_integer('seed_epochs', 20, "The seed's epochs.")
_HR = flags.DEFINE_float('hr', 0.625, 'HR@10 to reach.')
_NDCG = flags.DEFINE_float('ndcg', 0.345, 'NDCG@10 to reach.')


def _ours() -> dict[str, Any]:
  """Seconds from ratings.dat to the first epoch that is good enough."""
  with tempfile.TemporaryDirectory() as output:
    begin = time.perf_counter()
    side_by_side.run(
      [
        sys.executable,
        '-m',
        'beam_pipelines.prepare',
        '--flagfile=configs/prepare-he2017.cfg',
        f'--input={_RATINGS.value}',
        f'--output={output}/data',
      ]
    )
    prepared = time.perf_counter() - begin
    done = side_by_side.run(
      [
        sys.executable,
        '-m',
        'ncf_tfdata.train',
        f'--flagfile={_RECIPE.value}',
        f'--data_dir={output}/data',
        f'--run_dir={output}/run',
      ]
    )
    with open(f'{output}/run/epochs.csv') as stream:
      rows = list(csv.DictReader(stream))
  # The clock of an epoch's line starts with its first step; what comes before, and
  # judging, is in the whole of the process, of which each epoch bears its share.
  steps = [float(row['seconds']) for row in rows]
  beside = (done.seconds - sum(steps)) / len(rows)
  total = prepared
  for row, seconds in zip(rows, steps, strict=True):
    total += seconds + beside
    if float(row['hr@10']) >= _HR.value and float(row['ndcg@10']) >= _NDCG.value:
      return {'seconds': total, 'epoch': int(row['epoch']), 'prepare': prepared}
  raise RuntimeError(f'{_RECIPE.value} did not reach HR@10 {_HR.value}')


def _seed() -> dict[str, Any]:
  """Seconds to the epoch of its best HR@10, whether or not that is good enough."""
  done = side_by_side.run(
    [_SEED_PYTHON.value, _SEED_SCRIPT.value, _RATINGS.value, str(_EPOCHS.value)],
    SEED_FILE=_SEED_FILE.value,
  )
  lines = [line for line in done.output.split('\n') if '"results"' in line]
  found = json.loads(lines[-1])
  # Of every second epoch it reports (epoch, fit seconds, judging seconds, HR, NDCG);
  # the fit of the epoch between is taken to last as long.
  total, best = found['prep_s'], {'hr@10': 0.0}
  for epoch, fit, judging, hr, ndcg in found['results']:
    total += (2 if epoch else 1) * fit + judging
    if hr > best['hr@10']:
      best = {'seconds': total, 'epoch': epoch, 'hr@10': hr, 'ndcg@10': ndcg}
  return {**best, 'results': found['results']}


def main(_):
  seed, ours = _seed(), _ours()
  ratio = ours['seconds'] / seed['seconds']
  side_by_side.save('time_to_accuracy', {'ours': ours, 'seed': seed, 'ratio': ratio})


if __name__ == '__main__':
  app.run(main)
