"""Every format, told or found out, gives the same dataset."""

import gzip

import prepared
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ncf_tfdata.dataset import TEST, TRAIN

pytestmark = pytest.mark.slow


def text_log(delimiter, end='\n', header='', order=(0, 1, 2, 3), width=4, last=True):
  lines = [delimiter.join(str(row[i]) for i in order[:width]) for row in prepared.LOG]
  text = end.join([header, *lines] if header else lines)
  return (text + (end if last else '')).encode()


_HEADER = 'timestamp,note,movieId,rating,userId'
_CSV = ''.join(f'{t},x,{i},{r},{u}\n' for u, i, r, t in prepared.LOG).encode()
_QUOTED = ''.join(
  f'"{t}","x, ""y""",{i},"{r}",{u}\r\n' for u, i, r, t in prepared.LOG
).encode()


def _iso(stamp):
  year = 1960 + sorted({row[3] for row in prepared.LOG}).index(stamp)
  return f'{year}-01-02T03:04:05Z'


_FORMATS = {
  'ratings.dat': text_log('::'),
  'crlf.dat': b'\xef\xbb\xbf' + text_log('::', '\r\n', last=False),
  'blank.dat': b'\n' + text_log('::', '\n\r\n\n'),
  'u.data': text_log('\t'),
  'header.csv': _HEADER.encode() + b'\n' + _CSV,
  'quoted.csv': b'\xef\xbb\xbf' + _HEADER.encode() + b'\r\n' + _QUOTED,
  'iso.csv': _HEADER.encode()
  + b'\n'
  + ''.join(f'{_iso(t)},x,{i},{r},{u}\n' for u, i, r, t in prepared.LOG).encode(),
}
_FORMATS |= {
  f'{name}.gz': gzip.compress(_FORMATS[name][:40]) + gzip.compress(_FORMATS[name][40:])
  for name in ('ratings.dat', 'u.data', 'quoted.csv')
}


@pytest.mark.parametrize('name', _FORMATS)
def test_formats(tmp_path, name):
  (tmp_path / name).write_bytes(_FORMATS[name])
  dataset = prepared.prepare(tmp_path / name, tmp_path / 'out', *prepared.TOY)
  assert prepared.histories(dataset) == prepared.ORDER
  assert prepared.counts(dataset, 'read', 'rejected') == [9, 0]


def test_parquet(tmp_path):
  user, item, rating, stamp = zip(*prepared.LOG, strict=True)
  table = pa.table({'ts': stamp, 'stars': rating, 'who': user, 'itemId': item})
  pq.write_table(table, tmp_path / 'log.parquet', row_group_size=2)
  dataset = prepared.prepare(
    tmp_path / 'log.parquet',
    tmp_path / 'out',
    '--user_column=who',
    '--min_rating=2',
    *prepared.TOY,
  )
  assert prepared.histories(dataset) == prepared.ORDER | {'ключ': 'ed'}
  assert prepared.counts(dataset, 'filtered_ratings', 'kept') == [1, 8]


def test_a_folder_without_timestamps_is_taken_in_file_order(tmp_path):
  log = tmp_path / 'log'
  log.mkdir()
  (log / 'README').write_text('user, then item; see the paper\n')
  (log / 'part-1.tsv').write_text('u\td\nu\ta\n')
  (log / 'part-0.tsv.gz').write_bytes(gzip.compress(b'u\tb\r\nu\tc\nv\tx\nv\ty'))
  for source in (log, f'{log}/*.tsv*'):
    dataset = prepared.prepare(source, tmp_path / 'out', '--overwrite', *prepared.TOY)
    assert prepared.histories(dataset) == {'u': 'bcda', 'v': 'xy'}
    assert [s.name for s in dataset.manifest.sources] == ['part-0.tsv.gz', 'part-1.tsv']


def test_told_format_and_columns(tmp_path):
  (tmp_path / 'log').write_text('a::1,u,5\nb::2,u,6\nc::3,u,4\nd::4,v,1\n')
  dataset = prepared.prepare(
    tmp_path / 'log',
    tmp_path / 'out',
    '--format=csv',
    '--columns=item,user,timestamp',
    '--min_item_count=1',
    '--eval_negatives=1',
    '--train_negatives=0',
  )
  assert prepared.by_user(dataset, TRAIN) == {'u': ['c::3'], 'v': ['d::4']}
  assert prepared.rows(dataset, TEST) == [('u', 'b::2', ('d::4',), ('c::3', 'a::1'))]
  assert {row.negatives for row in prepared.rows(dataset, TRAIN)} == {()}


def test_named_columns_and_keys_that_need_escapes(tmp_path):
  text = 'w;u,what,when,n\n'.replace(';', '') + ''.join(
    f'"tab\there",back\\slash{i},{9 - i},{i % 5}\n' for i in range(4)
  )
  (tmp_path / 'log.csv').write_text(text + 'v,z,1,5\nv,y,2,5\n')
  dataset = prepared.prepare(
    tmp_path / 'log.csv',
    tmp_path / 'out',
    '--user_column=wu',
    '--item_column=what',
    '--timestamp_column=when',
    '--rating_column=n',
    '--min_rating=1',
    *prepared.TOY,
  )
  assert prepared.counts(dataset, 'filtered_ratings') == [1]
  (row,) = prepared.rows(dataset, TEST)
  assert (row.user, row.item) == ('tab\there', 'back\\slash1')
  assert row.history == ('back\\slash3', 'back\\slash2')
  assert set(row.negatives) == {'z', 'y'}
