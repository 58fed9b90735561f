"""Records of `tf.train.Example` in numpy, for what is read without TensorFlow.

A file of known sha256 needs no look at the checksums of its records.

This module imports neither TensorFlow nor Beam.
"""

import struct
from collections.abc import Iterator

import numpy as np

Values = np.ndarray | list[bytes]

_LENGTH_DELIMITED = 2  # protobuf wire type
_BYTES, _FLOATS, _INTEGERS = 1, 2, 3  # fields of a Feature
_HEADER, _FOOTER = 12, 4  # a length and its checksum; the checksum of the content


def read(content: bytes) -> Iterator[dict[str, Values]]:
  """Yields the columns of each record of a TFRecord file.

  Args:
    content: Of the file.

  Yields:
    By name, int64 [n], float32 [n], or a list of n bytes.

  Raises:
    ValueError: The content is not such records.
  """
  view, start = memoryview(content), 0
  while start < len(view):
    (length,) = struct.unpack_from('<Q', view, start)
    start += _HEADER
    yield _columns(_part(view, start, length))
    start += length + _FOOTER


def _part(view: memoryview, start: int, length: int) -> memoryview:
  if start + length > len(view):
    raise ValueError(f'a record ends at byte {len(view)}, {length} were expected')
  return view[start : start + length]


def _columns(example: memoryview) -> dict[str, Values]:
  """The columns of an Example: Example.features > Features.feature > (key, value)."""
  found = {}
  for features in _fields(example):
    for entry in _fields(features[1]):
      key, feature = (value for _, value in _fields(entry[1]))
      found[bytes(key).decode()] = _values(feature)
  return found


def _values(feature: memoryview) -> Values:
  for kind, values in _fields(feature):
    parts = [part for _, part in _fields(values)]
    if kind == _BYTES:
      return [bytes(part) for part in parts]
    packed = np.frombuffer(b''.join(parts), np.uint8)
    return packed.view('<f4') if kind == _FLOATS else _varints(packed)
  return np.zeros(0, np.int64)


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview]]:
  """The number and the content of each field of a message of such fields alone."""
  start = 0
  while start < len(message):
    tag, start = _varint(message, start)
    if tag & 7 != _LENGTH_DELIMITED:
      raise ValueError(f'a field of wire type {tag & 7}, expected a packed list')
    length, start = _varint(message, start)
    yield tag >> 3, _part(message, start, length)
    start += length


def _varint(message: memoryview, start: int) -> tuple[int, int]:
  """A whole number, and where it ends."""
  value = shift = 0
  while message[start] & 0x80:
    value |= (message[start] & 0x7F) << shift
    start, shift = start + 1, shift + 7
  return value | message[start] << shift, start + 1


def _varints(packed: np.ndarray) -> np.ndarray:
  """Whole numbers, int64, of their base-128 varints: uint8."""
  last = np.flatnonzero(packed < 0x80)
  if not len(last):
    return np.zeros(0, np.int64)
  first = np.append(0, last[:-1] + 1)
  place = np.arange(len(packed)) - np.repeat(first, last - first + 1)
  bits = (packed & 0x7F).astype(np.uint64) << (7 * place).astype(np.uint64)
  return np.bitwise_or.reduceat(bits, first).astype(np.int64)
