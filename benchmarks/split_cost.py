"""What a split by time and a core cost beside leave-last-out.

    python benchmarks/split_cost.py --ratings=100000000 --work_dir=/tmp/cost

Prepares one log of the built-in sample by each split in turn, as whole processes.
Writes results/split_cost.json. The log and a dataset take about 100 bytes a rating of
disk in --work_dir, and are removed.
"""

import pathlib
import shutil
import statistics
import tempfile

import sample_logs
import side_by_side
from absl import app, flags

_RATINGS = flags.DEFINE_integer('ratings', 100_000_000, 'Of the log.', 1)
_RUNS = flags.DEFINE_integer('runs', 1, 'Runs of each split; medians are kept.', 1)
_WORK_DIR = flags.DEFINE_string(
  'work_dir', None, 'Folder for the log and a dataset; a temporary one by default.'
)

_LAST_OUT = 'leave-last-out'
_SPLITS = {
  _LAST_OUT: (),
  'by time': ('--split=time',),
  '5-core': ('--core=5',),
}


def _measure(log: pathlib.Path, options: tuple[str, ...]) -> side_by_side.Run:
  output = log.parent / 'out'
  made = sample_logs.dataset(log, output, *options)
  shutil.rmtree(output)
  return made


def main(_):
  runs: dict[str, list[side_by_side.Run]] = {name: [] for name in _SPLITS}
  with tempfile.TemporaryDirectory(dir=_WORK_DIR.value) as folder:
    log = pathlib.Path(folder) / 'ratings.dat'
    sample_logs.log(_RATINGS.value, log)
    for _ in range(_RUNS.value):
      for name, options in _SPLITS.items():
        runs[name].append(_measure(log, options))
        made = runs[name][-1]
        print(name, made.seconds, made.cpu_seconds, made.peak_mib, flush=True)
  found = {
    name: {
      'seconds': statistics.median(run.seconds for run in made),
      'cpu_seconds': statistics.median(run.cpu_seconds for run in made),
      'peak_mib': max(run.peak_mib for run in made),
    }
    for name, made in runs.items()
  }
  base = found[_LAST_OUT]
  side_by_side.save(
    'split_cost',
    {
      'what': 'a whole process of preparation, of the built-in sample',
      'ratings': _RATINGS.value,
      'splits': found,
      'to_leave_last_out': {
        name: {key: value / base[key] for key, value in each.items()}
        for name, each in found.items()
      },
    },
  )


if __name__ == '__main__':
  app.run(main)
