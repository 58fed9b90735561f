"""Lines that are not ratings, as columns."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from beam_pipelines import tsv
from ncf_tfdata import vocabulary

_MAX_LINE = 1000  # characters of a rejected line that are kept


@dataclasses.dataclass(frozen=True)
class Rejects:
  """n lines that are not ratings, in file order.

  Attributes:
    offset: int64 [n], where each begins in its file (Parquet: its row).
    reason: String array [n].
    line: String array [n]; of long lines the beginning.
  """

  offset: np.ndarray
  reason: pa.Array
  line: pa.Array

  def __len__(self) -> int:
    return len(self.offset)

  @classmethod
  def none(cls) -> 'Rejects':
    """Makes an empty one."""
    return cls(np.zeros(0, np.int64), _strings([]), _strings([]))

  def first(self, name: str) -> str:
    """Says where the first of them is in a file of a name, and what ails it."""
    return f'{name} at {self.offset[0]}: {self.reason[0]}'

  def tsv(self, name: str) -> bytes:
    """The lines of `rejects.tsv`: file, offset, reason and line."""
    return tsv.lines(
      pa.scalar(vocabulary.escape_key(name)),
      tsv.numbers(self.offset),
      tsv.escaped(self.reason),
      tsv.escaped(self.line),
    )


def of_lines(
  block: bytes, starts: np.ndarray, ends: np.ndarray, offset: int, reason: np.ndarray
) -> Rejects:
  """Makes rejects of lines of a text.

  Args:
    block: The text.
    starts: int64 [n], where each line begins in it.
    ends: int64 [n], where its newline is.
    offset: Of the text in its file.
    reason: object [n] of strings.
  """
  return Rejects(offset + starts, _strings(reason), _shown(block, starts, ends))


def of_rows(
  offset: np.ndarray, reason: np.ndarray, rows: list[dict[str, Any]]
) -> Rejects:
  """Makes rejects of the rows of a Parquet file; arguments as `of_lines` has them."""
  return Rejects(
    offset, _strings(reason), _strings([str(row)[:_MAX_LINE] for row in rows])
  )


def _strings(values: Sequence[str] | np.ndarray) -> pa.Array:
  return pa.array(values, pa.string())


def _shown(block: bytes, starts: np.ndarray, ends: np.ndarray) -> pa.Array:
  content = np.frombuffer(block, np.uint8)
  filled = ends > starts
  cut = ends - (filled & (content[ends - 1] == ord('\r')))
  # Every second one is a line; between them is what is none.
  bounds = np.column_stack([starts, cut]).ravel()
  spans = pa.Array.from_buffers(
    pa.large_binary(),
    max(len(bounds) - 1, 0),
    [None, pa.py_buffer(bounds.astype(np.int64)), pa.py_buffer(block)],
  )
  lines = spans.take(pa.array(np.arange(0, len(spans), 2)))
  try:
    if not pc.any(pc.ends_with(lines, '\r')).as_py():
      texts = lines.cast(pa.large_string())
      return pc.utf8_slice_codeunits(texts, 0, _MAX_LINE).cast(pa.string())
  except pa.ArrowInvalid:
    pass  # not UTF-8
  return _strings(
    [
      line.rstrip(b'\r').decode(errors='backslashreplace')[:_MAX_LINE]
      for line in lines.to_pylist()
    ]
  )
