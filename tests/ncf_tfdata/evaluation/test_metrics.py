"""Metrics against independent oracles: scikit-learn, or loops by the definition."""

import keras
import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given
from hypothesis import strategies as st

from ncf_tfdata.evaluation import metrics, ranking
from ncf_tfdata.models import keras_metrics

_KS = (1, 3, 10)


def _lists(seed: int, ties: bool) -> tuple[np.ndarray, np.ndarray]:
  """Scores [n, 21] and one-hot relevance; with ties scores are few small integers."""
  generator = np.random.default_rng(seed)
  shape = (200, 21)
  scores = generator.integers(0, 8, shape) if ties else generator.random(shape)
  relevant = np.zeros(shape)
  relevant[np.arange(200), generator.integers(0, 21, 200)] = 1
  return scores.astype(np.float32), relevant


def _ranks(scores: np.ndarray, relevant: np.ndarray) -> np.ndarray:
  ranks = []
  for row, one_hot in zip(scores, relevant, strict=True):
    target = row[one_hot.argmax()]
    ranks.append(sum(row > target) + (sum(row == target) - 1) / 2)
  return np.array(ranks)


def test_ndcg_is_scikit_learns():
  scores, relevant = _lists(0, ties=False)
  rank = _ranks(scores, relevant)
  for k in _KS:
    oracle = sklearn.metrics.ndcg_score(relevant, scores, k=k)
    assert metrics.means(rank, (k,))[f'ndcg@{k}'] == pytest.approx(oracle)


def test_hit_rate_is_scikit_learns_top_k_accuracy():
  scores, relevant = _lists(1, ties=False)
  rank = _ranks(scores, relevant)
  for k in _KS:
    oracle = sklearn.metrics.top_k_accuracy_score(
      relevant.argmax(axis=1), scores, k=k, labels=np.arange(21)
    )
    assert metrics.means(rank, (k,))[f'hr@{k}'] == pytest.approx(oracle)


def test_map_is_scikit_learns_average_precision():
  scores, relevant = _lists(2, ties=False)
  oracle = np.mean(list(map(sklearn.metrics.average_precision_score, relevant, scores)))
  value = metrics.means(_ranks(scores, relevant), (21,))['map@21']
  assert value == pytest.approx(oracle)


def test_all_metrics_are_those_of_the_cut_list():
  scores, relevant = _lists(3, ties=False)
  found = metrics.per_row(_ranks(scores, relevant), _KS)
  for row in range(len(scores)):
    best_first = relevant[row][np.argsort(-scores[row])]
    for k in _KS:
      hits = best_first[:k]
      precision = np.cumsum(hits) / np.arange(1, k + 1)
      first = hits.argmax() if hits.any() else np.inf
      assert found[f'hr@{k}'][row] == hits.any()
      assert found[f'recall@{k}'][row] == hits.sum() / best_first.sum()
      assert found[f'mrr@{k}'][row] == pytest.approx(1 / (first + 1))
      assert found[f'map@{k}'][row] == pytest.approx((precision * hits).sum())
      gain = (hits / np.log2(np.arange(2, k + 2))).sum()
      assert found[f'ndcg@{k}'][row] == pytest.approx(gain)


def test_values_by_hand():
  rank = np.array([0.0, 1.0, 2.5, 9.5, 10.0])
  values = metrics.per_row(rank, (10,))
  np.testing.assert_array_equal(values['hr@10'], [1, 1, 1, 1, 0])
  np.testing.assert_allclose(values['mrr@10'], [1, 1 / 2, 1 / 3.5, 1 / 10.5, 0])
  np.testing.assert_allclose(values['ndcg@10'][:2], [1, 1 / np.log2(3)])


@given(st.lists(st.integers(0, 50), min_size=2, max_size=30))
def test_gini_is_the_mean_difference_over_twice_the_mean(counts):
  counts = np.array(counts)
  value = metrics.gini(counts)
  if counts.sum() == 0:
    assert value == 0
    return
  items = len(counts)
  difference = np.abs(counts[:, None] - counts).sum() / (items * (items - 1))
  assert value == pytest.approx(difference / (2 * counts.mean()), abs=1e-12)


def test_gini_of_even_and_of_single_lists():
  assert metrics.gini(np.full(9, 4)) == pytest.approx(0)
  assert metrics.gini(np.array([0, 0, 7, 0])) == pytest.approx(1)


def test_coverage_and_novelty_by_hand():
  recommended = np.array([3, 0, 1, 0])
  assert metrics.coverage(recommended) == 0.5
  # Of 8 users 4 have item 0 and one has item 2: 1 and 3 bits, three to one.
  count = np.array([4, 2, 1, 0])
  assert metrics.novelty(recommended, count, num_users=8) == pytest.approx(1.5)


@pytest.mark.parametrize('ties', [False, True])
def test_keras_metrics_follow_loops_over_rows(ties):
  scores, relevant = _lists(4, ties)
  weight = np.random.default_rng(4).random(len(scores)).astype(np.float32)
  rank = _ranks(scores, relevant)
  for k in _KS:
    expected = {
      keras_metrics.HitRate: [float(r < k) for r in rank],
      keras_metrics.NDCG: [1 / np.log2(r + 2) if r < k else 0 for r in rank],
      keras_metrics.MRR: [1 / (r + 1) if r < k else 0 for r in rank],
    }
    for kind, values in expected.items():
      metric = kind(k)
      for start in range(0, len(scores), 64):
        part = slice(start, start + 64)
        metric.update_state(relevant[part], scores[part])
      assert float(metric.result()) == pytest.approx(np.mean(values), rel=1e-5)
      metric.reset_state()
      metric.update_state(relevant, scores, sample_weight=weight)
      weighted = np.average(values, weights=weight)
      assert float(metric.result()) == pytest.approx(weighted, rel=1e-5)


def test_keras_ranks_are_those_of_the_evaluator():
  scores, relevant = _lists(5, ties=True)
  relevant[:] = 0
  relevant[:, 0] = 1
  np.testing.assert_array_equal(
    keras_metrics.ranks(relevant, scores), ranking.sampled_ranks(scores)
  )


def test_keras_metrics_in_compile():
  scores, relevant = _lists(6, ties=False)
  model = keras.Sequential([keras.layers.Input((21,)), keras.layers.Identity()])
  model.compile(loss='mse', metrics=[keras_metrics.HitRate(3), keras_metrics.NDCG(3)])
  found = model.evaluate(scores, relevant, verbose=0, return_dict=True)
  rank = _ranks(scores, relevant)
  expected = metrics.means(rank, (3,))
  assert found['hr@3'] == pytest.approx(expected['hr@3'], rel=1e-5)
  assert found['ndcg@3'] == pytest.approx(expected['ndcg@3'], rel=1e-5)


def test_keras_metrics_serialize():
  metric = keras_metrics.NDCG(7, name='mine')
  copy = keras.saving.deserialize_keras_object(
    keras.saving.serialize_keras_object(metric)
  )
  assert (copy.k, copy.name) == (7, 'mine')
  with pytest.raises(ValueError, match='k=0'):
    keras_metrics.MRR(0)


def test_a_diverged_model_hits_nothing():
  _, relevant = _lists(7, ties=False)
  metric = keras_metrics.HitRate(10)
  metric.update_state(relevant, np.full(relevant.shape, np.nan, np.float32))
  assert float(metric.result()) == 0
