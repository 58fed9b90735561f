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
