"""A training step as the vocabulary grows, of Keras's Adam and of the row-wise one.

    python benchmarks/vocabulary.py

Both models, on random rows, a process for each measurement; how large the process was
at its peak stands beside it. Writes results/vocabulary.json, and a plot to docs/images.
"""

import itertools
import json
import os
import statistics
import sys
import time
from collections.abc import Callable

import matplotlib.figure
import matplotlib.ticker
import side_by_side
from absl import app, flags

_RUNS = flags.DEFINE_integer('runs', 3, 'Runs of each.')
_SECONDS = flags.DEFINE_float('seconds', 5.0, 'Least time of the steps of a run.')
_MEASURE = flags.DEFINE_list(
  'measure', None, 'Model, optimizer, users and items: prints one measurement only.'
)

_VOCABULARIES = ((6_000, 4_000), (100_000, 100_000), (1_000_000, 1_000_000))
_MODELS = ('neumf', 'history')
_OPTIMIZERS = ('adam', 'lazy_adam')
_BATCH, _NEGATIVES = 4096, 4  # Of NeuMF.
_ROWS, _WINDOWS, _WINDOW, _LENGTH, _SHARED = 1024, 9, 128, 50, 512  # Of the other.
_STEPS_PER_CALL = 8
_TIMES = ('seconds_a_step', 'cpu_seconds_a_step')
_COLOURS = {'adam': '#c44e52', 'lazy_adam': '#4c72b0'}


def _neumf(num_users: int, num_items: int, sampler):
  import numpy as np

  from ncf_tfdata.models import losses, neumf

  model = neumf.NeuMF(num_users, num_items)
  objective = losses.Objective(
    model,
    'bce',
    batch_size=_BATCH,
    seed=0,
    sampler=sampler,
    num_negatives=_NEGATIVES,
    l2=0.01,
  )

  def batch(generator) -> dict[str, np.ndarray]:
    return {
      'user': generator.integers(num_users, size=_BATCH, dtype=np.int32),
      'items': generator.integers(
        num_items, size=(_BATCH, 1 + _NEGATIVES), dtype=np.int32
      ),
      'weight': np.ones(_BATCH, np.float32),
    }

  return model, objective, batch


def _history(num_users: int, num_items: int, sampler):
  import numpy as np

  from ncf_tfdata.models import history, history_objective

  model = history.History(num_users, num_items, history_length=_LENGTH)
  objective = history_objective.HistoryObjective(
    model,
    rows_per_step=_ROWS,
    seed=0,
    sampler=sampler,
    shared_negatives=_SHARED,
    l2=0.05,
  )

  def batch(generator) -> dict[str, np.ndarray]:
    row = generator.permutation(_WINDOWS * _WINDOW)[:_ROWS]
    shape = (1, _WINDOWS, _LENGTH + _WINDOW)
    return {
      'tokens': generator.integers(num_items, size=shape, dtype=np.int32),
      'user': generator.integers(num_users, size=(1, _ROWS), dtype=np.int32),
      'row': row[None].astype(np.int32),
      'weight': np.ones((1, _ROWS), np.float32),
    }

  return model, objective, batch


_MAKERS: dict[str, Callable] = {'neumf': _neumf, 'history': _history}


def _measure(
  model_name: str, optimizer_name: str, users: int, items: int
) -> dict[str, float]:
  """Wall and processor time of a step, after a first call."""
  os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
  import numpy as np
  import tensorflow as tf

  from ncf_tfdata.data import sampling
  from ncf_tfdata.models.task import Task
  from ncf_tfdata.training import optimizers
  from ncf_tfdata.training.steps import Steps

  generator = np.random.default_rng(0)
  # Popular items are drawn more often, for that needs a table of the catalogue.
  sampler = sampling.Sampler(items, generator.zipf(1.5, items).clip(max=10**6), 0.5)
  model, objective, batch = _MAKERS[model_name](users, items, sampler)
  rows = [batch(generator) for _ in range(32)]
  stacked = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
  stream = tf.data.Dataset.from_tensor_slices(stacked).repeat().prefetch(2)
  rate = optimizers.LearningRate(0.001, steps_per_epoch=1000)
  optimizer = optimizers.create(optimizer_name, rate, beta_2=0.999, average=0.0)
  optimizer.build(model.trainable_variables)
  task = Task(model, objective, lambda epoch, step: stream, 1000, len(rows), model)
  steps = Steps(task, optimizer, tf.distribute.get_strategy(), jit_compile=True)
  iterator = iter(stream)

  def call(first: int) -> tuple[float, float]:
    begin = time.perf_counter(), time.process_time()
    numbers = (tf.constant(n, tf.int64) for n in (0, first, _STEPS_PER_CALL))
    float(steps.run(iterator, *numbers, tf.constant(0.0, tf.float64)))
    return time.perf_counter() - begin[0], time.process_time() - begin[1]

  call(0)
  times: list[tuple[float, float]] = []
  while len(times) < 3 or sum(wall for wall, _ in times) < _SECONDS.value:
    times.append(call((1 + len(times)) * _STEPS_PER_CALL))
  wall, processor = (
    statistics.median(t) / _STEPS_PER_CALL for t in zip(*times, strict=True)
  )
  return {'seconds_a_step': wall, 'cpu_seconds_a_step': processor}


def _plot(results: list[dict]) -> None:
  figure = matplotlib.figure.Figure(figsize=(7, 3.2), layout='constrained')
  axes = figure.subplots(1, len(_MODELS), sharey=True)
  for axis, model in zip(axes, _MODELS, strict=True):
    for optimizer in _OPTIMIZERS:
      line = [r for r in results if (r['model'], r['optimizer']) == (model, optimizer)]
      axis.plot(
        [r['users'] + r['items'] for r in line],
        [1000 * statistics.median(r['seconds_a_step']) for r in line],
        marker='o',
        color=_COLOURS[optimizer],
        label=optimizer,
      )
    axis.set(xscale='log', yscale='log', title=model, xlabel='users + items')
    axis.set_yticks([15, 30, 60, 120, 240])
    axis.yaxis.set_major_formatter(matplotlib.ticker.StrMethodFormatter('{x:.0f}'))
    axis.yaxis.set_minor_locator(matplotlib.ticker.NullLocator())
    axis.grid(alpha=0.3)
  axes[0].set_ylabel('milliseconds a step')
  axes[0].legend(frameon=False)
  figure.savefig(side_by_side.IMAGES / 'vocabulary.png', dpi=110)


def main(_):
  if _MEASURE.value:
    model, optimizer, users, items = _MEASURE.value
    print(json.dumps(_measure(model, optimizer, int(users), int(items))))
    return
  cases = list(itertools.product(_MODELS, _OPTIMIZERS, _VOCABULARIES))
  results = [
    {
      'model': model,
      'optimizer': optimizer,
      'users': users,
      'items': items,
      **{name: [] for name in (*_TIMES, 'peak_mib')},
    }
    for model, optimizer, (users, items) in cases
  ]
  for _run in range(_RUNS.value):
    for (model, optimizer, (users, items)), result in zip(cases, results, strict=True):
      measure = f'--measure={model},{optimizer},{users},{items}'
      seconds = f'--seconds={_SECONDS.value}'
      done = side_by_side.run([sys.executable, __file__, measure, seconds])
      measured = json.loads(done.output.strip().split('\n')[-1])
      for name in _TIMES:
        result[name].append(measured[name])
      result['peak_mib'].append(round(done.peak_mib))
  for result in results:
    smallest = next(
      r
      for r in results
      if (r['model'], r['optimizer']) == (result['model'], result['optimizer'])
    )
    for name in _TIMES:
      ratio = side_by_side.ratio(result[name], smallest[name])
      result[f'{name}_to_smallest'] = ratio
  side_by_side.save(
    'vocabulary',
    {
      'what': f'a step of NeuMF ({_BATCH} rows, {_NEGATIVES} negatives each) and of '
      f'the history model ({_ROWS} rows, {_SHARED} negatives), random rows',
      'results': results,
    },
  )
  _plot(results)


if __name__ == '__main__':
  app.run(main)
