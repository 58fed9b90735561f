"""ALS of implicit on our split; run by a Python with `implicit`.

    PYTHON foreign_implicit.py '{"settings": [{"factors": 64, …}, …], …}'

See foreign_split.py. Users are folded in by what they did before, as implicit's
`recommend` does it.
"""

import functools

import foreign_split
import numpy as np
import scipy.sparse as sp
from implicit.cpu.als import AlternatingLeastSquares


def _matrix(row: np.ndarray, column: np.ndarray, shape: tuple[int, int]):
  return sp.csr_matrix((np.ones(len(row), np.float32), (row, column)), shape)


def _lists(
  model: AlternatingLeastSquares, num_items: int, asked: foreign_split.Asked
) -> foreign_split.Lists:
  targets, known = asked.targets, asked.known
  learnt = known.where(known.item < num_items)
  row = np.searchsorted(targets.user, learnt.user)
  shape = (len(targets.user), num_items)
  item, score = model.recommend(
    np.arange(len(targets.user)),
    _matrix(row, learnt.item, shape),
    N=foreign_split.LENGTH,
    filter_already_liked_items=True,
    recalculate_user=True,
  )
  # A list that ends early goes on with items of the least float.
  ended = score <= np.finfo(np.float32).min
  return foreign_split.Lists(np.where(ended, -1, item), score.astype(np.float64))


def main() -> None:
  choice = foreign_split.Choice()
  train, num_items = choice.split.train, choice.split.num_trained
  matrix = _matrix(train.user, train.item, (len(choice.split.users), num_items))
  for settings in choice.task['settings']:
    model = AlternatingLeastSquares(
      random_state=0, num_threads=choice.task['threads'], **settings
    )
    model.fit(matrix, show_progress=False)
    choice.judge(settings, functools.partial(_lists, model, num_items))
  choice.end()


if __name__ == '__main__':
  main()
