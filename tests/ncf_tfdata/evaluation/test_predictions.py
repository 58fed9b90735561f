"""Lists of other systems: put together, counted, and judged as a loop judges them."""

import math

import numpy as np
import pytest
import toy_dataset
from hypothesis import given
from hypothesis import strategies as st

from ncf_tfdata.data import records
from ncf_tfdata.evaluation import metrics, predictions, ranking

_NUM_ITEMS = 40
_KS = (1, 5, 10, 20)


@pytest.fixture(scope='module')
def items():
  return toy_dataset.tastes(num_users=60, num_items=_NUM_ITEMS)


@pytest.fixture(scope='module')
def dataset(items, tmp_path_factory):
  directory = tmp_path_factory.mktemp('predictions')
  return toy_dataset.write(directory, items, num_items=_NUM_ITEMS)


def _rows(seed: int, users: int = 60) -> list[tuple[int, int, float]]:
  """User, item, score: lists of 0 to 30 items, with ties, repeats and seen items."""
  generator = np.random.default_rng(seed)
  return [
    (user, int(item), float(generator.integers(0, 12)))
    for user in range(users)
    for item in generator.integers(0, _NUM_ITEMS, generator.integers(0, 31))
  ]


def _lists(rows):
  user, item, score = (np.array(column) for column in zip(*rows, strict=True))
  lists, _ = predictions.lists_of(user, item, score, None, 60)
  return lists


def _best(rows) -> dict[int, dict[int, float]]:
  """The best score of each item in each user's list, by a loop."""
  best: dict[int, dict[int, float]] = {}
  for user, item, score in rows:
    scores = best.setdefault(user, {})
    scores[item] = max(scores.get(item, -math.inf), score)
  return best


def _metrics_of_lists(rows, items) -> dict[str, float]:
  """HR, NDCG and MRR on the last item of each user, from the lists alone."""
  best = _best(rows)
  sums = dict.fromkeys(
    (f'{name}@{k}' for name in ('hr', 'ndcg', 'mrr') for k in _KS), 0
  )
  for user, taken in enumerate(items):
    *seen, positive = taken.tolist()
    scores = {i: s for i, s in best.get(user, {}).items() if i not in seen}
    if positive not in scores:
      continue
    mine = scores.pop(positive)
    place = sum(s > mine for s in scores.values())
    place += sum(s == mine for s in scores.values()) / 2
    for k in _KS:
      if place < k:
        sums[f'hr@{k}'] += 1
        sums[f'ndcg@{k}'] += 1 / math.log2(place + 2)
        sums[f'mrr@{k}'] += 1 / (place + 1)
  return {name: total / len(items) for name, total in sums.items()}


@pytest.mark.parametrize('seed', range(4))
def test_lists_are_judged_as_a_loop_over_them_judges(dataset, items, seed):
  rows = _rows(seed)
  scorer = predictions.ListScorer(_lists(rows), _NUM_ITEMS)
  ranks = ranking.rank_split(scorer, dataset, 'test', _KS)
  found = metrics.means(ranks.full, _KS)
  expected = _metrics_of_lists(rows, items)
  assert 0 < expected['hr@20'] < 1
  assert {name: found[name] for name in expected} == pytest.approx(expected)


def test_the_lists_of_a_model_have_the_metrics_of_the_model(dataset):
  """Scores of the whole catalogue are the system, in both rankings."""

  class Model:
    def score_all(self, batch):
      item = np.arange(_NUM_ITEMS)
      return ((batch.user[:, None] * 7 + item * item * 3) % 11).astype(np.float32)

  ranks = ranking.rank_split(Model(), dataset, 'test', _KS)
  user, item = np.divmod(np.arange(60 * _NUM_ITEMS), _NUM_ITEMS)
  lists = _lists(list(zip(user, item, (user * 7 + item * item * 3) % 11, strict=True)))
  assert predictions.fit(lists, dataset, 'test', _KS).rankings == ('sampled', 'full')
  scorer = predictions.ListScorer(lists, _NUM_ITEMS)
  found = ranking.rank_split(scorer, dataset, 'test', _KS)
  np.testing.assert_array_equal(found.full, ranks.full)
  np.testing.assert_array_equal(found.sampled, ranks.sampled)
  np.testing.assert_array_equal(found.recommended, ranks.recommended)


def test_a_short_list_earns_nothing_from_its_end(dataset, items):
  # One unseen item each, never the held-out one: half of the ties would be a hit@20.
  rows = []
  for user, taken in enumerate(items):
    free = np.setdiff1d(np.arange(_NUM_ITEMS), taken)
    rows.append((user, int(free[0]), 1.0))
  scorer = predictions.ListScorer(_lists(rows), _NUM_ITEMS)
  ranks = ranking.rank_split(scorer, dataset, 'test', (10, _NUM_ITEMS))
  found = metrics.means(ranks.full, (10, _NUM_ITEMS))
  assert not any(found.values())


def _places(lists, user: int) -> list[list[int]]:
  """A user's items, those of the same level together, best first."""
  _, place = lists.of(np.array([user]))
  levels = np.unique(lists.level[place])[::-1]
  return [
    sorted(lists.item[place][lists.level[place] == level].tolist()) for level in levels
  ]


@given(
  st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 5), st.integers(0, 3)), min_size=1
  )
)
def test_rows_in_any_order_become_lists(rows):
  user, item, score = (np.array(column) for column in zip(*rows, strict=True))
  lists, repeated = predictions.lists_of(user, item, score, None, 4)
  best = _best(rows)
  assert repeated == len(rows) - sum(map(len, best.values()))
  for each in range(4):
    scores = best.get(each, {})
    expected = [
      sorted(i for i in scores if scores[i] == level)
      for level in sorted(set(scores.values()), reverse=True)
    ]
    assert _places(lists, each) == expected


def test_without_scores_ranks_count_and_without_ranks_the_order():
  user, item = np.array([1, 0, 1, 1]), np.array([7, 7, 8, 9])
  by_order, _ = predictions.lists_of(user, item, None, None, 2)
  assert _places(by_order, 1) == [[7], [8], [9]]
  rank = np.array([3.0, 1.0, 1.0, 2.0])
  by_rank, _ = predictions.lists_of(user, item, None, rank, 2)
  assert _places(by_rank, 1) == [[8], [9], [7]]
  # Equal scores are ties, whatever ranks a system gave them.
  score = np.array([1.0, 9.0, 5.0, 5.0])
  by_score, _ = predictions.lists_of(user, item, score, rank, 2)
  assert _places(by_score, 1) == [[8, 9], [7]]


def test_scores_that_fall_where_ranks_say_better_are_refused():
  user, item = np.array([0, 0, 1]), np.array([7, 8, 9])
  distance, rank = np.array([0.1, 0.7, 0.0]), np.array([1.0, 2.0, 1.0])
  with pytest.raises(ValueError, match='of 1 users: a higher score is better'):
    predictions.lists_of(user, item, distance, rank, 2)


def test_scores_that_float32_cannot_tell_apart_are():
  score = 1e9 + np.array([0.0, 1.0, 0.25])
  lists, _ = predictions.lists_of(np.zeros(3, int), np.arange(3), score, None, 1)
  assert _places(lists, 0) == [[1], [2], [0]]


def test_what_does_not_fit_is_counted(dataset, items):
  rows = [row for row in _rows(1) if row[0] != 5]
  found = predictions.fit(_lists(rows), dataset, 'test', _KS)
  best = _best(rows)
  unseen = {
    user: set(best.get(user, {})) - set(taken[:-1].tolist())
    for user, taken in enumerate(items)
  }
  listed = [user for user in unseen if user in best]
  assert found.held_out == found.users == 60
  assert found.largest_k == 20
  assert found.without_list == 60 - len(listed) > 0
  assert found.short == sum(len(unseen[user]) < 20 for user in listed) > 0
  assert found.seen == sum(len(best[user]) - len(unseen[user]) for user in listed) > 0
  assert found.listed == sum(
    taken[-1] in best.get(user, {}) for user, taken in enumerate(items)
  )
  asked = {
    user: {positive, *negatives}
    for batch in records.evaluation_batches(dataset, 'test', 7)
    for user, positive, negatives in zip(
      batch.user.tolist(),
      batch.positive.tolist(),
      batch.negatives.tolist(),
      strict=True,
    )
  }
  held = sum(len(unseen[user] & asked[user]) for user in asked)
  assert found.candidates == pytest.approx(held / (60 * 16))
  assert found.beyond == sum(map(len, unseen.values())) - held
  assert found.rankings == ('full',)


def test_scores_of_the_candidates_alone_are_judged_among_them_alone(dataset):
  rows = [
    (user, item, (user * 3 + item) % 17)
    for batch in records.evaluation_batches(dataset, 'test', 1000)
    for user, *of_user in zip(
      batch.user.tolist(),
      batch.positive.tolist(),
      batch.negatives.tolist(),
      strict=True,
    )
    for item in (of_user[0], *of_user[1])
  ]
  found = predictions.fit(_lists(rows), dataset, 'test', _KS)
  assert found.rankings == ('sampled',)
  # And a part of them by nothing.
  part = predictions.fit(_lists(rows[::2]), dataset, 'test', _KS)
  assert part.rankings == ()


def test_only_what_there_is_to_say_is_said():
  counts = {
    'rows': 1200, 'lists': 60, 'unknown_users': 0, 'unknown_items': 0, 'repeated': 0,
    'seen': 0, 'held_out': 60, 'without_list': 0, 'largest_k': 20, 'short': 0,
    'listed': 1, 'candidates': 1.0, 'beyond': 9,
  }  # fmt: skip
  assert list(predictions.describe(counts)) == [
    '1,200 rows; 60 users of the dataset have a list.'
  ]
  more = counts | {
    'unknown_users': 3, 'unknown_user_rows': 4000, 'repeated': 2, 'short': 60,
    'candidates': 0.031, 'beyond': 0, 'listed': 0,
  }  # fmt: skip
  assert list(predictions.describe(counts | {'users': 60})) == [
    '1,200 rows; 60 users of the dataset have a list.'
  ]
  several = '\n'.join(predictions.describe(counts | {'users': 7}))
  assert '60 held-out rows are of 7 users: a list serves all rows' in several
  said = '\n'.join(predictions.describe(more))
  assert '3 users, in 4,000 rows, are not in the dataset: ignored.' in said
  assert 'lists shorter than 20' in said
  assert 'No list holds its held-out item.' in said
  assert '3.1 % of the sampled candidates' in said
  assert 'no full ranking' in said
