"""Seconds to the seed's best accuracy, from ratings.dat: a recipe of ours and the seed.

    python benchmarks/time_to_accuracy.py --ratings=ml-1m/ratings.dat \
        --recipe=configs/neumf-ml-1m.cfg --seed_python=PYTHON \
        --seed_script=RUNNER.py \
        --seed_file=NOTEBOOK.md

Wall time from the start of the first process to the line that tells of the epoch, so
preparation, imports, compilation and judging count on both sides. Ours is judged on
validation, the seed, as it does, on test.
"""

import re
import sys
import tempfile
from collections.abc import Iterable
from typing import Any

import printed
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


def _epochs(
  lines: Iterable[printed.Line], pattern: str, before: float = 0.0
) -> list[dict[str, Any]]:
  """Epochs whose lines match (epoch, HR, NDCG), some seconds having passed before."""
  found = []
  for line in lines:
    if match := re.search(pattern, line.text):
      epoch, hr, ndcg = match.groups()
      found.append(
        {
          'seconds': before + line.wall_seconds,
          'epoch': int(epoch),
          'hr@10': float(hr),
          'ndcg@10': float(ndcg),
        }
      )
  return found


def _ours() -> dict[str, Any]:
  """The first epoch that is good enough."""
  with tempfile.TemporaryDirectory() as output:
    python = [sys.executable, '-m']
    prepare = [*python, 'beam_pipelines.prepare', f'--input={_RATINGS.value}']
    prepare += ['--flagfile=configs/prepare-he2017.cfg', f'--output={output}/data']
    before = side_by_side.run(prepare).seconds
    train = [*python, 'ncf_tfdata.train', f'--flagfile={_RECIPE.value}']
    train += [f'--data_dir={output}/data', f'--run_dir={output}/run']
    pattern = r'^epoch (\d+)/.*hr@10 ([\d.]+)  ndcg@10 ([\d.]+)'
    for epoch in _epochs(printed.lines(train), pattern, before):
      if epoch['hr@10'] >= _HR.value and epoch['ndcg@10'] >= _NDCG.value:
        return epoch
  raise RuntimeError(f'{_RECIPE.value} did not reach HR@10 {_HR.value}')


def _seed() -> dict[str, Any]:
  """The epoch of its best HR@10, whether or not that is good enough."""
  command = [_SEED_PYTHON.value, _SEED_SCRIPT.value, _RATINGS.value]
  lines = printed.lines([*command, str(_EPOCHS.value)], SEED_FILE=_SEED_FILE.value)
  pattern = r'Iteration (\d+) .*HR = ([\d.]+), NDCG = ([\d.]+)'
  return max(_epochs(lines, pattern), key=lambda epoch: epoch['hr@10'])


def main(_):
  seed, ours = _seed(), _ours()
  ratio = ours['seconds'] / seed['seconds']
  side_by_side.save('time_to_accuracy', {'ours': ours, 'seed': seed, 'ratio': ratio})


if __name__ == '__main__':
  app.run(main)
