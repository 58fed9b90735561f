"""Ranks of held-out items, by scorers whose order is obvious."""

import numpy as np
import pytest
import toy_dataset
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_np

from ncf_tfdata.data import records
from ncf_tfdata.errors import UserError
from ncf_tfdata.evaluation import ranking, shared_scores, top_lists

_NUM_ITEMS = 40


class Fixed:
  """Scores by a function of (user, item) ids."""

  def __init__(self, function, num_items=_NUM_ITEMS):
    self._function, self._items = function, np.arange(num_items)

  def score_candidates(self, batch, items):
    return self._function(batch.user[:, None], items).astype(np.float32)

  def score_all(self, batch):
    return self.score_candidates(batch, np.tile(self._items, (len(batch.user), 1)))


def _mixed(user, item):
  """Scores with many ties."""
  return (user * 7 + item * item * 3) % 11


@pytest.fixture(scope='module')
def items():
  return toy_dataset.tastes(num_items=_NUM_ITEMS)


@pytest.fixture(scope='module')
def dataset(items, tmp_path_factory):
  return toy_dataset.write(
    tmp_path_factory.mktemp('ranking'), items, num_items=_NUM_ITEMS
  )


def _full(scorer, dataset, max_rows=1000, ks=(5, 10)):
  batches = records.evaluation_batches(dataset, 'test', max_rows)
  return ranking.rank_full(scorer, batches, dataset.num_items, ks)


def _loop_rank(target, others):
  return sum(o > target for o in others) + sum(o == target for o in others) / 2


def test_a_constant_scorer_scores_like_chance(dataset, items):
  ranks = _full(Fixed(lambda user, item: 0 * user + 0 * item), dataset)
  np.testing.assert_array_equal(ranks.sampled, dataset.negatives('test') / 2)
  candidates = _NUM_ITEMS - len(items[0]) + 1
  np.testing.assert_array_equal(ranks.full, (candidates - 1) / 2)


@pytest.mark.parametrize('max_rows', [1, 13, 1000])
def test_ranks_are_those_of_loops(dataset, items, max_rows):
  ranks = _full(Fixed(_mixed), dataset, max_rows)
  drawn = {
    user: row
    for batch in records.evaluation_batches(dataset, 'test', 1000)
    for user, row in zip(batch.user, batch.negatives, strict=True)
  }
  assert sorted(ranks.user) == list(range(len(items)))
  for user, positive, sampled, full in zip(
    ranks.user, ranks.positive, ranks.sampled, ranks.full, strict=True
  ):
    assert positive == items[user][-1]
    target = _mixed(user, positive)
    assert sampled == _loop_rank(target, [_mixed(user, i) for i in drawn[user]])
    others = set(range(_NUM_ITEMS)) - set(items[user])
    assert full == _loop_rank(target, [_mixed(user, i) for i in others])


def test_sampled_ranks_do_not_need_the_catalogue(dataset):
  batches = records.evaluation_batches(dataset, 'test', 1000)
  alone = ranking.rank_sampled(Fixed(_mixed), batches)
  both = _full(Fixed(_mixed), dataset)
  np.testing.assert_array_equal(alone.sampled, both.sampled)
  np.testing.assert_array_equal(alone.candidates, both.candidates)
  assert alone.full is None


def test_what_is_recommended_leaves_out_the_history(dataset, items):
  ranks = _full(Fixed(lambda user, item: -item + 0 * user), dataset)
  expected = np.zeros((2, _NUM_ITEMS), np.int64)
  for taken in items:
    free = [item for item in range(_NUM_ITEMS) if item not in taken[:-1]]
    expected[0, free[:5]] += 1
    expected[1, free[:10]] += 1
  np.testing.assert_array_equal(ranks.recommended, expected)


def test_scores_that_are_no_numbers_are_refused(dataset):
  diverged = Fixed(lambda user, item: np.where(item == 3, np.nan, 0.0 * user))
  with pytest.raises(UserError, match='diverged'):
    _full(diverged, dataset)


def test_the_scorers_memory_is_its_own(dataset):
  class Shared(Fixed):
    table = np.zeros((1000, _NUM_ITEMS), np.float32)

    def score_all(self, batch):
      return self.table[: len(batch.user)]

  _full(Shared(_mixed), dataset)
  assert not Shared.table.any()


def test_a_positive_that_is_also_in_the_history_is_ranked():
  batch = records.EvaluationBatch(
    user=np.array([0]),
    positive=np.array([2]),
    negatives=np.array([[4]]),
    history=np.array([2, 3]),
    history_length=np.array([2]),
  )
  scores = np.array([[5.0, 1.0, 3.0, 9.0, 3.0]])
  np.testing.assert_array_equal(ranking.full_ranks(scores, batch), [1.5])


def _top(row, k):
  order = sorted(range(len(row)), key=lambda item: (-row[item], item))[:k]
  return [item if np.isfinite(row[item]) else -1 for item in order]


@given(
  st_np.arrays(
    np.float32,
    st.tuples(st.integers(1, 6), st.integers(1, 12)),
    elements=st.sampled_from([-np.inf, -1.0, 0.0, 1.0, 2.5]),
  ),
  st.integers(1, 15),
)
def test_top_items_are_the_first_of_the_sorted_list(scores, k):
  found = top_lists.top_items(scores, k)
  assert found.tolist() == [_top(row, k) for row in scores]


@pytest.mark.parametrize('values', [3, 200, 10**6])
@pytest.mark.parametrize('k', [1, 20])
def test_top_items_of_a_large_catalogue_are_those_of_a_sort(values, k):
  generator = np.random.default_rng(values)
  scores = generator.integers(values, size=(30, 2803)).astype(np.float32)
  scores[generator.random(scores.shape) < 0.2] = -np.inf
  scores[3, 5:] = -np.inf
  scores[4] = 7
  scores[5], scores[5, ::400] = 0, 1
  found = top_lists.top_items(scores, k)
  assert found.tolist() == [_top(row, k) for row in scores]


class Shared(Fixed):
  """One row of scores, whoever asks: in memory once, or copied."""

  copied = False

  def score_all(self, batch):
    row = self._function(0, self._items).astype(np.float32)
    rows = np.broadcast_to(row, (len(batch.user), _NUM_ITEMS))
    return rows.copy() if self.copied else rows


class Copied(Shared):
  copied = True


@pytest.mark.parametrize('scores', [_mixed, lambda user, item: item % 3 + 0 * user])
@pytest.mark.parametrize('ks', [(5, 10), (_NUM_ITEMS,)])
def test_scores_that_all_users_share_are_ranked_as_any(dataset, scores, ks):
  one, each = (_full(kind(scores), dataset, ks=ks) for kind in (Shared, Copied))
  for name in ('sampled', 'full', 'recommended', 'candidates'):
    np.testing.assert_array_equal(getattr(one, name), getattr(each, name))


def test_shared_scores_of_what_is_repeated_or_held_out_in_a_history():
  batch = records.EvaluationBatch(
    user=np.array([0, 1, 2]),
    positive=np.array([2, 0, 1]),
    negatives=np.array([[4], [4], [4]]),
    history=np.array([2, 3, 3, 0, 1, 2, 3, 4]),
    history_length=np.array([3, 5, 0]),
  )
  row = np.array([5.0, 1.0, 3.0, 9.0, 3.0], np.float32)
  shared = shared_scores.SharedScores(row)
  each = np.tile(row, (3, 1))
  np.testing.assert_array_equal(
    shared.full_ranks(batch), ranking.full_ranks(each, batch)
  )
  for k in (1, 3, 9):
    np.testing.assert_array_equal(
      shared.top_items(batch, k), top_lists.top_items(each, k)
    )


def test_checksums_tell_sets_of_negatives_apart(dataset):
  batch = next(records.evaluation_batches(dataset, 'test', 1000))
  base = ranking.rank_sampled(Fixed(_mixed), [batch]).candidates
  shuffled = batch._replace(negatives=batch.negatives[:, ::-1])
  other = batch.negatives.copy()
  other[0, 0] = batch.positive[0]
  changed = batch._replace(negatives=other)
  np.testing.assert_array_equal(
    ranking.rank_sampled(Fixed(_mixed), [shuffled]).candidates, base
  )
  differs = ranking.rank_sampled(Fixed(_mixed), [changed]).candidates != base
  assert differs[0]
  assert not differs[1:].any()


def test_batches_shrink_as_the_catalogue_grows():
  assert ranking.batch_rows(10**3) > ranking.batch_rows(10**6) >= 1
  assert ranking.batch_rows(10**12) == 1


class Omitting(Fixed):
  """Ranks items below 30 alone."""

  omits_items = True

  def score_candidates(self, batch, items):
    scores = super().score_candidates(batch, items)
    return np.where(items < 30, scores, -np.inf)


def test_what_is_not_ranked_is_a_miss_at_every_cut_off(dataset, items):
  ranks = _full(Omitting(_mixed), dataset, ks=(5, _NUM_ITEMS))
  every = _full(Fixed(_mixed), dataset)
  omitted = ranks.positive >= 30
  assert 0 < np.count_nonzero(omitted) < len(omitted)
  assert np.isposinf(ranks.full[omitted]).all()
  assert np.isposinf(ranks.sampled[omitted]).all()
  # The others are ranked among fewer.
  assert (ranks.full[~omitted] <= every.full[~omitted]).all()
  for user, positive, full in zip(
    ranks.user[~omitted], ranks.positive[~omitted], ranks.full[~omitted], strict=True
  ):
    others = set(range(30)) - set(items[user])
    target = _mixed(user, positive)
    assert full == _loop_rank(target, [_mixed(user, i) for i in others])
  assert ranks.recommended[1, 30:].sum() == 0
  assert ranks.recommended[1].sum() == sum(
    len(set(range(30)) - set(taken[:-1])) for taken in items
  )


def test_only_who_says_so_may_omit_items(dataset):
  with pytest.raises(UserError, match='diverged'):
    _full(Fixed(lambda user, item: np.where(item < 30, 1.0, -np.inf)), dataset)
