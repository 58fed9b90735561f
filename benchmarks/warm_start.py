"""A log that grows: warm starts in a row, beside training anew and never again.

    python benchmarks/warm_start.py --input=ml-1m/ratings.dat

The log is cut at quantiles of its times, or at --dates. A base is trained on what came
up to the first. At each later one the same recipe is trained anew on all that came up
to it, a warm start goes on from the warm start before, and the base is judged as it
is. All three are asked for what came up to the next quantile, each interaction from
all before it. Item transitions and EASE are left out: they are counted anew from each
dataset, whatever is trained.
Writes results/NAME.json and docs/images/NAME.png; --redraw draws from the JSON. What a
stopped call has trained in --work_dir is taken as it is.
"""

import csv
import itertools
import json
import pathlib
import shlex
import sys
from typing import Any

import matplotlib.figure
import numpy as np
import side_by_side
from absl import app, flags

_INPUT = flags.DEFINE_string('input', None, 'A log in the form of MovieLens-1M.')
_QUANTILES = flags.DEFINE_list(
  'quantiles',
  ['.9', '.9167', '.9333', '.95', '.9667', '.9833', '1'],
  'Of times: base, steps, and the end of what the last step is asked for.',
)
_DATES = flags.DEFINE_list(
  'dates', [], 'Days in place of quantiles, each cut at its midnight (UTC).'
)
_RECIPE = flags.DEFINE_string('recipe', 'configs/history.cfg', 'A flagfile of train.')
_FLAGS = flags.DEFINE_string('train_flags', '--members=1', 'Of all trainings.')
_WARM = flags.DEFINE_multi_string(
  'warm', [], 'NAME=FLAGS of a warm start; SINCE in it is the quantile before.'
)
_ANEW = flags.DEFINE_bool('anew', True, 'Also trains anew.')
_WORK = flags.DEFINE_string('work_dir', 'runs/warm_start', 'Where data and runs go.')
_NAME = flags.DEFINE_string('name', 'warm_start', 'Of the result.')
_REDRAW = flags.DEFINE_bool('redraw', False, 'Only draw the result that is there.')

_PREPARED = (
  '--split=time', '--targets=successive', '--holdout=1', '--overwrite',
)  # fmt: skip
_ANEW_NAME, _NEVER_NAME = 'trained anew', 'never again'


def _cuts(times: np.ndarray) -> list[int]:
  """Timestamps of --dates, or at the quantiles, as `prepare --time_quantile` does."""
  if _DATES.value:
    return [int(np.datetime64(day, 's').astype(np.int64)) for day in _DATES.value]
  ordered = np.sort(times)
  ranks = [np.ceil(float(each) * len(ordered)) for each in _QUANTILES.value]
  return [int(ordered[int(rank) - 1]) for rank in ranks]


def _datasets() -> list[tuple[pathlib.Path, int]]:
  """Of each quantile but the last: a dataset of what came up to the next, and it."""
  lines = pathlib.Path(_INPUT.value).read_bytes().splitlines(keepends=True)
  times = np.array([int(line.rsplit(b'::', 1)[1]) for line in lines])
  cuts, work = _cuts(times), pathlib.Path(_WORK.value)
  work.mkdir(parents=True, exist_ok=True)
  found = []
  for step, (cut, end) in enumerate(itertools.pairwise(cuts)):
    log, data = work / f'log-{step}.dat', work / f'data-{step}'
    if not (data / 'manifest.json').exists():
      kept = np.flatnonzero(times <= end)
      log.write_bytes(b''.join(lines[place] for place in kept))
      paths = (f'--input={log}', f'--output={data}', f'--time_at={cut}')
      side_by_side.module('beam_pipelines.prepare', *paths, *_PREPARED)
    found.append((data, cut))
  return found


def _train(data: pathlib.Path, run: pathlib.Path, *options: str) -> dict[str, Any]:
  """Trains, or takes what an earlier call has made; its numbers."""
  kept = run / 'benchmark.json'
  if not kept.exists():
    command = [
      sys.executable, '-m', 'ncf_tfdata.train', f'--flagfile={_RECIPE.value}',
      f'--data_dir={data}', f'--run_dir={run}', '--overwrite', '--successor_logits=0',
      '--ease_logits=0', *shlex.split(_FLAGS.value), *options,
    ]  # fmt: skip
    begun = side_by_side.run(command)
    metrics = json.loads((run / 'metrics.json').read_text())
    with (run / 'epochs.csv').open() as stream:
      steps = sum(float(row['seconds']) for row in csv.DictReader(stream))
    numbers = {
      'ndcg@10': metrics['test']['full']['ndcg@10'],
      'hr@10': metrics['test']['full']['hr@10'],
      'interval': metrics['test']['intervals']['full']['ndcg@10'],
      'seconds': begun.seconds,
      'cpu_seconds': begun.cpu_seconds,
      'seconds_of_steps': steps,
    }
    kept.write_text(json.dumps(numbers))
  found = json.loads(kept.read_text())
  print(run.name, json.dumps(found), flush=True)
  return found


def _warm_flags(before: pathlib.Path, flags_: str, since: int) -> list[str]:
  given = shlex.split(flags_.replace('SINCE', str(since)))
  return [f'--warm_start={before}', *given]


def _measure() -> dict[str, Any]:
  work = pathlib.Path(_WORK.value)
  (first, cut), *later = _datasets()
  base = work / 'base'
  result: dict[str, Any] = {
    'log': pathlib.Path(_INPUT.value).name,
    'recipe': _RECIPE.value,
    'flags': _FLAGS.value,
    'warm': dict(each.split('=', 1) for each in _WARM.value),
    'cuts': _DATES.value or _QUANTILES.value,
    'base': _train(first, base),
    'steps': [],
  }
  before = dict.fromkeys(result['warm'], base)
  for step, (data, now) in enumerate(later, 1):
    found = {}
    if _ANEW.value:
      found[_ANEW_NAME] = _train(data, work / f'anew-{step}')
    # The base on this step's dataset: its keys have other ids there.
    judged = _warm_flags(base, '--epochs=0', cut)
    found[_NEVER_NAME] = _train(data, work / f'never-{step}', *judged)
    for name, options in result['warm'].items():
      run = work / f'{name.replace(" ", "-")}-{step}'
      given = _warm_flags(before[name], options, cut)
      found[name] = _train(data, run, *given)
      before[name] = run
    counts = json.loads((data / 'manifest.json').read_text())['counts']
    asked = {name: counts[name] for name in ('train', 'test')}
    result['steps'].append({'cut': now, 'counts': asked, 'systems': found})
    cut = now
  return result


def _draw(result: dict[str, Any]) -> None:
  from ncf_tfdata.reporting import plots

  steps = np.arange(1, len(result['steps']) + 1)
  names = list(result['steps'][0]['systems'])
  trained = [name for name in names if name != _NEVER_NAME]
  width = 0.8 / len(trained)
  with plots.styled():
    figure = matplotlib.figure.Figure(figsize=(11, 4.2), layout='constrained')
    accuracy, cost = figure.subplots(1, 2)
    for index, name in enumerate(names):
      found = [step['systems'][name] for step in result['steps']]
      heights = [each['ndcg@10'] for each in found]
      accuracy.plot(steps, heights, marker='o', label=name, color=f'C{index}')
      if name in trained:
        at = steps + (trained.index(name) - (len(trained) - 1) / 2) * width
        seconds = [each['cpu_seconds'] for each in found]
        cost.bar(at, seconds, 0.95 * width, color=f'C{index}')
    accuracy.set(title='full NDCG@10 on what came next', xlabel='step', xticks=steps)
    accuracy.set_ylim(bottom=0)
    accuracy.legend(frameon=False, loc='lower left')
    cost.set(title='CPU seconds of the command', xlabel='step', xticks=steps)
    image = side_by_side.IMAGES / f'{_NAME.value}.png'
    image.write_bytes(plots.png(figure))


def main(_):
  if not _REDRAW.value:
    side_by_side.save(_NAME.value, _measure())
  _draw(json.loads((side_by_side.RESULTS / f'{_NAME.value}.json').read_text()))


if __name__ == '__main__':
  app.run(main)
