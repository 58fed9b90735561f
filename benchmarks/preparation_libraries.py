"""Preparation beside what users of other libraries run first, in turn.

    python benchmarks/preparation_libraries.py --replay_python=envs/replay/bin/python \
        --rectools_python=envs/rectools/bin/python --spark_python=envs/spark/bin/python

All read the same log, keep ratings from 3 on and the 5-core, split each user's last two
rows off, number keys and write: `foreign_preparation.py`. Whole processes. It fails
where one has other rows in a split. Ours also draws negatives and writes TFRecords, so
it does more. A library without a Python is left out.

Writes results/preparation_libraries.json.
"""

import os
import pathlib
import shutil
import sys
import tempfile
from typing import Any

import foreign_preparation
import numpy as np
import pairs
import pyarrow.parquet as pq
import side_by_side
from absl import app, flags

_RATINGS = flags.DEFINE_list('ratings', ['1000000', '10000000', '30000000'], 'Sizes.')
_PYTHONS = {
  name: flags.DEFINE_string(f'{name}_python', None, f'A Python that has {library}.')
  for name, library in (
    ('replay', 'replay-rec'),
    ('rectools', 'rectools, and pyarrow for its numpy'),
    ('spark', 'pyspark, with a Java beside it'),
  )
}
_RUNS = flags.DEFINE_integer('runs', 3, 'Runs of each, in turn; one from 30 M on.', 1)
_WORKERS = flags.DEFINE_integer('workers', 2, 'Threads of the direct runner.', 1)
_WORK_DIR = flags.DEFINE_string('work_dir', None, 'Folder for logs and datasets.')

_OURS = 'beam_pipelines.prepare'
_SPLITS = ('train', 'validation', 'test')
_LARGE = 30_000_000


def _of_parquet(output: str) -> dict:
  """What `pairs.of_dataset` says, of what `foreign_preparation` has written."""
  directory = pathlib.Path(output)
  keys = {}
  for name in ('user', 'item'):
    table = pq.read_table(directory / f'{name}s.parquet')
    keys[name] = np.zeros(len(table), np.int64)
    keys[name][table['id'].to_numpy()] = table['key'].to_numpy()
  found: dict = {f'{name}s': len(each) for name, each in keys.items()}
  for split in _SPLITS:
    rows = pq.read_table(directory / f'{split}.parquet', columns=list(keys))
    both = [keys[name][rows[name].to_numpy()] for name in keys]
    found[split] = [len(rows), pairs.digest(*both)]
  return found


def _command(name: str, log: str, output: str) -> list[str]:
  if name != _OURS:
    python = _PYTHONS[name].value
    return [python, foreign_preparation.__file__, name, log, output]
  workers = [f'--direct_num_workers={_WORKERS.value}']
  if _WORKERS.value > 1:
    workers.append('--direct_running_mode=multi_threading')
  # The 5-core is the filter, so that the usual one of items need not work.
  return [
    sys.executable, '-m', _OURS, f'--input={log}', f'--output={output}',
    '--min_rating=3', '--core=5', '--min_item_count=1', *workers,
  ]  # fmt: skip


def _size(folder: str, ratings: int) -> dict[str, Any]:
  log = os.path.join(folder, 'log.dat')
  side_by_side.module(
    'beam_pipelines.sample', f'--ratings={ratings}', f'--output={log}'
  )
  names = [_OURS, *(name for name, python in _PYTHONS.items() if python.value)]
  runs: dict[str, list[side_by_side.Run]] = {name: [] for name in names}
  expected = None
  for _turn in range(1 if ratings >= _LARGE else _RUNS.value):
    for name in names:
      output = os.path.join(folder, name)
      shutil.rmtree(output, ignore_errors=True)
      runs[name].append(side_by_side.run(_command(name, log, output)))
      read = pairs.of_dataset if name == _OURS else _of_parquet
      found = read(output)
      expected = expected or found
      if found != expected:
        raise RuntimeError(f'{name} has {found}, {_OURS} {expected}')
      print(name, ratings, runs[name][-1].seconds, flush=True)
  return {
    'rows': {split: (expected or {})[split][0] for split in _SPLITS},
    'systems': {
      name: {
        'seconds': [run.seconds for run in each],
        'cpu_seconds': [run.cpu_seconds for run in each],
        'peak_mib': [run.peak_mib for run in each],
      }
      for name, each in runs.items()
    },
  }


def main(_):
  os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
  if _WORK_DIR.value:
    pathlib.Path(_WORK_DIR.value).mkdir(parents=True, exist_ok=True)
  sizes = {}
  for ratings in map(int, _RATINGS.value):
    with tempfile.TemporaryDirectory(dir=_WORK_DIR.value) as folder:
      sizes[str(ratings)] = _size(folder, ratings)
  side_by_side.save(
    'preparation_libraries',
    {
      'what': 'read, filter, 5-core, split, encode and write, as whole processes',
      'workers': _WORKERS.value,
      'sizes': sizes,
    },
  )


if __name__ == '__main__':
  app.run(main)
