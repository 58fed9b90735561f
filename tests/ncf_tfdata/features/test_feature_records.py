"""Features of items and users, read from a dataset directory."""

import dataclasses
import pathlib

import numpy as np
import pytest
import tensorflow as tf
import toy_dataset
import toy_features
from hypothesis import given
from hypothesis import strategies as st

from ncf_tfdata import dataset as dataset_lib
from ncf_tfdata import examples
from ncf_tfdata.errors import UserError
from ncf_tfdata.features.records import Features, Texts, Vectors

_NUM_ITEMS = 5
_GENRES = [['drama'], ['war', 'drama'], [], ['a\tb', 'drama', 'war'], ['war']]
_YEARS = [1990.0, np.nan, 2000.0, 1995.5, 1995.5]
_TITLES = [b'Heat', 'Été'.encode(), b'', b'Heat', b'x' * 300]
_VECTORS = np.arange(15, dtype=np.float32).reshape(5, 3)
_KNOWN = np.array([True, True, False, True, True])


def _features() -> Features:
  return Features(
    _NUM_ITEMS,
    (
      toy_features.categories('genre', _GENRES),
      toy_features.numbers('year', _YEARS),
      Texts('title', _TITLES),
      Vectors('embedding', _VECTORS * _KNOWN[:, None], _KNOWN),
    ),
  )


def test_items_that_came_later_stand_behind_the_others():
  features = _features()
  both = features.extended(features)
  assert (both.size, both.later) == (2 * _NUM_ITEMS, _NUM_ITEMS)
  _assert_as_written(both.fitted())
  genre, year, title, embedding = both.columns
  own = features.columns
  assert genre.values.tolist() == [*own[0].values] * 2
  assert genre.lengths.tolist() == [*own[0].lengths] * 2
  np.testing.assert_array_equal(genre.counts, own[0].counts)
  np.testing.assert_array_equal(year.values, np.tile(own[1].values, 2))
  assert year.mean == own[1].mean
  assert title.values == _TITLES * 2
  np.testing.assert_array_equal(embedding.values, np.tile(own[3].values, (2, 1)))
  assert embedding.known.tolist() == [*_KNOWN] * 2
  assert features.fitted() is features


@pytest.fixture
def plain(tmp_path):
  items = toy_dataset.tastes(num_users=8, num_items=_NUM_ITEMS, rows=4)
  return toy_dataset.write(
    tmp_path / 'data', items, num_items=_NUM_ITEMS, eval_negatives=1, num_shards=1
  )


def _assert_as_written(found: Features) -> None:
  assert found.size == _NUM_ITEMS
  genre, year, title, embedding = found.columns
  assert [column.kind for column in found.columns] == [
    'category',
    'number',
    'text',
    'vector',
  ]
  assert genre.vocabulary == ('drama', 'war', 'a\tb')
  np.testing.assert_array_equal(genre.counts, [3, 3, 1])
  names = iter([genre.vocabulary[value] for value in genre.values])
  assert [[next(names) for _ in range(n)] for n in genre.lengths] == _GENRES
  np.testing.assert_array_equal(year.values, np.float32(_YEARS))
  assert year.mean == pytest.approx(1995.25)
  assert title.values == _TITLES
  np.testing.assert_array_equal(embedding.values, _VECTORS * _KNOWN[:, None])
  np.testing.assert_array_equal(embedding.known, _KNOWN)
  kinds = genre.values, genre.lengths, year.values, embedding.values, embedding.known
  assert [str(array.dtype) for array in kinds] == [
    'int32',
    'int32',
    'float32',
    'float32',
    'bool',
  ]
  assert found.column('year') is year
  with pytest.raises(ValueError, match='must be one of genre, year, title'):
    found.column('jear')


@pytest.mark.parametrize('num_shards', [1, 3])
def test_features_are_read_as_they_were_written(plain, num_shards):
  dataset = toy_features.add(plain, _features(), num_shards=num_shards)
  dataset.verify()
  _assert_as_written(dataset.item_features())
  assert dataset.user_features() is None


def test_features_of_users_stand_beside_those_of_items(plain):
  taste = toy_features.categories('taste', [[str(user % 2)] for user in range(8)])
  dataset = toy_features.add(plain, Features(8, (taste,)), 'user')
  assert dataset.item_features() is None
  (found,) = dataset.user_features().columns
  np.testing.assert_array_equal(found.values, taste.values)
  _assert_as_written(toy_features.add(dataset, _features()).item_features())


def test_a_dataset_without_features_has_none(plain):
  assert plain.item_features() is None
  assert plain.user_features() is None
  assert 'features' not in plain.manifest.to_json()


def test_shards_in_another_order_give_the_same_features(plain):
  dataset = toy_features.add(plain, _features(), num_shards=2)
  first, second = (
    pathlib.Path(dataset.directory, dataset_lib.shard_name('item-features', n, 2))
    for n in range(2)
  )
  contents = second.read_bytes(), first.read_bytes()
  for path, content in zip((first, second), contents, strict=True):
    path.write_bytes(content)
  swapped = {first.name: second.name, second.name: first.name}
  files = {file.name: file for file in dataset.manifest.files}
  manifest = dataclasses.replace(
    dataset.manifest,
    files=tuple(
      dataclasses.replace(files[swapped.get(name, name)], name=name) for name in files
    ),
  )
  pathlib.Path(dataset.directory, 'manifest.json').write_text(manifest.to_json())
  _assert_as_written(dataset_lib.Dataset(dataset.directory).item_features())


@pytest.mark.parametrize(
  'name', ['ncf-item-features.tfrecord-00001-of-00002', 'item-feature-genre.tsv']
)
def test_a_corrupt_file_of_features_is_told(plain, name):
  dataset = toy_features.add(plain, _features())
  path = pathlib.Path(dataset.directory, name)
  content = bytearray(path.read_bytes())
  content[len(content) // 2] ^= 1
  path.write_bytes(content)
  with pytest.raises(UserError, match=f'{name} is corrupt'):
    dataset.item_features()


def test_features_of_other_items_are_told(plain):
  dataset = toy_features.add(plain, _features())
  one_more = Features(6, (toy_features.numbers('year', [1.0] * 6),))
  dataset = toy_features.add(dataset, one_more)
  with pytest.raises(UserError, match='do not hold each of 5 items once'):
    dataset.item_features()


@given(
  st.lists(
    st.tuples(
      st.lists(st.integers(0, 2**63 - 1), max_size=4),
      st.lists(st.floats(width=32, allow_nan=False), max_size=4),
      st.lists(st.binary(max_size=200), max_size=4),
    ),
    max_size=4,
  )
)
def test_records_are_read_as_tensorflow_writes_them(rows):
  train, content = tf.train, b''
  for integers, floats, texts in rows:
    feature = {
      'integers': train.Feature(int64_list=train.Int64List(value=integers)),
      'floats': train.Feature(float_list=train.FloatList(value=floats)),
      'texts': train.Feature(bytes_list=train.BytesList(value=texts)),
      'none': train.Feature(),
    }
    example = train.Example(features=train.Features(feature=feature))
    record = example.SerializeToString()
    content += len(record).to_bytes(8, 'little') + bytes(4) + record + bytes(4)
  found = list(examples.read(content))
  assert len(found) == len(rows)
  for record, (integers, floats, texts) in zip(found, rows, strict=True):
    assert list(record['integers']) == integers
    assert list(record['floats']) == floats
    assert record['texts'] == texts
    assert len(record['none']) == 0


def test_records_that_end_early_are_told():
  example = tf.train.Example(
    features=tf.train.Features(
      feature={'a': tf.train.Feature(int64_list=tf.train.Int64List(value=[1, 2]))}
    )
  ).SerializeToString()
  content = len(example).to_bytes(8, 'little') + bytes(4) + example
  with pytest.raises(ValueError, match='a record ends at byte'):
    list(examples.read(content[:-3]))
