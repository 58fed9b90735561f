"""What is no ratings log is told in one line: what it is, and what to do."""

import bz2
import gzip
import io
import lzma
import os
import pathlib
import shutil
import tarfile
import tempfile
import zipfile

import prepared
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_pipelines import files, range_reader, ratings, schema
from ncf_tfdata.errors import UserError

_LINES = b'1::2::3::4\n' * 9
_NOBODY = 65534


def refused(path: object, *columns: str) -> str:
  """The line that a log is refused with before any job."""
  with pytest.raises(UserError) as caught:
    schema.of_sources(files.match(str(path)), columns=columns)
  assert '\n' not in str(caught.value)
  return str(caught.value)


def rows(path: object) -> list[tuple[str, str]]:
  """The users and items of a log."""
  sources = files.match(str(path))
  layout = schema.of_sources(sources)
  return [
    pair
    for file in sources
    for key in files.ranges(file)
    for block in ratings.read(range_reader.RangeReader(key), layout)
    for pair in zip(block.user.to_pylist(), block.item.to_pylist(), strict=True)
  ]


def zipped(content: bytes) -> bytes:
  packed = io.BytesIO()
  with zipfile.ZipFile(packed, 'w') as archive:
    archive.writestr('ratings.dat', content)
  return packed.getvalue()


def tarred(content: bytes, form: int) -> bytes:
  packed = io.BytesIO()
  with tarfile.open(fileobj=packed, mode='w', format=form) as archive:
    info = tarfile.TarInfo('ratings.dat')
    info.size = len(content)
    archive.addfile(info, io.BytesIO(content))
  return packed.getvalue()


def parquet(**columns) -> bytes:
  packed = io.BytesIO()
  pq.write_table(pa.table(columns), packed)
  return packed.getvalue()


@pytest.mark.parametrize(
  'content, message',
  [
    (zipped(_LINES), 'is a zip archive, expected text, gzip or Parquet. Unpack it'),
    (tarred(_LINES, tarfile.GNU_FORMAT), 'is a tar archive'),
    (tarred(_LINES, tarfile.PAX_FORMAT), 'is a tar archive'),
    (bz2.compress(_LINES), 'is a bzip2 file'),
    (lzma.compress(_LINES), 'is an xz file'),
    (b'\x28\xb5\x2f\xfd' + _LINES, 'is a Zstandard file'),
    (_LINES.decode().encode('utf-16'), 'is text in UTF-16'),
    (gzip.compress(gzip.compress(_LINES)), 'is a gzip file within a gzip file'),
    (gzip.compress(zipped(_LINES)), 'is a zip archive within a gzip file'),
    (gzip.compress(tarred(_LINES, tarfile.GNU_FORMAT)), 'is a tar archive within'),
    (gzip.compress(parquet(user=[1], item=[2])), 'is a Parquet file within a gzip'),
    (b'user,item\r1,2\r1,3\r', 'ends its lines with bare carriage returns'),
    (b'1::2\r1::3\r', 'ends its lines with bare carriage returns'),
    (gzip.compress(b'user,item\r' + b'1,2\r' * 3000), 'bare carriage returns'),
    (b'user,item,a\rb\n1,2,3\n', 'cannot be split into fields: new-line character'),
    (b'user,item,' + b'x' * 200_000 + b'\n1,2,3\n', 'cannot be split into fields'),
    (b'user,item,"no\nte"\n1,2,3\n', 'goes on after a line end within quotes'),
    (b'user,item,"no\nte,b,c"\n1,2,3\n', 'goes on after a line end within quotes'),
    (b'user,item\n', 'holds a header and no line after it: expected ratings'),
    (b'user,item\r\n\r\n\n', 'holds a header and no line after it'),
    (gzip.compress(b'user,item'), 'holds a header and no line after it'),
    (parquet(user=[], item=[]), 'holds a header and no line after it'),
    (b'\n\r\n', 'holds no line that is not blank'),
    (gzip.compress(b''), 'holds no line that is not blank'),
  ],
  # Archives hold the time, and both processes of a run must name a test alike.
  ids=lambda value: 'log' if isinstance(value, bytes) else value,
)
def test_what_is_no_log(tmp_path, content, message):
  (tmp_path / 'log').write_bytes(content)
  line = refused(tmp_path / 'log')
  assert str(tmp_path / 'log') in line
  assert message in line
  assert len(line) < 500


def test_marks_of_other_kinds_may_stand_in_a_log(tmp_path):
  for content in (b'PK::2\n', b'\xff::2\n1::2\n', b'BZh1::1AY\n', b'7z::2\n'):
    (tmp_path / 'log').write_bytes(content)
    schema.of_sources(files.match(str(tmp_path / 'log')))
  (tmp_path / 'log').write_bytes(b'1::m\n' + b'x' * 252 + b'ustar::2\n')
  assert len(rows(tmp_path / 'log')) == 2


def test_a_long_header_is_told_in_part(tmp_path):
  (tmp_path / 'log').write_text(','.join(f'column{i}' for i in range(9000)) + '\n1\n')
  assert len(refused(tmp_path / 'log')) < 500
  (tmp_path / 'a').write_text('user,item\n1,2\n')
  layout = schema.of_sources(files.match(str(tmp_path / 'a')))
  with pytest.raises(UserError, match=r'received the header column0, .*…') as caught:
    layout.positions(str(tmp_path / 'log'))
  assert len(str(caught.value)) < 700


def test_a_second_line_that_is_no_csv_is_no_example(tmp_path):
  for second in (b'1,2,"' + b'x' * 200_000, b'1,2,3\r4'):
    (tmp_path / 'log').write_bytes(b'user,item,ts\n' + second + b'\n1,2,3\n')
    layout = schema.of_sources(files.match(str(tmp_path / 'log')))
    assert layout.iso_timestamps is None


def test_files_without_rows_beside_one_with_rows(tmp_path):
  (tmp_path / 'part-0.gz').write_bytes(gzip.compress(b''))
  (tmp_path / 'part-1').write_bytes(b'\n\n')
  (tmp_path / 'part-2').write_bytes(b'user,item\n')
  (tmp_path / 'part-3').write_bytes(b'item,user\n1,2\n')
  (tmp_path / 'part-4').write_bytes(b'user,item\n')
  assert rows(tmp_path) == [('2', '1')]
  (tmp_path / 'part-3').write_bytes(b'user,item\n')
  assert 'a header and no line after it, like all other files' in refused(tmp_path)
  for path in sorted(tmp_path.iterdir())[2:]:
    path.write_bytes(b'\n')
  assert 'part-4 holds no line that is not blank' in refused(tmp_path)


def test_a_broken_link_is_named(tmp_path):
  folder = tmp_path / 'log'
  folder.mkdir()
  (folder / 'part-0').write_bytes(_LINES)
  (folder / 'part-1').symlink_to(tmp_path / 'gone')
  (folder / '_SUCCESS').symlink_to(tmp_path / 'gone')
  message = f'cannot read {folder}/part-1, a link to {tmp_path}/gone: there is no such'
  for source in (folder, f'{folder}/', f'{folder}/p*', folder / 'part-1'):
    assert message in refused(source)
  # Beside a MovieLens download nothing else is read.
  (folder / 'ratings.dat').write_bytes(_LINES)
  assert len(rows(folder)) == 9
  (folder / 'ratings.dat').unlink()
  (folder / 'ratings.dat').symlink_to(tmp_path / 'gone')
  assert f'cannot read {folder}/ratings.dat, a link' in refused(folder)
  for name in ('part-1', 'ratings.dat'):
    (folder / name).unlink()
  (tmp_path / 'there').write_bytes(_LINES)
  (folder / 'part-1').symlink_to(tmp_path / 'there')
  assert len(rows(folder)) == 18


def test_a_folder_without_data_says_what_it_is(tmp_path):
  assert 'is an empty folder' in refused(tmp_path)
  assert 'is an empty folder' in refused(f'{tmp_path}/')
  (tmp_path / 'README').write_bytes(_LINES)
  (tmp_path / 'more').mkdir()
  assert 'a folder of 2 names, none of which is that of a data file' in refused(
    tmp_path
  )
  assert 'does not exist' in refused(tmp_path / 'none')
  assert 'does not exist' in refused(tmp_path / 'README' / 'none')
  (tmp_path / 'log').touch()
  assert 'holds no data' in refused(tmp_path)


def test_a_pattern_in_the_working_directory(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  pathlib.Path('part-1.tsv').write_text('1\t2\n')
  assert rows('part-*.tsv') == [('1', '2')]


@pytest.fixture
def folder_of_another():
  """A folder that everyone may enter, and nobody but its owner write to."""
  path = pathlib.Path(tempfile.mkdtemp())
  path.chmod(0o755)
  yield path
  shutil.rmtree(path)


@pytest.fixture
def without_rights():
  """Takes root's rights, under which every file can be read."""
  if os.geteuid():
    yield
    return
  os.seteuid(_NOBODY)
  try:
    yield
  finally:
    os.seteuid(0)


def test_an_unreadable_file_is_named(folder_of_another, request):
  log = folder_of_another / 'log'
  log.write_bytes(_LINES)
  log.chmod(0)
  closed = folder_of_another / 'closed'
  closed.mkdir(0)
  (file,) = files.match(str(log))
  request.getfixturevalue('without_rights')
  message = f'cannot read {log}: Permission denied.'
  assert message == refused(log)
  assert 'closed cannot be listed (Permission denied)' in refused(closed)
  for kind in (files.TEXT, files.GZIP):
    reader = range_reader.RangeReader((0, 0, file.size, kind, file.path))
    with pytest.raises(UserError, match=message):
      list(reader.lines())
  with pytest.raises(UserError, match=message):
    list(range_reader.RangeReader((0, 0, 1, files.PARQUET, file.path)).tables(['user']))


def test_an_error_while_reading_names_the_file(tmp_path):
  # A folder can be opened on some systems, and read on none.
  with pytest.raises(UserError, match=f'cannot read {tmp_path}: '):
    list(range_reader.RangeReader((0, 0, 9, files.TEXT, str(tmp_path))).lines())


@pytest.mark.slow
def test_the_command_says_it_in_one_line(tmp_path):
  """What only the job would find, or what Beam would make a traceback of."""
  folder = os.fsencode(tmp_path / 'log')
  os.mkdir(folder)
  output = f'--output={tmp_path / "out"}'

  def write(name: bytes, content: bytes):
    with open(os.path.join(folder, name), 'wb') as stream:
      stream.write(content)

  def line() -> str:
    return prepared.refused(f'--input={tmp_path / "log"}', output, *prepared.TOY)

  write(b'part-0', b'user,item\n')
  done = prepared.run(f'--input={tmp_path / "log"}', output)
  assert 'holds a header and no line after it' in prepared.error_line(done)
  assert not done.stdout  # no job was begun
  write(b'part-0', b'user,item\n1,2\n')
  write(b'part-1', zipped(_LINES))
  assert 'part-1 is a zip archive, expected text' in line()
  write(b'part-1', b'user,item\r1,2\r')
  assert 'part-1 ends its lines with bare carriage returns' in line()
  write(b'p\xe4rt-1', b'user,item\n1,2\n')
  assert r'p\xe4rt-1 is not UTF-8. Rename it' in line()
  assert sorted(os.listdir(tmp_path)) == ['log']
