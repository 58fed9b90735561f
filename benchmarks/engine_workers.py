"""The same job on Dask with 1, 2 and 4 workers, on Prism, and on the direct runner.

    python benchmarks/engine_workers.py --ratings=3000000 --prism=.venv/bin/prism

A Dask worker is a process of one thread. The cluster stands before the job begins, and
the command is a whole process. The log is cut into files, so that reading spreads too.
All write the same bytes, or it fails. A job of 3,000 ratings shows what an engine takes
before there is any work. Needs the extra `dask`; without --prism it leaves Prism out.

Writes results/engine_workers.json.
"""

import contextlib
import hashlib
import os
import pathlib
import shutil
import sys
import tempfile
from collections.abc import Iterator

import side_by_side
from absl import app, flags

_RATINGS = flags.DEFINE_integer('ratings', 3_000_000, 'Rows of the built-in sample.')
_SMALL = flags.DEFINE_integer('small', 3_000, 'Rows of a job of fixed costs alone.')
_WORKERS = flags.DEFINE_list('workers', ['1', '2', '4'], 'Numbers of Dask workers.')
_RUNS = flags.DEFINE_integer('runs', 1, 'Runs of each; the least time is kept.', 1)
_PRISM = flags.DEFINE_string('prism', None, "Prism's binary: `make prism` builds it.")
_FILES = flags.DEFINE_integer('files', 8, 'Of the log.', 1)
_WORK_DIR = flags.DEFINE_string('work_dir', None, 'Folder for logs and datasets.')


def _log(folder: pathlib.Path, ratings: int) -> pathlib.Path:
  """The sample in --files files."""
  whole, log = folder / 'whole.dat', folder / f'log-{ratings}'
  side_by_side.module(
    'beam_pipelines.sample', f'--ratings={ratings}', f'--output={whole}'
  )
  log.mkdir()
  with whole.open('rb') as lines:
    share = whole.stat().st_size // _FILES.value + 1
    for number in range(_FILES.value):
      part = b''.join(lines.readlines(share))
      (log / f'part-{number:02d}.dat').write_bytes(part)
  whole.unlink()
  return log


@contextlib.contextmanager
def _dask(workers: int) -> Iterator[list[str]]:
  import distributed

  cluster = distributed.LocalCluster(
    n_workers=workers, threads_per_worker=1, dashboard_address=None
  )
  with cluster, distributed.Client(cluster) as client:
    client.wait_for_workers(workers)
    yield [
      '--runner=DaskRunner',
      f'--dask_client_address={cluster.scheduler_address}',
    ]


def _engines() -> Iterator[tuple[str, contextlib.AbstractContextManager[list[str]]]]:
  """Name of each, and what gives its flags while it is up."""
  yield 'direct, 1 thread', contextlib.nullcontext(['--direct_num_workers=1'])
  yield (
    'direct, 2 threads',
    contextlib.nullcontext(
      ['--direct_num_workers=2', '--direct_running_mode=multi_threading']
    ),
  )
  if _PRISM.value:
    where = f'--prism_location={os.path.abspath(_PRISM.value)}'
    yield 'Prism', contextlib.nullcontext(['--runner=PrismRunner', where])
  for workers in map(int, _WORKERS.value):
    yield f'Dask, {workers} workers', _dask(workers)


def _digest(directory: pathlib.Path) -> str:
  """Of all names and bytes of a dataset."""
  found = hashlib.sha256()
  for path in sorted(directory.iterdir()):
    found.update(path.name.encode() + hashlib.sha256(path.read_bytes()).digest())
  return found.hexdigest()


def _job(log: pathlib.Path, folder: pathlib.Path, engine: list[str]) -> dict:
  output, runs = folder / 'out', []
  for _run in range(_RUNS.value):
    shutil.rmtree(output, ignore_errors=True)
    command = [sys.executable, '-m', 'beam_pipelines.prepare', f'--input={log}']
    runs.append(side_by_side.run([*command, f'--output={output}', *engine]))
  return {'seconds': min(run.seconds for run in runs), 'digest': _digest(output)}


def main(_):
  if _WORK_DIR.value:
    pathlib.Path(_WORK_DIR.value).mkdir(parents=True, exist_ok=True)
  found: dict[str, dict[str, float]] = {}
  digests: dict[str, set[str]] = {'seconds': set(), 'fixed_seconds': set()}
  with tempfile.TemporaryDirectory(dir=_WORK_DIR.value) as name:
    folder = pathlib.Path(name)
    sizes = {'seconds': _RATINGS.value, 'fixed_seconds': _SMALL.value}
    logs = {kind: _log(folder, ratings) for kind, ratings in sizes.items()}
    for engine, running in _engines():
      found[engine] = {}
      with running as arguments:
        for kind, log in logs.items():
          job = _job(log, folder, arguments)
          found[engine][kind] = job['seconds']
          digests[kind].add(job['digest'])
      print(engine, found[engine], flush=True)
  if any(len(different) > 1 for different in digests.values()):
    raise RuntimeError(f'engines write different bytes: {digests}')
  side_by_side.save(
    'engine_workers',
    {
      'what': 'prepare of the built-in sample as a whole process, the same bytes',
      'ratings': _RATINGS.value,
      'small': _SMALL.value,
      'engines': found,
    },
  )


if __name__ == '__main__':
  app.run(main)
