"""Negatives are uniform over what a user did not take, and the same in any batch."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from beam_pipelines import counter_rng, negatives
from beam_pipelines.seen_items import SeenItems
from ncf_tfdata.dataset import TEST, VALIDATION

NUM_ITEMS = 40


def taken_items(histories, num_items=NUM_ITEMS) -> SeenItems:
  user = np.repeat(np.arange(len(histories)), [len(items) for items in histories])
  item = np.concatenate([np.zeros(0, int), *histories]).astype(int)
  return SeenItems(user, item, len(histories), num_items)


def training(histories, user_id, count=4, seed=0, num_items=NUM_ITEMS):
  """Negatives by user: a list of [rows, count]."""
  lengths = [len(items) for items in histories]
  drawn, _ = negatives.training(
    taken_items(histories, num_items),
    np.repeat(np.arange(len(histories)), lengths),
    np.array(user_id),
    count,
    seed,
  )
  assert drawn.dtype == np.int64
  return np.split(drawn, np.cumsum(lengths)[:-1])


def evaluation(histories, user_id, count=10, seed=0, split=TEST, num_items=NUM_ITEMS):
  return negatives.evaluation(
    taken_items(histories, num_items),
    np.arange(len(histories)),
    np.array(user_id),
    count,
    seed,
    split,
  )


HISTORIES = st.lists(
  st.lists(st.integers(0, NUM_ITEMS - 1), min_size=1, max_size=25),
  min_size=1,
  max_size=6,
)


@given(HISTORIES, st.integers(0, 3))
def test_train_negatives_were_never_taken(histories, count):
  for items, drawn in zip(
    histories, training(histories, range(len(histories)), count), strict=True
  ):
    assert drawn.shape == (len(items), count)
    assert not set(drawn.ravel().tolist()) & set(items)
    assert ((drawn >= 0) & (drawn < NUM_ITEMS)).all()


@given(HISTORIES, st.integers(0, 15))
def test_evaluation_negatives_are_distinct_and_were_never_taken(histories, count):
  for items, drawn in zip(
    histories, evaluation(histories, range(len(histories)), count).tolist(), strict=True
  ):
    assert len(set(drawn)) == count
    assert not set(drawn) & set(items)
    assert set(drawn) <= set(range(NUM_ITEMS))


@given(HISTORIES, st.integers(0, 2**40))
def test_draws_do_not_depend_on_who_is_in_the_batch(histories, first_id):
  ids = first_id + np.arange(len(histories))
  train, judged = training(histories, ids), evaluation(histories, ids)
  for place, items in enumerate(histories):
    assert (training([items], ids[[place]])[0] == train[place]).all()
    assert (evaluation([items], ids[[place]])[0] == judged[place]).all()
  backwards = evaluation(histories[::-1], ids[::-1])
  assert (backwards[::-1] == judged).all()


@given(HISTORIES, st.integers(0, 4))
def test_draws_made_again_are_counted(histories, count):
  lengths = [len(items) for items in histories]
  owner = np.repeat(np.arange(len(histories)), lengths)
  ids = np.arange(len(histories)) + 3
  drawn, redrawn = negatives.training(taken_items(histories), owner, ids, count, 0)
  expected = 0
  for place, items in enumerate(histories):
    for draw in range(len(items) * count):
      tries = 0
      while counter_rng.below(NUM_ITEMS, 0, 1, ids[place], draw, tries) in items:
        tries += 1
      expected += tries
  assert redrawn == expected
  assert drawn.shape == (len(owner), count)


@given(HISTORIES)
def test_evaluation_draws_depend_on_the_set_of_taken_items(histories):
  again = [items[::-1] + items for items in histories]
  ids = range(len(histories))
  assert (evaluation(again, ids) == evaluation(histories, ids)).all()


def test_seed_user_and_split_give_streams_of_their_own():
  histories = [[0, 1, 2]] * 2
  one = evaluation(histories, [5, 6])
  assert (one == evaluation(histories, [5, 6])).all()
  assert (one[0] != one[1]).any()
  assert (one != evaluation(histories, [5, 6], seed=1)).any()
  assert (one != evaluation(histories, [5, 6], split=VALIDATION)).any()
  train = training(histories, [5, 6])
  assert (train[0] != train[1]).any()
  assert (train[0] != training(histories, [5, 6], seed=1)[0]).any()


@pytest.mark.parametrize('num_taken', [0, 3, 15, 25, 29])
def test_evaluation_negatives_are_uniform(num_taken):
  # 25 of 40 are more than half: those users are drawn for in another way.
  histories = [list(range(num_taken))] * 4000
  drawn = evaluation(histories, range(4000), count=10, seed=7)
  counts = np.bincount(drawn.ravel(), minlength=NUM_ITEMS)
  assert not counts[:num_taken].any()
  # Draws without replacement vary less than the test supposes: it can only pass
  # too easily by that, so both tails are looked at after the variance is mended.
  room = NUM_ITEMS - num_taken
  statistic = stats.chisquare(counts[num_taken:]).statistic * (room - 1) / (room - 10)
  assert 1e-4 < stats.chi2.sf(statistic, room - 1) < 1 - 1e-4
  # Every place in a row is uniform too.
  if num_taken <= 15:
    for place in (0, 9):
      first = np.bincount(drawn[:, place], minlength=NUM_ITEMS)[num_taken:]
      assert stats.chisquare(first).pvalue > 1e-4


def test_train_negatives_are_uniform_with_replacement():
  histories = [list(range(10))] * 1000
  drawn = np.concatenate(training(histories, range(1000), seed=3))
  counts = np.bincount(drawn.ravel(), minlength=NUM_ITEMS)
  assert not counts[:10].any()
  assert stats.chisquare(counts[10:]).pvalue > 1e-4
  # Draws repeat within a row as often as chance has it: 1 - 30·29·28·27 / 30^4.
  repeats = np.mean([len(set(row)) < 4 for row in drawn.tolist()])
  assert repeats == pytest.approx(1 - 30 * 29 * 28 * 27 / 30**4, abs=0.02)


def test_a_user_with_one_item_left_gets_that():
  histories = [[item for item in range(NUM_ITEMS) if item != 17]]
  assert set(training(histories, [0])[0].ravel().tolist()) == {17}
  assert evaluation(histories, [0], count=1).tolist() == [[17]]


@pytest.mark.slow
def test_a_user_with_all_but_a_few_items_is_no_endless_loop():
  # Each try would hit one of the three with chance 3 / 200,000.
  size, left = 200_000, [7, 99_999, 199_999]
  history = np.setdiff1d(np.arange(size), left)
  drawn, redrawn = negatives.training(
    taken_items([history], size), np.zeros(len(history), int), np.array([5]), 1, 0
  )
  # One in a thousand hits before the 64th time.
  assert 63 * len(history) < redrawn <= 64 * len(history)
  counts = np.bincount(np.searchsorted(left, drawn.ravel()), minlength=3)
  assert set(np.unique(drawn)) == set(left)
  assert stats.chisquare(counts).pvalue > 1e-4


@given(
  st.lists(st.sets(st.integers(0, 9)), min_size=1, max_size=5),
  st.integers(0, 4),
  st.integers(0, 9),
)
def test_what_is_taken_is_what_was_given(histories, user, item):
  histories = [sorted(items) for items in histories]
  user %= len(histories)
  taken = taken_items(histories, num_items=10)
  found = taken.contain(np.array([user]), np.array([item])).tolist()
  assert found == [item in histories[user]]


def test_the_whole_catalogue_in_train_is_refused():
  with pytest.raises(ValueError, match=r'must leave each `user` an item.* all 3 items'):
    training([[0, 1, 2], [0, 1]], [0, 1], num_items=3)
  assert training([[0, 1, 2]], [0], count=0, num_items=3)[0].shape == (3, 0)
