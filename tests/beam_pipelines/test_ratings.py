"""Blocks of lines become ratings and rejects, as a line-by-line oracle has them."""

import datetime
import math

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from log_oracle import GOOD, blocks, oracle

from beam_pipelines import delimited, files, range_reader, ratings, schema
from beam_pipelines.range_reader import Block
from beam_pipelines.rejects import Rejects
from beam_pipelines.schema import CSV, MOVIELENS, ROLES, TSV
from ncf_tfdata.errors import UserError


def layout(log_format: str, columns=ROLES, **fields) -> schema.Schema:
  return schema.Schema(log_format, columns=columns, **fields)


def parse(lines: bytes, described: schema.Schema, offset: int = 0) -> ratings.Ratings:
  block = Block(offset, lines)
  return ratings.of_columns(offset, *delimited.Parser(described, '').parse(block))


def rows(block: ratings.Ratings) -> list[tuple]:
  columns = [block.user.to_pylist(), block.item.to_pylist()]
  columns += [c.tolist() for c in (block.rating, block.timestamp) if c is not None]
  return list(zip(*columns, strict=True))


def rejects(block: ratings.Ratings) -> list[tuple[int, str]]:
  found = block.rejects
  assert all(found.reason.to_pylist())
  return list(zip(found.offset.tolist(), found.line.to_pylist(), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize('log_format', [MOVIELENS, TSV, CSV])
@settings(max_examples=200)
@given(data=st.data())
def test_rows_and_rejects_are_those_of_the_oracle(log_format, data):
  block = data.draw(blocks(log_format))
  parsed = parse(block, layout(log_format), offset=1000)
  assert (rows(parsed), rejects(parsed)) == oracle(block, log_format, offset=1000)


@pytest.mark.parametrize('log_format', [MOVIELENS, TSV])
@given(data=st.data())
def test_a_block_parses_as_its_parts_do(log_format, data):
  block = data.draw(blocks(log_format))
  ends = [i + 1 for i, byte in enumerate(block) if byte == ord('\n')]
  cut = data.draw(st.sampled_from([0, *ends]))
  parts = [
    parse(block[:cut], layout(log_format)),
    parse(block[cut:], layout(log_format), offset=cut),
  ]
  whole = parse(block, layout(log_format))
  assert rows(whole) == rows(parts[0]) + rows(parts[1])
  assert rejects(whole) == rejects(parts[0]) + rejects(parts[1])


@pytest.mark.parametrize('log_format', [MOVIELENS, TSV, CSV])
@settings(max_examples=30)
@given(data=st.data())
def test_the_quick_parser_agrees_with_the_exact_one(log_format, data):
  block = data.draw(blocks(log_format, GOOD).filter(bool))
  described = layout(log_format)
  parser = delimited.Parser(described, '')
  lines = parser._separated(block)
  quick = ratings.of_columns(0, parser.parse_clean(lines), Rejects.none())
  exact = ratings.of_columns(0, *parser.parse_and_reject(Block(0, block), lines))
  assert len(exact.rejects) == 0
  assert rows(exact) == rows(quick)


def test_a_key_may_hold_one_colon():
  block = b'urn:1::a:b::3::4\n1::2::3::4\n:1:::2::3::4\n1::2:3::4\n'
  parsed = parse(block, layout(MOVIELENS))
  assert rows(parsed) == [
    ('urn:1', 'a:b', 3, 4),
    ('1', '2', 3, 4),
    (':1', ':2', 3, 4),
  ]
  assert parsed.rejects.reason.to_pylist() == ['expected 4 fields, found 3']


@pytest.mark.parametrize('rest', [b'1::2::3::4\n', b'no rating\n'])
def test_a_unit_separator_is_no_part_of_a_key_whatever_stands_beside(rest):
  parsed = parse(b'a\x1fb::2::3::4\n' + rest, layout(MOVIELENS))
  assert parsed.rejects.reason.to_pylist()[0] == 'a unit separator within the line'


@given(st.binary(max_size=60))
def test_no_bytes_crash_the_parser(block):
  for log_format in (MOVIELENS, TSV, CSV):
    parsed = parse(block, layout(log_format, ('user', 'item')))
    lines = [line.removesuffix(b'\r') for line in block.split(b'\n')]
    assert len(parsed) + len(parsed.rejects) == sum(map(bool, lines))


def test_reasons_say_what_is_wrong():
  block = b'1::2::x::4\n1::2\n::2::3::4\n1::\xff::3::4\n1::2::3::4.5\n1::2::3\r::4\n'
  assert parse(block, layout(MOVIELENS)).rejects.reason.to_pylist() == [
    "rating 'x' is not a number",
    'expected 4 fields, found 2',
    'empty user',
    'item is not UTF-8',
    "timestamp '4.5' is not a whole number",
    'a carriage return within the line',
  ]


def test_a_long_bad_line_is_kept_in_part():
  for line in (b'x' * 10**6, b'x' * 10**6 + b'\r', b'x' * 999 + b'\xff' * 10**6):
    found = parse(line + b'\n', layout(MOVIELENS)).rejects
    assert found.line.to_pylist() == [line.decode(errors='backslashreplace')[:1000]]


def test_timestamps_of_any_width_are_numbers():
  block = b'1::2::3::978300760\n1::2::3::1000000000\n1::2::3::99\n'
  stamps = parse(block, layout(MOVIELENS)).timestamp
  assert sorted(stamps.tolist()) == [99, 978300760, 1000000000]


@pytest.mark.parametrize(
  'example, good, bad',
  [
    (
      '2020-01-02 03:04:05',
      ['1969-12-31 23:59:59', '2020-01-02', '2020-01-02T03:04:05.678'],
      ['2020-13-01', '12345', '2020-01-02T03:04:05Z', 'x', '', '2020-1-2'],
    ),
    (
      '2020-01-02T03:04:05Z',
      ['2020-01-02T03:04:05.5Z', '2020-01-02T05:04:05+02:00'],
      ['2020-01-02T03:04:05', '12345', 'x', ''],
    ),
  ],
)
def test_iso_timestamps_are_microseconds(example, good, bad):
  described = layout(TSV, iso_timestamps=schema.iso_type(example))

  def expected(text):
    stamp = datetime.datetime.fromisoformat(text)
    stamp = stamp.replace(tzinfo=stamp.tzinfo or datetime.UTC)
    epoch = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
    return (stamp - epoch) // datetime.timedelta(microseconds=1)

  def block(values):
    return ''.join(f'1\t2\t3\t{value}\n' for value in values).encode()

  clean = parse(block([example, *good]), described)
  assert clean.timestamp.tolist() == [expected(text) for text in [example, *good]]
  assert not len(clean.rejects)
  mixed = parse(block([*bad, *good]), described)
  assert mixed.timestamp.tolist() == [expected(text) for text in good]
  assert len(mixed.rejects) == len(bad)


def test_columns_may_stand_in_any_order_and_be_ignored():
  described = layout(CSV, ('_', 'timestamp', 'item', '_', 'user'))
  parsed = parse(b'?,7,i,?,u\n?,x,i,?,u\n', described)
  assert (parsed.user.to_pylist(), parsed.item.to_pylist()) == (['u'], ['i'])
  assert (parsed.timestamp.tolist(), parsed.rating) == ([7], None)
  assert rejects(parsed) == [(10, '?,x,i,?,u')]


@pytest.mark.parametrize('head', [b'', files.BOM, b'\n', b'\r\n\n', files.BOM + b'\n'])
@pytest.mark.parametrize('range_bytes', [200, 10**6])
def test_a_header_is_no_line(tmp_path, head, range_bytes):
  path = tmp_path / 'log.csv'
  content = head + b'user,item\r\n' + b'1,2\r\n' * 100 + b'bad\r\n'
  path.write_bytes(content)
  described = schema.resolve(str(path))
  (file,) = files.match(str(path))
  found = [
    block
    for key in files.ranges(file, range_bytes)
    for block in ratings.read(range_reader.RangeReader(key), described)
  ]
  assert [row for block in found for row in rows(block)] == [('1', '2')] * 100
  assert [reject for block in found for reject in rejects(block)] == [
    (content.index(b'bad'), 'bad')
  ]


def parquet(tmp_path, **columns) -> list[ratings.Ratings]:
  path = tmp_path / 'log.parquet'
  pq.write_table(pa.table(columns), path, row_group_size=2)
  described = schema.resolve(str(path))
  (file,) = files.match(str(path))
  return [
    block
    for key in files.ranges(file)
    for block in ratings.read(range_reader.RangeReader(key), described)
  ]


_STAMP = datetime.datetime(2020, 1, 2)
_MICROSECONDS = 1577923200 * 10**6


@pytest.mark.parametrize(
  'values, expected',
  [
    (pa.array([3, None, 5]), [3, None, 5]),
    (pa.array([3.9, math.nan, 1e300]), [3, None, None]),
    (pa.array([3, 2**63, None], pa.uint64()), [3, None, None]),
    (pa.array(['3', 'x', None]), [3, None, None]),
    (pa.array(['2020-01-02', '2020', None]), [_MICROSECONDS, None, None]),
    (pa.array([_STAMP] * 3, pa.timestamp('us')), [_MICROSECONDS] * 3),
    (pa.array([_STAMP] * 3, pa.timestamp('ms', 'UTC')), [_MICROSECONDS // 1000] * 3),
    (pa.array([_STAMP.date(), None, None]), [_MICROSECONDS // 1000, None, None]),
  ],
)
def test_parquet_timestamps_of_any_type(tmp_path, values, expected):
  keys = ['a'] * len(values)
  found = parquet(tmp_path, user=keys, item=keys, ts=values)
  stamps = [stamp for block in found for stamp in block.timestamp.tolist()]
  assert stamps == [stamp for stamp in expected if stamp is not None]
  offsets = [row for block in found for row in block.rejects.offset.tolist()]
  assert offsets == [row for row, stamp in enumerate(expected) if stamp is None]


@pytest.mark.parametrize(
  'values, expected',
  [
    (pa.array([1, None, -3]), ['1', None, '-3']),
    (pa.array(['a', '', 'ключ']), ['a', None, 'ключ']),
    (pa.array(['a', None, 'b']).dictionary_encode(), ['a', None, 'b']),
    (pa.array(['a', 'b', 'c'], pa.large_string()), ['a', 'b', 'c']),
    (pa.array([b'a', b'\xff', None]), ['a', None, None]),
  ],
)
def test_parquet_keys_of_any_type(tmp_path, values, expected):
  found = parquet(tmp_path, user=values, item=['b'] * 3, rating=[1.5] * 3)
  users = [user for block in found for user in block.user.to_pylist()]
  assert users == [user for user in expected if user is not None]
  assert [row for block in found for row in block.rejects.offset.tolist()] == [
    row for row, user in enumerate(expected) if user is None
  ]


def test_parquet_column_of_a_wrong_type_is_refused(tmp_path):
  with pytest.raises(UserError, match=r'the user column is of type list<.*>, expected'):
    parquet(tmp_path, user=[[1], [2]], item=[1, 2])


def test_files_of_two_kinds_are_refused(tmp_path):
  (tmp_path / 'a.tsv').write_text('1\t2\n')
  pq.write_table(pa.table({'user': [1], 'item': [2]}), tmp_path / 'b.parquet')
  pq.write_table(pa.table({'user': [1], 'thing': [2]}), tmp_path / 'c.parquet')
  text, parquet_file, other = (
    next(files.ranges(file)) for file in files.match(str(tmp_path))
  )
  of_text = schema.resolve(str(tmp_path / 'a.tsv'))
  of_parquet = schema.resolve(str(tmp_path / 'b.parquet'))
  with pytest.raises(UserError, match=r'b\.parquet is a Parquet file, unlike'):
    list(ratings.read(range_reader.RangeReader(parquet_file), of_text))
  with pytest.raises(UserError, match=r'a\.tsv is no Parquet file, unlike'):
    list(ratings.read(range_reader.RangeReader(text), of_parquet))
  with pytest.raises(UserError, match="no column 'item', unlike"):
    list(ratings.read(range_reader.RangeReader(other), of_parquet))
