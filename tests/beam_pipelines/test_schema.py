"""What the columns of a log are is told or found out, or refused in one line."""

import gzip

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_pipelines import schema
from beam_pipelines.schema import CSV, MOVIELENS, PARQUET, ROLES, TSV
from ncf_tfdata.errors import UserError


def write(tmp_path, text: str, name: str = 'log') -> str:
  path = tmp_path / name
  path.write_text(text)
  return str(path)


@pytest.mark.parametrize(
  'text, log_format, columns',
  [
    ('1::2::3::4\n', MOVIELENS, ROLES),
    ('a::b', MOVIELENS, ('user', 'item')),
    ('1\t2\t3\t4\n', TSV, ROLES),
    ('\n\r\n1\t2\r\n', TSV, ('user', 'item')),
    ('\ufeff1\t2\n', TSV, ('user', 'item')),
  ],
)
def test_logs_without_a_header_by_their_width(tmp_path, text, log_format, columns):
  for path in (write(tmp_path, text), str(tmp_path / 'log.gz')):
    if path.endswith('.gz'):
      (tmp_path / 'log.gz').write_bytes(gzip.compress(text.encode()))
    found = schema.resolve(path)
    assert (found.format, found.columns) == (log_format, columns)
    assert found.iso_timestamps is None


@pytest.mark.parametrize(
  'header, names',
  [
    ('userId,movieId,rating,timestamp', 'userId movieId rating timestamp'),
    ('ts,item_id,user_id', 'user_id item_id - ts'),
    ('user_id:token\titem_id:token', 'user_id:token item_id:token - -'),
    ('"User Id","Item Id",note', 'User Id;Item Id;-;-'),
    ('rating,reviewerID,asin', 'reviewerID asin rating -'),
  ],
)
def test_usual_headers(tmp_path, header, names):
  found = schema.resolve(write(tmp_path, header + '\n1,2,3,4\n'))
  expected = dict(zip(ROLES, names.split(';' if ';' in names else ' '), strict=True))
  assert dict(found.names) == {k: v for k, v in expected.items() if v != '-'}
  assert found.roles == tuple(role for role, name in expected.items() if name != '-')


def test_named_columns(tmp_path):
  path = write(tmp_path, 'who,what,when,user\n1,2,2020-01-02,x\n')
  found = schema.resolve(
    path, names={'user': 'who', 'item': 'what', 'timestamp': 'when', 'rating': ''}
  )
  assert dict(found.names) == {'user': 'who', 'item': 'what', 'timestamp': 'when'}
  assert found.positions(path) == ({'user': 0, 'item': 1, 'timestamp': 2}, 4)
  assert found.iso_timestamps == pa.timestamp('us')


def test_a_header_may_differ_from_file_to_file_in_order_only(tmp_path):
  found = schema.resolve(write(tmp_path, 'user,item\n', 'a'))
  other = write(tmp_path, 'note,item,user\n', 'b')
  assert found.positions(other) == ({'user': 2, 'item': 1}, 3)
  with pytest.raises(UserError, match=r"c has no column 'item'"):
    found.positions(write(tmp_path, 'user,thing\n', 'c'))


def test_told_columns(tmp_path):
  path = write(tmp_path, 'x,2020-01-02T03:04:05Z,i,u\n')
  found = schema.resolve(path, columns=('_', 'timestamp', 'item', 'user'))
  assert found.format == CSV
  assert found.positions(path)[0] == {'user': 3, 'item': 2, 'timestamp': 1}
  assert found.iso_timestamps == pa.timestamp('us', 'UTC')


def test_parquet_by_name(tmp_path):
  path = str(tmp_path / 'log')
  pq.write_table(pa.table({'rating': [1], 'itemId': [2], 'user': [3], 'z': [4]}), path)
  found = schema.resolve(path)
  assert found.format == PARQUET
  assert dict(found.names) == {'user': 'user', 'item': 'itemId', 'rating': 'rating'}
  with pytest.raises(UserError, match="no column 'who'"):
    schema.resolve(path, names={'user': 'who'})
  with pytest.raises(UserError, match='--columns=user,item is for a log without'):
    schema.resolve(path, columns=('user', 'item'))
  with pytest.raises(UserError, match=r'--format=csv, but .* is a Parquet file'):
    schema.resolve(path, 'csv')


def test_damaged_parquet_is_refused(tmp_path):
  with pytest.raises(UserError, match='not a whole Parquet file'):
    schema.resolve(write(tmp_path, 'PAR1 and no more'))


@pytest.mark.parametrize(
  'text, options, message',
  [
    ('1 2 3\n', {}, 'no `::`, tab or comma'),
    ('1,2,3,4\n', {}, 'with a header, pass --user_column'),
    ('1::2::3\n', {}, 'which of its 3 columns'),
    ('1::2\n', {'log_format': 'parquet'}, 'is no Parquet file'),
    ('1::2\n', {'columns': ('user',)}, 'expected user and item once each'),
    ('1::2\n', {'columns': ('user', 'user')}, 'expected user and item once each'),
    ('1::2\n', {'columns': ('user', 'thing')}, 'expected user and item once each'),
    ('1::2\n', {'columns': ('user', 'item', '_')}, 'names 3 columns, but .* has 2'),
    ('user,item\n', {'names': {'user': 'who'}}, "no column 'who'"),
    ('user,item\n', {'names': {'rating': 'stars'}}, "no column 'stars'"),
    ('who,item\n', {'names': {'item': 'item'}}, "no column 'for the user'"),
    ('1,2\n', {'columns': ('user', 'item'), 'names': {'user': 'u'}}, 'one of them'),
  ],
)
def test_what_cannot_be_told_is_refused(tmp_path, text, options, message):
  with pytest.raises(UserError, match=f'(?i){message}') as caught:
    schema.resolve(write(tmp_path, text), **options)
  assert '\n' not in str(caught.value)


@pytest.mark.parametrize(
  'value, kind',
  [
    ('978300760', None),
    ('-3', None),
    ('', None),
    ('2020', None),
    ('2020-01-02', pa.timestamp('us')),
    (' 2020-01-02 03:04:05.678901 ', pa.timestamp('us')),
    ('2020-01-02T03:04:05Z', pa.timestamp('us', 'UTC')),
    ('2020-01-02T03:04:05+01:00', pa.timestamp('us', 'UTC')),
    ('2 January 2020', None),
  ],
)
def test_iso_type(value, kind):
  assert schema.iso_type(value) == kind
