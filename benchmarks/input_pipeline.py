"""Rows a second from shards to device, beside two other ways to read the same rows.

    python -m beam_pipelines.prepare --input=sample --sample_ratings=5000000 \
        --train_negatives=32 --output=data/sample-5m
    python benchmarks/input_pipeline.py --data_dir=data/sample-5m

Ours: static and fresh negatives, users in one piece without any, windows of histories.
The others: the naive layout, one row a record with 4 negatives, written here from the
dataset and read in batches by tf.data; and `tfds.builder_from_directory`, which yields
our blocks as they lie, unshuffled into rows. All take turns; CPU seconds are of the
process. Then the training step with real input beside one batch over and over
(`step_input.py`). Writes results/input_pipeline.json, and a plot to docs/images.
"""

import json
import os
import pathlib
import statistics
import sys
import tempfile
import time
from collections.abc import Callable

import side_by_side
from absl import app, flags

_DATA_DIR = flags.DEFINE_string(
  'data_dir', 'data/sample-5m', 'Dataset with 32 static train negatives.'
)
_ROWS = flags.DEFINE_integer('rows', 4_000_000, 'Most rows of one measurement.')
_SECONDS = flags.DEFINE_float('seconds', 4.0, 'Most seconds of one measurement.')
_NAIVE_ROWS = flags.DEFINE_integer('naive_rows', 500_000, 'Rows in the naive layout.')
_TURNS = flags.DEFINE_integer('turns', 3, 'Turns; medians are kept.', 1)
_NEGATIVES = flags.DEFINE_list('negatives', ['1', '4', '8', '16', '32'], 'How many.')
_BATCH = flags.DEFINE_integer('batch_size', 4096, 'Rows a batch.')
_STEPS_OF = flags.DEFINE_list(
  'steps_of',
  ['configs/sample.cfg', 'configs/sample-history.cfg'],
  'Flagfiles whose training step is measured with real input; none to skip it.',
)

_NAIVE_NEGATIVES = 4
_HISTORY_LENGTH = 50


def _measure(stream, count: Callable[[dict], int]) -> dict[str, float]:
  """Rows a second and rows a CPU second, after a first batch that is not counted."""
  iterator = iter(stream)
  next(iterator)
  rows, begin, processor = 0, time.perf_counter(), time.process_time()
  for batch in iterator:
    rows += count(batch)
    seconds = time.perf_counter() - begin
    if rows >= _ROWS.value or seconds > _SECONDS.value:
      break
  return {
    'rows_a_second': rows / seconds,
    'rows_a_cpu_second': rows / (time.process_time() - processor),
  }


def _ours(dataset) -> dict[str, tuple]:
  from ncf_tfdata.data import row_batches, sampling, window_batches

  def batches(negatives: str, number: int, by_user: bool = False):
    return row_batches.train_batches(
      dataset,
      batch_size=_BATCH.value,
      seed=0,
      negatives=negatives,
      num_negatives=number,
      sampler=sampling.Sampler(dataset.num_items),
      by_user=by_user,
    )

  def full(_):
    return _BATCH.value

  streams = {
    f'{kind}, {number}': (batches(kind, int(number)), full)
    for kind in ('static', 'fresh')
    for number in _NEGATIVES.value
    if kind == 'fresh' or int(number) <= dataset.negatives('train')
  }
  streams['by user, none'] = (batches('none', 0, by_user=True), full)
  windowed = window_batches.window_batches(
    dataset, batch_size=_BATCH.value, history_length=_HISTORY_LENGTH, seed=0
  )
  streams['windows'] = (windowed, lambda b: int((b['weight'].numpy() > 0).sum()))
  return streams


def _write_naive(dataset, path: str) -> None:
  """One `tf.train.Example` a row, as most tutorials do."""
  import tensorflow as tf

  from ncf_tfdata.data import records

  def integers(*values):
    return tf.train.Feature(int64_list=tf.train.Int64List(value=values))

  left = _NAIVE_ROWS.value
  with tf.io.TFRecordWriter(path) as writer:
    for block in records.blocks(dataset, 'train'):
      rows = zip(
        block['user'].tolist(),
        block['pos'].tolist(),
        block['negs'][:, :_NAIVE_NEGATIVES].tolist(),
        strict=True,
      )
      for user, positive, negatives in rows:
        feature = {
          'user': integers(user),
          'pos': integers(positive),
          'negs': integers(*negatives),
        }
        example = tf.train.Example(features=tf.train.Features(feature=feature))
        writer.write(example.SerializeToString())
      left -= len(block['user'])
      if left <= 0:
        return


def _others(dataset, naive: str) -> dict[str, tuple]:
  import tensorflow as tf
  import tensorflow_datasets as tfds

  features = {
    'user': tf.io.FixedLenFeature([], tf.int64),
    'pos': tf.io.FixedLenFeature([], tf.int64),
    'negs': tf.io.FixedLenFeature([_NAIVE_NEGATIVES], tf.int64),
  }
  rows = tf.data.TFRecordDataset(naive).repeat().shuffle(100_000)
  in_batches = rows.batch(_BATCH.value).map(
    lambda serialized: tf.io.parse_example(serialized, features),
    num_parallel_calls=tf.data.AUTOTUNE,
  )
  builder = tfds.builder_from_directory(str(dataset.directory))
  blocks = builder.as_dataset(split='train', shuffle_files=True).repeat()
  return {
    'naive layout': (in_batches.prefetch(tf.data.AUTOTUNE), lambda _: _BATCH.value),
    'tfds': (blocks.prefetch(tf.data.AUTOTUNE), lambda b: len(b['user'])),
  }


def _steps(flagfile: str) -> dict:
  script = str(pathlib.Path(__file__).parent / 'step_input.py')
  command = [sys.executable, script, f'--flagfile={flagfile}']
  environment = {'PYTHONPATH': os.getcwd()}
  run = side_by_side.run([*command, f'--data_dir={_DATA_DIR.value}'], **environment)
  times = json.loads(run.output.strip().split('\n')[-1])
  return {
    'flags': flagfile,
    'ms_a_step_real': times['real'],
    'ms_a_step_one_batch': times['one_batch'],
    'median_ratio': side_by_side.ratio(times['real'], times['one_batch']),
  }


def _plot(speeds: dict[str, float]) -> None:
  import matplotlib

  matplotlib.use('Agg')
  from matplotlib import pyplot as plt

  figure, axes = plt.subplots(figsize=(7, 4.2))
  names = list(speeds)[::-1]
  colours = ['C1' if name in ('naive layout', 'tfds') else 'C0' for name in names]
  bars = axes.barh(names, [speeds[name] / 1e6 for name in names], color=colours)
  axes.bar_label(bars, fmt='%.2f', padding=3)
  axes.set_xlabel('million rows a second')
  axes.margins(x=0.12)
  figure.tight_layout()
  figure.savefig(side_by_side.IMAGES / 'input_pipeline.png', dpi=120)


def main(_):
  os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
  from ncf_tfdata import dataset as dataset_lib

  dataset = dataset_lib.Dataset(_DATA_DIR.value)
  measured: dict[str, list[dict[str, float]]] = {}
  with tempfile.TemporaryDirectory() as folder:
    naive = os.path.join(folder, 'naive.tfrecord')
    _write_naive(dataset, naive)
    streams = {**_ours(dataset), **_others(dataset, naive)}
    for _turn in range(_TURNS.value):
      for name, (stream, count) in streams.items():
        figures = _measure(stream, count)
        measured.setdefault(name, []).append(figures)
        print(f'{name:>16} {figures["rows_a_second"]:>14,.0f} rows/s', flush=True)
  medians = {
    name: {key: statistics.median(run[key] for run in runs) for key in runs[0]}
    for name, runs in measured.items()
  }
  side_by_side.save(
    'input_pipeline',
    {
      'what': 'rows read, of batches on the device; medians of turns',
      'train_rows': dataset.rows('train'),
      'batch_size': _BATCH.value,
      'ways': medians,
      'steps': [_steps(flagfile) for flagfile in _STEPS_OF.value if flagfile],
    },
  )
  _plot({name: figures['rows_a_second'] for name, figures in medians.items()})


if __name__ == '__main__':
  app.run(main)
