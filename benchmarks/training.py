"""An epoch of the seed's recipe, ours and the seed's own, in turn, on one dataset.

    python benchmarks/training.py --ratings=ml-1m/ratings.dat \
        --data_dir=data/ml-1m --seed_python=PYTHON \
        --seed_script=RUNNER.py \
        --seed_file=NOTEBOOK.md

Ours are the training steps; the seed's fit also scores its 6,040 validation rows, which
is a five-hundredth of its products. The first epoch, in which graphs are compiled, is
left out.
"""

import csv
import json
import statistics
import sys
import tempfile

import side_by_side
from absl import app, flags

_RATINGS = flags.DEFINE_string('ratings', None, 'ratings.dat', required=True)
_DATA_DIR = flags.DEFINE_string('data_dir', None, 'Prepared from it.', required=True)
_SEED_PYTHON = flags.DEFINE_string('seed_python', None, 'Its Python.', required=True)
_SEED_SCRIPT = flags.DEFINE_string('seed_script', None, 'Its runner.', required=True)
_SEED_FILE = flags.DEFINE_string('seed_file', None, 'Its notebook.', required=True)
_RUNS = flags.DEFINE_integer('runs', 3, 'Runs of each.')
_EPOCHS = flags.DEFINE_integer('epochs', 4, 'Epochs of a run.', lower_bound=2)


def _ours() -> list[float]:
  with tempfile.TemporaryDirectory() as output:
    side_by_side.run(
      [
        sys.executable,
        '-m',
        'ncf_tfdata.train',
        '--flagfile=configs/seed.cfg',
        f'--data_dir={_DATA_DIR.value}',
        f'--run_dir={output}/run',
        f'--epochs={_EPOCHS.value}',
      ]
    )
    with open(f'{output}/run/epochs.csv') as stream:
      rows = list(csv.DictReader(stream))
  return [float(row['seconds']) for row in rows[1:]]


def _seed() -> list[float]:
  done = side_by_side.run(
    [
      _SEED_PYTHON.value,
      _SEED_SCRIPT.value,
      _RATINGS.value,
      str(_EPOCHS.value),
    ],
    SEED_FILE=_SEED_FILE.value,
  )
  lines = [line for line in done.output.split('\n') if '"results"' in line]
  # It reports the fit of every second epoch.
  return [row[1] for row in json.loads(lines[-1])['results']]


def main(_):
  ours, theirs = [], []
  for _run in range(_RUNS.value):
    ours.append(_ours())
    theirs.append(_seed())
  side_by_side.save(
    'training',
    {
      'what': "seconds an epoch of the seed's recipe, MovieLens-1M",
      'ours': ours,
      'seed': theirs,
      'median_ratio': side_by_side.ratio(
        [statistics.median(run) for run in ours],
        [statistics.median(run) for run in theirs],
      ),
    },
  )


if __name__ == '__main__':
  app.run(main)
