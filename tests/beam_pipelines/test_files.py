"""Every way of cutting sources into ranges gives each line once."""

import gzip
import io
import itertools
import pathlib

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_pipelines import files, range_reader
from ncf_tfdata.errors import UserError

_PIECES = st.sampled_from([
    b'a', b'1::2::3::4', b'\n', b'\r\n', b'\r', b'\n\n', files.BOM, b'x' * 9000, b'\0',
])  # fmt: skip
CONTENT = st.one_of(
  st.lists(_PIECES, max_size=30).map(b''.join), st.binary(max_size=99)
)


def lines_of(path: pathlib.Path, range_bytes: int = files.RANGE_BYTES) -> bytes:
  """What all ranges of a file hold, each block checked to stand at its offset."""
  content = b''
  (file,) = files.match(str(path))
  for key in files.ranges(file, range_bytes):
    for offset, block, *_ in range_reader.RangeReader(key).lines():
      if not content and offset == len(files.BOM):
        content = files.BOM
      if block:
        assert offset == len(content)
      content += block
  return content


@given(CONTENT, st.data())
def test_any_cut_gives_each_line_once_and_in_order(content, data):
  places = st.integers(0, len(content))
  cuts = [0, *sorted(data.draw(st.lists(places, max_size=8))), len(content)]
  found = b''
  for start, end in itertools.pairwise(cuts):
    if start == end:
      continue
    offset, lines = range_reader.read_lines(io.BytesIO(content), start, end)
    if lines:
      assert start <= offset < end
      assert offset == len(found)
      assert lines.endswith(b'\n') or offset + len(lines) == len(content)
      assert offset == 0 or content[offset - 1 : offset] == b'\n'
    found += lines
  assert found == content


@pytest.mark.slow
@given(content=CONTENT.filter(bool), range_bytes=st.integers(1, 200))
def test_ranges_of_a_file_are_its_content(tmp_path_factory, content, range_bytes):
  content = b'::\n' + content  # neither the magic number of another kind nor its lines
  path = tmp_path_factory.mktemp('text') / 'log'
  path.write_bytes(content)
  assert lines_of(path, range_bytes) == content


def test_byte_order_mark_is_left_out_and_counted(tmp_path):
  path = tmp_path / 'log'
  path.write_bytes(files.BOM + b'one\ntwo\n')
  (file,) = files.match(str(path))
  (key,) = files.ranges(file)
  assert list(range_reader.RangeReader(key).lines()) == [(3, b'one\ntwo\n', b'', b'')]
  # A range that begins within the mark has nothing of the first line.
  blocks = [list(range_reader.RangeReader(k).lines()) for k in files.ranges(file, 2)]
  assert [block[:2] for found in blocks for block in found if block.lines] == [
    (3, b'one\n'),
    (7, b'two\n'),
  ]


def test_digest_depends_on_content_only(tmp_path):
  def digest(path, content):
    path.write_bytes(content)
    (file,) = files.match(str(path))
    (key,) = files.ranges(file)
    reader = range_reader.RangeReader(key)
    list(reader.lines())
    return reader.sha256.hexdigest()

  first = digest(tmp_path / 'a', b'1::2\n')
  assert digest(tmp_path / 'b', b'1::2\n') == first
  assert digest(tmp_path / 'c', b'1::3\n') != first


@pytest.mark.parametrize('block_bytes', [1, 2, 7, 1000])
def test_gzip_of_several_members_is_one_stream(tmp_path, monkeypatch, block_bytes):
  monkeypatch.setattr(files, 'RANGE_BYTES', block_bytes)
  content = files.BOM + b'one\n\r\n' + b'two' * 50 + b'\nthree'
  path = tmp_path / 'log.gz'
  path.write_bytes(gzip.compress(content[:9]) + gzip.compress(content[9:]))
  assert lines_of(path) == content


@pytest.mark.parametrize('cut', [3, 12, 40, -9, -4, -1])
def test_truncated_gzip_is_refused(tmp_path, cut):
  path = tmp_path / 'log.gz'
  path.write_bytes(gzip.compress(bytes(range(256)) * 4)[:cut])
  with pytest.raises(UserError, match=r'log\.gz is not a whole gzip file'):
    lines_of(path)


def test_corrupt_gzip_is_refused(tmp_path):
  content = bytearray(gzip.compress(bytes(range(256)) * 4))
  path = tmp_path / 'log.gz'
  for place in range(10, len(content), 7):
    damaged = content.copy()
    damaged[place] ^= 0xFF
    path.write_bytes(damaged)
    with pytest.raises(UserError, match=r'log\.gz is not a whole gzip file'):
      lines_of(path)
    with pytest.raises(UserError, match=r'log\.gz is not a whole gzip file'):
      files.first_lines(str(path), 10**6)


@pytest.mark.parametrize('group_rows', [1, 3, 10, 99])
def test_row_groups_give_each_row_once(tmp_path, group_rows):
  path = tmp_path / 'log.parquet'
  table = pa.table({'user': range(10), 'item': list('abcdefghij')})
  pq.write_table(table, path, row_group_size=group_rows)
  (file,) = files.match(str(path))
  rows = []
  for key in files.ranges(file):
    for first, part in range_reader.RangeReader(key).tables(['item', 'user']):
      assert first == len(rows)
      rows += part.select(['user', 'item']).to_pylist()
  assert rows == table.to_pylist()


def test_damaged_parquet_is_refused(tmp_path):
  path = tmp_path / 'log.parquet'
  pq.write_table(pa.table({'user': range(1000), 'item': range(1000)}), path)
  content = path.read_bytes()
  path.write_bytes(content[:-20])
  (file,) = files.match(str(path))
  with pytest.raises(UserError, match='not a whole Parquet file'):
    list(files.ranges(file))


@pytest.mark.parametrize(
  'content, expected',
  [
    (b'', []),
    (b'a', [b'a']),
    (b'\r\n\n' + b'a\r\nb\n', [b'a', b'b']),
    (files.BOM + b'\na\n\n\nb\nc', [b'a', b'b']),
    (b'a' * 9000 + b'\nb\n', [b'a' * 9000, b'b']),
  ],
)
def test_first_lines(tmp_path, content, expected):
  path = tmp_path / 'log'
  path.write_bytes(content)
  assert files.first_lines(str(path), 2) == expected
  path.write_bytes(gzip.compress(content))
  assert files.first_lines(str(path), 2) == expected


def test_folder_of_files_is_read_in_name_order(tmp_path):
  for name in ('b.tsv', 'a.tsv', '.hidden', '_SUCCESS', 'README.md', 'empty.tsv'):
    (tmp_path / name).write_bytes(b'' if name.startswith('empty') else b'1\t2\n')
  (tmp_path / 'folder.tsv').mkdir()
  found = files.match(str(tmp_path))
  assert [pathlib.Path(file.path).name for file in found] == ['a.tsv', 'b.tsv']
  assert [(file.number, file.size) for file in found] == [(0, 4), (1, 4)]
  assert files.match(f'{tmp_path}/') == found
  assert files.match(f'{tmp_path}/?.tsv') == found
  assert files.match(f'{tmp_path}/.hidden')[0].size == 4


def test_of_a_movielens_folder_only_the_ratings_are_read(tmp_path):
  for name in ('movies.dat', 'ratings.dat', 'users.dat'):
    (tmp_path / name).write_text('1::2\n')
  (file,) = files.match(str(tmp_path))
  assert file.path == str(tmp_path / 'ratings.dat')


def test_nothing_to_read_is_refused(tmp_path):
  (tmp_path / 'empty.dat').touch()
  with pytest.raises(UserError, match='does not exist'):
    files.match(str(tmp_path / 'none.dat'))
  with pytest.raises(UserError, match='holds no data'):
    files.match(str(tmp_path / 'empty.dat'))
  with pytest.raises(UserError, match='holds no data'):
    files.match(str(tmp_path))
  with pytest.raises(UserError, match='cannot list'):
    files.match('nowhere://bucket/log')
