"""Full ranking beside a plain `model.predict` over all pairs, and at a million items.

    python benchmarks/full_ranking.py

Models have random weights, for what they are worth does not change what they cost.
`predict` gets one (user, item) pair a row, in batches of its own choice and of
--predict_batch; both sides end with the ranks of the held-out items. A process for each
measurement; how large it was at its peak stands beside it.
"""

import json
import os
import sys
import time

import side_by_side
from absl import app, flags

_RUNS = flags.DEFINE_integer('runs', 3, 'Runs of each.')
_PREDICT_BATCH = flags.DEFINE_integer('predict_batch', 4096, 'A large batch.')
_MEASURE = flags.DEFINE_list(
  'measure', None, 'Model, way, users ranked and items: prints one measurement only.'
)

_USERS, _HISTORY, _NEGATIVES = 6_040, 50, 100
_MODELS = ('gmf', 'neumf', 'history')
# Ways, users ranked and items; `predict` on a few, for it is slow.
_CASES = (
  ('rank_full', 2_048, 3_706),
  ('predict', 4, 3_706),
  ('predict_large', 64, 3_706),
  ('rank_full', 16, 1_000_000),
)


def _model(name: str, num_items: int):
  from ncf_tfdata.models import history, neumf

  if name == 'history':
    return history.History(_USERS, num_items, history_length=_HISTORY)
  return neumf.NeuMF(_USERS, num_items, mlp_dim=0 if name == 'gmf' else 32)


def _batches(users: int, num_items: int, rows: int) -> list:
  import numpy as np

  from ncf_tfdata.data import records

  generator = np.random.default_rng(0)

  def batch(user):
    n = len(user)
    return records.EvaluationBatch(
      user,
      generator.integers(num_items, size=n),
      generator.integers(num_items, size=(n, _NEGATIVES)),
      generator.integers(num_items, size=n * _HISTORY),
      np.full(n, _HISTORY),
    )

  return [
    batch(np.arange(start, min(start + rows, users))) for start in range(0, users, rows)
  ]


def _predicted(model, batch_size: int | None):
  """A scorer of the catalogue that asks `predict` for each pair."""
  import keras
  import numpy as np
  import tensorflow as tf

  from ncf_tfdata.models import ranking_model

  # A history model's own call answers with the whole catalogue.
  class Pairs(keras.Model):
    def call(self, inputs):
      user, tokens, item = inputs
      return model.candidate_logits(user, tf.RaggedTensor.from_tensor(tokens), item)

  pairs = Pairs()

  class Predicted:
    def score_all(self, batch):
      past = tf.RaggedTensor.from_row_lengths(batch.history, batch.history_length)
      # `predict` wants rows of one length. Here every history is longer.
      length = model.history_length if model.reads_history else 1
      tokens = ranking_model.latest_items(past, length, 0).numpy()
      user = np.repeat(batch.user, model.num_items)
      item = np.tile(np.arange(model.num_items), len(batch.user))[:, None]
      tokens = np.repeat(tokens, model.num_items, axis=0)
      scores = pairs.predict((user, tokens, item), batch_size=batch_size, verbose=0)
      return scores.reshape(len(batch.user), -1)

  return Predicted()


def _measure(name: str, way: str, users: int, num_items: int) -> float:
  """Pairs a second, after a first batch."""
  os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
  from ncf_tfdata.evaluation import ranking

  model = _model(name, num_items)
  rows = ranking.batch_rows(num_items)
  if way != 'rank_full':
    size = _PREDICT_BATCH.value if way == 'predict_large' else None
    model, rows = _predicted(model, size), 16
  batches = _batches(users, num_items, rows)
  ranking.rank_full(model, batches[:1], num_items, (10,))
  begin = time.perf_counter()
  ranking.rank_full(model, batches, num_items, (10,))
  return users * num_items / (time.perf_counter() - begin)


def main(_):
  if _MEASURE.value:
    name, way, users, items = _MEASURE.value
    print(json.dumps(_measure(name, way, int(users), int(items))))
    return
  results: list[dict] = []
  for name in _MODELS:
    found: list[dict] = [
      {'model': name, 'way': way, 'users': users, 'items': items}
      for way, users, items in _CASES
    ]
    for result in found:
      result |= {'pairs_a_second': [], 'peak_mib': []}
    for _run in range(_RUNS.value):
      for (way, users, items), result in zip(_CASES, found, strict=True):
        measure = f'--measure={name},{way},{users},{items}'
        batch = f'--predict_batch={_PREDICT_BATCH.value}'
        done = side_by_side.run([sys.executable, __file__, measure, batch])
        speed = json.loads(done.output.strip().split('\n')[-1])
        result['pairs_a_second'].append(speed)
        result['peak_mib'].append(round(done.peak_mib))
    for result in found:
      result['ratio_of_rank_full'] = side_by_side.ratio(
        found[0]['pairs_a_second'], result['pairs_a_second']
      )
    results += found
  side_by_side.save(
    'full_ranking',
    {
      'what': 'pairs scored and ranked a second; predict in batches of 32 (its own '
      f'choice) and of {_PREDICT_BATCH.value}',
      'results': results,
    },
  )


if __name__ == '__main__':
  app.run(main)
