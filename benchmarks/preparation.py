"""Preparation of MovieLens-1M, ours and the seed's, in turn, as whole processes.

    python benchmarks/preparation.py --ratings=ml-1m/ratings.dat \
        --seed_python=PYTHON --seed_script=RUNNER.py \
        --seed_file=NOTEBOOK.md

The seed needs an environment of its own; its runner says which.
"""

import sys
import tempfile

import side_by_side
from absl import app, flags

_RATINGS = flags.DEFINE_string('ratings', None, 'ratings.dat', required=True)
_SEED_PYTHON = flags.DEFINE_string('seed_python', None, 'Its Python.', required=True)
_SEED_SCRIPT = flags.DEFINE_string('seed_script', None, 'Its runner.', required=True)
_SEED_FILE = flags.DEFINE_string('seed_file', None, 'Its notebook.', required=True)
_RUNS = flags.DEFINE_integer('runs', 5, 'Counted runs of each, after one warm-up.')


def main(_):
  ours, theirs, peaks = [], [], []
  for turn in range(_RUNS.value + 1):
    with tempfile.TemporaryDirectory() as output:
      mine = side_by_side.run(
        [
          sys.executable,
          '-m',
          'beam_pipelines.prepare',
          f'--input={_RATINGS.value}',
          f'--output={output}/dataset',
        ]
      )
    seed = side_by_side.run(
      [_SEED_PYTHON.value, _SEED_SCRIPT.value, _RATINGS.value, '--prep-only'],
      SEED_FILE=_SEED_FILE.value,
    )
    if turn:  # the first turn warms caches
      ours.append(mine.seconds)
      theirs.append(seed.seconds)
      peaks.append((mine.peak_mib, seed.peak_mib))
  side_by_side.save(
    'preparation',
    {
      'what': 'seconds and MiB of a whole process, MovieLens-1M',
      'ours': ours,
      'seed': theirs,
      'median_ratio': side_by_side.ratio(ours, theirs),
      'peak_mib_ours_seed': peaks,
    },
  )


if __name__ == '__main__':
  app.run(main)
