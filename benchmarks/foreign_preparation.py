"""What users of other libraries run first: read, filter, core, split, encode, write.

    PYTHON foreign_preparation.py replay|rectools|spark LOG OUTPUT

LOG has user::item::rating::timestamp in whole numbers. Each does what the library has
for a step, and the frames beneath it for the rest. Ratings from 3 on stay, then the
5-core; a user's last row is test, the one before validation, by time and then by the
order of the log. Writes train, validation and test as Parquet with dense ids, and a
table of keys of each.
"""

import pathlib
import sys

_MIN_RATING, _CORE = 3, 5
_COLUMNS = ('user', 'item', 'rating', 'timestamp')


def replay(log: str, output: pathlib.Path) -> None:
  """RePlay on polars."""
  import polars as pl
  from replay.preprocessing.filters import InteractionEntriesFilter, LowRatingFilter
  from replay.preprocessing.label_encoder import LabelEncoder, LabelEncodingRule
  from replay.splitters import LastNSplitter

  # Between two colons lies an empty column.
  names = [name for column in _COLUMNS for name in (column, f'_{column}')][:-1]
  schema = dict.fromkeys(names, pl.Int64)
  rows = pl.scan_csv(log, separator=':', has_header=False, schema=schema)
  rows = LowRatingFilter(_MIN_RATING).transform(rows.select(_COLUMNS).collect())
  rows = InteractionEntriesFilter(
    query_column='user',
    item_column='item',
    min_inter_per_user=_CORE,
    min_inter_per_item=_CORE,
  ).transform(rows)
  encoder = LabelEncoder([LabelEncodingRule('user'), LabelEncodingRule('item')])
  rows = encoder.fit_transform(rows)
  splitter = LastNSplitter(
    1, divide_column='user', query_column='user', item_column='item'
  )
  rest, test = splitter.split(rows)
  train, validation = splitter.split(rest)
  for name, part in (('train', train), ('validation', validation), ('test', test)):
    part.write_parquet(output / f'{name}.parquet')
  for name, mapping in encoder.mapping.items():
    table = pl.DataFrame({'key': list(mapping), 'id': list(mapping.values())})
    table.write_parquet(output / f'{name}s.parquet')


def rectools(log: str, output: pathlib.Path) -> None:
  """RecTools on pandas, which has no core of its own."""
  import pandas as pd
  from rectools.dataset import IdMap, Interactions
  from rectools.model_selection import LastNSplitter

  rows = pd.read_csv(
    log, sep=':', header=None, usecols=[0, 2, 4, 6], names=[*range(7)]
  ).set_axis(['user_id', 'item_id', 'weight', 'datetime'], axis=1)
  rows = rows[rows['weight'] >= _MIN_RATING]
  before = -1
  while len(rows) != before:
    before = len(rows)
    for column in ('item_id', 'user_id'):
      rows = rows[rows.groupby(column)[column].transform('size') >= _CORE]
  rows['datetime'] = pd.to_datetime(rows['datetime'], unit='s')
  rows = rows.reset_index(drop=True)
  maps = {}
  for name in ('user', 'item'):
    column = f'{name}_id'
    maps[name] = IdMap.from_values(rows[column].to_numpy())
    rows[column] = maps[name].convert_to_internal(rows[column])
  splitter = LastNSplitter(1, 2, False, False, False)
  (train, validation, _), (_, test, _) = splitter.split(Interactions(rows))
  rows = rows.rename(columns={'user_id': 'user', 'item_id': 'item'})
  for name, part in (('train', train), ('validation', validation), ('test', test)):
    rows.iloc[part].to_parquet(output / f'{name}.parquet')
  for name, ids in maps.items():
    table = pd.DataFrame({'key': ids.external_ids, 'id': ids.internal_ids})
    table.to_parquet(output / f'{name}s.parquet')


def spark(log: str, output: pathlib.Path) -> None:
  """Spark on this machine's cores, as its users write it."""
  from pyspark.ml.feature import StringIndexer
  from pyspark.sql import SparkSession, Window
  from pyspark.sql import functions as sf

  session = (
    SparkSession.builder.master('local[*]')
    .config('spark.driver.memory', '12g')
    .config('spark.ui.enabled', 'false')
    .config('spark.ui.showConsoleProgress', 'false')
    .config('spark.sql.shuffle.partitions', '8')
    .getOrCreate()
  )
  session.sparkContext.setLogLevel('ERROR')
  schema = ', '.join(f'{column} long' for column in _COLUMNS)
  rows = session.read.csv(log, sep='::', schema=schema)
  rows = rows.filter(sf.col('rating') >= _MIN_RATING)
  rows = rows.withColumn('place', sf.monotonically_increasing_id()).cache()
  before, count = -1, rows.count()
  while count != before:
    for column in ('item', 'user'):
      often = rows.groupBy(column).count().filter(sf.col('count') >= _CORE)
      rows = rows.join(often.select(column), on=column, how='left_semi')
    rows = rows.localCheckpoint()
    before, count = count, rows.count()
  indexer = StringIndexer(
    inputCols=['user', 'item'],
    outputCols=['user_id', 'item_id'],
    stringOrderType='alphabetAsc',
  ).fit(rows)
  back = Window.partitionBy('user').orderBy(sf.desc('timestamp'), sf.desc('place'))
  rows = indexer.transform(rows).withColumn('back', sf.row_number().over(back)).cache()
  parts = {
    'test': sf.col('back') == 1,
    'validation': sf.col('back') == 2,
    'train': sf.col('back') > 2,
  }
  for name, which in parts.items():
    part = rows.filter(which).select(
      sf.col('user_id').cast('long').alias('user'),
      sf.col('item_id').cast('long').alias('item'),
      'rating',
      'timestamp',
    )
    part.write.parquet(str(output / f'{name}.parquet'))
  for name, labels in zip(('user', 'item'), indexer.labelsArray, strict=True):
    table = [(int(label), place) for place, label in enumerate(labels)]
    keys = session.createDataFrame(table, 'key long, id long')
    keys.write.parquet(str(output / f'{name}s.parquet'))
  java = session.sparkContext._gateway.proc
  session.stop()
  # Java's processor time is counted once this process has waited for it.
  java.stdin.close()
  java.wait()


def main() -> None:
  library, log, output = sys.argv[1:]
  directory = pathlib.Path(output)
  directory.mkdir(parents=True)
  {'replay': replay, 'rectools': rectools, 'spark': spark}[library](log, directory)


if __name__ == '__main__':
  main()
