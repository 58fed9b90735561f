"""When so many lines are bad that a job cannot succeed."""

import dataclasses
import posixpath
from collections.abc import Iterator

from beam_pipelines import files, range_reader
from beam_pipelines import schema as schemas
from beam_pipelines.ratings import Ratings
from beam_pipelines.schema import Schema
from ncf_tfdata.errors import UserError


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

  def watch(
    self, reader: range_reader.RangeReader, blocks: Iterator[Ratings]
  ) -> Iterator[Ratings]:
    """Passes on the blocks that are read of a range.

    Raises:
      UserError: Too many lines are bad, whatever the rest of the input holds.
    """
    found = self._seen[reader.range] = _Progress()
    for block in blocks:
      if len(block.rejects) and not found.rejected:
        found.first = block.rejects.first(posixpath.basename(reader.range.path))
      found.lines += len(block) + len(block.rejects)
      found.rejected += len(block.rejects)
      found.bytes_left = reader.bytes_left
      self._check()
      yield block
    found.bytes_left = 0
    self._check()

  def _check(self) -> None:
    lines = sum(one.lines for one in self._seen.values())
    rejected = sum(one.rejected for one in self._seen.values())
    # Kinds of files that were not begun are looked at only where they may matter.
    if not rejected > self._fraction * lines:
      return
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
