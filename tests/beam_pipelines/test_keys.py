"""Keys hash by their content alone, and order as a person would order them."""

import random
import re

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_pipelines import counter_rng, keys

KEYS = st.one_of(
  st.text(st.characters(exclude_categories=['Cs']), max_size=20),
  st.integers(-(10**20), 10**20).map(str),
)


def oracle(key: str) -> int:
  """The hash of one string, in words of eight bytes."""
  content = key.encode()
  state = counter_rng.mix(np.uint64(len(content)))
  for start in range(0, len(content), 8):
    word = int.from_bytes(content[start : start + 8], 'little')
    state = counter_rng.mix(state ^ np.uint64(word))
  return int(state)


@given(st.lists(KEYS, max_size=12), st.data())
def test_hash_depends_on_the_key_alone(texts, data):
  whole = pa.array(texts, pa.string())
  expected = [oracle(text) for text in texts]
  assert keys.hashes(whole).tolist() == expected
  start = data.draw(st.integers(0, len(texts)))
  end = data.draw(st.integers(start, len(texts)))
  # A slice has an offset, and its buffers hold what it does not.
  assert keys.hashes(whole[start:end]).tolist() == expected[start:end]
  order = data.draw(st.permutations(range(len(texts))))
  shuffled = pa.array([texts[i] for i in order], pa.string())
  assert keys.hashes(shuffled).tolist() == [expected[i] for i in order]


@given(
  st.lists(st.integers(0, 70), max_size=80),
  st.lists(st.integers(0, 3000), max_size=3),
  st.randoms(use_true_random=False),
)
def test_hash_of_keys_of_any_length(short, long, generator):
  texts = [generator.randbytes(length).hex()[:length] for length in short + long]
  generator.shuffle(texts)
  expected = [oracle(text) for text in texts]
  assert keys.hashes(pa.array(texts, pa.string())).tolist() == expected


@pytest.mark.parametrize(
  'lengths',
  [[1_000_000], [10] * 50_000 + [1_000_000], range(1000), [4000] * 100, [0] * 9],
)
def test_the_work_of_hashing_is_that_of_the_bytes(monkeypatch, lengths):
  mixed = []
  mix, chain = counter_rng.mix, counter_rng.chain
  monkeypatch.setattr(
    counter_rng, 'mix', lambda values: mixed.append(len(values)) or mix(values)
  )
  monkeypatch.setattr(
    counter_rng,
    'chain',
    lambda state, content: mixed.append(len(content) / 8) or chain(state, content),
  )
  texts = pa.array(['x' * length for length in lengths])
  assert len(keys.hashes(texts)) == len(texts)
  words = sum(-(-length // 8) for length in lengths)
  assert sum(mixed) <= len(texts) + words
  # Each call of numpy has enough to do.
  assert len(mixed) <= 1 + 32 + words / 32


@given(st.binary(max_size=50), st.integers(0, 2**64 - 1))
def test_a_chain_is_one_mix_after_the_other(content, state):
  expected = np.array([state], np.uint64)
  for start in range(0, len(content), 8):
    word = np.uint64(int.from_bytes(content[start : start + 8], 'little'))
    expected = counter_rng.mix(expected ^ word)
  assert counter_rng.chain(state, content) == expected[0]


def test_a_chain_longer_than_a_part_is_whole():
  content = random.Random(0).randbytes(200_001)
  head = counter_rng.chain(7, content[:80_000])
  assert counter_rng.chain(7, content) == counter_rng.chain(head, content[80_000:])


def test_hashes_of_similar_keys_spread_evenly():
  names = pa.array([f'user-{i}' for i in range(20_000)])
  assert len(set(keys.hashes(names).tolist())) == 20_000
  found = np.bincount(keys.groups(names, 16), minlength=16)
  # 16 groups of 1,250; the standard deviation of a group's size is 34.
  assert abs(found - 1250).max() < 5 * 34


@given(st.lists(KEYS, max_size=12), st.integers(1, 1000))
def test_groups_are_within_bounds(texts, num_groups):
  found = keys.groups(pa.array(texts, pa.string()), num_groups)
  assert found.dtype == np.int64
  assert found.tolist() == [oracle(text) % num_groups for text in texts]


@given(st.lists(KEYS, unique=True, max_size=20))
def test_natural_order(texts):
  def place(text):
    if re.fullmatch('0|-?[1-9][0-9]{0,17}', text):
      return (0, int(text), b'')
    return (1, 0, text.encode())

  order = keys.natural_order(pa.array(texts, pa.string()))
  assert [texts[i] for i in order] == sorted(texts, key=place)


def test_ten_comes_after_two_and_numbers_before_text():
  expected = [
    '-5',
    '0',
    '2',
    '10',
    '100',
    '010',
    '1.5',
    'B',
    'a',
    'b10',
    'b2',
    'é',
    'ключ',
  ]
  shuffled = random.Random(0).sample(expected, len(expected))
  order = keys.natural_order(pa.array(shuffled))
  assert [shuffled[i] for i in order] == expected


def test_groups_grow_with_the_log_and_then_in_number():
  mib = 1 << 20
  sizes = [0, 100 * mib, 512 * mib, 1024 * mib, 1536 * mib, 2400 * mib, 24_000 * mib]
  groups = [keys.num_groups(size) for size in sizes]
  assert groups == [8, 13, 64, 64, 64, 100, 1000]
