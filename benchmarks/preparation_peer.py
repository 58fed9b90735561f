"""Preparation by Beam beside the best that one would write without it, in turn.

    python benchmarks/preparation_peer.py --ratings=10000000

The peer is `polars_preparation.py`: polars, numpy and tf.io, all in memory, on all
cores. Both are whole processes with equal output: users, items, the pairs of every
split and the negatives a row are compared. Needs `pip install polars`.
"""

import json
import os
import pathlib
import shutil
import sys
import tempfile

import pairs
import polars_preparation
import side_by_side
from absl import app, flags

_RATINGS = flags.DEFINE_integer('ratings', 10_000_000, 'Rows of the built-in sample.')
_RUNS = flags.DEFINE_integer('runs', 3, 'Counted runs of each, after one warm-up.', 0)
_WORKERS = flags.DEFINE_integer('workers', 2, 'Threads of the direct runner.', 1)
_WORK_DIR = flags.DEFINE_string(
  'work_dir', None, 'Folder for logs and datasets; a temporary one by default.'
)


def _negatives(directory: str) -> dict[str, int]:
  """Negatives a row of each split, counted in the first record there is."""
  import tensorflow as tf

  found = {}
  for split in ('train', 'validation', 'test'):
    paths = sorted(str(p) for p in pathlib.Path(directory).glob(f'ncf-{split}.*'))
    record = next(tf.data.TFRecordDataset(paths).as_numpy_iterator())
    features = tf.train.Example.FromString(record).features.feature
    rows = len(features['pos'].int64_list.value)
    found[split] = len(features['negs'].int64_list.value) // rows
  return found


def main(_):
  os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
  if _WORK_DIR.value:
    pathlib.Path(_WORK_DIR.value).mkdir(parents=True, exist_ok=True)
  with tempfile.TemporaryDirectory(dir=_WORK_DIR.value) as folder:
    log, ours, peer = (os.path.join(folder, name) for name in ('log.dat', 'a', 'b'))
    python = sys.executable
    sample = [python, '-m', 'beam_pipelines.sample', f'--ratings={_RATINGS.value}']
    side_by_side.run([*sample, f'--output={log}'])
    prepare = [python, '-m', 'beam_pipelines.prepare', f'--input={log}']
    prepare += [f'--output={ours}', f'--direct_num_workers={_WORKERS.value}']
    if _WORKERS.value > 1:
      prepare.append('--direct_running_mode=multi_threading')
    runs: list[tuple[side_by_side.Run, side_by_side.Run]] = []
    for _turn in range(_RUNS.value + 1):
      shutil.rmtree(ours, ignore_errors=True)
      shutil.rmtree(peer, ignore_errors=True)
      mine = side_by_side.run(prepare)
      script = polars_preparation.__file__
      runs.append((mine, side_by_side.run([python, script, log, peer])))
    counted = runs[1:] or runs  # the first turn warms caches
    theirs = json.loads(runs[-1][1].output.strip().split('\n')[-1])
    found, negatives = pairs.of_dataset(ours), _negatives(ours)
    if found != theirs or negatives != _negatives(peer):
      raise RuntimeError(f'the outputs differ: {found} and {theirs}')
  side_by_side.save(
    'preparation_peer',
    {
      'what': 'preparation of the built-in sample as a whole process, equal output',
      'ratings': _RATINGS.value,
      'workers': _WORKERS.value,
      'rows': {split: found[split][0] for split in negatives},
      'negatives_a_row': negatives,
      'seconds': [[ours.seconds, peer.seconds] for ours, peer in counted],
      'cpu_seconds': [[ours.cpu_seconds, peer.cpu_seconds] for ours, peer in counted],
      'peak_mib': [[ours.peak_mib, peer.peak_mib] for ours, peer in counted],
      'median_ratio': side_by_side.ratio(
        [ours.seconds for ours, _ in counted], [peer.seconds for _, peer in counted]
      ),
      'median_cpu_ratio': side_by_side.ratio(
        [ours.cpu_seconds for ours, _ in counted],
        [peer.cpu_seconds for _, peer in counted],
      ),
    },
  )


if __name__ == '__main__':
  app.run(main)
