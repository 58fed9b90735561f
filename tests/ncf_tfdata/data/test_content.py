"""Words, codes and likeness of items, and what is filled in for those unseen."""

import dataclasses

import numpy as np
import pytest
import scipy.sparse as sp
import toy_features
from hypothesis import given
from hypothesis import strategies as st

from ncf_tfdata.data import content, feature_codes, words
from ncf_tfdata.features.records import Features, Texts, Vectors


def test_words_are_the_same_whatever_their_case_width_or_place():
  assert words.words('The  THE Ｍatrix: part 2, the "naïve"'.encode()) == [
    'the',
    'matrix',
    'part',
    '2',
    'naïve',
  ]
  assert words.words(b'') == []
  assert words.words(b'\xff ok') == ['ok']


def test_places_of_words_stay_what_they_are_on_every_machine():
  # A trained table is read by them. As `b2sum -l 64` has them, the first byte last.
  assert [words.place(word, 16384) for word in ('matrix', 'the', 'naïve')] == [
    3101,
    6750,
    12990,
  ]


@given(st.lists(st.text(max_size=20), max_size=8))
def test_hashed_words_are_those_of_each_text(texts):
  encoded = [text.encode() for text in texts]
  values, lengths = words.hashed(encoded, 50)
  expected = [[words.place(w, 50) for w in words.words(text)] for text in encoded]
  assert lengths.tolist() == [len(found) for found in expected]
  assert values.tolist() == [place for found in expected for place in found]


def _features() -> Features:
  known = np.array([True, True, False, True])
  values = np.array([[1, 2], [3, 2], [0, 0], [2, 2]], np.float32)
  return Features(
    4,
    (
      toy_features.categories('kind', [['a', 'b'], ['a'], ['only here'], []]),
      Texts('title', [b'red fox', b'red hen', b'', b'fox']),
      toy_features.numbers('price', [1.0, 3.0, np.nan, 1e9]),
      toy_features.numbers('same', [5.0, 5.0, 5.0, 5.0]),
      Vectors('embedding', values, known),
    ),
  )


def test_codes_hold_what_several_items_share_and_what_is_known():
  features = _features()
  coder = feature_codes.Coder(features, 1000)
  assert [(shape.name, shape.bag, shape.size) for shape in coder.shapes] == [
    ('kind', True, 1),
    ('title', True, 2),
    ('embedding', False, 2),
    ('', False, 4),
  ]
  assert coder.keys['kind'] == ('a',)
  places = sorted(words.place(word, 1000) for word in ('red', 'fox'))
  assert coder.keys['title'] == tuple(map(str, places))
  codes = coder.codes(features)
  kind, title = codes.bags['kind'], codes.bags['title']
  assert np.diff(kind.start).tolist() == [1, 1, 0, 0]
  assert np.diff(title.start).tolist() == [2, 1, 0, 1]
  assert title.values[title.start[3]] == places.index(words.place('fox', 1000))
  np.testing.assert_allclose(codes.dense['embedding'].sum(axis=0), 0, atol=1e-6)
  assert np.square(codes.dense['embedding'][[0, 1, 3]]).mean() == pytest.approx(1)
  assert codes.dense['embedding'][2].tolist() == [0, 0]
  price, known, same, _ = codes.dense[''].T
  assert known.tolist() == [1, 1, 0, 1]
  assert price[2] == 0
  assert np.abs(price).max() <= 5
  assert same.tolist() == [0, 0, 0, 0]


def test_an_item_that_comes_later_is_read_as_the_datasets_were():
  features = _features()
  coder = feature_codes.Coder(features, 1000)
  one = Features(
    1,
    tuple(
      type(column)(**{**vars(column), 'values': column.values[:1], **more})
      for column, more in zip(
        features.columns[1:],
        ({}, {}, {}, {'known': features.columns[-1].known[:1]}),
        strict=True,
      )
    ),
  )
  codes, expected = coder.codes(one), coder.codes(features)
  for name, dense in codes.dense.items():
    np.testing.assert_array_equal(dense, expected.dense[name][:1])
  title = expected.bags['title']
  first = title.values[title.start[0] : title.start[1]]
  np.testing.assert_array_equal(codes.bags['title'].values, first)


def _later(features: Features) -> Features:
  """Three items that would move every mean, quantile and frequency, and a new word."""
  kind, title, price, same, embedding = features.columns
  three = np.ones(3, np.float32)
  changed = (
    dataclasses.replace(kind, values=np.int32([0, 0, 0]), lengths=np.int32([1, 1, 1])),
    dataclasses.replace(title, values=[b'red hen', b'hen', b'yak hen']),
    dataclasses.replace(price, values=three * 700),
    dataclasses.replace(same, values=three * 9),
    dataclasses.replace(
      embedding, values=np.full((3, 2), 8, np.float32), known=three > 0
    ),
  )
  return Features(3, changed)


def test_items_that_came_later_change_nothing_of_the_others():
  features = _features()
  more = features.extended(_later(features))
  assert (more.size, more.later, more.fitted().later) == (7, 3, 0)
  coder, expected = (feature_codes.Coder(each, 1000) for each in (more, features))
  assert (coder.shapes, coder.keys) == (expected.shapes, expected.keys)
  codes, own = coder.codes(more), expected.codes(features)
  for name, bag in own.bags.items():
    assert codes.bags[name].start[:5].tolist() == bag.start.tolist()
    assert codes.bags[name].values[: len(bag.values)].tolist() == bag.values.tolist()
  assert np.diff(codes.bags['kind'].start)[4:].tolist() == [1, 1, 1]
  for name, dense in own.dense.items():
    np.testing.assert_array_equal(codes.dense[name][:4], dense)
  # Not even their last bits.
  vectors, found = (content.vectors(each).toarray() for each in (features, more))
  width = vectors.shape[1] + 1  # The new word has a column.
  assert found.shape == (7, width)
  np.testing.assert_array_equal(found[:4] @ found[:4].T, vectors @ vectors.T)


def test_what_came_later_is_spoken_for_by_items_of_the_dataset():
  features, count = _like()
  later = Features(
    2,
    (
      dataclasses.replace(
        features.columns[0],
        values=features.columns[0].values[[3, 5]],
        lengths=np.array([1, 1], np.int32),
      ),
    ),
  )
  shares = content.like(features.extended(later), np.append(count, [0, 0])).toarray()
  own = content.like(features, count).toarray()
  np.testing.assert_array_equal(shares[:7, :7], own)
  np.testing.assert_array_equal(shares[7:, :7], own[[3, 5]])
  assert not shares[:, 7:].any()


def test_a_bag_holds_no_more_than_bounds_a_step():
  text = ' '.join(f'w{number}' for number in range(100)).encode()
  features = Features(2, (Texts('title', [text, text]),))
  codes = feature_codes.Coder(features, 10_000).codes(features)
  assert codes.bags['title'].width == 32


def test_likeness_is_the_cosine_of_tf_idf():
  features = Features(
    4,
    (
      toy_features.categories('kind', [['a', 'b'], ['a'], ['c'], ['a', 'c']]),
      Texts('title', [b'red fox', b'red hen', b'', b'fox']),
    ),
  )
  found = content.vectors(features).toarray()
  idf = np.log(4 / np.array([3, 2, 1]))  # a, c, b, in the order of the vocabulary
  kinds = np.array([[1, 0, 1], [1, 0, 0], [0, 1, 0], [1, 1, 0]]) * idf
  # red, fox, hen
  titles = np.array([[1, 1, 0], [1, 0, 1], [0, 0, 0], [0, 1, 0]]) * np.log([2, 2, 4])
  parts = []
  for part in (kinds, titles):
    length = np.linalg.norm(part, axis=1, keepdims=True)
    parts.append(part / np.where(length, length, 1))
  expected = np.concatenate(parts, axis=1)
  expected /= np.linalg.norm(expected, axis=1, keepdims=True)
  np.testing.assert_allclose(found @ found.T, expected @ expected.T, atol=1e-6)


def test_near_numbers_are_alike_and_far_ones_are_not():
  years = np.concatenate([np.arange(1900.0, 2000.0), [np.nan]])
  features = Features(101, (toy_features.numbers('year', years.tolist()),))
  found = content.vectors(features)
  cosines = (found @ found.T).toarray()
  assert cosines[50, 51] > cosines[50, 55] > cosines[50, 70] == 0
  assert not cosines[100].any()


def _like() -> tuple[Features, np.ndarray]:
  kinds = [['a'], ['a'], ['b'], ['a'], ['z'], ['b'], ['b']]
  features = Features(7, (toy_features.categories('kind', kinds),))
  return features, np.array([4, 1, 3, 0, 0, 0, 2])


def test_what_nobody_had_is_spoken_for_by_its_like():
  features, count = _like()
  shares = content.like(features, count).toarray()
  expected = np.zeros((7, 7))
  expected[3, [0, 1]] = 0.5
  expected[5, [2, 6]] = 0.5
  np.testing.assert_allclose(shares, expected)  # Nothing is like item 4.
  assert content.like(features, count, 1).toarray()[3].tolist() == [1, *[0] * 6]


def test_filled_weights_are_the_means_of_those_of_the_like():
  features, count = _like()
  shares = content.like(features, count)
  generator = np.random.default_rng(0)
  had = count > 0
  weights = generator.normal(size=(7, 7)) * had * had[:, None]
  np.fill_diagonal(weights, 0)
  found = content.filled(sp.csr_matrix(weights), shares).toarray()
  np.testing.assert_allclose(found[np.ix_(had, had)], weights[np.ix_(had, had)])
  np.testing.assert_allclose(found[had, 3], weights[had][:, [0, 1]].mean(axis=1))
  np.testing.assert_allclose(found[5, had], weights[[2, 6]][:, had].mean(axis=0))
  between = weights[np.ix_([2, 6], [0, 1])].mean()
  assert found[5, 3] == pytest.approx(between)
  assert found[3, 3] == found[5, 5] == 0
  assert not found[4].any()
  dense = content.filled_dense(weights.copy(), shares)
  np.testing.assert_allclose(dense, found, atol=1e-12)
