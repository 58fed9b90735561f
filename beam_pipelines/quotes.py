"""CSV lines that are no records by themselves: a quoted field goes over a line end.

Lines are judged by the bytes near them alone, so that a file gives the same rows
wherever it is cut. `docs/design/bad-lines.md` states the rule.
"""

import dataclasses
import re

import numpy as np

from beam_pipelines.range_reader import Block

# How far a quoted field is followed, from the start of the line that opens it.
REACH = 64 << 10
# Bytes to know beyond a block: the reach, and a line end after its last quote.
MARGIN = REACH + 2
_PIECE = 2 << 20  # bytes judged at a time: small arrays use the same memory again
_QUOTE, _COMMA, _NEWLINE, _RETURN = b'",\n\r'
_CELL = rb'(?:"(?:[^"]|"")*+"[^,]*+|[^",][^,]*+|)'
_CLOSED = re.compile(rb'%s(?:,%s)*+' % (_CELL, _CELL))
_REST_CLOSED = re.compile(rb'[^,]*+(?:,%s)*+' % _CELL)


def is_closed(line: bytes) -> bool:
  """Tells whether every quote that opens a field of a line closes it too."""
  return _CLOSED.fullmatch(line) is not None


@dataclasses.dataclass(frozen=True)
class Broken:
  """Which of n lines, blank ones counted, are no records by themselves.

  Attributes:
    opens: bool [n], lines that leave a quote open.
    covered: bool [n], lines that the quoted field of an earlier line goes on in.
    inside: bool [bytes], what is between quotes, in lines that are neither.
  """

  opens: np.ndarray
  covered: np.ndarray
  inside: np.ndarray


def find(block: Block, width: int) -> Broken:
  """Finds the lines of a block that a quoted field leaves, or goes on in.

  Args:
    block: Lines, with `MARGIN` bytes around them.
    width: How many fields a good line has.
  """
  text = block.before + block.lines + block.after
  begin, end = len(block.before), len(block.before) + len(block.lines)
  pieces = []
  while begin < end:
    stop = text.find(b'\n', min(begin + _PIECE, end) - 1, end) + 1 or end
    left = text.find(b'\n', begin - REACH) + 1 if begin > REACH else 0
    found = _Text(text[left : stop + MARGIN], width).broken()
    first = text.count(b'\n', left, begin)
    count = text.count(b'\n', begin, stop) + (text[stop - 1 : stop] != b'\n')
    pieces.append(
      (
        found.opens[first : first + count],
        found.covered[first : first + count],
        found.inside[begin - left : stop - left],
      )
    )
    begin = stop
  return Broken(*map(np.concatenate, zip(*pieces, strict=True)))


class _Text:
  """The runs of quotes of a text, numbered from 0 to m - 1; m stands for none.

  A field is quoted where a run stands at its start: one of an even length opens and
  closes it, one of an odd length leaves it open up to the next of an odd length. What
  follows in the field is text.
  """

  def __init__(self, text: bytes, width: int):
    self._text, self._width = text, width
    content = np.frombuffer(text + b'\n\n', np.uint8)
    marks = np.flatnonzero((content == _QUOTE) | (content == _NEWLINE))[:-2]
    is_quote = content[marks] == _QUOTE
    quotes = marks[is_quote]
    self._ends = marks[~is_quote]
    self._num_lines = len(self._ends) + (not text.endswith(b'\n'))
    line = np.cumsum(~is_quote)[is_quote]
    # Nearly always no quote stands beside another.
    self._starts, self._stops = quotes, quotes + 1
    self._odd = np.ones(len(quotes), bool)
    if b'""' in text:
      first = np.flatnonzero((content[quotes - 1] != _QUOTE) | (quotes == 0))
      last = np.append(first[1:], len(quotes)) - 1
      self._starts, self._stops, line = quotes[first], quotes[last] + 1, line[first]
      self._odd = (last - first) % 2 == 0
    self._line = np.append(line, self._num_lines)  # of no run
    before = content[self._starts - 1]
    fresh = (self._starts == 0) | (before == _COMMA) | (before == _NEWLINE)
    self._next_odd = _next(self._odd)
    self._next_fresh = _next(fresh)
    after = content[self._stops]
    returns = np.flatnonzero(after == _RETURN)
    after[returns] = content[self._stops[returns] + 1]
    self._only_opens = fresh & (after != _COMMA) & (after != _NEWLINE)

  def broken(self) -> Broken:
    # The first run of each line that has one.
    fresh_line = np.append(True, self._line[1:-1] != self._line[:-2])
    first = np.flatnonzero(fresh_line[: len(self._starts)])
    lines = self._line[first]
    inside = np.zeros(len(self._text) + 1, np.int8)
    opens = np.zeros(self._num_lines, bool)
    opens[lines] = self._leaves_open(first, lines, self._line_starts(lines), inside)
    return Broken(
      opens, self._covered(opens), np.cumsum(inside, dtype=np.int8)[:-1] > 0
    )

  def _line_starts(self, lines: np.ndarray) -> np.ndarray:
    return np.concatenate([[0], self._ends + 1])[lines]

  def _leaves_open(
    self,
    run: np.ndarray,
    line: np.ndarray,
    place: np.ndarray,
    inside: np.ndarray | None = None,
  ) -> np.ndarray:
    """Which lines end within quotes, read on from outside of any: bool [n].

    Args:
      run: int [n], the first run to read.
      line: int [n], the line of each.
      place: int [n], the byte to read on from: a line's start, or a quote's end.
      inside: int8 [bytes + 1], to add 1 to where quotes open, and -1 where they close.
    """
    result = np.zeros(len(run), bool)
    active, run = np.arange(len(run)), self._next_fresh[run]
    for _ in range(self._width + 1):
      here = self._line[run] == line[active]
      active, run = active[here], run[here]
      if not len(active):
        return result
      close = np.where(self._odd[run], self._next_odd[run + 1], run)
      is_open = self._line[close] != line[active]
      result[active[is_open]] = True
      active, run, close = active[~is_open], run[~is_open], close[~is_open]
      if inside is not None:
        inside[self._starts[run]] += 1
        inside[self._stops[close]] -= 1
      run = self._next_fresh[close + 1]
    # More quoted fields than a line has: rejects, of which each is read at once.
    for i in active[self._line[run] == line[active]]:
      start, stop = int(place[i]), self._line_stop(int(line[i]))
      pattern = _REST_CLOSED if self._text[start - 1 : start] == b'"' else _CLOSED
      result[i] = not pattern.fullmatch(self._text, start, stop)
    return result

  def _line_stop(self, line: int) -> int:
    return int(self._ends[line]) if line < len(self._ends) else len(self._text)

  def _covered(self, opens: np.ndarray) -> np.ndarray:
    """Lines after each that leaves a quote open, up to the one in which it closes."""
    origin = line = np.flatnonzero(opens)
    limit = self._line_starts(origin) + REACH
    change = np.zeros(self._num_lines + 1, np.int64)
    while len(line):
      closing = self._next_odd[np.searchsorted(self._line[:-1], line, side='right')]
      there = closing < len(self._starts)
      origin, limit, closing = origin[there], limit[there], closing[there]
      closes = (self._stops[closing] <= limit) & ~self._only_opens[closing]
      origin, limit, closing = origin[closes], limit[closes], closing[closes]
      line = self._line[closing]
      np.add.at(change, origin + 1, 1)
      np.add.at(change, line + 1, -1)
      # Where the line opens a quote by itself too, both are the same from here on.
      again = self._leaves_open(closing + 1, line, self._stops[closing]) & ~opens[line]
      origin, limit, line = line[again], limit[again], line[again]
    return np.cumsum(change)[:-1] > 0


def _next(mask: np.ndarray) -> np.ndarray:
  """The first place at or after each that is set, the length where none is: [n + 2]."""
  if mask.all():
    return np.minimum(np.arange(len(mask) + 2), len(mask))
  places = np.flatnonzero(mask)
  size = len(mask)
  places = np.append(places, size)
  rank = np.append(0, np.cumsum(mask))[: size + 1]
  return np.append(places[rank], size)
