"""Baselines that know items by what they are, against plain loops."""

import numpy as np
import pytest
import toy_batch
import toy_dataset
import toy_features

import ncf_tfdata as ncf
from ncf_tfdata.data import content
from ncf_tfdata.errors import UserError
from ncf_tfdata.evaluation import baselines, candidates, ranking
from ncf_tfdata.features.records import Features

_KINDS = [['a'], ['a', 'b'], ['b'], ['c'], [], ['c', 'a']]
_FEATURES = Features(6, (toy_features.categories('kind', _KINDS),))
_USER = np.array([0, 0, 1, 1, 1])
_ITEM = np.array([0, 2, 0, 1, 2])


def _fitted(spec):
  return baselines.create(spec)(_USER, _ITEM, 2, 6, features=_FEATURES)


@pytest.mark.parametrize('last', [None, 2])
def test_content_knn_sums_the_cosines_with_the_history(last):
  scorer = _fitted('content-knn' + (f':last={last}' if last else ''))
  histories = [[0, 2, 3, 1], [5], [], [4]]
  vectors = content.vectors(_FEATURES).toarray()
  expected = [
    sum((vectors @ vectors[item] for item in items[-(last or 9) :]), np.zeros(6))
    for items in histories
  ]
  found = scorer.score_all(toy_batch.of(histories))
  np.testing.assert_allclose(found, expected, atol=1e-6)
  items = np.array([[1, 5]] * 4)
  found = scorer.score_candidates(toy_batch.of(histories), items)
  np.testing.assert_allclose(found, np.array(expected)[:, [1, 5]], atol=1e-6)


def test_category_popularity_is_the_mean_rate_of_an_items_categories():
  rate = {'a': 3 / 2, 'b': 3 / 2, 'c': 0.0}  # rows of its items / items that have any
  mean = 5 / 3
  expected = [
    np.mean([rate[kind] for kind in kinds]) if kinds else mean for kinds in _KINDS
  ]
  found = _fitted('category-popularity').score_all(toy_batch.of([[], [1]]))
  np.testing.assert_allclose(found, [expected, expected], rtol=1e-6)


def test_they_need_features(tmp_path):
  dataset = toy_dataset.write(tmp_path, toy_dataset.tastes(), num_items=40)
  for name in sorted(baselines.OF_FEATURES):
    with pytest.raises(UserError, match=rf'{name} needs features.*--item_features=FIL'):
      ncf.evaluate(dataset, baselines=[name])


def test_what_nothing_was_learnt_of_is_a_miss_but_for_who_knows_what_it_is(tmp_path):
  class Scorer:
    reads_history = False

    def score_candidates(self, batch, items):
      return np.arange(items.shape[1], 0, -1.0) + np.zeros(items.shape)

  class Knowing(Scorer):
    knows_cold_items = True

  dataset = toy_dataset.write(tmp_path, toy_dataset.tastes(), num_items=40)
  cold = np.arange(40) == 3
  for scorer, rank in ((Scorer(), np.inf), (Knowing(), 0.0)):
    found = ranking.rank_split(
      scorer, dataset, 'test', [10], False, candidates=candidates.Candidates(cold)
    )
    assert (found.positive == 3).any()
    assert (found.sampled == np.where(found.positive == 3, rank, 0)).all()
