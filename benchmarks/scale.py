"""Preparation of 1 M to 100 M ratings: seconds and peak memory of each size.

    python benchmarks/scale.py --sizes=1000000,3000000,10000000 --work_dir=/tmp/scale

The built-in sample of each size is made first, which is timed too, then prepared as a
whole process, start-up included. The direct runner works in one process, so its peak is
that of the whole. Writes results/scale.json, and a plot to docs/images; a size takes
about 100 bytes a rating of disk in --work_dir, and is removed once measured.
"""

import json
import pathlib
import shutil
import statistics
import tempfile

import sample_logs
import side_by_side
from absl import app, flags

_SIZES = flags.DEFINE_list(
  'sizes', ['1000000', '3000000', '10000000', '30000000', '100000000'], 'Ratings.'
)
_RUNS = flags.DEFINE_integer('runs', 1, 'Runs of each size; medians are kept.', 1)
_WORK_DIR = flags.DEFINE_string(
  'work_dir', None, 'Folder for logs and datasets; a temporary one by default.'
)
_FLAGS = flags.DEFINE_list('prepare_flags', [], 'More flags of prepare.')

_MAX_GROUP_BYTES = 16 << 20
# Of a rating in the user groups, pickled: see the table in BUILD_NOTES.md.
_GROUP_BYTES_A_ROW = 10.1


def _measure(ratings: int, folder: pathlib.Path) -> dict:
  log, output = folder / f'{ratings}.dat', folder / f'{ratings}'
  made = sample_logs.log(ratings, log)
  runs = [sample_logs.dataset(log, output, *_FLAGS.value) for _ in range(_RUNS.value)]
  manifest = json.loads((output / 'manifest.json').read_text())
  rows = dict.fromkeys(range(manifest['flags']['num_shards']), 0)
  for file in manifest['files']:
    if 'rows' in file and file['split'] != 'successors':
      rows[int(file['name'].split('-')[2])] += file['rows']
  shutil.rmtree(output)
  log.unlink()
  seconds = statistics.median(run.seconds for run in runs)
  return {
    'ratings': ratings,
    'sample_seconds': made.seconds,
    'sample_cpu_seconds': made.cpu_seconds,
    'sample_peak_mib': made.peak_mib,
    'seconds': seconds,
    'cpu_seconds': statistics.median(run.cpu_seconds for run in runs),
    'seconds_a_million': seconds / ratings * 1e6,
    'peak_mib': max(run.peak_mib for run in runs),
    'user_groups': len(rows),
    'largest_group_mib': max(rows.values()) * _GROUP_BYTES_A_ROW / 2**20,
  }


def _plot(points: list[dict]) -> None:
  import matplotlib
  import matplotlib.ticker

  matplotlib.use('Agg')
  from matplotlib import pyplot as plt

  figure, (time_axes, memory_axes) = plt.subplots(1, 2, figsize=(9, 3.6))
  sizes = [point['ratings'] for point in points]
  for name, label in (
    ('seconds_a_million', 'seconds'),
    ('cpu_seconds', 'CPU seconds'),
  ):
    values = [
      point[name] / (1 if name.endswith('million') else point['ratings'] / 1e6)
      for point in points
    ]
    time_axes.semilogx(sizes, values, 'o-', label=label)
  time_axes.set_title('Time a million ratings')
  time_axes.set_ylabel('s')
  time_axes.set_ylim(0, None)
  time_axes.legend()
  memory_axes.loglog(sizes, [point['peak_mib'] / 1024 for point in points], 'o-')
  memory_axes.set_yticks([0.25, 0.5, 1, 2, 4, 8])
  memory_axes.yaxis.set_major_formatter('{x:g}')
  memory_axes.yaxis.set_minor_locator(matplotlib.ticker.NullLocator())
  memory_axes.set_title('Peak memory')
  memory_axes.set_ylabel('GiB')
  for axes in (time_axes, memory_axes):
    axes.set_xlabel('ratings')
    axes.grid(True, alpha=0.2)
  figure.tight_layout()
  figure.savefig(side_by_side.IMAGES / 'scale.png', dpi=120)


def main(_):
  points = []
  if _WORK_DIR.value:
    pathlib.Path(_WORK_DIR.value).mkdir(parents=True, exist_ok=True)
  with tempfile.TemporaryDirectory(dir=_WORK_DIR.value) as folder:
    for ratings in sorted(int(size) for size in _SIZES.value):
      points.append(_measure(ratings, pathlib.Path(folder)))
      print(json.dumps(points[-1]), flush=True)
  side_by_side.save(
    'scale',
    {
      'what': 'a whole process of preparation, of the built-in sample',
      'sizes': points,
      'last_to_first_a_rating': points[-1]['seconds_a_million']
      / points[0]['seconds_a_million'],
      'groups_within_16_mib': all(
        point['largest_group_mib'] * 2**20 < _MAX_GROUP_BYTES for point in points
      ),
    },
  )
  _plot(points)


if __name__ == '__main__':
  app.run(main)
