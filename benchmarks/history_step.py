"""A training step of the history model beside its matrix products alone, in turn.

    python benchmarks/history_step.py --data_dir=data/ml-1m

Both compiled by XLA, on random numbers of the step's shapes: what a step takes beyond
its products is input, softmax, normalisation, dropout and the optimizer.
"""

import csv
import statistics
import sys
import tempfile
import time

import numpy as np
import side_by_side
import tensorflow as tf
from absl import app, flags

_DATA_DIR = flags.DEFINE_string('data_dir', None, 'Dataset.', required=True)
_RUNS = flags.DEFINE_integer('runs', 3, 'Runs of each.')

_RECIPE = 'configs/ml-1m.cfg'
# Of that recipe, one member.
_ROWS, _DIM, _HIDDEN, _HEADS, _LENGTH, _WINDOW = 1024, 128, 256, 8, 50, 128
_NEGATIVES, _PARTS, _WINDOWS = 1024, 4, 9


def _step_seconds() -> float:
  """Seconds a step, of the second of two epochs, validation left out."""
  with tempfile.TemporaryDirectory() as output:
    command = [sys.executable, '-m', 'ncf_tfdata.train', f'--flagfile={_RECIPE}']
    command += [f'--data_dir={_DATA_DIR.value}', f'--run_dir={output}/run']
    command += ['--members=1', '--epochs=2', '--successor_logits=0']
    output_lines = side_by_side.run(command).output.split('\n')
    with open(f'{output}/run/epochs.csv') as stream:
      seconds = float(list(csv.DictReader(stream))[1]['seconds'])
  line = next(line for line in output_lines if line.startswith('steps'))
  return seconds / int(line.split()[1].replace(',', ''))


def _products_seconds() -> float:
  """Seconds of the products of a step: forward, and both of each one's gradients."""
  generator = np.random.default_rng(0)
  shapes = [
    ((_HEADS, _WINDOW, _WINDOW + _LENGTH), _WINDOWS * _DIM // _HEADS),
    ((_ROWS, _PARTS * _DIM), _HIDDEN),
    ((_ROWS, _HIDDEN), _DIM),
    ((_ROWS, _DIM), _NEGATIVES),
  ]

  def random(*shape):
    return tf.constant(generator.normal(size=shape), tf.float32)

  operands = []
  for left, columns in shapes:
    *batch, rows, inner = left
    operands.append(
      (random(*left), random(*batch, inner, columns), random(*batch, rows, columns))
    )

  @tf.function(jit_compile=True)
  def products(operands):
    return [
      (
        tf.matmul(a, b),
        tf.matmul(g, b, transpose_b=True),
        tf.matmul(a, g, transpose_a=True),
      )
      for a, b, g in operands
    ]

  products(operands)
  times = []
  for _ in range(50):
    begin = time.perf_counter()
    products(operands)[-1][-1].numpy()
    times.append(time.perf_counter() - begin)
  return statistics.median(times)


def main(_):
  steps, products = [], []
  for _run in range(_RUNS.value):
    steps.append(_step_seconds())
    products.append(_products_seconds())
  side_by_side.save(
    'history_step',
    {
      'what': f'seconds a step of {_RECIPE} with one member, and of its products',
      'step': steps,
      'products': products,
      'median_ratio': side_by_side.ratio(steps, products),
    },
  )


if __name__ == '__main__':
  app.run(main)
