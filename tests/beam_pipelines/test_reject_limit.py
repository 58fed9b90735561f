"""A job ends as soon as too many of its lines are bad, whatever the rest holds."""

import gzip
import io
import os
from collections.abc import Iterator

import numpy as np
import prepared
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_pipelines import files, range_reader, ratings, schema
from beam_pipelines.reject_limit import Limit
from beam_pipelines.rejects import Rejects
from beam_pipelines.schema import CSV, MOVIELENS, ROLES, Schema
from ncf_tfdata.errors import UserError

_FOUR = Schema(MOVIELENS, columns=ROLES)


def block(good: int, bad: int, offset: int = 0, reason: str = 'why') -> ratings.Ratings:
  keys = pa.array(['k'] * good, pa.string()).dictionary_encode()
  places = offset + np.arange(bad)
  rejects = Rejects(places, pa.array([reason] * bad), pa.array(['x'] * bad))
  return ratings.Ratings(offset, keys, keys, None, None, rejects)


def watch(
  limit: Limit, file: files.File, start: int, end: int, *blocks: ratings.Ratings
) -> Iterator[ratings.Ratings]:
  """Pretends that a range of a file holds some blocks."""
  key = (file.number, start, end, files.TEXT, file.path)
  return limit.watch(range_reader.RangeReader(key), iter(blocks))


def test_the_first_range_of_a_large_log_of_bad_lines_is_enough():
  log = files.File(0, 'folder/log.dat', 10 * 10**9)
  # A good line has 11 bytes at least: 907,566 may be bad of what the log can hold.
  few, more = block(0, 907_000, 7), block(0, 3000, 10**7, 'another')
  found = watch(Limit(0.001, (log,), _FOUR), log, 0, 16 << 20, few, more)
  assert next(found) is few
  with pytest.raises(UserError) as caught:
    next(found)
  assert str(caught.value) == (
    '910,000 of the 910,000 lines read so far are not ratings, more than '
    '--max_reject_fraction=0.001 allows, whatever the rest holds; the first: log.dat '
    'at 7: why. Check --format and --columns, or allow more.'
  )


def test_ranges_that_one_worker_reads_prove_it_together():
  log = files.File(0, 'log.dat', 11 * 4000)
  limit = Limit(0.5, (log,), _FOUR)
  last = block(0, 1000, 11 * 3000)
  for _ in range(3):  # tried again after a fault, and counted once
    assert list(watch(limit, log, 11 * 3000, 11 * 4000, last)) == [last]
  assert len(list(watch(limit, log, 0, 11 * 1000, block(0, 1000)))) == 1
  middle = watch(
    limit, log, 11 * 1000, 11 * 2000, block(1000, 2, 11_000), block(0, 8, 12_000)
  )
  next(middle)
  with pytest.raises(UserError, match=r'2,010 of .* the first: log\.dat at 0: why'):
    next(middle)


def packed(lines: list[bool], kind: str) -> bytes:
  """A log of good and bad lines, the good ones as short as they can be."""
  if kind == files.PARQUET:
    stream = io.BytesIO()
    keys = ['a' if good else '' for good in lines]
    pq.write_table(pa.table({'user': keys, 'item': keys}), stream, row_group_size=3)
    return stream.getvalue()
  text = b''.join(b'a,b\n' if good else b'bad\n' for good in lines)
  return gzip.compress(text) if kind == files.GZIP else text


@pytest.mark.slow
@pytest.mark.parametrize('kind', [files.TEXT, files.GZIP, files.PARQUET])
@given(data=st.data())
def test_it_stops_where_it_must_and_never_too_early(tmp_path_factory, kind, data):
  folder = tmp_path_factory.mktemp('log')
  good = st.booleans() | st.just(data.draw(st.booleans()))
  logs = data.draw(st.lists(st.lists(good, min_size=1, max_size=40), min_size=1))[:3]
  for number, lines in enumerate(logs):
    (folder / str(number)).write_bytes(packed(lines, kind))
  sources = files.match(str(folder))
  names = (('user', 'user'), ('item', 'item'))
  described = Schema(CSV, columns=('user', 'item'))
  if kind == files.PARQUET:
    described = Schema(schema.PARQUET, names=names)
  fraction = data.draw(st.sampled_from([0, 0.1, 0.5, 1]))
  limit = Limit(fraction, tuple(sources), described)
  keys = [key for file in sources for key in files.ranges(file, 12)]
  stopped = False
  try:
    with pytest.MonkeyPatch.context() as patch:
      patch.setattr(files, 'RANGE_BYTES', 12)
      for key in data.draw(st.permutations(keys)):
        reader = range_reader.RangeReader(key)
        list(limit.watch(reader, ratings.read(reader, described)))
  except UserError as error:
    assert 'are not ratings, more than --max_reject_fraction' in str(error)
    stopped = True
  lines = [line for log in logs for line in log]
  assert stopped == (lines.count(False) > fraction * len(lines))


def test_other_files_are_looked_at_only_where_it_matters(tmp_path, monkeypatch):
  for name in ('a', 'b'):
    (tmp_path / name).write_bytes(b'1::2::3::4\n' * 100)
  sources = tuple(files.match(str(tmp_path)))
  opened = []
  monkeypatch.setattr(files, 'kind', lambda path: opened.append(path) or files.TEXT)
  limit = Limit(0.5, sources, _FOUR)
  found = watch(limit, sources[0], 0, sources[0].size, block(0, 100), block(0, 3))
  next(found)
  assert not opened  # what follows may be 100 good lines
  with pytest.raises(UserError, match='103 of the 103 lines read so far'):
    next(found)
  assert opened == [sources[1].path]


@pytest.mark.parametrize(
  'lines, reason',
  [
    (['oops 12'], 'expected 4 fields, found 1'),
    ([f'a::b::x{i}::1' for i in range(1000)], "rating 'x0' is not a number"),
    (['"a::b', '\xff', 'a::b::1::\r2'], 'expected 4 fields, found 2'),
  ],
)
def test_a_log_of_nothing_but_bad_lines(tmp_path, lines, reason):
  count = 500_000
  log = tmp_path / 'log.dat'
  text = '1::2::3::4\n' + '\n'.join(lines * (count // len(lines))) + '\n'
  log.write_bytes(text.encode('latin-1'))
  rejected = count // len(lines) * len(lines)
  line = prepared.refused(f'--input={log}', f'--output={tmp_path / "out"}')
  assert f'{rejected:,} of {rejected + 1:,} lines are not ratings' in line
  assert '--max_reject_fraction=0.001' in line
  assert f'the first: log.dat at 11: {reason}. ' in line
  assert os.listdir(tmp_path) == ['log.dat']


def test_a_first_part_of_a_gzip_file_is_enough(tmp_path, monkeypatch):
  path = tmp_path / 'log.gz'
  bad = np.random.default_rng(0).bytes(1 << 20).hex(':', 3) + '\n'
  path.write_bytes(gzip.compress(bad.replace(':', '\n').encode()))
  monkeypatch.setattr(files, 'RANGE_BYTES', 1 << 16)
  monkeypatch.setattr(range_reader, '_BUFFER_BYTES', 1 << 16)
  (file,) = files.match(str(path))
  (key,) = files.ranges(file)
  reader = range_reader.RangeReader(key)
  blocks = ratings.read(reader, _FOUR)
  with pytest.raises(UserError, match='lines read so far are not ratings'):
    list(Limit(0.001, (file,), _FOUR).watch(reader, blocks))
  assert len(list(blocks)) > 10  # were not needed
