"""Runs `prepare` as a user does, and reads what it wrote with TensorFlow's parser."""

import collections
import hashlib
import pathlib
import subprocess
from collections.abc import Iterable
from typing import NamedTuple

import commands
from absl import flags as absl_flags

from beam_pipelines import preparation
from beam_pipelines.config import PrepareConfig
from ncf_tfdata import config as config_lib
from ncf_tfdata import dataset as dataset_lib

ROOT = commands.ROOT
# Keeps every item of a toy log, and asks for negatives that it can give.
TOY = ('--min_item_count=1', '--eval_negatives=2', '--num_shards=2')


# Each user takes items in order of time; the lines stand in another order.
LOG = [
  ('7', 'c', 5, 1_000_000_000),
  ('7', 'a', 4, 999_999_999),
  ('7', 'd', 3, 1_000_000_001),
  ('7', 'b', 3, 5),
  ('ключ', 'b', 1, 20),
  ('ключ', 'd', 2, 30),
  ('ключ', 'e', 5, 10),
  ('10', 'f', 5, 1),
  ('10', 'g', 5, 1),
]
ORDER = {'7': 'bacd', 'ключ': 'ebd', '10': 'fg'}


class Row(NamedTuple):
  """A row in the log's own keys; `history` is None in train."""

  user: str
  item: str
  negatives: tuple[str, ...]
  history: tuple[str, ...] | None


def run(*arguments: object, **environment: str) -> subprocess.CompletedProcess:
  """`python -m beam_pipelines.prepare` with some arguments."""
  return commands.run('beam_pipelines.prepare', *arguments, **environment)


def prepare(log: object, output: object, *flags: object, **environment: str):
  """Prepares a log; returns the dataset."""
  done = run(f'--input={log}', f'--output={output}', *flags, **environment)
  assert done.returncode == 0, done.stdout + done.stderr
  return dataset_lib.Dataset(str(output))


def prepare_here(log: object, output: object, *flags: str) -> dataset_lib.Dataset:
  """Prepares a log in this process, which saves its start; returns the dataset."""
  values = absl_flags.FlagValues()
  config_lib.define(PrepareConfig, flag_values=values)
  values(['prepare', f'--input={log}', f'--output={output}', *flags])
  preparation.prepare(config_lib.read(PrepareConfig, values), progress=False)
  return dataset_lib.Dataset(str(output))


def refused(*arguments: object) -> str:
  """Runs `prepare` where it must fail; returns the one line that it says."""
  return error_line(run(*arguments))


def error_line(done: subprocess.CompletedProcess) -> str:
  """The one line of a command that failed for a reason its user can mend."""
  assert done.returncode == 1, done.stdout + done.stderr
  lines = done.stderr.strip().split('\n')
  assert len(lines) == 1, done.stderr
  assert lines[0].startswith('error: ')
  assert 'Traceback' not in done.stdout
  return lines[0]


def write_log(path: pathlib.Path, rows: Iterable[tuple], delimiter: str = '::'):
  """Writes a log without a header."""
  path.write_text(''.join(delimiter.join(map(str, row)) + '\n' for row in rows))
  return path


def blocks(path: str) -> list[dict[str, list[int]]]:
  """The records of a shard."""
  import tensorflow as tf

  return [
    {
      name: list(feature.int64_list.value)
      for name, feature in tf.train.Example.FromString(
        record.numpy()
      ).features.feature.items()
    }
    for record in tf.data.TFRecordDataset(path)
  ]


def rows(dataset: dataset_lib.Dataset, split: str) -> list[Row]:
  """All rows of a split, in order."""
  users = dataset.vocabulary(dataset_lib.USERS).keys
  items = dataset.vocabulary(dataset_lib.ITEMS).keys
  count = dataset.negatives(split)
  result = []
  for path in dataset.shards(split):
    for block in blocks(path):
      # A feature of no values is there all the same, whatever k is.
      assert set(block) == set(dataset.features(split))
      history, stored = block.get('history', []), 0
      if split != dataset_lib.TRAIN:
        assert len(block['gap']) in (0, len(block['user']))
      for row, (user, item) in enumerate(zip(block['user'], block['pos'], strict=True)):
        negatives = block['negs'][row * count : (row + 1) * count]
        earlier = None
        if split != dataset_lib.TRAIN:
          length = block['history_length'][row]
          earlier = tuple(items[one] for one in history[stored : stored + length])
          assert len(earlier) == length
          # The histories of a user's rows are stored once, as that of the last.
          stored += length * (block['user'][row + 1 : row + 2] != [user])
        names = tuple(items[negative] for negative in negatives)
        result.append(Row(users[user], items[item], names, earlier))
      assert stored == len(history)
  return result


def by_user(dataset: dataset_lib.Dataset, split: str) -> dict[str, list[str]]:
  """Each user's positives of a split, in order."""
  result = {}
  for row in rows(dataset, split):
    result.setdefault(row.user, []).append(row.item)
  return result


def histories(dataset) -> dict[str, str]:
  """All kept items of each user, in order, whatever was held out."""
  found = collections.defaultdict(str)
  for split in dataset_lib.SPLITS:
    if split in dataset.manifest.counts:
      for row in rows(dataset, split):
        found[row.user] += row.item
  return dict(found)


def counts(dataset: dataset_lib.Dataset, *names: str) -> list[int]:
  """Some of the manifest's counts."""
  return [dataset.manifest.counts[name] for name in names]


def digests(directory: object) -> dict[str, str]:
  """The sha256 of every file in a directory."""
  return {
    path.name: hashlib.sha256(path.read_bytes()).hexdigest()
    for path in pathlib.Path(str(directory)).iterdir()
  }
