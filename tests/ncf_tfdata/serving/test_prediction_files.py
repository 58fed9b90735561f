"""Files of other systems: each form holds the same rows, a wrong one is told."""

import gzip
import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ncf_tfdata.errors import UserError
from ncf_tfdata.serving import list_files, prediction_files, recommendation_files

_ROWS = [('7', 'a', 2.5), ('7', '2012-01-01', 1.0), ('ключ', 'b', -3.0)]
_USERS, _ITEMS, _SCORES = (list(column) for column in zip(*_ROWS, strict=True))
_BY_USER = [
  {'user': '7', 'items': ['a', '2012-01-01'], 'scores': [2.5, 1]},
  {'user': 'ключ', 'items': ['b'], 'scores': [-3.0]},
]


def _text(mark, header=None):
  lines = [mark.join(map(str, row)) for row in _ROWS]
  return '\n'.join([*([header] if header else []), *lines, '']).encode()


def _json(rows):
  return ''.join(json.dumps(row) + '\n' for row in rows).encode()


def _parquet(columns):
  stream = io.BytesIO()
  pq.write_table(pa.table(columns), stream)
  return stream.getvalue()


_NAMED = {'user_id': _USERS, 'item_id': _ITEMS, 'prediction': _SCORES}
_FORMS = {
  'csv': _text(','),
  'csv with a header': _text(',', 'user_id,item_id,score'),
  'csv with our header': _text(',', 'user,item,score'),
  'csv in another order': b'extra,score,ITEM,userId\n'
  + b''.join(f'x,{s},{i},{u}\n'.encode() for u, i, s in _ROWS),
  'csv of windows': b'\xef\xbb\xbf' + _text(',').replace(b'\n', b'\r\n'),
  'csv with quotes': ''.join(f'"{u}","{i}",{s}\n' for u, i, s in _ROWS).encode(),
  'csv with blank lines': b'\n\n' + _text(',').replace(b'\n', b'\n\n'),
  'tsv': _text('\t'),
  '::': _text('::'),
  ':: with a header': _text('::', 'user::item::est'),
  'json rows': _json({'uid': u, 'iid': i, 'score': s} for u, i, s in _ROWS),
  'json lists': _json(_BY_USER),
  'json lists, the first one empty': _json(
    [{'user': 'x', 'items': [], 'scores': []}, *_BY_USER]
  ),
  'parquet rows': _parquet(_NAMED),
  'parquet dictionaries': _parquet(
    _NAMED | {'user_id': pa.array(_USERS).dictionary_encode()}
  ),
  'parquet lists': _parquet(
    {name: [row[name] for row in _BY_USER] for name in _BY_USER[0]}
  ),
  'parquet large lists': _parquet(
    {
      'user': _USERS[1:],
      'items': pa.array([_ITEMS[:2], _ITEMS[2:]], pa.large_list(pa.large_string())),
      'scores': [_SCORES[:2], _SCORES[2:]],
    }
  ),
}


@pytest.mark.parametrize('packed', [False, True], ids=['plain', 'gz'])
@pytest.mark.parametrize('form', _FORMS)
def test_each_form_holds_the_same_rows(form, packed, tmp_path):
  path = tmp_path / 'predictions'
  content = _FORMS[form]
  path.write_bytes(gzip.compress(content) if packed else content)
  found = prediction_files.read(path)
  assert found.user.to_pylist() == _USERS
  assert found.item.to_pylist() == _ITEMS
  assert found.score.tolist() == _SCORES
  assert found.rank is None


@pytest.mark.parametrize('suffix', list_files.FORMATS)
@pytest.mark.parametrize('named', [False, True])
def test_what_recommend_writes_is_read_as_it_is(suffix, named, tmp_path):
  names = {'a': 'A, "title"'} if named else None
  labels = recommendation_files.Labels(['a', 'b', 'c'], names)
  item = np.array([[2, 0], [1, -1]])
  score = np.array([[0.1, 0.05], [1e-7, 0]], np.float32)
  lists = recommendation_files.Lists(
    ['1', '2'],
    labels.key[item],
    score,
    np.array([True, False]),
    labels.name[item] if named else None,
  )
  path = tmp_path / f'lists{suffix}'
  path.write_bytes(
    list_files.encode(suffix, recommendation_files.types(named), [lists])
  )
  found = prediction_files.read(path)
  assert found.user.to_pylist() == ['1', '1', '2']
  assert found.item.to_pylist() == ['c', 'a', 'b']
  np.testing.assert_array_equal(found.score.astype(np.float32), score.ravel()[:3])
  if suffix == '.jsonl':
    assert found.rank is None
  else:
    assert found.rank.tolist() == [1, 2, 1]


def test_numbers_are_ids_as_they_stand_in_the_log(tmp_path):
  path = tmp_path / 'predictions'
  big = 2**60 + 1
  for content in (
    _parquet({'user': [1, big], 'item': [3, 4]}),
    _json([{'user': 1, 'item': 3}, {'user': big, 'item': 4}]),
    f'1,3\n{big},4'.encode(),
  ):
    path.write_bytes(content)
    found = prediction_files.read(path)
    assert found.user.to_pylist() == ['1', str(big)]
    assert found.item.to_pylist() == ['3', '4']
    assert found.score is None and found.rank is None
  path.write_bytes(_parquet({'user': [1.0, 2.0], 'item': ['007', '8']}))
  found = prediction_files.read(path)
  assert found.user.to_pylist() == ['1', '2']
  assert found.item.to_pylist() == ['007', '8']


def test_a_fourth_column_is_the_rank(tmp_path):
  path = tmp_path / 'predictions'
  path.write_text('1,a,0.5,2\n1,b,0.5,1\n')
  assert prediction_files.read(path).rank.tolist() == [2, 1]


_WRONG = {
  'one column': (b'a\nb\n', 'one column'),
  'no rows': (b'', 'holds no rows'),
  'a header alone': (b'user,item\n', 'holds no rows'),
  'no item': (b'user,score\n1,2\n', 'no column item: received user, score'),
  'unknown header': (b'who,what,how\n1,a,2\n', 'how'),
  'five columns': (b'1,a,2,3,4\n', '5 columns and no header'),
  'a line too short': (b'1,a,2\n1,b\n', 'Expected 3 columns, got 2'),
  'score missing': (b'user,item,score\n1,a,\n', '1 rows whose score is no'),
  'score nan': (b'1,a,nan\n', '1 rows whose score is no'),
  'score inf': (b'1,a,-inf\n', '1 rows whose score is no'),
  'not utf-8': (b'1,\xff,2\n', 'UTF8'),
  'half of a gzip file': (gzip.compress(_text(','))[:-9], 'not a whole gzip file'),
  'half of a parquet file': (_parquet(_NAMED)[:-9], 'not a file of predictions'),
  'json array': (b'[{"user": 1}]', 'JSON array'),
  'not json': (b'{"user": 1,\n', 'JSON lines'),
  'json of two types': (
    _json([{'user': 1, 'item': 1}, {'user': 'a', 'item': 2}]),
    'user',
  ),
  'json without a user': (
    _json([{'user': 1, 'item': 1}, {'item': 2}]),
    '1 rows without user',
  ),
  'lists of two lengths': (
    _json([{'user': 1, 'items': [1, 2], 'scores': [1]}]),
    'lists of score that are not as long',
  ),
  'users that are lists': (_parquet({'user': [[1]], 'item': [2]}), 'no ids'),
  'users that are fractions': (_parquet({'user': [1.5], 'item': [2]}), 'not a file of'),
}


@pytest.mark.parametrize('kind', _WRONG)
def test_a_wrong_file_is_told_in_one_line(kind, tmp_path):
  content, told = _WRONG[kind]
  path = tmp_path / 'predictions'
  path.write_bytes(content)
  with pytest.raises(UserError) as raised:
    prediction_files.read(path)
  line = str(raised.value)
  assert told in line
  assert str(path) in line
  assert '\n' not in line


def test_no_file_and_a_folder_are_told(tmp_path):
  with pytest.raises(UserError, match='No such file'):
    prediction_files.read(tmp_path / 'none')
  with pytest.raises(UserError, match='cannot read'):
    prediction_files.read(tmp_path)
