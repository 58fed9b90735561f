"""Logs of good, bad and odd lines, and what a plain loop makes of them."""

import csv
import itertools
import math
import re

from hypothesis import strategies as st

from beam_pipelines import files, quotes
from beam_pipelines.schema import CSV, MOVIELENS, ROLES, TSV

_MAX_TIMESTAMP = 92 * 10**17
_KEYS = st.sampled_from([
    b'1', b'007', b'b c', 'ключ'.encode(), '\u2028'.encode(), b'\\t', b' x ',
    b'0x1f', b'a:b', b"it's", b'\0', files.BOM + b'k', b'\xe2\x80',
])  # fmt: skip
_NUMBERS = st.sampled_from([
    b'5', b'4.5', b'.5', b'5.', b'-1', b'+2', b'1e1', b' 3 ', b'\t3', b'3\x0b',
    b'3\xc2\xa0', b'3\x1c', b'3\xc2\x85', b'1e400', b'nan', b'inf', b'0x10', b'1_0',
    b'4,5', b'five', b'', '５'.encode(), b'1d', b'--1', b'1.2.3', b'e5', b'\xff',
])  # fmt: skip
_STAMPS = st.sampled_from([
    b'978300760', b'1000000000', b'-3', b'0', b'007', b'+3', b' 12 ', b'12\x0b', b'1.0',
    b'0x1F', b'-0', b'0' * 30 + b'7', b'9199999999999999999', b'9' * 19,
    b'9200000000000000000', b'-9200000000000000000',
    b'9' * 30, b'now', b'', b'\xc2\xa07', b'1e3',
    '７'.encode(),
])  # fmt: skip
GOOD = st.tuples(
  st.sampled_from([b'1', 'ключ'.encode(), b'b c']),
  st.sampled_from([b'20', b'x']),
  st.sampled_from([b'5', b'4.5']),
  st.sampled_from([b'978300760', b'1000000000']),
)
_ANY = st.tuples(_KEYS, _KEYS, _NUMBERS, _STAMPS)
_ODD_LINES = st.sampled_from([
    b'', b' ', b'\t', b':', b'::', b':::::::', b'\x1f', b'a\x1fb', b'\r', b'\r\r',
    b'a\rb', b'"', b'"a', b'a"b', b'""', b'"",""', b'"a"b"c', b'"\xff"', b'\xff',
    files.BOM, b'abc',
])  # fmt: skip
_QUOTED = st.sampled_from([
    b'"a,b",x,1,2', b'"a""b",x,"1","2"', b'"a,x,1,2', b'a",x,1,2', b'"a"b,x,1,2',
    b'"a"b"c,x,1,2', b'a,x,1,"2', b'a,"x"",1,2', b'5" disc,"x,1,2', b'"",x,1,2',
    b'"a",x,1,2"',
])  # fmt: skip
_ENDS = st.sampled_from([b'\n', b'\n', b'\r\n', b'\n\n', b'\r\n\r\n', b'\n\r\n'])
_DELIMITERS = {MOVIELENS: b'::', TSV: b'\t', CSV: b','}


def blocks(log_format: str, records=GOOD | _ANY):
  """Blocks of good, bad and odd lines with any line ends."""
  delimiter = _DELIMITERS[log_format]
  line = records.map(delimiter.join)
  if records is not GOOD:
    cut = st.tuples(line, st.integers(1, 20)).map(lambda pair: pair[0][: pair[1]])
    extra = line.map(lambda text: text + delimiter + b'6')
    line = st.one_of(line, line, line, cut, extra, _ODD_LINES)
    if log_format == CSV:
      line = st.one_of(line, _QUOTED)
  lines = st.lists(st.tuples(line, _ENDS), max_size=8)
  joined = lines.map(lambda pairs: b''.join(text + end for text, end in pairs))
  return st.tuples(joined, line, st.booleans()).map(
    lambda parts: parts[0] + parts[1] if parts[2] else parts[0]
  )


def oracle(block: bytes, log_format: str, offset: int = 0):
  """Line by line: the ratings, and the offset and the text of what is none."""
  good, bad = [], []
  broken = oracle_broken(block) if log_format == CSV else set()
  for number, whole in enumerate(block.split(b'\n')):
    at, offset = offset, offset + len(whole) + 1
    line = whole.removesuffix(b'\r')
    if line:
      rating = None if number in broken else oracle_rating(line, log_format)
      if rating is None:
        bad.append((at, whole.rstrip(b'\r').decode(errors='backslashreplace')))
      else:
        good.append(rating)
  return good, bad


def oracle_broken(text: bytes) -> set[int]:
  """Numbers of the lines of a CSV that a quoted field leaves, or goes on in."""
  lines = text.split(b'\n')
  starts = [0, *itertools.accumulate(len(line) + 1 for line in lines)]
  broken = set()
  for opener, line in enumerate(lines):
    if not leaves_open(line):
      continue
    broken.add(opener)
    for number in range(opener + 1, len(lines)):
      odd = (run for run in re.finditer(b'"+', lines[number]) if len(run[0]) % 2)
      run = next(odd, None)
      if run is None:
        continue
      before, after = lines[number][: run.start()], lines[number][run.end() :]
      opens = (not before or before.endswith(b',')) and not (
        after in (b'', b'\r') or after.startswith(b',')
      )
      if starts[number] + run.end() - starts[opener] > quotes.REACH or opens:
        break
      broken.update(range(opener, number + 1))
      if not leaves_open(after.partition(b',')[2]):
        break
  return broken


def leaves_open(line: bytes) -> bool:
  reader = csv.reader([line.decode('latin-1').replace('\r', '?'), 'another line'])
  next(reader)
  return reader.line_num > 1


def oracle_rating(line: bytes, log_format: str):
  text = line.decode('latin-1')
  if '\r' in text or (log_format == MOVIELENS and '\x1f' in text):
    return None
  if log_format == CSV:
    fields = next(csv.reader([text]))
  else:
    fields = text.split(_DELIMITERS[log_format].decode())
  if len(fields) != len(ROLES):
    return None
  try:
    user, item, rating, stamp = (field.encode('latin-1').decode() for field in fields)
  except UnicodeDecodeError:
    return None
  rating, stamp = rating.strip(' \t'), stamp.strip(' \t')
  if not user or not item or not set(rating) <= set('0123456789.eE+-'):
    return None
  if not stamp.removeprefix('-').isascii() or not stamp.removeprefix('-').isdigit():
    return None
  try:
    value = float(rating)
  except ValueError:
    return None
  if not math.isfinite(value) or abs(int(stamp)) >= _MAX_TIMESTAMP:
    return None
  return user, item, value, int(stamp)
