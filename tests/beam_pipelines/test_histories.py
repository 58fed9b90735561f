"""A user's rows in order, thinned and split, as plain sorted lists have them."""

import dataclasses
import itertools
import random

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_pipelines import histories, ratings, splits
from beam_pipelines.histories import FIRST, INPUT, KEEP, LAST, RANDOM
from beam_pipelines.rejects import Rejects

RULES = histories.Rules(
  duplicates=FIRST, tie_order=INPUT, min_user_count=1, max_user_history=1000, seed=0
)
USERS = ['2', '10', 'ключ', 'b', '-1']
# (user, item, timestamp) in input order, with ties and repeats aplenty.
LOGS = st.lists(
  st.tuples(
    st.sampled_from(USERS),
    st.integers(0, 9),
    st.sampled_from([-5, 999_999_999, 1_000_000_000, 2**60]),
  ),
  min_size=1,
  max_size=40,
)


def chunks(log, cuts=(), timestamps=True) -> list[histories.Chunk]:
  """The log as chunks between some cuts."""
  bounds = [0, *sorted(cuts), len(log)]
  result = []
  for number, (start, end) in enumerate(itertools.pairwise(bounds)):
    part = log[start:end]
    if not part:
      continue
    names = sorted(
      {user for user, _, _ in part}, key=lambda name: (number * 7, name[::-1])
    )
    result.append(
      histories.Chunk(
        order=(number // 3, number),
        users=pa.array(names, pa.string()),
        user=np.array([names.index(user) for user, _, _ in part], np.int32),
        item=np.array([item for _, item, _ in part], np.int32),
        timestamp=np.array([t for _, _, t in part]) if timestamps else None,
      )
    )
  return result


def gather(log, rules=RULES, **options) -> dict[str, list[int]]:
  return by_user(histories.gather(chunks(log, **options), rules))


def by_user(users: histories.Users) -> dict[str, list[int]]:
  parts = np.split(users.item, np.cumsum(users.length))[:-1]
  names = users.keys.to_pylist()
  return {name: part.tolist() for name, part in zip(names, parts, strict=True)}


def oracle(log, rules, timestamps=True):
  """Each user's kept items and last gaps, and the counts of what is left out."""
  kept, gaps, counts = (
    {},
    [],
    dict.fromkeys(('duplicates', 'filtered_users', 'dropped_history'), 0),
  )
  for name in ['-1', '2', '10', 'b', 'ключ']:  # natural order
    mine = [(item, stamp) for user, item, stamp in log if user == name]
    if timestamps:
      mine.sort(key=lambda pair: pair[1])
    items, stamps = [item for item, _ in mine], [stamp for _, stamp in mine]
    if rules.duplicates == FIRST:
      stamps = [stamps[items.index(item)] for item in dict.fromkeys(items)]
      items = list(dict.fromkeys(items))
    elif rules.duplicates == LAST:
      last = dict(mine)
      items = list(dict.fromkeys(items[::-1]))[::-1]
      stamps = [last[item] for item in items]
    counts['duplicates'] += len(mine) - len(items)
    if len(items) < rules.min_user_count:
      counts['filtered_users'] += len(items)
      continue
    counts['dropped_history'] += max(0, len(items) - rules.max_user_history)
    if items:
      kept[name] = items[-rules.max_user_history :]
      stamps = stamps[-rules.max_user_history :]
      found = [later - earlier for earlier, later in itertools.pairwise(stamps)]
      gaps.append([0, 0, *found][:-3:-1])
  return kept, gaps, counts


@given(
  LOGS,
  st.builds(
    histories.Rules,
    duplicates=st.sampled_from([FIRST, LAST, KEEP]),
    tie_order=st.just(INPUT),
    min_user_count=st.integers(1, 6),
    max_user_history=st.integers(1, 8),
    seed=st.just(0),
  ),
  st.booleans(),
)
def test_order_and_rules_are_those_of_the_oracle(log, rules, timestamps):
  users = histories.gather(chunks(log, timestamps=timestamps), rules)
  kept, gaps, counts = oracle(log, rules, timestamps)
  assert by_user(users) == kept
  assert list(by_user(users)) == list(kept)
  assert users.counts == counts
  assert (None if users.gap is None else users.gap.tolist()) == (
    gaps if timestamps and log else None
  )
  assert len(users.item) + sum(users.counts.values()) == len(log)
  assert (users.length >= 1).all()


@given(LOGS, st.sampled_from([INPUT, RANDOM]), st.data())
def test_chunks_may_be_cut_and_arrive_in_any_way(log, tie_order, data):
  rules = dataclasses.replace(RULES, tie_order=tie_order, duplicates=KEEP)
  cuts = data.draw(st.lists(st.integers(0, len(log)), max_size=5))
  pieces = data.draw(st.permutations(chunks(log, cuts)))
  assert by_user(histories.gather(list(pieces), rules)) == gather(log, rules)


@given(LOGS, st.sampled_from([FIRST, LAST, KEEP]), st.randoms(use_true_random=False))
def test_random_ties_do_not_depend_on_the_order_of_the_file(log, duplicates, generator):
  rules = dataclasses.replace(RULES, tie_order=RANDOM, duplicates=duplicates)
  shuffled = generator.sample(log, len(log))
  found = gather(log, rules)
  assert gather(shuffled, rules) == found
  if duplicates == KEEP:  # time still rules
    for user, items in found.items():
      mine = sorted((stamp, item) for name, item, stamp in log if name == user)
      left = list(items)
      for stamp in sorted({stamp for stamp, _ in mine}):
        tied = sorted(item for when, item in mine if when == stamp)
        assert sorted(left[: len(tied)]) == tied
        left = left[len(tied) :]


def test_random_ties_are_drawn_by_seed_and_user():
  log = [(user, item, 7) for user in USERS for item in range(50)]
  rules = dataclasses.replace(RULES, tie_order=RANDOM)
  found = gather(log, rules)
  assert gather(log)['b'] == list(range(50))
  assert found['b'] != list(range(50))
  assert found['b'] != found['2']
  assert gather(log, dataclasses.replace(rules, seed=1)) != found
  # Every item is as likely to come last as another.
  last = [
    gather(log, dataclasses.replace(rules, seed=seed))[user][-1] < 25
    for seed in range(40)
    for user in USERS
  ]
  assert 70 < sum(last) < 130


def test_nine_digits_come_before_ten():
  log = [('2', 1, 1_000_000_000), ('2', 2, 978_300_760)]
  assert gather(log) == {'2': [2, 1]}


def test_a_log_without_timestamps_stays_in_file_order_even_with_random_ties():
  log = [('2', item, 0) for item in random.Random(0).sample(range(50), 50)]
  rules = dataclasses.replace(RULES, tie_order=RANDOM)
  assert gather(log, rules, timestamps=False) == {'2': [item for _, item, _ in log]}


def test_no_chunks_are_no_users():
  users = histories.gather([], RULES)
  assert (len(users.keys), len(users.length), len(users.item)) == (0, 0, 0)


@pytest.mark.parametrize('holdout', [1, 2])
def test_rows_held_out(holdout):
  held = splits.rows_held_out(np.array([1, 2, 3, 100]), holdout)
  assert held.tolist() == [0, 0, holdout, holdout]


@given(
  st.lists(
    st.tuples(
      st.sampled_from(['a', 'b', 'c']),
      st.sampled_from([-92 * 10**17 + 1, -1, 0, 255, 2**40, 92 * 10**17 - 1]),
    ),
    min_size=1,
    max_size=30,
  ),
  st.integers(1, 4),
)
def test_rows_dealt_out_come_together_in_time_order(log, num_groups):
  block = ratings.Ratings(
    0,
    pa.array([user for user, _ in log]).dictionary_encode(),
    pa.array(['x'] * len(log)).dictionary_encode(),
    None,
    np.array([stamp for _, stamp in log]),
    Rejects.none(),
  )
  item = np.arange(len(log), dtype=np.int32)
  groups: dict[int, list[histories.Chunk]] = {}
  for group, chunk in histories.deal(block, 0, item, np.arange(len(log)), num_groups):
    groups.setdefault(group, []).append(chunk)
  found = {}
  for dealt in groups.values():
    found |= by_user(histories.gather(dealt, RULES))
  expected = {}
  for row in sorted(range(len(log)), key=lambda row: (log[row][1], row)):
    expected.setdefault(log[row][0], []).append(row)
  assert found == expected


def test_a_shuffled_row_takes_few_bytes():
  rows = 1000
  block = ratings.Ratings(
    0,
    pa.array([str(row // 100) for row in range(rows)]).dictionary_encode(),
    pa.array(['x'] * rows).dictionary_encode(),
    None,
    10**9 + np.arange(rows) * 3600,
    Rejects.none(),
  )
  item = np.arange(rows, dtype=np.int32)
  ((_, chunk),) = histories.deal(block, 0, item, np.arange(rows), 1)
  size = chunk.user.nbytes + chunk.item.nbytes + chunk.timestamp.nbytes
  assert size <= 9 * rows
