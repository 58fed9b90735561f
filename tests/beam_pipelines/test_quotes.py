"""A quoted field that goes over a line end is a reject as a whole, however one cuts."""

import contextlib
import gzip

import log_oracle
import prepared
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from beam_pipelines import files, quotes, range_reader, ratings, schema
from beam_pipelines.range_reader import Block
from beam_pipelines.schema import CSV, MOVIELENS, ROLES, TSV

# Between them and line ends every state of a quote is met.
_PIECES = st.lists(
  st.sampled_from([
    '"', '"', '""', '"""', ',', ',', 'a', '\n', '\n', '\r\n', '\r', '1,2,3,4\n',
    '"a","b","1","2"\n', '"a\nb",x,1,2\n', 'a,"b\n\n c ""d"" ",1,2\n',
  ]),
  max_size=30,
).map(lambda pieces: ''.join(pieces).encode())  # fmt: skip


_REACHES = pytest.mark.parametrize('reach', [7, 25, quotes.REACH])


@contextlib.contextmanager
def reaching(reach: int):
  """Follows quotes over so many bytes, and judges small pieces at a time."""
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(quotes, 'REACH', reach)
    patch.setattr(quotes, 'MARGIN', reach + 2)
    if reach < 100:
      patch.setattr(quotes, '_PIECE', 9)
    yield


def found(text: bytes, width: int = 4) -> set[int]:
  """Numbers of the lines that are no records by themselves."""
  broken = quotes.find(Block(0, text), width)
  return set((broken.opens | broken.covered).nonzero()[0].tolist())


@_REACHES
@given(text=_PIECES.filter(bool), width=st.integers(1, 5))
@example(text=b'"",' * 9 + b'"\n"', width=1)
@example(text=b'"\n' + b'",x,"\n' * 9, width=1)
@example(text=b'b","c\n' * 9, width=2)
def test_lines_are_those_of_the_oracle(reach, text, width):
  with reaching(reach):
    assert found(text, width) == log_oracle.oracle_broken(text)


@pytest.mark.parametrize(
  'text, expected',
  [
    ('"a\nb",i2\n1,2\n', {0, 1}),
    ('1,2\n"a\n\nb\nc",i2\n1,2\n', {1, 2, 3, 4}),
    ('"a\r\nb"\r\n1,2\n', {0, 1}),
    ('u,"a\nb","c\nd",x\n1,2\n', {0, 1, 2}),  # one closes, and another opens
    ('"he said ""a\n""b"" and",x\n1,2\n', {0, 1}),
    ('"a\nb"x,i2\n1,2\n', {0, 1}),  # more follows the closing quote
    ('"stray,2\n1,2\n"a","b"\n', {0}),  # the next one opens a field
    ('"stray,2\n1,2\n1,2\n', {0}),  # there is no next one
    ('"stray,2\n1,"",2\n"a","b"\n', {0}),
    ('5" disc,2\n1,12"\n', set()),  # no quote begins a field
    ('"a","b"\n"a ""b""","c"\n', set()),
    ('u,"i', {0}),
  ],
)
def test_what_is_one_record(text, expected):
  assert found(text.encode()) == expected


@_REACHES
def test_a_quote_is_followed_as_far_as_it_reaches(reach):
  start = b'"a\n'
  for beyond in (0, 1):
    text = start + b'x' * (reach + beyond - len(start) - 2) + b'\n"\n1,2\n'
    last = text.index(b'"\n')
    assert last + 1 == reach + beyond
    with reaching(reach):
      assert found(text) == ({0, 2} if beyond else {0, 1, 2})


def read(path, described, range_bytes: int) -> tuple[list, list]:
  """The rows and the rejects of a file, as its ranges have them."""
  (file,) = files.match(str(path))
  rows, rejects = [], []
  for key in files.ranges(file, range_bytes):
    for block in ratings.read(range_reader.RangeReader(key), described):
      columns = [block.user, block.item, block.rating, block.timestamp]
      rows += zip(*(column.tolist() for column in columns), strict=True)
      offsets = block.rejects.offset.tolist()
      rejects += zip(offsets, block.rejects.line.to_pylist(), strict=True)
  return rows, rejects


@pytest.mark.slow
@_REACHES
@pytest.mark.parametrize('log_format', [MOVIELENS, TSV, CSV])
@given(data=st.data())
def test_any_cut_gives_the_rows_and_the_rejects_of_the_oracle(
  tmp_path_factory, reach, log_format, data
):
  # Neither a file of another kind nor one of another line end is made.
  text = b'1,2,3,4\n' + data.draw(log_oracle.blocks(log_format) | _PIECES)
  range_bytes = data.draw(st.integers(1, 60) | st.just(files.RANGE_BYTES))
  described = schema.Schema(log_format, columns=ROLES)
  path = tmp_path_factory.mktemp('log') / 'log'
  with reaching(reach), pytest.MonkeyPatch.context() as patch:
    patch.setattr(files, 'RANGE_BYTES', range_bytes)  # of what is unpacked at a time
    expected = log_oracle.oracle(text, log_format)
    for content in (text, gzip.compress(text)):
      path.write_bytes(content)
      assert read(path, described, range_bytes) == expected
  lines = [line.removesuffix(b'\r') for line in text.split(b'\n')]
  assert sum(map(len, expected)) == sum(map(bool, lines))


@pytest.mark.slow
def test_a_quoted_line_end_makes_no_phantom(tmp_path):
  good = [f'u{i % 9},i{i * 7 % 40}\n' for i in range(90)]
  torn = '"a\nb",i2\n'
  log = tmp_path / 'log.csv'
  log.write_text('user,item\n' + ''.join(good[:50]) + torn + ''.join(good[50:]))
  dataset = prepared.prepare(
    log, tmp_path / 'out', '--max_reject_fraction=.05', *prepared.TOY
  )
  assert set(dataset.vocabulary('users.tsv').keys) == {f'u{i}' for i in range(9)}
  assert prepared.counts(dataset, 'read', 'rejected') == [92, 2]
  offset = len('user,item\n' + ''.join(good[:50]))
  assert (tmp_path / 'out' / 'rejects.tsv').read_text().splitlines() == [
    f'log.csv\t{offset}\ta quote is not closed on its line\t"a',
    f'log.csv\t{offset + 3}\twithin a quoted field of an earlier line\tb",i2',
  ]
