"""Files of features: their columns and kinds, their rows, and those that are none."""

import csv
import gzip
import io
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import toy_features
from hypothesis import given
from hypothesis import strategies as st

from ncf_tfdata.errors import UserError
from ncf_tfdata.features import files as feature_files
from ncf_tfdata.features import layout as feature_layout
from ncf_tfdata.features import rows as feature_rows
from ncf_tfdata.features import text as feature_text
from ncf_tfdata.features import values as feature_values
from ncf_tfdata.features.columns import FeatureColumn, FeatureTable
from ncf_tfdata.features.layout import Wish
from ncf_tfdata.features.records import Features, Texts, Vectors

_MOVIES = (
  '1::Heat (1995)::Action|Crime\n2::Amélie (2001)::Comedy\n3::Foo::Comedy|Action\n'
)


def _read(content: bytes, *columns: str, role: str = 'item', **wish):
  """The layout of a file, its rows as lists, and what is wrong with the others."""
  stream = io.BytesIO(content)
  layout = feature_layout.resolve(stream, 'x', Wish(role, columns, **wish))
  rows, bad = {}, []
  for block in feature_rows.read(stream, 'x', layout):
    values = [column.to_pylist() for column in block.values]
    lists = zip(block.number.tolist(), block.keys.to_pylist(), *values, strict=True)
    rows |= {number: row for number, *row in lists}
    bad += zip(block.bad, block.reasons, strict=True)
  return layout, rows, bad


def _kinds(layout) -> list[str]:
  return [f'{column.name}:{column.kind}{column.dim or ""}' for column in layout.columns]


def test_movielens_is_known_by_its_columns():
  layout, rows, bad = _read(_MOVIES.encode('latin-1'), encoding='latin-1')
  assert _kinds(layout) == ['title:text', 'genres:category']
  assert layout.positions == ('item', 'title:text', 'genres:category')
  assert rows == {
    1: ['1', 'Heat (1995)', ['Action', 'Crime']],
    2: ['2', 'Amélie (2001)', ['Comedy']],
    3: ['3', 'Foo', ['Comedy', 'Action']],
  }
  assert not bad
  layout, rows, bad = _read(_MOVIES.encode('latin-1'))
  assert list(rows) == [1, 3]
  assert bad == [(2, 'title is not UTF-8')]
  layout, rows, _ = _read(b'7::F::25::3::x\n', role='user')
  assert _kinds(layout)[-1] == 'zip:category'
  assert rows == {1: ['7', ['F'], ['25'], ['3'], ['x']]}


_TEXT = (
  b'sku,price,name,tags,embedding\n'
  b'a,1.5,"A, the first",x|y,1 2 3\n'
  b'b,,"two\nlines",y|x|y,"[4, 5, 6]"\n'
  b'\n'
  b'c,nan,,,\n'
  b'd,-2e1,"say ""hi""", x | | y,7 8 9\n'
)


@pytest.mark.parametrize('pack', [bytes, gzip.compress])
def test_kinds_are_found_out(pack):
  layout, rows, bad = _read(pack(_TEXT))
  assert layout.key == 'sku'
  assert not layout.positions
  assert _kinds(layout) == [
    'price:number',
    'name:text',
    'tags:category',
    'embedding:vector3',
  ]
  assert str(layout).startswith('csv, item=sku: price number, name text, tags category')
  assert not bad
  assert list(rows) == [2, 3, 4, 5]
  assert rows[2] == ['a', 1.5, 'A, the first', ['x', 'y'], [1, 2, 3]]
  assert rows[3][2:] == ['two\nlines', ['y', 'x'], [4, 5, 6]]
  assert rows[4][2:] == ['', [], []]
  assert np.isnan([rows[3][1], rows[4][1]]).all()
  assert rows[5][1:] == [-20, 'say "hi"', ['x', 'y'], [7, 8, 9]]


def test_a_tab_separated_file_has_no_quotes():
  _, rows, bad = _read(b'key\tname\n1\t"a\n2\tb"\r\n3\tx\ty\n')
  assert rows == {2: ['1', '"a'], 3: ['2', 'b"']}
  assert bad == [(4, 'expected 2 fields, found 3')]


def test_columns_are_taken_by_name_or_by_place():
  layout, rows, _ = _read(_TEXT, 'tags:text', 'name')
  assert _kinds(layout) == ['tags:text', 'name:text']
  assert rows[3] == ['b', 'y|x|y', 'two\nlines']
  layout, rows, _ = _read(_TEXT, 'item', '_', 'title:text', '_', '_')
  assert layout.positions == ('item', '_', 'title:text', '_', '_')
  assert rows[1] == ['sku', 'name']
  layout, rows, _ = _read(_TEXT, 'price', key='name')
  assert rows[2] == ['A, the first', 1.5]
  assert list(rows) == [2, 3, 5]
  layout, *_ = _read(b'item_id:token\tgenre of it:token_seq\n1\ta\n2\ta\n')
  assert _kinds(layout) == ['genre_of_it:category']


def test_rows_that_are_none_are_numbered_and_told():
  content = (
    b'key,n,v,t\n'
    b'1,x,1 2,a\n'
    b'2,1,1 2 3,a\n'
    b',1,1 2,a\n'
    b'short\n'
    b'5,1,1 nan,a\n'
    b'6,1e99,1 2,a\n'
    b'7,1,1 2,\xff\n'
    b'8,1,1 2,' + b'a' * (feature_values.MAX_TEXT + 1) + b'\n'
    b'9,1,1 2,good\n'
    b'10,1,1 2,b,\n'
  )
  _, rows, bad = _read(content, 'n:number', 'v:vector', 't:text')
  assert rows == {10: ['9', 1, [1, 2], 'good']}
  assert [number for number, _ in bad] == [2, 3, 4, 5, 6, 7, 8, 9, 11]
  reasons = dict(bad)
  assert reasons[2] == "n 'x' is not a number"
  assert reasons[3] == "v '1 2 3' is not a vector of 2 numbers"
  assert reasons[4] == 'empty item'
  assert reasons[5] == 'expected 4 fields, found 1'
  assert reasons[6] == "v '1 nan' is not a vector of 2 numbers"
  assert reasons[7] == "n '1e99' is not a number"
  assert reasons[8] == 't is not UTF-8'
  assert reasons[9].endswith(
    'is not a text of up to 65,536 bytes: is a quote not closed?'
  )
  assert reasons[11] == 'expected 4 fields, found 5'


_CELLS = st.text('ab,"|\n é1.', max_size=6)


@given(
  st.lists(st.tuples(st.text('xyé, "', min_size=1), _CELLS, _CELLS), max_size=8),
  st.integers(1, 64),
)
def test_rows_are_those_of_another_reader(rows, block):
  """Whatever Python's csv writes, however the file is cut into blocks."""
  stream = io.StringIO()
  csv.writer(stream, lineterminator='\n').writerows([('key', 'a', 'b'), *rows])
  content = stream.getvalue().encode()
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(feature_text, '_BLOCK_BYTES', 400 + block)
    _, found, bad = _read(content, 'a:text', 'b:category')
  assert not bad
  expected = [
    [key, text, list(dict.fromkeys(filter(None, map(str.strip, tags.split('|')))))]
    for key, text, tags in rows
  ]
  assert list(found.values()) == expected
  assert list(found) == list(range(2, len(rows) + 2))


_COLONS = ('1::a::b', '2:::c:::', '3::x', '::::', '4::a::b::c')


@given(st.lists(st.sampled_from(_COLONS), max_size=12), st.integers(16, 40))
def test_colons_are_split_as_python_splits_them(lines, block):
  """However the file is cut into blocks."""
  lines = ['0::t::u', *lines]
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(feature_text, '_BLOCK_BYTES', block)
    content = '\n'.join(lines).encode()
    _, rows, bad = _read(content, 'item', 'a:text', 'b:text')
  expected = {number: line.split('::') for number, line in enumerate(lines, 1)}
  good = {n: row for n, row in expected.items() if len(row) == 3 and row[0]}
  assert rows == good
  assert sorted(number for number, _ in bad) == sorted(set(expected) - set(good))


def test_who_looks_at_the_beginning_takes_nothing_from_who_reads_on(monkeypatch):
  """A reader that is left reads ahead in its own thread, of the same stream."""

  class Slow(io.BytesIO):
    is_read = False

    def read(self, size=-1):
      self.is_read = True
      time.sleep(0.05)
      piece = super().read(size)
      self.is_read = False
      return piece

  monkeypatch.setattr(feature_text, '_BLOCK_BYTES', 32)
  stream = Slow(b''.join(b'%d::a title::war\n' % number for number in range(400)))
  for _ in range(5):
    feature_rows.head(stream, 'x', 'utf-8')
    assert not stream.is_read


@given(
  st.lists(st.lists(st.sampled_from(['a', 'b', '', ' c ']), max_size=4), max_size=6),
  st.lists(st.none() | st.floats(width=32, allow_infinity=False), max_size=6),
)
def test_parquet_gives_what_its_lists_hold(tags, numbers):
  size = min(len(tags), len(numbers))
  tags, numbers = tags[:size], numbers[:size]
  table = pa.table(
    {
      'id': pa.array(range(size), pa.int64()),
      'tags': pa.array(tags, pa.list_(pa.string())).cast(pa.large_list(pa.string())),
      'number': pa.array(numbers, pa.float64()),
      'flag': pa.array([True] * size, pa.bool_()),
      'when': pa.array([0] * size, pa.timestamp('s')),
    }
  )
  sink = io.BytesIO()
  pq.write_table(table, sink, row_group_size=2)
  layout, rows, bad = _read(sink.getvalue())
  assert _kinds(layout) == ['tags:category', 'number:number', 'flag:number']
  assert layout.left_out == ('when',)
  assert not bad
  assert [row[0] for row in rows.values()] == [str(i) for i in range(size)]
  assert [row[1] for row in rows.values()] == [
    list(dict.fromkeys(filter(None, map(str.strip, row)))) for row in tags
  ]
  np.testing.assert_array_equal(
    np.array([row[2] for row in rows.values()], np.float32),
    np.array([np.nan if n is None else n for n in numbers], np.float32),
  )


@pytest.mark.parametrize(
  'kind',
  [pa.list_(pa.float32()), pa.list_(pa.float64(), 2), pa.large_list(pa.float16())],
)
def test_parquet_gives_vectors(kind):
  # Arrow cannot read back a null among lists of one size.
  is_fixed = pa.types.is_fixed_size_list(kind)
  values = [[1, 2], [0, 0] if is_fixed else None, [3.5, 4]]
  vectors = pa.array(values, pa.list_(pa.float32())).cast(pa.list_(kind.value_type))
  sink = io.BytesIO()
  pq.write_table(pa.table({'id': ['a', 'b', 'c'], 'v': vectors.cast(kind)}), sink)
  layout, rows, bad = _read(sink.getvalue())
  assert _kinds(layout) == ['v:vector2']
  assert [row[1] for row in rows.values()] == [value or [] for value in values]
  sink = io.BytesIO()
  odd = pa.array([[1.0, 2.0], [1.0], [None, 1.0], [float('nan'), 1.0]])
  pq.write_table(pa.table({'id': [1, 2, 3, None], 'v': odd}), sink)
  _, rows, bad = _read(sink.getvalue())
  assert list(rows) == [1]
  assert [number for number, _ in bad] == [2, 3, 4]
  assert dict(bad)[2] == "v '[1.0]' is not a vector of 2 numbers"
  assert dict(bad)[4] == 'item is missing'


@pytest.mark.parametrize(
  'content, columns, message',
  [
    (b'', (), 'holds no line that is not blank'),
    (b'\n\n', (), 'holds no line that is not blank'),
    (b'abc\n', (), 'no `::`, tab or comma in it'),
    (b'a,b\n', ('c', 'd', 'e'), 'names 3 columns, and not all of them stand in'),
    (b'a,b\n', ('x', 'y'), 'none of them is the key. Call its column item'),
    (b'a::b\n', (), 'what its 2 columns are cannot be told'),
    (b'a,a b,a-b\n1,2,3\n', (), "2 columns that would be called 'a_b'"),
    (b'a,item\n1,2\n', (), "2 columns that would be called 'item'"),
    (b'a,t,t_length\n1,x|x|x,3\n', ('t:category', 't_length'), "'t_length'"),
    (b'a,b\n1,\n', (), 'has no column of features beside its key'),
    (b'a,b\n1,\n', ('b:vector',), 'tells how long its vectors are'),
    (b'a,b\n1,\n', ('b',), 'tells its kind'),
    (
      gzip.compress(b'a,b\n1,2\n', mtime=0)[:-4],
      (),
      'to its end: Compressed file ended',
    ),
    (b'PAR1 and no more', (), 'cannot read x'),
  ],
)
def test_files_that_cannot_be_read_are_told(content, columns, message):
  with pytest.raises(UserError) as caught:
    _read(content, *columns)
  assert message in str(caught.value)
  assert '\n' not in str(caught.value)


def test_a_quote_that_is_never_closed_is_told(monkeypatch):
  monkeypatch.setattr(feature_text, '_BLOCK_BYTES', 100)
  with pytest.raises(UserError, match=r'more than 16 MiB: is a quote not closed\?'):
    _read(b'a,b\n1,"x\n' + b'2,y\n' * 100, 'b:text')


@pytest.mark.parametrize(
  'cells, kind',
  [
    (['1', '', 'nan', '2.5'], 'number'),
    (['a|b', 'b', 'a'], 'category'),
    (['a', 'b', 'c'], 'text'),
    (['1 2', '3,4'], 'vector'),
    (['1 2', 'x'], 'text'),
    (['', ' '], None),
  ],
)
def test_the_kind_of_texts(cells, kind):
  found = feature_values.find('x', pa.array(cells), splits=True)
  assert (found and found.kind) == kind


_TABLE = {
  'name': 'movies.dat', 'bytes': 0, 'sha256': '', 'read': 0, 'rejected': 0,
  'repeated': 0, 'forgotten': 0, 'matched': 0, 'unmatched': 0, 'without_features': 0,
}  # fmt: skip


def _dataset_features() -> tuple[FeatureTable, Features]:
  genres = toy_features.categories('genres', [['Drama'], ['War', 'Drama'], []])
  columns = (
    genres,
    toy_features.numbers('year', [1990, 1994, np.nan]),
    Texts('title', [b'a', b'b', b'']),
    Vectors('v', np.ones((3, 2), np.float32), np.ones(3, bool)),
  )
  described = (
    FeatureColumn('genres', 'category', values=2),
    FeatureColumn('year', 'number', mean=1992.0, stddev=2.0),
    FeatureColumn('title', 'text'),
    FeatureColumn('v', 'vector', dim=2),
  )
  return FeatureTable(**_TABLE, columns=described), Features(3, columns)


def test_new_items_are_read_by_the_columns_of_the_dataset(tmp_path):
  path = tmp_path / 'new.csv'
  path.write_text(
    'item,title,v,genres,year,more\n'
    'x,Neu,1 2,War|Opera|Drama,1996,1\n'
    'y,,,Opera,,2\n'
  )  # fmt: skip
  keys, found, unknown = feature_files.read(str(path), *_dataset_features())
  assert keys == ('x', 'y')
  genres, year, title, vectors = found.columns
  assert [genres.vocabulary[value] for value in genres.values] == ['War', 'Drama']
  assert genres.lengths.tolist() == [2, 0]
  assert unknown == {'genres': 2}
  np.testing.assert_array_equal(year.values, np.float32([1996, np.nan]))
  assert (year.mean, year.stddev) == (1992.0, pytest.approx(2.0))
  assert title.values == [b'Neu', b'']
  np.testing.assert_array_equal(vectors.values, [[1, 2], [0, 0]])
  assert vectors.known.tolist() == [True, False]


def test_new_items_without_a_header_stand_as_the_others_did(tmp_path):
  table = FeatureTable(
    **_TABLE,
    columns=(FeatureColumn('title', 'text'), FeatureColumn('genres', 'category')),
    positions=('item', 'title:text', 'genres:category'),
    encoding='latin-1',
  )
  _, features = _dataset_features()
  columns = (features.column('title'), features.column('genres'))
  path = tmp_path / 'new.dat'
  path.write_bytes('9::Été::War\n'.encode('latin-1'))
  keys, found, unknown = feature_files.read(str(path), table, Features(3, columns))
  assert keys == ('9',)
  assert found.column('title').values == ['Été'.encode()]
  assert not unknown


@pytest.mark.parametrize(
  'text, message',
  [
    ('item,title,v,genres,year\nx,t,1 2,,x\n', r"row 2: year 'x' is not a number"),
    ('item,title,v,genres,year\nx,t,1,,1\n', r'row 2: v .* is not a vector of 2'),
    ('item,title,v,genres,year\nx,,,,\nx,,,,\n', "two rows of item 'x'"),
    ('item,title,v,genres,year\n', 'holds no item'),
    ('item,title\nx,t\n', 'names 4 columns'),
    (None, 'does not exist: expected a file of new items'),
  ],
)
def test_new_items_that_are_no_good_are_told(tmp_path, text, message):
  path = tmp_path / 'new.csv'
  if text is not None:
    path.write_text(text)
  with pytest.raises(UserError, match=message):
    feature_files.read(str(path), *_dataset_features())
