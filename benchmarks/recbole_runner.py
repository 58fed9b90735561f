"""Trains one model of RecBole; run by RecBole's own Python, by recbole_peer.py.

    PYTHON recbole_runner.py '{"model": "SASRec", …}'

The one argument is the `Task` of recbole_peer.py as JSON. Prints a JSON line an epoch.
RecBole's trainer does the training; the ranking is done twice, by RecBole's evaluator
and, as ours does it, among the negatives of the dataset's rows and among all items but
the history, which RecBole's sequential models leave in.
"""

import itertools
import json
import resource
import sys
import time

import numpy as np
import torch
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.data.interaction import Interaction
from recbole.utils import get_model, get_trainer, init_seed

_K = 10
_ROWS = 512  # Users whose pairs are scored at once.


def _now() -> tuple[float, float]:
  """Wall and CPU seconds, children's included."""
  usage = [
    resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
  ]
  return time.perf_counter(), sum(use.ru_utime + use.ru_stime for use in usage)


def _metrics(scores: np.ndarray, target: np.ndarray, itself: int) -> dict[str, float]:
  """HR and NDCG at 10 of targets [n] among scores [n, items]; ties by half."""
  rank = np.count_nonzero(scores > target[:, None], axis=1)
  rank = rank + (np.count_nonzero(scores == target[:, None], axis=1) - itself) / 2
  hit = rank < _K
  return {
    'hr@10': float(hit.mean()),
    'ndcg@10': float((hit / np.log2(rank + 2)).mean()),
  }


class _Rows:
  """The dataset's held-out rows of a split in RecBole's ids, one a user.

  Attributes:
    positive: int64 [users], by user.
    negatives: int64 [users, k].
    histories: int64 [length], by user, oldest first.
  """

  def __init__(self, path: str, dataset):
    held = np.load(path)
    user, item = (
      dataset.token2id(field, np.arange(count).astype(str))
      for field, count in (('user_id', held['user'].size), ('item_id', held['items']))
    )
    self.users = user[held['user']]
    size = dataset.user_num
    self.positive = np.zeros(size, np.int64)
    self.positive[self.users] = item[held['positive']]
    self.negatives = np.zeros((size, held['negatives'].shape[1]), np.int64)
    self.negatives[self.users] = item[held['negatives']]
    ends = np.cumsum(held['history_length'])[:-1]
    histories = np.split(item[held['history']], ends)
    self.histories = dict(zip(self.users.tolist(), histories, strict=True))

  def candidates(self, users: np.ndarray) -> np.ndarray:
    return np.concatenate([self.positive[users, None], self.negatives[users]], axis=1)

  def check(self, loader, fields: tuple[str, str] | None) -> None:
    """That RecBole holds out these very rows, after these very histories."""
    seen = 0
    for interaction, _, _, positive in loader:
      users = interaction['user_id'].numpy()
      seen += len(users)
      assert (positive.numpy() == self.positive[users]).all(), 'other rows held out'
      for index, user in enumerate(users.tolist() if fields else ()):
        length = int(interaction[fields[1]][index])
        items = interaction[fields[0]][index].numpy()[:length]
        assert (items == self.histories[user][-length:]).all(), 'another history'
        assert length == min(len(interaction[fields[0]][index]), self.history(user))
    assert seen == len(self.users), f'{seen} rows held out of {len(self.users)}'

  def history(self, user: int) -> int:
    return len(self.histories[user])


@torch.no_grad()
def _judge_catalogue(model, loader, rows: _Rows) -> dict[str, float]:
  """Sampled and full metrics of a model that scores all items at once."""
  sampled, sampled_target, full, target = [], [], [], []
  for interaction, *_ in loader:
    users = interaction['user_id'].numpy()
    scores = model.full_sort_predict(interaction).reshape(len(users), -1).numpy()
    pairs = np.take_along_axis(scores, rows.candidates(users), axis=1)
    sampled.append(pairs[:, 1:])
    sampled_target.append(pairs[:, 0])
    scores[:, 0] = -np.inf  # padding
    lengths = [rows.history(user) for user in users.tolist()]
    masked = np.concatenate([rows.histories[user] for user in users.tolist()])
    scores[np.repeat(np.arange(len(users)), lengths), masked] = -np.inf
    full.append(scores)
    target.append(pairs[:, 0])
  every = _metrics(np.concatenate(full), np.concatenate(target), itself=1)
  return {
    **_metrics(np.concatenate(sampled), np.concatenate(sampled_target), itself=0),
    **{f'full_{name}': value for name, value in every.items()},
  }


@torch.no_grad()
def _judge_pairs(model, rows: _Rows) -> dict[str, float]:
  """Sampled metrics of a model that scores a pair at a time."""
  scores = []
  for begin in range(0, len(rows.users), _ROWS):
    users = rows.users[begin : begin + _ROWS]
    items = rows.candidates(users)
    pairs = {
      'user_id': torch.from_numpy(np.repeat(users, items.shape[1])),
      'item_id': torch.from_numpy(items.reshape(-1)),
    }
    scores.append(model.predict(Interaction(pairs)).reshape(items.shape).numpy())
  scores = np.concatenate(scores)
  return _metrics(scores[:, 1:], scores[:, 0], itself=0)


def main() -> None:
  task = json.loads(sys.argv[1])
  torch.set_num_threads(task['threads'])
  settings = {
    **task['settings'],
    'data_path': task['directory'],
    'load_col': {'inter': ['user_id', 'item_id', 'timestamp']},
    'eval_args': {
      'split': {'LS': 'valid_and_test'},
      'group_by': 'user',
      'order': 'TO',
      'mode': 'full',
    },
    'use_gpu': False,
    'show_progress': False,
  }
  # Config reads sys.argv for settings of its own.
  sys.argv = sys.argv[:1]
  config = Config(model=task['model'], dataset='peer', config_dict=settings)
  init_seed(config['seed'], config['reproducibility'])
  dataset = create_dataset(config)
  train, validation, test = data_preparation(config, dataset)
  init_seed(config['seed'] + config['local_rank'], config['reproducibility'])
  model = get_model(config['model'])(config, train._dataset).to(config['device'])
  trainer = get_trainer(config['MODEL_TYPE'], config['model'])(config, model)
  trainer.eval_collector.data_collect(train)

  whole = task['whole_catalogue']
  fields = ('item_id_list', 'item_length') if whole else None
  rows = _Rows(f'{task["directory"]}/validation.npz', dataset)
  rows.check(validation, fields)
  _Rows(f'{task["directory"]}/test.npz', dataset).check(test, fields)

  seconds, cpu = 0.0, 0.0
  begin = _now()
  for epoch in itertools.count():
    start = _now()
    loss = trainer._train_epoch(train, epoch)
    trained = _now()
    seconds += trained[0] - start[0]
    cpu += trained[1] - start[1]
    model.eval()
    if whole:
      judged = _judge_catalogue(model, validation, rows)
      own = trainer.evaluate(validation, load_best_model=False)
      judged |= {f'recbole_{key}': float(own[key]) for key in ('hit@10', 'ndcg@10')}
    else:
      judged = _judge_pairs(model, rows)
    line = {
      'epoch': epoch + 1,
      'loss': loss / len(train),
      'train_wall_seconds': seconds,
      'train_cpu_seconds': cpu,
      'epoch_wall_seconds': _now()[0] - start[0],
      'epoch_cpu_seconds': _now()[1] - start[1],
      **judged,
    }
    print(json.dumps(line), flush=True)
    if epoch + 1 == task['epochs'] or _now()[0] - begin[0] > task['max_seconds']:
      return


if __name__ == '__main__':
  main()
