"""Which keys two vocabularies share."""

import hypothesis
import numpy as np
from hypothesis import strategies as st

from ncf_tfdata import vocabulary

_KEYS = st.lists(st.sampled_from(['', 'a', 'b', 'ключ', '7', 'x\ty']), max_size=8)


@hypothesis.given(_KEYS, _KEYS)
def test_keys_match_that_stand_once_in_each(here, there):
  found = vocabulary.matches(here, there)
  expected = [
    (place, there.index(key))
    for place, key in enumerate(here)
    if key and here.count(key) == there.count(key) == 1
  ]
  assert list(zip(*(each.tolist() for each in found), strict=True)) == expected
  assert {each.dtype for each in found} == {np.dtype(np.int64)}


_TEXTS = st.text(st.characters(exclude_categories=['Cs']), max_size=6)


@st.composite
def _vocabularies(draw):
  keys = draw(st.lists(_TEXTS | st.just(''), max_size=8))
  columns = draw(st.integers(1, 3))
  numbers = draw(
    st.lists(
      st.lists(st.integers(0, 2**63 - 1), min_size=len(keys), max_size=len(keys)),
      min_size=columns,
      max_size=columns,
    )
  )
  return keys, numbers


@hypothesis.given(_vocabularies(), st.booleans())
@hypothesis.example((['\ufeffa', '\ufeff', '"', '\\', '\0', 'NULL'], [[1] * 6]), False)
def test_a_vocabulary_is_read_as_it_was_written(made, kept_ids):
  keys, numbers = made
  kept_ids &= len(numbers) > 1
  lines = zip(map(vocabulary.escape_key, keys), *numbers, strict=True)
  text = ''.join('\t'.join(map(str, line)) + '\n' for line in lines)
  read = vocabulary.decode(text.encode(), kept_ids)
  assert (read.keys, len(read)) == (tuple(keys), len(keys))
  if keys:
    counts, *others = numbers
    rows = others.pop() if kept_ids else None
    assert read.counts.tolist() == counts
    for found, expected in (
      (read.rows, rows),
      (read.first_times, others[0] if others else None),
    ):
      assert (None if found is None else found.tolist()) == expected


@hypothesis.given(_KEYS.map(lambda keys: [*dict.fromkeys(keys), '']), _KEYS)
def test_places_are_ids_of_keys_and_nobody_is_forgotten(keys, asked):
  known = vocabulary.Vocabulary.of(keys, np.zeros(len(keys), np.int64))
  ids = known.ids()
  assert '' not in ids
  assert known.places(asked).tolist() == [
    ids.get(key, vocabulary.UNKNOWN) for key in asked
  ]
  assert known.known().tolist() == list(ids.values())
