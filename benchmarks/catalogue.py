"""A step, a ranked user and a list of the history model from 10^4 to 10^7 items.

    python benchmarks/catalogue.py --sizes=10000,100000,1000000,10000000

Random weights, ten thousand users. A process for each measurement, and how large it was
at its peak. The step is that of `vocabulary.py`, with the row-wise Adam; the ranks are
those of `full_ranking.py`; a list is the best 20 of all items for one user, histories
left out, as `recommend` makes it. An exponent is the slope between the last two sizes,
in logarithms: 1 grows as the catalogue does.

Writes results/catalogue.json, and a plot to docs/images; --redraw draws from the JSON.
"""

import json
import os
import pathlib
import statistics
import sys
import time

import curves
import side_by_side
from absl import app, flags

_SIZES = flags.DEFINE_list(
  'sizes', ['10000', '100000', '1000000', '10000000'], 'Items.'
)
_RUNS = flags.DEFINE_integer('runs', 1, 'Runs of each; medians are kept.', 1)
_MEASURE = flags.DEFINE_integer('measure', None, 'Items: prints ms a list only.')
_REDRAW = flags.DEFINE_bool('redraw', False, 'Only draw the result that is there.')

_USERS, _RANKED, _HISTORY, _LIST = 10_000, 16, 50, 20
_LABELS = {'step': 'a train step', 'ranks': 'a ranked user', 'list': 'a list of 20'}
_FOLDER = pathlib.Path(__file__).parent


def _list_ms(num_items: int) -> float:
  """Milliseconds of one user's list, the least of ten."""
  os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
  import numpy as np

  from ncf_tfdata.data import records
  from ncf_tfdata.evaluation import ranking, top_lists
  from ncf_tfdata.models import history

  model = history.History(_USERS, num_items, history_length=_HISTORY)
  generator = np.random.default_rng(0)
  batch = records.EvaluationBatch(
    np.zeros(1, np.int64),
    np.zeros(1, np.int64),
    np.zeros((1, 0), np.int64),
    generator.integers(num_items, size=_HISTORY),
    np.full(1, _HISTORY),
  )
  times = []
  for _turn in range(11):
    begin = time.perf_counter()
    scores = model.score_all(batch)
    ranking.mask_history(scores, batch)
    top_lists.top_items(scores, _LIST)
    times.append(1000 * (time.perf_counter() - begin))
  return min(times[1:])


def _commands(items: int) -> dict[str, list[str]]:
  return {
    'step': ['vocabulary.py', f'--measure=history,lazy_adam,{_USERS},{items}'],
    'ranks': ['full_ranking.py', f'--measure=history,rank_full,{_RANKED},{items}'],
    'list': ['catalogue.py', f'--measure={items}'],
  }


def _ms(name: str, items: int, printed: str) -> float:
  measured = json.loads(printed.strip().split('\n')[-1])
  if name == 'step':
    return 1000 * measured['seconds_a_step']
  # Pairs a second, of all items for a user.
  return 1000 * items / measured if name == 'ranks' else measured


def _size(items: int) -> dict:
  found: dict = {'items': items}
  for name, (script, *arguments) in _commands(items).items():
    command = [sys.executable, str(_FOLDER / script), *arguments]
    runs = [side_by_side.run(command) for _ in range(_RUNS.value)]
    times = [_ms(name, items, run.output) for run in runs]
    found[name] = {
      'ms': statistics.median(times),
      'peak_mib': round(max(run.peak_mib for run in runs)),
    }
  print(json.dumps(found), flush=True)
  return found


def main(_):
  if _MEASURE.value:
    print(_list_ms(_MEASURE.value))
    return
  if not _REDRAW.value:
    sizes = [_size(items) for items in sorted(map(int, _SIZES.value))]
    what = 'a step, the ranks of a user and a list of the history model, random weights'
    result = curves.result(what, sizes, 'items', _LABELS)
    side_by_side.save('catalogue', result)
  curves.redraw('catalogue', 'items', _LABELS)


if __name__ == '__main__':
  app.run(main)
