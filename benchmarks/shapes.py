"""Preparation of hard logs beside the plain sample of equal size: is there a cliff?

    python benchmarks/shapes.py --ratings=10000000 --work_dir=/tmp/shapes

- `one user`: a million of the rows are one user's, who takes items at random, so that
  he has all of the catalogue many times over;
- `one item`: every second row is of one item, again and again for each user;
- `short users`: half as many users as rows, with two rows each, in no order.

Each is prepared as a whole process. Where pairs repeat, so that by default most rows
would go as duplicates, they are kept (`--duplicates=keep`), in the plain sample too. A
user with the whole catalogue leaves no negative for his train rows, of which prepare
tells; so histories are cut to half of the catalogue. Writes results/shapes.json.
"""

import json
import pathlib
import shutil
import sys
import tempfile
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import side_by_side
from absl import app, flags

_RATINGS = flags.DEFINE_integer('ratings', 10_000_000, 'Rows of each log.', 2_000)
_LONG_USER = flags.DEFINE_integer('long_user', 1_000_000, "Rows of `one user`'s user.")
_RUNS = flags.DEFINE_integer('runs', 1, 'Turns; medians of ratios are kept.', 1)
_WORK_DIR = flags.DEFINE_string(
  'work_dir', None, 'Folder for logs and datasets; a temporary one by default.'
)

_Columns = dict[str, np.ndarray]
_NAMES = ('user', 'item', 'rating', 'timestamp')
_EPOCH = 10**9


def _plain(path: pathlib.Path) -> _Columns:
  command = [sys.executable, '-m', 'beam_pipelines.sample']
  command += [f'--ratings={_RATINGS.value}', f'--output={path}']
  side_by_side.run(command)
  table = pa_csv.read_csv(
    pa.BufferReader(path.read_bytes().replace(b'::', b'\t')),
    read_options=pa_csv.ReadOptions(column_names=_NAMES),
    parse_options=pa_csv.ParseOptions(delimiter='\t'),
  )
  return {name: table[name].to_numpy() for name in _NAMES}


def _one_user(plain: _Columns) -> _Columns:
  rows = min(_LONG_USER.value, _RATINGS.value // 2)
  draw = np.random.default_rng(0)
  user = plain['user'].copy()
  item = plain['item'].copy()
  places = draw.choice(len(user), rows, replace=False)
  user[places] = user.max() + 1
  item[places] = draw.choice(np.unique(plain['item']), rows)
  return {**plain, 'user': user, 'item': item}


def _one_item(plain: _Columns) -> _Columns:
  item = plain['item'].copy()
  item[::2] = item.max() + 1
  return {**plain, 'item': item}


def _short_users(plain: _Columns) -> _Columns:
  draw = np.random.default_rng(0)
  rows = len(plain['user'])
  user = draw.permutation(np.arange(rows) // 2 + 1)
  return {**plain, 'user': user, 'timestamp': _EPOCH + draw.integers(10**8, size=rows)}


def _write(path: pathlib.Path, columns: _Columns) -> None:
  with path.open('wb') as stream:
    for start in range(0, len(columns['user']), 1 << 20):
      texts = [
        pa.array(columns[name][start : start + (1 << 20)]).cast(pa.string())
        for name in _NAMES
      ]
      lines = pc.binary_join_element_wise(*texts, '::').to_pylist()
      stream.write(('\n'.join(lines) + '\n').encode())


def _prepare(log: pathlib.Path, *more: str) -> tuple[side_by_side.Run, dict]:
  output = log.parent / 'dataset'
  command = [sys.executable, '-m', 'beam_pipelines.prepare', *more]
  run = side_by_side.run([*command, f'--input={log}', f'--output={output}'])
  manifest = json.loads((output / 'manifest.json').read_text())
  sizes = [file['bytes'] for file in manifest['files'] if file.get('split') == 'train']
  shutil.rmtree(output)
  counts = {name: count for name, count in manifest['counts'].items() if count}
  return run, {'counts': counts, 'largest_shard_mib': max(sizes) / 2**20}


def _figures(run: side_by_side.Run) -> dict:
  millions = _RATINGS.value / 1e6
  return {
    'seconds_a_million': run.seconds / millions,
    'cpu_seconds_a_million': run.cpu_seconds / millions,
    'peak_mib': run.peak_mib,
  }


def main(_):
  results = []
  if _WORK_DIR.value:
    pathlib.Path(_WORK_DIR.value).mkdir(parents=True, exist_ok=True)
  with tempfile.TemporaryDirectory(dir=_WORK_DIR.value) as name:
    plain_log, log = pathlib.Path(name) / 'plain.dat', pathlib.Path(name) / 'log.dat'
    plain = _plain(plain_log)
    half = f'--max_user_history={len(np.unique(plain["item"])) // 2}'
    keep = ('--duplicates=keep',)
    shapes: dict[str, tuple[Callable[[_Columns], _Columns], tuple[str, ...]]] = {
      'one user': (_one_user, (*keep, half)),
      'one item': (_one_item, keep),
      # Two rows are too few for any split.
      'short users': (_short_users, ('--allow_empty_splits',)),
    }
    for shape, (make, more) in shapes.items():
      _write(log, make(plain))
      for _run in range(_RUNS.value):
        run, counts = _prepare(log, *more)
        beside, _ = _prepare(plain_log, *more)
        results.append(
          {
            'shape': shape,
            'flags': list(more),
            **_figures(run),
            'plain': _figures(beside),
            'cpu_ratio': run.cpu_seconds / beside.cpu_seconds,
            'seconds_ratio': run.seconds / beside.seconds,
            'memory_ratio': run.peak_mib / beside.peak_mib,
            **counts,
          }
        )
        print(json.dumps(results[-1]), flush=True)
  side_by_side.save(
    'shapes',
    {
      'what': 'preparation of hard logs, and of the plain sample in turn',
      'ratings': _RATINGS.value,
      'runs': results,
    },
  )


if __name__ == '__main__':
  app.run(main)
