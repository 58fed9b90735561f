"""Features of the items, or users, of a toy dataset, as `prepare` would write them."""

import dataclasses
import hashlib
import pathlib

import numpy as np
import tensorflow as tf

from ncf_tfdata import dataset as dataset_lib
from ncf_tfdata import vocabulary
from ncf_tfdata.features import records as feature_records
from ncf_tfdata.features.columns import FeatureColumn, FeatureTable
from ncf_tfdata.features.records import Categories, Features, Numbers, Texts, Vectors
from ncf_tfdata.manifest import File
from ncf_tfdata.models import history, neumf


def categories(name: str, rows: list[list[str]]) -> Categories:
  """A column of categories: for each row, which it has."""
  counts: dict[str, int] = {}
  for row in rows:
    for value in row:
      counts[value] = counts.get(value, 0) + 1
  known = sorted(counts, key=lambda value: (-counts[value], value.encode()))
  place = {value: number for number, value in enumerate(known)}
  return Categories(
    name,
    np.array([place[value] for row in rows for value in row], np.int32),
    np.array([len(row) for row in rows], np.int32),
    tuple(known),
    np.array([counts[value] for value in known], np.int64),
  )


def numbers(name: str, rows: list[float]) -> Numbers:
  """A column of numbers, NaN where it is not known."""
  values = np.array(rows, np.float32)
  return Numbers(name, values, float(np.nanmean(values)), float(np.nanstd(values)))


def add(
  dataset: dataset_lib.Dataset,
  features: Features,
  role: str = 'item',
  num_shards: int = 2,
) -> dataset_lib.Dataset:
  """Adds the features of all items, or users, to a dataset; opens it again."""
  directory = pathlib.Path(dataset.directory)
  kind = f'{role}-features'
  files = [file for file in dataset.manifest.files if file.split != kind]
  bounds = np.linspace(0, features.size, num_shards + 1).astype(int)

  def added(name, split=None, rows=None, records=None):
    content = (directory / name).read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    files.append(File(name, len(content), digest, split, rows, records))

  for shard in range(num_shards):
    ids = np.arange(bounds[shard], bounds[shard + 1])
    name = dataset_lib.shard_name(kind, shard, num_shards)
    with tf.io.TFRecordWriter(str(directory / name)) as writer:
      for block in np.array_split(ids, 2):
        writer.write(_example(role, block, features))
    added(name, kind, len(ids), 2)
  for column in features.columns:
    if isinstance(column, Categories):
      name = feature_records.vocabulary_name(role, column.name)
      lines = zip(column.vocabulary, column.counts, strict=True)
      text = ''.join(f'{vocabulary.escape_key(key)}\t{count}\n' for key, count in lines)
      (directory / name).write_text(text)
      added(name)
  table = FeatureTable(
    name=f'{role}s.csv',
    bytes=0,
    sha256='',
    read=features.size,
    rejected=0,
    repeated=0,
    forgotten=0,
    matched=features.size,
    unmatched=0,
    without_features=0,
    columns=tuple(map(_described, features.columns)),
  )
  manifest = dataclasses.replace(
    dataset.manifest,
    files=tuple(sorted(files, key=lambda file: file.name)),
    **{f'{role}_features': table},
  )
  (directory / dataset_lib.MANIFEST).write_text(manifest.to_json())
  return dataset_lib.Dataset(str(directory))


def _described(column: feature_records.Column) -> FeatureColumn:
  more = {}
  if isinstance(column, Categories):
    more = {'values': len(column.vocabulary)}
  elif isinstance(column, Numbers):
    more = {'mean': column.mean, 'stddev': column.stddev}
  elif isinstance(column, Vectors):
    more = {'dim': column.values.shape[1]}
  return FeatureColumn(column.name, column.kind, **more)


def _example(role: str, ids: np.ndarray, features: Features) -> bytes:
  feature = {role: _integers(ids)}
  for column in features.columns:
    name = column.name
    if isinstance(column, Categories):
      ends = np.cumsum(column.lengths)
      rows = [column.values[ends[i] - column.lengths[i] : ends[i]] for i in ids]
      feature[name] = _integers(np.concatenate([np.zeros(0, int), *rows]))
      feature[feature_records.length_name(name)] = _integers(column.lengths[ids])
    elif isinstance(column, Texts):
      values = [column.values[i] for i in ids]
      feature[name] = tf.train.Feature(bytes_list=tf.train.BytesList(value=values))
    else:
      values = column.values[ids].ravel()
      feature[name] = tf.train.Feature(float_list=tf.train.FloatList(value=values))
    if isinstance(column, Vectors):
      feature[feature_records.known_name(name)] = _integers(column.known[ids])
  features_message = tf.train.Features(feature=feature)
  return tf.train.Example(features=features_message).SerializeToString()


def _integers(values: np.ndarray) -> tf.train.Feature:
  return tf.train.Feature(int64_list=tf.train.Int64List(value=values.astype(int)))


def small_history(dataset, **options) -> history.History:
  """One that was not trained."""
  return history.History(
    dataset.num_users,
    dataset.num_items,
    **{'history_length': 5, 'dim': 8, 'heads': 2, 'hidden': 6, **options},
  )


def small_neumf(dataset, **options) -> neumf.NeuMF:
  """One that was not trained."""
  return neumf.NeuMF(
    dataset.num_users,
    dataset.num_items,
    **{'gmf_dim': 4, 'mlp_dim': 4, 'mlp_layers': (8,), **options},
  )
