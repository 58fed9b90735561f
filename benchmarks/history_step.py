"""A training step of the history model beside its matrix products alone, in turn.

    python benchmarks/history_step.py --data_dir=data/ml-1m

The dataset is MovieLens-1M, for which the default recipe has the widths below. Both are
compiled by XLA, on random numbers of the step's shapes: what a step takes beyond its
products is input, softmax, normalisation, dropout and the optimizer. The products are
multiplied as they are written, and as the step has them: those of two matrices' rows
with the narrower one laid out first.
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

from ncf_tfdata.models import products as products_lib

_DATA_DIR = flags.DEFINE_string('data_dir', None, 'Dataset.', required=True)
_RUNS = flags.DEFINE_integer('runs', 3, 'Runs of each.')

_RECIPE = 'configs/history.cfg'
_FLAGS = ('--members=1', '--nohistory_gaps', '--successor_logits=0', '--ease_logits=0')
# Of that recipe with those flags.
_ROWS, _DIM, _HIDDEN, _HEADS, _LENGTH, _WINDOW = 1024, 128, 256, 8, 50, 128
_NEGATIVES, _PARTS, _WINDOWS = 1024, 4, 9


def _step_seconds() -> float:
  """Seconds a step, of the second of two epochs, validation left out."""
  with tempfile.TemporaryDirectory() as output:
    command = [sys.executable, '-m', 'ncf_tfdata.train', f'--flagfile={_RECIPE}']
    command += [f'--data_dir={_DATA_DIR.value}', f'--run_dir={output}/run']
    command += ['--epochs=2', *_FLAGS]
    output_lines = side_by_side.run(command).output.split('\n')
    with open(f'{output}/run/epochs.csv') as stream:
      seconds = float(list(csv.DictReader(stream))[1]['seconds'])
  line = next(line for line in output_lines if line.startswith('steps'))
  return seconds / int(line.split()[1].replace(',', ''))


def _products_seconds(laid_out: bool) -> float:
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
    found = []
    with products_lib.compiled(laid_out):
      for a, b, g in operands:
        # The pool's are of three axes, and multiplied as they are.
        multiply = products_lib.product if len(a.shape) == 2 else tf.matmul
        with tf.GradientTape() as tape:
          tape.watch((a, b))
          product = multiply(a, b)
        found.append((product, *tape.gradient(product, (a, b), g)))
    return found

  products(operands)
  times = []
  for _ in range(50):
    begin = time.perf_counter()
    products(operands)[-1][-1].numpy()
    times.append(time.perf_counter() - begin)
  return statistics.median(times)


def main(_):
  steps, products, laid_out = [], [], []
  for _run in range(_RUNS.value):
    steps.append(_step_seconds())
    products.append(_products_seconds(laid_out=False))
    laid_out.append(_products_seconds(laid_out=True))
  side_by_side.save(
    'history_step',
    {
      'what': f'seconds a step of {_RECIPE} {" ".join(_FLAGS)}, and of its products',
      'step': steps,
      'products': products,
      'products_laid_out': laid_out,
      'median_ratio': side_by_side.ratio(steps, products),
      'median_ratio_laid_out': side_by_side.ratio(steps, laid_out),
    },
  )


if __name__ == '__main__':
  app.run(main)
