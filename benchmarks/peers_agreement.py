"""Our evaluator and an independent script, on the same candidates, to four digits.

    python benchmarks/peers_agreement.py --peers=PEERS.py \
        --ratings=ml-1m/ratings.dat --eval_negatives=99
    python benchmarks/peers_agreement.py --peers=PEERS.py \
        --ratings=amazon-beauty/interactions.tsv --columns=user,item

Prepares the ratings without an item filter and with --holdout=1, runs the script as it
is but for its negatives, which are drawn from our test records, and compares its HR@10
and NDCG@10, sampled and full, with those of our baselines. Fails where they differ.
"""

import contextlib
import io
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest.mock

import numpy as np
from absl import app, flags

_PEERS = flags.DEFINE_string('peers', None, 'The independent script.', required=True)
_RATINGS = flags.DEFINE_string('ratings', None, 'What both read.', required=True)
_COLUMNS = flags.DEFINE_string('columns', None, 'As of beam_pipelines.prepare.')
_NEGATIVES = flags.DEFINE_integer('eval_negatives', 100, 'Negatives a user.')

# The script's name of a system, and our baseline.
SYSTEMS = {
  'popularity': 'popularity',
  'EASE(500)': 'ease:l2=500',
  'successor counts, reverse x 0.0': 'successors:reverse=0',
  'successor counts, reverse x 0.5': 'successors:reverse=0.5',
}
# Its name of a metric: the ranking and our name.
METRICS = {
  'hr10': ('sampled', 'hr@10'),
  'ndcg10': ('sampled', 'ndcg@10'),
  'full_hr10': ('full', 'hr@10'),
  'full_ndcg10': ('full', 'ndcg@10'),
}


class _Draws:
  """A generator of random numbers whose choices were made before."""

  def __init__(self, rows: np.ndarray):
    self._rows = iter(rows)

  def choice(self, pool: np.ndarray, *_, **__) -> np.ndarray:
    row = next(self._rows)
    assert np.isin(row, pool).all(), 'a negative that the user has touched'
    return row


def _negatives(dataset) -> np.ndarray:
  """Our test negatives in the script's ids: both sides' keys in ascending order."""
  from ncf_tfdata import dataset as dataset_lib
  from ncf_tfdata.data import records

  def ascending(name: str) -> np.ndarray:
    keys = np.array(dataset.vocabulary(name).keys).astype(np.int64)
    return np.argsort(np.argsort(keys))

  user, item = ascending(dataset_lib.USERS), ascending(dataset_lib.ITEMS)
  negatives = np.zeros((dataset.num_users, dataset.negatives('test')), np.int64)
  for batch in records.evaluation_batches(dataset, 'test', 4096):
    negatives[user[batch.user]] = item[batch.negatives]
  return negatives


def theirs(peers: str, ratings: str, negatives: np.ndarray) -> dict[str, dict]:
  """What the script prints, by system."""
  code = compile(pathlib.Path(peers).read_text(), peers, 'exec')
  printed = io.StringIO()
  draws = unittest.mock.patch('numpy.random.default_rng', lambda _: _Draws(negatives))
  arguments = unittest.mock.patch('sys.argv', [peers, ratings])
  # Other libraries that it may also measure are not our matter.
  missing = unittest.mock.patch.dict('sys.modules', {'implicit': None})
  stopped = contextlib.suppress(SystemExit)
  with draws, arguments, missing, contextlib.redirect_stdout(printed), stopped:
    exec(code, {'__name__': '__main__'})
  lines = [json.loads(line) for line in printed.getvalue().splitlines()]
  return {line.pop('system'): line for line in lines}


def ours(dataset, baseline: str) -> dict[str, dict[str, float]]:
  """Metrics of a baseline at 10, by ranking."""
  from ncf_tfdata.data import records
  from ncf_tfdata.evaluation import baselines, metrics, ranking

  rows = records.train_rows(dataset)
  scorer = baselines.create(baseline)(*rows, dataset.num_users, dataset.num_items)
  batches = records.evaluation_batches(
    dataset, 'test', ranking.batch_rows(dataset.num_items)
  )
  ranks = ranking.rank_full(scorer, batches, dataset.num_items, (10,))
  return {
    'sampled': metrics.means(ranks.sampled, (10,)),
    'full': metrics.means(ranks.full, (10,)),
  }


def compare(dataset, peers: str, ratings: str) -> bool:
  """Prints both sides; returns whether they agree to four digits."""
  expected = theirs(peers, ratings, _negatives(dataset))
  agree = True
  for system, baseline in SYSTEMS.items():
    found = ours(dataset, baseline)
    for name, (kind, metric) in METRICS.items():
      value = found[kind][metric]
      same = round(value, 4) == expected[system][name]
      agree &= same
      print(
        f'{baseline:24} {kind:8} {metric:8} {value:.4f} {expected[system][name]:.4f}'
        f'  {"equal" if same else "DIFFERENT"}',
        flush=True,
      )
  return agree


def main(_):
  os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
  from ncf_tfdata import dataset as dataset_lib

  with tempfile.TemporaryDirectory() as directory:
    command = [
      *(sys.executable, '-m', 'beam_pipelines.prepare', '--min_item_count=0'),
      *(f'--input={_RATINGS.value}', f'--output={directory}/dataset', '--holdout=1'),
      f'--eval_negatives={_NEGATIVES.value}',
      *([f'--columns={_COLUMNS.value}'] if _COLUMNS.value else []),
    ]
    subprocess.run(command, check=True, capture_output=True)
    dataset = dataset_lib.Dataset(f'{directory}/dataset')
    if not compare(dataset, _PEERS.value, _RATINGS.value):
      sys.exit('the two do not agree')


if __name__ == '__main__':
  app.run(main)
