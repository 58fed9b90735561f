"""Lines that are not ratings: as columns, and when there are too many of them."""

import dataclasses
import posixpath
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from beam_pipelines import files, range_reader
from beam_pipelines import schema as schemas
from beam_pipelines.schema import Schema
from ncf_tfdata import dataset
from ncf_tfdata.errors import UserError

_MAX_LINE = 1000  # characters of a rejected line that are kept
# What stands for a byte that a TSV file escapes (`dataset.escape_key`); `\` first.
_ESCAPES = (('\\', r'\\'), ('\t', r'\t'), ('\n', r'\n'), ('\r', r'\r'))


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
    columns = [
      pa.scalar(dataset.escape_key(name)),
      pa.array(self.offset).cast(pa.string()),
      _escaped(self.reason),
      _escaped(self.line),
    ]
    rows = pc.binary_join_element_wise(*columns, '\t')
    rows = pc.binary_join_element_wise(rows, '', '\n').cast(pa.large_string())
    return (rows.buffers()[2] or pa.py_buffer(b'')).to_pybytes()


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


def of_rows(offset: np.ndarray, reason: np.ndarray, rows: list[dict]) -> Rejects:
  """Makes rejects of the rows of a Parquet file; arguments as `of_lines` has them."""
  return Rejects(
    offset, _strings(reason), _strings([str(row)[:_MAX_LINE] for row in rows])
  )


def _strings(values: Sequence | np.ndarray) -> pa.Array:
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


def _escaped(texts: pa.Array) -> pa.Array:
  for character, escape in _ESCAPES:
    texts = pc.replace_substring(texts, character, escape)
  return texts


def too_many(
  rejected: int, read: int, fraction: float, first: str, is_all: bool
) -> UserError:
  """What to say where more lines are bad than may be.

  Args:
    rejected: How many.
    read: Lines read, these included.
    fraction: Of `--max_reject_fraction`.
    first: Where the first of them is, and why.
    is_all: Whether all of the input was read.
  """
  read_so_far = f'{read:,} lines' if is_all else f'the {read:,} lines read so far'
  whatever = '' if is_all else ', whatever the rest holds'
  return UserError(
    f'{rejected:,} of {read_so_far} are not ratings, more than '
    f'--max_reject_fraction={fraction:g} allows{whatever}; the first: {first}. '
    'Check --format and --columns, or allow more.'
  )


@dataclasses.dataclass
class _Progress:
  """What was read of a range: lines, rejects, the first of these; and what is left."""

  lines: int = 0
  rejected: int = 0
  first: str = ''
  bytes_left: int = 0


class Limit:
  """Stops a job as soon as what was read proves that too many lines are bad.

  The rest of the input helps most if it is good lines alone, and as many as its bytes
  can hold. What one worker has read may prove it; the leaf decides for all of them.
  """

  def __init__(self, fraction: float, sources: tuple[files.File, ...], schema: Schema):
    """Takes `--max_reject_fraction`, the input, and how to read it."""
    self._fraction, self._sources, self._schema = fraction, sources, schema
    # By range, since one may be read again after a fault.
    self._seen: dict[files.Range, _Progress] = {}
    self._kinds: dict[int, str] = {}
    self._rows: dict[int, int] = {}

  def begin(self, part: files.Range) -> None:
    """Forgets what was read of a range, which is about to be read."""
    self._seen[part] = _Progress()

  def add(self, reader: range_reader.RangeReader, good: int, rejects: Rejects) -> None:
    """Takes in what a block of a range that was begun held.

    Raises:
      UserError: Too many lines are bad, whatever the rest of the input holds.
    """
    part = reader.range
    found = self._seen[part]
    if len(rejects) and not found.rejected:
      found.first = rejects.first(posixpath.basename(part.path))
    found.lines += good + len(rejects)
    found.rejected += len(rejects)
    found.bytes_left = reader.bytes_left
    lines = sum(one.lines for one in self._seen.values())
    rejected = sum(one.rejected for one in self._seen.values())
    if rejected > self._fraction * lines:
      self._check(lines, rejected)

  def _check(self, lines: int, rejected: int) -> None:
    # Kinds of files that were not begun are looked at only where they may matter.
    for known_kinds in (False, True):
      rest = sum(self._most_lines_left(file, known_kinds) for file in self._sources)
      if not rejected > self._fraction * (lines + rest):
        return
    first = self._seen[min(part for part, one in self._seen.items() if one.first)].first
    raise too_many(rejected, lines, self._fraction, first, is_all=not rest)

  def _most_lines_left(self, file: files.File, known_kinds: bool) -> int:
    """How many good lines of a file at most were not read."""
    seen = {part: one for part, one in self._seen.items() if part[0] == file.number}
    kind = next((part.kind for part in seen), self._kinds.get(file.number))
    if kind is None and known_kinds:
      kind = self._kinds[file.number] = files.kind(file.path)
    if kind == files.PARQUET:
      return self._num_rows(file) - sum(one.lines for one in seen.values())
    if kind == files.GZIP:
      packed = [file.size * range_reader.MAX_GZIP_EXPANSION]
      left = sum([one.bytes_left for one in seen.values()] or packed)
      return -(-left // self._shortest_line())
    left = file.size - sum(part.end - part.start for part in seen)
    # In each stretch that is left one line more may begin.
    return left // self._shortest_line() + len(seen) + 1 if left else 0

  def _num_rows(self, file: files.File) -> int:
    if file.number not in self._rows:
      with files.open_parquet(file.path) as parquet:
        self._rows[file.number] = parquet.metadata.num_rows
    return self._rows[file.number]

  def _shortest_line(self) -> int:
    """Bytes of the shortest good line: each role's field has one at least."""
    roles = len(self._schema.roles)
    width = roles if self._schema.columns is None else len(self._schema.columns)
    if self._schema.format == schemas.PARQUET:
      return 1
    return roles + (width - 1) * len(self._schema.delimiter) + 1
