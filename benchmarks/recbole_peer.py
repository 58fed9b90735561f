"""A model of RecBole (Zhao et al., CIKM 2021), trained on one of our datasets.

    python benchmarks/recbole_peer.py --data_dir=data/ml-1m --recbole_python=PYTHON \
        --output=sasrec.jsonl
    python benchmarks/recbole_peer.py --data_dir=data/ml-1m --recbole_python=PYTHON \
        --model=NeuMF --epochs=3

SASRec has RecBole's defaults, leave-one-out; NeuMF has the sizes, batch and negatives
of configs/seed.cfg, and its epochs are timed beside ours, in turn. RecBole gets the
dataset's own order for its times, so that both hold out the same rows, which is
checked. A curve's `seconds` are CPU seconds of training / threads: the least wall time
that those cores can take, whatever else the machine did.
"""

import dataclasses
import itertools
import json
import os
import pathlib
import re
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

import numpy as np
import printed
import side_by_side
from absl import app, flags

_DATA_DIR = flags.DEFINE_string('data_dir', None, 'With --holdout=2.', required=True)
_PYTHON = flags.DEFINE_string(
  'recbole_python', None, 'A Python with RecBole.', required=True
)
_MODEL = flags.DEFINE_enum('model', 'SASRec', ['SASRec', 'NeuMF'], 'What to train.')
_OUTPUT = flags.DEFINE_string('output', None, 'A line an epoch goes here, of SASRec.')
_EPOCHS = flags.DEFINE_integer('epochs', 300, 'At most.', lower_bound=2)
_MAX_SECONDS = flags.DEFINE_float('max_seconds', 3600.0, 'No epoch begins later.')
_RUNS = flags.DEFINE_integer('runs', 3, 'Runs of each, of NeuMF.')
_THREADS = flags.DEFINE_integer('threads', os.cpu_count(), 'Of PyTorch.')

# For a curve of CPU seconds, in RecBole's favour: threads that wait do not spin, which
# counts on a busy machine, and freed memory is kept, which saves page faults.
_PATIENT = {
  'OMP_WAIT_POLICY': 'PASSIVE',
  'MALLOC_MMAP_MAX_': '0',
  'MALLOC_TRIM_THRESHOLD_': str(1 << 34),
  'MALLOC_TOP_PAD_': str(1 << 28),
}

_SETTINGS: dict[str, dict[str, Any]] = {
  # A softmax over all items needs no negatives.
  'SASRec': {'train_neg_sample_args': None},
  'NeuMF': {
    'mf_embedding_size': 32,
    'mlp_embedding_size': 32,
    'mlp_hidden_size': [256, 128, 64],
    'dropout_prob': 0.2,
    # Of positives and negatives together: 512 positives, as in configs/seed.cfg.
    'train_batch_size': 1024,
  },
}


@dataclasses.dataclass(frozen=True)
class Task:
  """What recbole_runner.py is told.

  Attributes:
    directory: Holds peer/peer.inter, validation.npz and test.npz.
    whole_catalogue: Whether the model scores all items of a user at once.
  """

  model: str
  directory: str
  settings: dict[str, Any]
  whole_catalogue: bool
  epochs: int
  max_seconds: float
  threads: int


def export(dataset, directory: str) -> None:
  """Writes a dataset for RecBole: its rows with their place in time, and its negatives.

  The dense ids are RecBole's tokens; a row's place in its user's history its time.
  """
  from ncf_tfdata.data import records

  user, item = records.rows(dataset, 'train', 'validation', 'test')
  start = np.flatnonzero(np.diff(user, prepend=-1))
  place = np.arange(len(user)) - np.repeat(start, np.diff(start, append=len(user)))
  (pathlib.Path(directory) / 'peer').mkdir()
  np.savetxt(
    f'{directory}/peer/peer.inter',
    np.stack([user, item, place], axis=1),
    fmt='%d',
    delimiter='\t',
    header='user_id:token\titem_id:token\ttimestamp:float',
    comments='',
  )
  for split in ('validation', 'test'):
    batches = list(records.evaluation_batches(dataset, split, 1 << 30))
    held = {
      name: np.concatenate([getattr(batch, name) for batch in batches])
      for name in ('user', 'positive', 'negatives', 'history', 'history_length')
    }
    np.savez(f'{directory}/{split}.npz', items=dataset.num_items, **held)


def theirs(task: Task, **environment: str) -> Iterator[dict[str, Any]]:
  """What recbole_runner.py says of each epoch, as it goes."""
  runner = pathlib.Path(__file__).with_name('recbole_runner.py').resolve()
  command = [_PYTHON.value, str(runner), json.dumps(dataclasses.asdict(task))]
  for line in printed.lines(command, task.directory, **environment):
    if line.text.startswith('{'):
      yield json.loads(line.text)


def _sasrec(task: Task) -> None:
  """One curve for accuracy_over_time.py, a line as soon as it is known."""
  with open(_OUTPUT.value or os.devnull, 'w') as stream:
    for epoch in theirs(task, **_PATIENT):
      line = {
        'name': 'SASRec (RecBole)',
        'seconds': epoch['train_cpu_seconds'] / task.threads,
        'seconds_are': f'CPU seconds of training / {task.threads} threads',
        **epoch,
      }
      print(json.dumps(line), file=stream, flush=True)
      print(json.dumps(line), flush=True)


def _ours(epochs: int) -> list[dict[str, float]]:
  """Wall and CPU seconds from one epoch's end to the next's, ours."""
  with tempfile.TemporaryDirectory() as output:
    command = [sys.executable, '-m', 'ncf_tfdata.train', '--flagfile=configs/seed.cfg']
    command += [f'--data_dir={_DATA_DIR.value}', f'--run_dir={output}/run']
    ends = [
      line
      for line in printed.lines([*command, f'--epochs={epochs}'])
      if re.match(r'epoch \d+/', line.text)
    ]
  return [
    {
      'wall_seconds': after.wall_seconds - before.wall_seconds,
      'cpu_seconds': after.cpu_seconds - before.cpu_seconds,
    }
    for before, after in itertools.pairwise(ends)
  ]


def _neumf(task: Task) -> None:
  """Seconds an epoch, in turn, ranking included; neither side's first, which warms."""
  runs: dict[str, list] = {'ours': [], 'recbole': []}
  for _ in range(_RUNS.value):
    runs['ours'].append(_ours(task.epochs))
    runs['recbole'].append(
      [
        {
          'wall_seconds': epoch['epoch_wall_seconds'],
          'cpu_seconds': epoch['epoch_cpu_seconds'],
          'hr@10': epoch['hr@10'],
        }
        for epoch in theirs(task)
      ][1:]
    )
  ratios = {
    f'{kind}_ratio': side_by_side.ratio(
      *(
        [float(np.median([epoch[kind] for epoch in run])) for run in runs[side]]
        for side in ('ours', 'recbole')
      )
    )
    for kind in ('wall_seconds', 'cpu_seconds')
  }
  what = "an epoch of the seed's recipe, in ours and in RecBole's NeuMF"
  side_by_side.save('recbole_neumf', {'what': what, **runs, **ratios})


def main(_):
  os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
  from ncf_tfdata import dataset as dataset_lib

  with tempfile.TemporaryDirectory() as directory:
    export(dataset_lib.Dataset(_DATA_DIR.value), directory)
    task = Task(
      model=_MODEL.value,
      directory=directory,
      settings=_SETTINGS[_MODEL.value],
      whole_catalogue=_MODEL.value == 'SASRec',
      epochs=_EPOCHS.value,
      max_seconds=_MAX_SECONDS.value,
      threads=_THREADS.value,
    )
    {'SASRec': _sasrec, 'NeuMF': _neumf}[_MODEL.value](task)


if __name__ == '__main__':
  app.run(main)
