"""Blocks of columns as the bytes of a TFRecord file, without TensorFlow.

A record is a serialised `tf.train.Example` whose features are packed lists of int64 or
float32, or lists of bytes, encoded in numpy for a whole file at once.
"""

import itertools
import struct
from typing import TypeAlias

import google_crc32c
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ncf_tfdata import dataset

_LENGTH_DELIMITED = 2  # protobuf wire type
_BYTES, _FLOATS, _INTEGERS = 1, 2, 3  # fields of a Feature

# Whole numbers in [0, 2**63), float32, or an array of strings.
Values: TypeAlias = np.ndarray | pa.Array


def cut(rows: np.ndarray, entries: np.ndarray) -> np.ndarray:
  """Cuts a sequence of m things that must stay whole into blocks: as many as fit.

  Args:
    rows: int64 [m + 1], the rows before each thing (all of one user), and of all.
    entries: int64 [m + 1], the same for the entries of the rows' lists.

  Returns:
    int64 [blocks + 1]: the first thing of each block, and m.
  """
  cuts, last = [0], len(rows) - 1
  while cuts[-1] < last:
    start = cuts[-1]
    fit = min(
      np.searchsorted(rows, rows[start] + dataset.BLOCK_ROWS, side='right'),
      np.searchsorted(entries, entries[start] + dataset.BLOCK_HISTORY, side='right'),
    )
    cuts.append(max(int(fit) - 1, start + 1))
  return np.array(cuts, np.int64)


def encode(
  columns: dict[str, tuple[Values, np.ndarray]],
) -> tuple[bytes, int]:
  """Encodes columns, cut into blocks, as the bytes of a TFRecord file.

  Args:
    columns: By name, `Values` [n], and at which of them each block begins, and the
      end: int64 [blocks + 1].

  Returns:
    The bytes, and the number of records.
  """
  # A map's entries in name order, so that equal rows give equal bytes.
  features = [_features(name, *columns[name]) for name in sorted(columns)]
  records = [_record(b''.join(block)) for block in zip(*features, strict=True)]
  return b''.join(records), len(records)


def _varints(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Base-128 varints (protobuf encoding) of values in [0, 2**63).

  Returns:
    The bytes, uint8, and where each value ends: int64 [n].
  """
  highest = int(values.max(initial=0))
  width = max(-(-highest.bit_length() // 7), 1)
  left: np.ndarray = values.astype(np.uint32 if highest < 1 << 32 else np.uint64)
  content = np.empty((len(left), width), np.uint8)
  used = np.ones(content.shape, bool)
  size = np.ones(len(left), np.uint8)
  content[:, 0] = left & 0x7F
  for byte in range(1, width):
    left = left >> 7
    goes_on = used[:, byte] = left > 0
    content[:, byte] = left & 0x7F
    content[:, byte - 1] |= goes_on.view(np.uint8) << 7
    size += goes_on
  return content[used], np.cumsum(size, dtype=np.int64)


def _field(number: int, content: bytes) -> bytes:
  """A length-delimited protobuf field."""
  return bytes([number << 3 | _LENGTH_DELIMITED]) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
  pieces = bytearray()
  while value > 0x7F:
    pieces.append(value & 0x7F | 0x80)
    value >>= 7
  pieces.append(value)
  return bytes(pieces)


def _features(name: str, values: Values, cuts: np.ndarray) -> list[bytes]:
  """One entry of `Features.feature` for each block: a list by its name."""
  if isinstance(values, pa.Array):
    kind, (content, ends) = _BYTES, _entries(values)
  elif values.dtype == np.float32:
    kind, content = _FLOATS, values.astype('<f4').tobytes()
    ends = np.arange(1, len(values) + 1) * 4
  else:
    kind, (varints, ends) = _INTEGERS, _varints(values)
    content = varints.tobytes()
  bounds = np.concatenate([[0], ends])[cuts]
  key = _field(1, name.encode())
  # Example.features > Features.feature > {key, Feature > list > value}; only lists of
  # numbers are packed, as one value.
  parts = [content[start:end] for start, end in itertools.pairwise(bounds)]
  lists = parts if kind == _BYTES else [_field(1, part) for part in parts]
  return [_field(1, key + _field(2, _field(kind, part))) for part in lists]


def _entries(texts: pa.Array) -> tuple[bytes, np.ndarray]:
  """The fields of a list of bytes, end to end, and where each ends: int64 [n]."""
  values = texts.cast(pa.large_binary())
  sizes, ends = _varints(pc.binary_length(values).to_numpy(zero_copy_only=False))
  begins = np.concatenate([[0], ends[:-1]]).astype(np.int64)
  # Before each text its field's tag, and its length.
  tags = np.insert(sizes, begins[: len(values)], 1 << 3 | _LENGTH_DELIMITED)
  offsets = np.concatenate([[0], ends + np.arange(1, len(values) + 1)]).astype(np.int64)
  buffers = [None, pa.py_buffer(offsets), pa.py_buffer(tags)]
  heads = pa.Array.from_buffers(pa.large_binary(), len(values), buffers)
  empty = pa.scalar(b'', pa.large_binary())
  entries = pc.binary_join_element_wise(heads, values, empty)
  size = np.cumsum(pc.binary_length(entries).to_numpy(zero_copy_only=False))
  total = int(size[-1]) if len(size) else 0
  return (entries.buffers()[2].slice(0, total).to_pybytes() if total else b''), size


def _record(features: bytes) -> bytes:
  """An Example, framed as TFRecord: length, its CRC, content, its CRC."""
  example = _field(1, features)
  length = struct.pack('<Q', len(example))
  return b''.join([length, _masked_crc(length), example, _masked_crc(example)])


def _masked_crc(content: bytes) -> bytes:
  crc = google_crc32c.value(content)
  return struct.pack('<I', ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)
