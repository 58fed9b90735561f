"""Filters in the protocol's order, and dense ids without gaps."""

import collections

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_pipelines import catalogue, keys
from beam_pipelines.ratings import Ratings
from beam_pipelines.rejects import Rejects

ITEMS = [str(number) for number in range(12)] + ['ключ', 'b']
# Ranges of blocks of (item, rating).
LOGS = st.lists(
  st.lists(
    st.lists(st.tuples(st.sampled_from(ITEMS), st.integers(1, 5)), max_size=9),
    max_size=3,
  ),
  min_size=1,
  max_size=4,
)


def block(rows, rated=True) -> Ratings:
  items = pa.array([item for item, _ in rows], pa.string()).dictionary_encode()
  rating = np.array([float(rating) for _, rating in rows]) if rated else None
  return Ratings(0, items, items, rating, None, Rejects.none())


def provisional(log, num_groups, min_item_count, min_rating):
  """Each range's rows as provisional ids, as the pipeline's steps work them out.

  Returns:
    Ids by range, the kept keys in order of their ids, and the numbering.
  """
  tallies = collections.defaultdict(list)
  for number, blocks in enumerate(log):
    tally = catalogue.RangeTally(num_groups, min_rating)
    for rows in blocks:
      tally.add(block(rows))
    for group, tallied in tally.groups():
      tallies[group].append((number, tallied))
  ids, sizes, kept = collections.defaultdict(dict), [], {}
  for group, tallied in tallies.items():
    selection = catalogue.select([tally for _, tally in tallied], min_item_count)
    sizes.append((group, len(selection.keys)))
    kept[group] = selection.keys.to_pylist()
    for (number, _), local in zip(tallied, selection.ids, strict=True):
      ids[number][group] = local
  numbering = catalogue.Numbering(sizes)
  found = []
  for number, blocks in enumerate(log):
    items = catalogue.RangeItems(num_groups)
    rows = []
    for part in blocks:
      places = items.number(block(part).item)
      for place in places:
        group = items.group[place]
        local = ids[number][group][items.place[place]]
        rows.append(local + numbering.start(group) if local >= 0 else local)
    found.append([int(row) for row in rows])
  return found, [key for group in sorted(kept) for key in kept[group]], numbering


@given(LOGS, st.integers(1, 5), st.integers(0, 6), st.integers(1, 6))
def test_filters_and_ids_are_those_of_the_oracle(
  log, num_groups, min_item_count, min_rating
):
  rows = [[row for part in blocks for row in part] for blocks in log]
  read = collections.Counter(item for part in rows for item, _ in part)
  rated = {item for part in rows for item, rating in part if rating >= min_rating}
  found, kept, numbering = provisional(log, num_groups, min_item_count, min_rating)
  for part, ids in zip(rows, found, strict=True):
    for (item, _), number in zip(part, ids, strict=True):
      if read[item] < min_item_count:  # counted before the ratings are looked at
        assert number == catalogue.RARE
      elif item not in rated:
        assert number == catalogue.UNRATED
      else:
        assert kept[number] == item
  assert set(kept) == {item for item in rated if read[item] >= min_item_count}
  assert len(set(kept)) == len(kept) == numbering.size
  groups = keys.groups(pa.array(kept, pa.string()), num_groups).tolist()
  assert groups == sorted(groups)
  assert numbering.group(np.arange(len(kept))).tolist() == groups
  if num_groups == 1:
    assert kept == [kept[i] for i in keys.natural_order(pa.array(kept, pa.string()))]


@pytest.mark.slow
@given(LOGS, st.integers(1, 5))
def test_ids_do_not_depend_on_how_the_input_is_cut(log, num_groups):
  whole = [[[row for blocks in log for part in blocks for row in part]]]
  found, kept, _ = provisional(log, num_groups, 2, 1)
  (expected,), also_kept, _ = provisional(whole, num_groups, 2, 1)
  assert kept == also_kept
  assert [number for part in found for number in part] == expected


def test_the_least_rating_keeps_what_equals_it():
  assert catalogue.high_enough(block([('1', 3), ('1', 4)]), 4).tolist() == [False, True]
  assert catalogue.high_enough(block([('1', 3)], rated=False), 4).tolist() == [True]


@given(
  st.lists(st.integers(0, 6), min_size=1, max_size=6),
  st.sets(st.integers(0, 35)),
  st.randoms(use_true_random=False),
)
def test_vanished_items_leave_no_gap(sizes, gone, generator):
  pairs = list(enumerate(sizes))
  numbering = catalogue.Numbering(generator.sample(pairs, len(pairs)))
  assert numbering.size == sum(sizes)
  assert [numbering.start(g) for g, _ in pairs] == [sum(sizes[:g]) for g, _ in pairs]
  gone = sorted(number for number in gone if number < numbering.size)
  left = [number for number in range(numbering.size) if number not in gone]
  arrays = [np.array([number]) for number in generator.sample(gone, len(gone))]
  found = catalogue.Catalogue(numbering, arrays)
  assert found.size == len(left)
  assert found.final(np.array(left, np.int32)).tolist() == list(range(len(left)))
  present = found.present(np.arange(numbering.size))
  assert np.flatnonzero(present).tolist() == left


def test_an_empty_numbering():
  assert catalogue.Numbering([]).size == 0
  assert catalogue.Catalogue(catalogue.Numbering([]), []).size == 0
  assert catalogue.Numbering([(3, 0), (1, 2)]).start(3) == 2


@pytest.mark.parametrize('num_groups', [1, 3])
def test_items_are_numbered_the_same_at_each_reading(num_groups):
  def read():
    items = catalogue.RangeItems(num_groups)
    for rows in ([('b', 1), ('a', 1), ('b', 1)], [('c', 1), ('a', 1)], []):
      items.number(block(rows).item)
    return items.keys.to_pylist(), items.group.tolist(), items.place.tolist()

  names, groups, places = read()
  assert names == ['b', 'a', 'c']
  assert (names, groups, places) == read()
  for group in set(groups):
    mine = [place for g, place in zip(groups, places, strict=True) if g == group]
    assert mine == list(range(len(mine)))


@given(st.lists(st.integers(0, 50), min_size=1), st.sampled_from([51, 10_000]))
def test_what_occurs_is_counted_in_catalogues_of_any_size(ids, size):
  found, count = catalogue.occurring(np.array(ids, np.int32), size)
  expected = collections.Counter(ids)
  assert found.tolist() == sorted(expected)
  assert count.tolist() == [expected[each] for each in sorted(expected)]


@given(st.data())
def test_groups_are_dealt_whole_and_in_order(data):
  sizes = data.draw(st.lists(st.integers(0, 5), min_size=1, max_size=6))
  numbering = catalogue.Numbering(list(enumerate(sizes)))
  known = st.integers(0, numbering.size - 1) if numbering.size else st.nothing()
  ids = np.array(data.draw(st.lists(known)), np.int64)
  dealt = list(numbering.deal(ids))
  for group, mine in dealt:
    start = numbering.start(group)
    assert ((ids[mine] >= start) & (ids[mine] < start + sizes[group])).all()
    assert (np.diff(mine) > 0).all()
  groups, places = [group for group, _ in dealt], [mine for _, mine in dealt]
  assert groups == sorted(set(groups))
  assert sorted(np.concatenate([[], *places])) == list(range(len(ids)))
