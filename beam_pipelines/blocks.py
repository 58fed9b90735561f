"""Blocks of columns as the bytes of a TFRecord file, without TensorFlow.

A record is a serialised `tf.train.Example` whose features are packed int64 lists,
encoded in numpy for a whole file at once.
"""

import itertools
import struct

import google_crc32c
import numpy as np

from ncf_tfdata import dataset

_LENGTH_DELIMITED = 2  # protobuf wire type


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
  columns: dict[str, tuple[np.ndarray, np.ndarray]],
) -> tuple[bytes, int]:
  """Encodes columns, cut into blocks, as the bytes of a TFRecord file.

  Args:
    columns: By name, whole numbers [n] in [0, 2**63), and at which of them each block
      begins, and the end: int64 [blocks + 1].

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
  values = values.astype(np.uint64)
  size = np.ones(len(values), np.int64)
  for bits in range(7, int(values.max(initial=0)).bit_length(), 7):
    size += values >= np.uint64(1 << bits)
  ends = np.cumsum(size)
  starts = ends - size
  content = np.empty(int(ends[-1]) if len(ends) else 0, np.uint8)
  for byte in range(int(size.max(initial=0))):
    here = np.flatnonzero(size > byte) if byte else slice(None)
    more = (size[here] > byte + 1).astype(np.uint8) << 7
    low = (values[here] >> np.uint64(7 * byte)).astype(np.uint8) & 0x7F
    content[starts[here] + byte] = low | more
  return content, ends


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


def _features(name: str, values: np.ndarray, cuts: np.ndarray) -> list[bytes]:
  """One entry of `Features.feature` for each block: an int64 list by its name."""
  varints, ends = _varints(values)
  bounds = np.concatenate([[0], ends])[cuts]
  content = varints.tobytes()
  key = _field(1, name.encode())
  # Example.features > Features.feature > {key, Feature.int64_list > value}.
  return [
    _field(1, key + _field(2, _field(3, _field(1, content[start:end]))))
    for start, end in itertools.pairwise(bounds)
  ]


def _record(features: bytes) -> bytes:
  """An Example, framed as TFRecord: length, its CRC, content, its CRC."""
  example = _field(1, features)
  length = struct.pack('<Q', len(example))
  return b''.join([length, _masked_crc(length), example, _masked_crc(example)])


def _masked_crc(content: bytes) -> bytes:
  crc = google_crc32c.value(content)
  return struct.pack('<I', ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)
