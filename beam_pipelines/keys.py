"""Original ids: any UTF-8 string, hashed and ordered without a global table."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from beam_pipelines import counter_rng

_WORD = 8  # bytes hashed at a time
_FEW = 32  # keys, of which each word costs numpy as much as a loop does
# Text a group of users or of items. Ranges have a message for each group, which costs
# where both are many; and of 24 MiB about 10 are shuffled, below the 16 of a group.
_GROUP_BYTES, _LARGE_GROUP_BYTES = 8 << 20, 24 << 20
MIN_GROUPS, _MANY_GROUPS = 8, 64
# Whole numbers as a program would print them, which an int64 holds for certain.
_INTEGER = r'^(0|-?[1-9][0-9]{0,17})$'


def hashes(keys: pa.Array) -> np.ndarray:
  """Hashes strings, the same on every machine, in time linear in their bytes.

  A hash starts from the key's length and takes in eight bytes after the other.

  Args:
    keys: String array [n] without nulls.

  Returns:
    uint64 [n].
  """
  _, offsets, data = keys.buffers()
  offsets = np.frombuffer(offsets, np.int32)[keys.offset : keys.offset + len(keys) + 1]
  starts, lengths = offsets[:-1].astype(np.int64), np.diff(offsets).astype(np.int64)
  content = np.frombuffer(data or b'', np.uint8)
  content = np.concatenate([content, np.zeros(_WORD, np.uint8)])
  # The eight bytes that begin at each byte.
  words = np.ndarray(len(content) - _WORD + 1, '<u8', content, strides=(1,))
  result = counter_rng.mix(lengths.astype(np.uint64))
  active, done = np.flatnonzero(lengths), 0
  while len(active) > _FEW:
    left = np.minimum(lengths[active] - done, _WORD).astype(np.uint64)
    beyond = (np.uint64(_WORD) - left) * np.uint64(8)  # bits of the next key
    piece = words[starts[active] + done] << beyond >> beyond
    result[active] = counter_rng.mix(result[active] ^ piece)
    done += _WORD
    active = active[lengths[active] > done]
  for key in active:
    rest = content[starts[key] + done : starts[key] + lengths[key]]
    result[key] = counter_rng.chain(int(result[key]), rest.tobytes())
  return result


def num_groups(text_bytes: int) -> int:
  """Into how many groups the users, and the items, of a log go by default."""
  few, many = -(-text_bytes // _GROUP_BYTES), -(-text_bytes // _LARGE_GROUP_BYTES)
  return max(MIN_GROUPS, min(few, _MANY_GROUPS), many)


def groups(keys: pa.Array, count: int) -> np.ndarray:
  """Spreads strings over groups.

  Args:
    keys: String array [n] without nulls.
    count: How many groups there are.

  Returns:
    int64 [n], each in [0, count).
  """
  return (hashes(keys) % np.uint64(count)).astype(np.int64)


def natural_order(keys: pa.Array) -> np.ndarray:
  """Orders strings as a person would: whole numbers by value, then text by its bytes.

  Args:
    keys: String array [n] of distinct keys.

  Returns:
    int64 [n]: indices that sort the keys.
  """
  is_number = pc.match_substring_regex(keys, _INTEGER)
  numbers = pc.if_else(is_number, keys, '0').cast(pa.int64())
  table = pa.table({'text': pc.invert(is_number), 'number': numbers, 'key': keys})
  order = pc.sort_indices(
    table,
    sort_keys=[(name, 'ascending') for name in ('text', 'number', 'key')],
  )
  return order.to_numpy().astype(np.int64)
