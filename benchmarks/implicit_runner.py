"""Trains implicit's BPR; run by a Python that has implicit, by time_to_hr.py.

    PYTHON implicit_runner.py rows.npz '{"factors": 100, …}'

Prints, after each of its epochs, `epoch N  hr@10 X  ndcg@10 Y` of the validation rows
among their negatives. Its threads race, as they do by default: two runs differ.
"""

import json
import sys

import numpy as np
import scipy.sparse as sp
from implicit.cpu.bpr import BayesianPersonalizedRanking

_K = 10


def _metrics(scores: np.ndarray) -> tuple[float, float]:
  """HR and NDCG at 10 of the first column of [n, items]; ties by half."""
  rank = np.count_nonzero(scores[:, 1:] > scores[:, :1], axis=1)
  rank = rank + np.count_nonzero(scores[:, 1:] == scores[:, :1], axis=1) / 2
  hit = rank < _K
  return hit.mean(), (hit / np.log2(rank + 2)).mean()


def main() -> None:
  rows = np.load(sys.argv[1])
  ones = np.ones(len(rows['train_user']), np.float32)
  shape = rows['num_users'], rows['num_items']
  matrix = sp.csr_matrix((ones, (rows['train_user'], rows['train_item'])), shape)
  user = rows['user']
  items = np.concatenate([rows['positive'][:, None], rows['negatives']], axis=1)
  model = BayesianPersonalizedRanking(random_state=0, **json.loads(sys.argv[2]))

  def judge(epoch: int, *_) -> None:
    scores = model.user_factors @ model.item_factors.T
    hr, ndcg = _metrics(scores[user[:, None], items])
    print(f'epoch {epoch + 1}  hr@10 {hr:.4f}  ndcg@10 {ndcg:.4f}', flush=True)

  model.fit(matrix, show_progress=False, callback=judge)


if __name__ == '__main__':
  main()
