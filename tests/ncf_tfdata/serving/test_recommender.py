"""The two recommenders, in numpy and in a graph: equal lists where it is delicate."""

import numpy as np
import pytest
import tensorflow as tf
import toy_dataset

from ncf_tfdata import dataset as dataset_lib
from ncf_tfdata.models.ranking_model import RankingModel
from ncf_tfdata.serving import recommender, saved_model
from ncf_tfdata.vocabulary import UNKNOWN

_ITEMS = 9


class _Toy(RankingModel):
  """Scores that tie: of a user, and of the latest item where the history is read."""

  def __init__(self, num_users, reads_history):
    super().__init__(num_users, _ITEMS, name='toy')
    self.reads_history = reads_history
    self.built = True

  def catalogue_logits(self, user, history):
    item = tf.range(_ITEMS, dtype=tf.int64)
    shift = tf.maximum(user, 0)
    if self.reads_history:
      shift += tf.cast(history.row_lengths(), tf.int64)
    return tf.cast((item + shift[:, None]) % 3, tf.float32)

  def candidate_logits(self, user, history, items):
    return tf.gather(self.catalogue_logits(user, history), items, batch_dims=1)


@pytest.fixture(scope='module')
def dataset(tmp_path_factory):
  """Users u0 to u4, of whom the last has seen all items but one."""
  items = [*toy_dataset.tastes(4, _ITEMS, 5), np.arange(_ITEMS - 1)]
  return toy_dataset.write(
    tmp_path_factory.mktemp('data'), items, num_items=_ITEMS, eval_negatives=1
  )


def _expected(model, dataset, user: int, history: list[int], k: int):
  """(items, scores, known) by sorting, one user at a time."""
  counts = dataset.vocabulary(dataset_lib.ITEMS).counts
  known = user >= 0 or (model.reads_history and bool(history))
  shift = max(user, 0) + (len(history) if model.reads_history else 0)
  scores = [(item + shift) % 3 if known else counts[item] for item in range(_ITEMS)]
  left = sorted(set(range(_ITEMS)) - set(history), key=lambda i: (-scores[i], i))[:k]
  return left, [scores[item] for item in left], known


_USERS = [0, 1, 2, 3, 4, UNKNOWN, UNKNOWN]
_LATER = [[], [0, 8], [], [], [], [2, 2, 7], []]


def _numpy(model, dataset, k):
  user = np.array(_USERS)
  histories = recommender.read_histories(dataset)
  later = np.array([i for items in _LATER for i in items], np.int64)
  history = recommender.extended(
    histories.of(user), (later, np.array([len(items) for items in _LATER]))
  )
  found = recommender.Recommender(model, dataset).recommend(user, *history, k)
  return [
    (items[items >= 0].tolist(), scores[items >= 0].tolist(), bool(known))
    for items, scores, known in zip(*found, strict=True)
  ]


def _graph(model, dataset, k):
  users = [f'u{user}' if user >= 0 else 'new' for user in _USERS]
  later = [[*(f'i{item}' for item in items), '', '', ''][:3] for items in _LATER]
  server = saved_model.Server(model, dataset)
  found = server.recommend_after(tf.constant(users), tf.constant(later), tf.constant(k))
  result = []
  for items, scores, known in zip(*(v.numpy() for v in found.values()), strict=True):
    left = [int(key[1:]) for key in items if key]
    assert not any(items[len(left) :])
    result.append((left, scores[: len(left)].tolist(), bool(known)))
  return result


@pytest.mark.parametrize('way', [_numpy, _graph])
@pytest.mark.parametrize('reads_history', [False, True])
@pytest.mark.parametrize('k', [1, 4, _ITEMS, _ITEMS + 2])
def test_lists_are_sorted_by_score_and_id_without_what_is_seen(
  way, reads_history, k, dataset
):
  model = _Toy(dataset.num_users, reads_history)
  histories = recommender.read_histories(dataset)
  expected = [
    _expected(model, dataset, user, [*histories.of(np.array([user]))[0], *later], k)
    for user, later in zip(_USERS, _LATER, strict=True)
  ]
  # One item is left for a user; cold users have a history, or none.
  assert len(expected[4][0]) == 1
  assert [known for *_, known in expected[5:]] == [reads_history, False]
  assert way(model, dataset, k) == expected
