"""Draws by counter: what they are a function of, and what they can be."""

import hypothesis
import numpy as np
import pytest
import scipy.stats
import tensorflow as tf
from hypothesis import strategies as st

from ncf_tfdata.data import sampling
from ncf_tfdata.errors import UserError

_MASK = (1 << 64) - 1


def _splitmix64(state: int) -> int:
  """The generator's published form, in Python's own integers."""
  z = state & _MASK
  z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
  z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
  return z ^ (z >> 31)


def _bits(*counters: int) -> int:
  state = 0
  for counter in counters:
    state = _splitmix64(state + (counter + 1) * 0x9E3779B97F4A7C15)
  return state


def _draw(user, item, sampler, count=4, key=(0, 0)) -> np.ndarray:
  user, item = (tf.constant(column, tf.int64) for column in (user, item))
  drawn, has_negatives = sampling.draw_unseen(sampler, user, item, count, *key)
  assert has_negatives.numpy().all()
  return drawn.numpy()


@hypothesis.given(st.lists(st.integers(0, 2**62), min_size=1, max_size=5))
def test_bits_are_splitmix64_of_the_counters(counters):
  assert int(sampling.bits(*counters).numpy()) == _bits(*counters)


def test_bits_are_the_same_compiled_and_broadcast():
  rows = tf.range(5, dtype=tf.int64)
  plain = sampling.bits(7, rows[:, None], rows[None, :3]).numpy()
  compiled = tf.function(sampling.bits, jit_compile=True)(
    7, rows[:, None], rows[None, :3]
  ).numpy()
  assert plain.tolist() == [[_bits(7, i, j) for j in range(3)] for i in range(5)]
  assert plain.tolist() == compiled.tolist()


@pytest.mark.parametrize('num_items', [1, 7, 1000])
def test_uniform_draws_are_uniform(num_items):
  draws = sampling.Sampler(num_items).draw(sampling.bits(3, tf.range(50_000))).numpy()
  counts = np.bincount(draws, minlength=num_items)
  assert len(counts) == num_items
  if num_items > 1:
    assert scipy.stats.chisquare(counts).pvalue > 0.001


@pytest.mark.parametrize('exponent', [0.5, 1.0])
def test_popular_items_are_drawn_in_proportion(exponent):
  counts = np.array([100, 25, 4, 1, 0])
  sampler = sampling.Sampler(5, counts, exponent)
  expected = np.maximum(counts, 1) ** exponent
  expected = expected / expected.sum()
  np.testing.assert_allclose(np.exp(sampler.log_probability), expected, rtol=1e-5)
  drawn = np.bincount(
    sampler.draw(sampling.bits(5, tf.range(50_000))).numpy(), minlength=5
  )
  assert scipy.stats.chisquare(drawn, expected * 50_000).pvalue > 0.001


def test_an_exponent_that_overflows_is_refused():
  with pytest.raises(UserError, match='--popularity_exponent=200'):
    sampling.Sampler(2, np.array([1000, 1]), 200.0)


@st.composite
def _histories(draw):
  """Users whose rows are contiguous, none of whom has all of the 8 items."""
  users = draw(st.lists(st.integers(0, 50), unique=True, min_size=1, max_size=6))
  history = [
    draw(
      st.lists(st.integers(0, 7), min_size=1, max_size=12).filter(
        lambda items: len(set(items)) < 8
      )
    )
    for _ in users
  ]
  return users, history


@pytest.mark.slow
@hypothesis.given(_histories(), st.booleans())
@hypothesis.settings(max_examples=60)
def test_no_draw_is_an_item_of_its_user(histories, popular):
  users, history = histories
  counts = np.array([1000, 500, 1, 1, 1, 1, 1, 1]) if popular else None
  user = np.repeat(users, [len(items) for items in history])
  drawn = _draw(user, np.concatenate(history), sampling.Sampler(8, counts))
  for row, negatives in zip(user, drawn, strict=True):
    own = history[users.index(row)]
    assert not set(negatives.tolist()) & set(own)
    assert all(0 <= item < 8 for item in negatives)


def test_what_is_not_the_users_is_drawn_uniformly():
  own = np.array([0, 3, 4, 9, 9, 17])
  drawn = _draw(np.zeros(6), own, sampling.Sampler(20), count=5000)
  counts = np.bincount(drawn.ravel(), minlength=20)
  assert (counts[own] == 0).all()
  assert scipy.stats.chisquare(np.delete(counts, own)).pvalue > 0.001


def test_popular_draws_keep_their_proportions_among_what_is_not_the_users():
  counts = np.array([400, 100, 100, 50, 50])
  drawn = _draw(np.zeros(1), [0], sampling.Sampler(5, counts, 1.0), count=50_000)
  found = np.bincount(drawn.ravel(), minlength=5)
  assert found[0] == 0
  assert scipy.stats.chisquare(found[1:], counts[1:] / 300 * 50_000).pvalue > 0.001


def test_draws_depend_on_user_and_position_and_not_on_the_rows_beside_them():
  sampler = sampling.Sampler(100)
  user, item = np.repeat([5, 2, 9], [3, 4, 2]), np.arange(9)
  whole = _draw(user, item, sampler)
  parts = np.concatenate(
    [_draw(user[3:7], item[3:7], sampler), _draw(user[:3], item[:3], sampler)]
  )
  assert np.array_equal(parts, np.concatenate([whole[3:7], whole[:3]]))
  assert len(np.unique(whole, axis=0)) == len(whole)


def test_every_key_draws_anew():
  sampler, user, item = sampling.Sampler(1000), np.zeros(50), np.arange(50)
  draws = [_draw(user, item, sampler, key=key) for key in [(0, 0), (0, 1), (1, 0)]]
  again = _draw(user, item, sampler, key=(0, 1))
  assert np.array_equal(draws[1], again)
  for a, b in [(0, 1), (0, 2), (1, 2)]:
    assert (draws[a] == draws[b]).mean() < 0.02


@pytest.mark.parametrize('counts', [None, np.ones(5)])
def test_a_user_with_every_item_has_no_negatives_and_others_do(counts):
  # Users 1 and 8 have all five items, 1 has one twice; 2 and 9 have four.
  seen = {1: [4, 0, 1, 2, 2, 3], 2: [0, 1, 2, 4], 8: [0, 1, 2, 3, 4], 9: [0, 1, 2, 3]}
  user = np.repeat(list(seen), [len(items) for items in seen.values()])
  item = np.concatenate(list(seen.values()))
  drawn, has_negatives = sampling.draw_unseen(
    sampling.Sampler(5, counts), tf.constant(user), tf.constant(item), 3, 0, 0
  )
  assert has_negatives.numpy().tolist() == [one in (2, 9) for one in user]
  drawn = drawn.numpy()
  assert (drawn[user == 2] == 3).all()
  assert (drawn[user == 9] == 4).all()
  assert ((drawn >= 0) & (drawn < 5)).all()
