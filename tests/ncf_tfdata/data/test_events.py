"""Entries of histories against Python's own powers of two."""

import numpy as np
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from ncf_tfdata.data import events, events_in_graph

# Rows of (item, gap before it).
_ROWS = st.lists(
  st.lists(st.tuples(st.integers(0, 2**31 - 1), st.integers(0, 2**50)), max_size=5),
  min_size=1,
  max_size=4,
)


def _columns(rows):
  item = np.array([item for row in rows for item, _ in row], np.int64)
  length = np.array([len(row) for row in rows])
  gaps = [[gap for _, gap in row] for row in rows]
  time = [np.cumsum(row, dtype=np.int64) for row in gaps]
  return item, length, np.concatenate(time).astype(np.int64)


def _codes(rows) -> list[int]:
  """1 + floor(log2(1 + gap)) is how many bits 1 + gap has; 0 for the first."""
  return [
    (1 + gap).bit_length() if place else 0
    for row in rows
    for place, (_, gap) in enumerate(row)
  ]


@given(_ROWS)
def test_entries_hold_the_item_and_the_power_of_two_of_the_gap(rows):
  item, length, time = _columns(rows)
  entries = events.of_times(item, length, time)
  np.testing.assert_array_equal(events.items(entries), item)
  found, codes = events_in_graph.split(tf.constant(entries))
  np.testing.assert_array_equal(found, item)
  np.testing.assert_array_equal(codes, _codes(rows))
  assert found.dtype == codes.dtype == tf.int32
  np.testing.assert_array_equal(events_in_graph.items(tf.constant(entries)), item)


@given(_ROWS)
def test_a_graph_finds_the_same_codes(rows):
  _, length, time = _columns(rows)
  first = np.zeros(len(time), bool)
  first[(np.cumsum(length) - length)[length > 0]] = True
  found = events_in_graph.codes(tf.constant(time), tf.constant(first))
  np.testing.assert_array_equal(found, _codes(rows))


def test_the_longest_gap_has_the_last_code():
  time = np.array([0, 2**63 - 1])
  entries = events.of_times(np.array([5, 6]), np.array([2]), time)
  _, codes = events_in_graph.split(tf.constant(entries))
  assert codes.numpy().tolist() == [0, events.CODES - 1]
  codes = events_in_graph.codes(tf.constant(time), tf.constant([True, False]))
  assert codes.numpy().tolist() == [0, events.CODES - 1]


def test_without_times_items_are_entries():
  item = np.array([3, 1, 3])
  np.testing.assert_array_equal(events.of_times(item, np.array([3]), None), item)
  found, codes = events_in_graph.split(tf.constant(item))
  np.testing.assert_array_equal(found, item)
  assert not codes.numpy().any()
