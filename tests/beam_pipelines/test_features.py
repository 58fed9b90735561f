"""`prepare --item_features` and `--user_features`, and what a reader finds of them."""

import gzip
import hashlib
import math
import pathlib

import growing
import numpy as np
import prepared
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_pipelines import blocks, feature_shards, features, sample, sample_items
from ncf_tfdata import dataset as dataset_lib
from ncf_tfdata import examples
from ncf_tfdata.dataset import ITEMS, REJECTS, USERS
from ncf_tfdata.errors import UserError
from ncf_tfdata.features import layout as feature_layout
from ncf_tfdata.features.columns import FeatureColumn

pytestmark = pytest.mark.slow

# Of the items of `prepared.LOG`: a to g.
_ITEMS = {
  'a': ('Heat', ['crime', 'war'], 1995.0, [1.0, 2.0]),
  'b': ('Été', ['drama'], None, [3.0, 4.0]),
  'd': ('', [], 2000.0, None),
  'e': ('Zoo', ['war', 'crime', 'drama'], 1980.5, [5.0, 6.0]),
  'g': ('G', ['crime'], 1970.0, None),
  'unknown': ('X', ['opera'], 1.0, [9.0, 9.0]),
}


def _csv(path: pathlib.Path, pack=bytes) -> pathlib.Path:
  lines = ['id,title,tags,year,vector']
  for key, (title, tags, year, vector) in _ITEMS.items():
    numbers = ' '.join(map(str, vector or []))
    lines.append(f'{key},{title},{"|".join(tags)},{year or ""},{numbers}')
  path.write_bytes(pack('\n'.join(lines).encode()))
  return path


def _parquet(path: pathlib.Path) -> pathlib.Path:
  titles, tags, years, vectors = zip(*_ITEMS.values(), strict=True)
  table = pa.table(
    {
      'id': list(_ITEMS),
      'title': titles,
      'tags': tags,
      'year': years,
      'vector': pa.array(vectors, pa.list_(pa.float32())),
    }
  )
  pq.write_table(table, path, row_group_size=2)
  return path


def _prepare(tmp_path, *flags, log=prepared.LOG, output='out'):
  path = prepared.write_log(tmp_path / 'log.dat', log)
  return prepared.prepare_here(path, tmp_path / output, *prepared.TOY, *flags)


_COLUMNS = '--item_feature_columns=title:text,tags:category,year,vector'


def _check(dataset) -> None:
  """Compares what is read with `_ITEMS`, item by item."""
  dataset.verify()
  found = dataset.item_features()
  title, tags, year, vector = found.columns
  ends = np.cumsum(tags.lengths)
  keys = dataset.vocabulary(ITEMS).keys
  assert set(keys) == set('abcdefg')
  assert found.size == len(keys)
  for place, key in enumerate(keys):
    nothing = ('', [], None, None)
    name, words, when, numbers = _ITEMS.get(key, nothing)
    assert title.values[place] == name.encode()
    codes = tags.values[ends[place] - tags.lengths[place] : ends[place]]
    assert [tags.vocabulary[code] for code in codes] == words
    assert (when is None) == np.isnan(year.values[place])
    assert when is None or year.values[place] == when
    assert vector.known[place] == (numbers is not None)
    np.testing.assert_array_equal(vector.values[place], numbers or [0, 0])
  # Most first, ties by their bytes; opera is of no item of the log.
  assert tags.vocabulary == ('crime', 'drama', 'war')
  assert tags.counts.tolist() == [3, 2, 2]
  years = [1995.0, 2000.0, 1980.5, 1970.0]
  assert year.mean == pytest.approx(np.mean(years))
  assert year.stddev == pytest.approx(np.std(years))
  table = dataset.manifest.item_features
  assert (table.read, table.matched, table.unmatched) == (6, 5, 1)
  assert (table.rejected, table.repeated, table.without_features) == (0, 0, 2)
  assert table.columns[1:] == (
    FeatureColumn('tags', 'category', values=3),
    FeatureColumn('year', 'number', mean=year.mean, stddev=year.stddev),
    FeatureColumn('vector', 'vector', dim=2),
  )


@pytest.mark.parametrize('kind', ['csv', 'csv.gz', 'parquet'])
def test_every_item_has_what_its_row_says(tmp_path, kind):
  path = tmp_path / f'items.{kind}'
  if kind == 'parquet':
    _parquet(path)
  else:
    _csv(path, gzip.compress if kind == 'csv.gz' else bytes)
  dataset = _prepare(tmp_path, f'--item_features={path}', _COLUMNS)
  _check(dataset)
  table = dataset.manifest.item_features
  assert table.name == path.name
  assert table.bytes == path.stat().st_size
  assert table.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
  assert dataset.manifest.flags['item_feature_columns'] == [
    'title:text',
    'tags:category',
    'year',
    'vector',
  ]


def test_features_change_no_byte_of_the_rest(tmp_path):
  without = _prepare(tmp_path, output='without')
  flags = (f'--item_features={_csv(tmp_path / "items.csv")}', _COLUMNS)
  dataset = _prepare(tmp_path, *flags)
  before, after = (prepared.digests(d.directory) for d in (without, dataset))
  assert set(after) - set(before) == {
    'item-feature-tags.tsv',
    'ncf-item-features.tfrecord-00000-of-00001',
  }
  assert {name for name in before if before[name] != after[name]} == {'manifest.json'}
  # And a dataset with features is replaced as another one is.
  path = tmp_path / 'log.dat'
  prepared.prepare_here(path, tmp_path / 'out', *prepared.TOY, '--overwrite')
  assert prepared.digests(tmp_path / 'out') == before


def test_users_have_features_too(tmp_path):
  path = tmp_path / 'users.tsv'
  path.write_text('7\tde\nключ\tfr\n7\tit\nnobody\tde\n')
  dataset = _prepare(
    tmp_path,
    f'--user_features={path}',
    '--user_feature_columns=user,country:category',
    '--num_shards=3',
  )
  (country,) = dataset.user_features().columns
  found = dict(zip(dataset.vocabulary(USERS).keys, country.lengths, strict=True))
  assert found == {'7': 1, 'ключ': 1, '10': 0}
  assert country.vocabulary == ('de', 'fr')
  table = dataset.manifest.user_features
  assert (table.read, table.repeated, table.matched, table.unmatched) == (4, 1, 2, 1)
  assert table.without_features == 1
  assert dataset.item_features() is None


def test_bad_rows_are_rejected_and_counted(tmp_path):
  path = tmp_path / 'items.csv'
  path.write_text('item,year\na,1990\nb,old\nc,1,2\nd,\n')
  flags = (f'--item_features={path}', '--item_feature_columns=year:number')
  with pytest.raises(UserError) as caught:
    _prepare(tmp_path, *flags)
  assert str(caught.value).startswith(
    f'2 of 4 rows of {path} are no features, more than --max_reject_fraction=0.001 '
    "allows; the first: items.csv at 3: year 'old' is not a number. Check "
    '--item_feature_columns and --feature_encoding, or allow more.'
  )
  assert not (tmp_path / 'out').exists()
  bad = [*prepared.LOG, ('x', 'y', 'z', 1)]
  dataset = _prepare(tmp_path, *flags, '--max_reject_fraction=.5', log=bad)
  lines = (dataset.directory / REJECTS).read_text().splitlines()
  assert [line.split('\t')[:3] for line in lines] == [
    ['log.dat', lines[0].split('\t')[1], "rating 'z' is not a number"],
    ['items.csv', '3', "year 'old' is not a number"],
    ['items.csv', '4', 'expected 2 fields, found 3'],
  ]
  assert lines[1].endswith("{'item': 'b', 'year': 'old'}")
  table = dataset.manifest.item_features
  assert (table.read, table.rejected, table.matched) == (4, 2, 2)
  assert dataset.manifest.counts['rejected'] == 1


@pytest.mark.parametrize('kept', [False, True])
def test_nothing_of_the_forgotten_is_left(tmp_path, first_day, kept):
  user, item = growing.FORGOTTEN
  log = growing.write(tmp_path, 2)
  base = first_day.vocabulary(ITEMS).keys
  people = first_day.vocabulary(USERS).keys
  items, users = tmp_path / 'items.tsv', tmp_path / 'users.tsv'
  # The last row is a reject, and holds a key.
  lines = [f'{key}\tt {n}\t{n}\n' for n, key in enumerate(base)]
  items.write_text(''.join([*lines, f'x\t{item}\t{user}\n']))
  lines = [f'{key}\t{n}\n' for n, key in enumerate(people)]
  users.write_text(''.join([*lines, f'x\t{user}\n']))
  dataset = prepared.prepare_here(
    log, tmp_path / 'out',
    *growing.FLAGS, *growing.forget(tmp_path), '--max_reject_fraction=.5',
    f'--item_features={items}', '--item_feature_columns=item,t:text,n:number',
    f'--user_features={users}', '--user_feature_columns=user,n:number',
    *([f'--ids_from={first_day.directory}'] * kept),
  )  # fmt: skip
  for path in dataset.directory.iterdir():
    content = path.read_bytes()
    for key in (user, item, item.replace('\\', '\\\\')):
      assert key.encode() not in content, path
  rejects = (dataset.directory / REJECTS).read_text().splitlines()
  assert [line.split('\t')[2:] for line in rejects] == [['n is not a number', '']] * 2
  for table in (dataset.manifest.item_features, dataset.manifest.user_features):
    assert table.forgotten == 1
    assert table.read == (
      table.rejected
      + table.forgotten
      + table.repeated
      + table.matched
      + table.unmatched
    )
  _check_numbers(dataset, ITEMS, dataset.item_features().column('n'), base)
  _check_numbers(dataset, USERS, dataset.user_features().column('n'), people)
  matched = dataset.manifest.item_features.matched
  active = dataset.catalogue_size
  assert dataset.manifest.item_features.without_features == active - matched


def _check_numbers(dataset, name, column, given) -> None:
  """Whose key has rows has the number of their line, and nobody else has any."""
  known = dataset.vocabulary(name)
  rows = known.counts + 1 if known.rows is None else known.rows
  for key, count, number in zip(known.keys, rows, column.values, strict=True):
    if key in given and count and key not in growing.FORGOTTEN:
      assert number == given.index(key)
    else:
      assert np.isnan(number)


@pytest.mark.parametrize(
  'flags, message',
  [
    (('--item_features={}/no.csv',), 'no.csv does not exist: expected a file'),
    (('--item_features={}',), 'is a folder or a pattern, expected one file'),
    (('--item_features={}/items.csv', '--item_feature_key=k'), 'no such column'),
    (
      (
        '--item_features={}/items.csv',
        '--item_feature_key=title',
        '--max_reject_fraction=.5',
      ),
      "has keys such as 'Heat', and the log has keys such as 'a'",
    ),
    (('--item_feature_key=k',), 'needs --item_features'),
    (('--user_feature_columns=k',), 'needs --user_features'),
    (('--item_features=sample',), 'is of the built-in sample, and --input='),
  ],
)
def test_what_cannot_be_is_told(tmp_path, flags, message):
  _csv(tmp_path / 'items.csv')
  with pytest.raises((UserError, ValueError)) as caught:
    _prepare(tmp_path, *(flag.format(tmp_path) for flag in flags))
  error = caught.value
  told = error.as_flags() if hasattr(error, 'as_flags') else str(error)
  assert message in told
  assert not (tmp_path / 'out').exists()


def test_the_command_says_what_it_found(tmp_path):
  """On the built-in sample, whose genres are the ones that users like."""
  done = prepared.run(
    '--sample_ratings=6000', '--item_features=sample', f'--cache_dir={tmp_path}',
    f'--output={tmp_path / "out"}', '--min_item_count=1',
  )  # fmt: skip
  assert done.returncode == 0, done.stderr
  lines = [' '.join(line.split()) for line in done.stdout.splitlines()]
  assert (
    'Item features of movies.dat, 0.0 MB: movielens, item=item: title text, genres '
    'category'
  ) in lines
  dataset = dataset_lib.Dataset(str(tmp_path / 'out'))
  spec = sample.Spec(ratings=6000)
  table = dataset.manifest.item_features
  assert table.read == spec.num_items
  assert table.matched == dataset.num_items
  for line in (
    f'rows of item features {spec.num_items}',
    f'of no item that is kept of the log {spec.num_items - dataset.num_items}',
    'items without features 0',
    'genres: category, 10 values',
  ):
    assert line in lines
  genres = dataset.item_features().column('genres')
  assert len(genres.vocabulary) == 10
  assert (genres.lengths >= 1).all() and (genres.lengths == 2).any()


def test_the_items_of_the_sample_are_those_of_its_log(sample_log):
  spec = sample.Spec(ratings=6000)
  content = sample_items.content(spec)
  assert hashlib.sha256(content).hexdigest()[:16] == '8521e63e5499a9eb'
  rows = [line.split('::') for line in content.decode().splitlines()]
  ids = {item for item, *_ in rows}
  assert {line.split('::')[1] for line in sample_log.read_text().splitlines()} <= ids
  assert len(rows) == len(ids) == spec.num_items


def _plan(*columns: str, num_shards: int = 1) -> features.Plan:
  parts = [column.split(':') for column in columns]
  layout = feature_layout.Layout(
    'csv', 'item', 'item',
    tuple(FeatureColumn(n, k, dim=2 if k == 'vector' else None) for n, k in parts),
    (), 0, True,
  )  # fmt: skip
  return features.Plan('item', 1, 'x.csv', 0, layout, 8, num_shards)


def test_blocks_and_shards_hold_each_id_once():
  made = _plan('n:number', 't:text', num_shards=3)
  size, ids = 2500, np.arange(0, 2500, 3)
  values = (pa.array(ids.astype(np.float32)), pa.array([f'é{i}' for i in ids]))
  joined = features.Joined(ids, values)
  starts = made.starts(size)
  dealt = dict(joined.deal(starts))
  read = []
  for shard in range(3):
    first, end = starts[shard], starts[shard + 1]
    content, records = feature_shards.encode(
      [dealt[shard]], made, int(first), int(end - first), {}
    )
    found = list(examples.read(content))
    assert len(found) == records == math.ceil((end - first) / 1024)
    read += found
  assert np.array_equal(np.concatenate([b['item'] for b in read]), np.arange(size))
  numbers = np.concatenate([block['n'] for block in read])
  texts = [text.decode() for block in read for text in block['t']]
  known = np.arange(size) % 3 == 0
  np.testing.assert_array_equal(numbers[known], ids)
  assert np.isnan(numbers[~known]).all()
  assert texts == [f'é{i}' if i % 3 == 0 else '' for i in range(size)]


def test_a_shard_of_nothing_is_written_all_the_same():
  made = _plan('c:category', 'v:vector', 't:text')
  content, _ = feature_shards.encode([], made, 5, 2, {0: pa.array([], pa.string())})
  (block,) = examples.read(content)
  assert {name: list(values) for name, values in block.items()} == {
    'item': [5, 6],
    'c': [],
    'c_length': [0, 0],
    'v': [0, 0, 0, 0],
    'v_known': [0, 0],
    't': [b'', b''],
  }
  nothing = {0: pa.array([], pa.string())}
  assert feature_shards.encode([], made, 0, 0, nothing) == (b'', 0)


def test_moments_are_those_of_all_numbers():
  draw = np.random.default_rng(0)
  values = np.concatenate([draw.normal(1e6, 2, 50), [np.nan], draw.normal(-3, 1, 7)])
  parts = np.split(values, [0, 10, 51])
  found = features.Moments()
  for part in parts:
    found = found.join(features.Moments.of(part))
  known = values[~np.isnan(values)]
  assert found.size == len(known)
  assert found.mean == pytest.approx(known.mean(), rel=1e-12)
  assert found.squares / found.size == pytest.approx(known.var(), rel=1e-9)


def test_texts_and_numbers_are_encoded_as_tensorflow_encodes_them():
  import tensorflow as tf

  texts, numbers = ['', 'é', 'x' * 300, ''], np.float32([1.5, np.nan, -0.0, 1e30])
  content, records = blocks.encode(
    {
      't': (pa.array(texts), np.array([0, 3, 3, 4])),
      'n': (numbers, np.array([0, 1, 4, 4])),
    }
  )
  assert records == 3
  for block, (t, n) in zip(
    examples.read(content),
    ((texts[:3], numbers[:1]), ([], numbers[1:]), (texts[3:], [])),
    strict=True,
  ):
    assert block['t'] == [text.encode() for text in t]
    np.testing.assert_array_equal(block['n'], np.float32(n))
  length = int.from_bytes(content[:8], 'little')
  feature = tf.train.Example.FromString(content[12 : 12 + length]).features.feature
  assert [text.decode() for text in feature['t'].bytes_list.value] == texts[:3]
  assert list(feature['n'].float_list.value) == [1.5]
