"""The dataset directory: the contract between `beam_pipelines` and `ncf_tfdata`.

A directory is a dataset once it holds `manifest.json`, which is written last:

    ncf-{train,validation,test}.tfrecord-SSSSS-of-NNNNN   blocks of rows
    ncf-successors.tfrecord-SSSSS-of-NNNNN                by --successors only
    users.tsv, items.tsv      line number = dense id; key, count of train rows
    rejects.tsv               file, byte offset, reason, line
    features.json, dataset_info.json                      for TFDS
    manifest.json             flags, sources, counts, and sha256 of each file

A record is one `tf.train.Example` that holds a block of n rows in columns, all
int64: `user` [n], `pos` [n], `negs` [n * k] row by row. A user's rows of one
split are contiguous, in time order, and never straddle two blocks. Records of
validation and test also hold `history` [sum of lengths], each user's earlier
kept rows, oldest first, `history_length` [n], and `gap` [n]: the time from the
user's row before it to the held-out one, in the unit of the log's timestamps; [0]
where the log has none.

A log that is cut by time or by share has schema version 2. A user's rows of a
held-out split may be several. Their histories are stored once, as that of the last of
them in the record; `history_length` tells the head of it that each may see.
`history_only` counts the rows that are neither trained on nor asked for.

Times are held of a log with timestamps that is cut, or prepared with `--keep_times`:
the manifest then has `cuts`. Records hold `time` [n], since the `first` of `cuts` in
the log's unit, held-out ones also `history_time`, that of each entry of `history`. A
third column of items.tsv is when an item was first seen, counted likewise.

With `--held_out_users`, the test split holds the rows of the users held out, who
have no others: line and dense id as ever, 0 train rows. The test rows of all
other users are then in no split. The manifest counts `users_held_out`, their rows
in `history_only`, and the test rows of others as `untested`.

With `--held_out_items`, a seeded share of the items is in no train row and no train
negative: line and dense id as ever, 0 train rows. Held-out rows still are of them, and
histories hold them. The manifest counts `items_held_out`, their rows that would train
as `held_out_item_rows`, and those that are asked for, `validation_held_out_items` and
`test_held_out_items`.

A user who has the whole catalogue is in no split, where train rows hold negatives: none
can be drawn. Line and dense id are as ever, with 0 train rows. The manifest counts
`users_without_negatives` and `rows_without_negatives`, where there are any.

With `--ids_from` the keys of an earlier dataset, the manifest's `base`, keep their
dense ids, and others come after. Both vocabularies then have a last column: all kept
rows of each key. A line with 0 of them is there for its id alone: such an item is in no
record, and no candidate. The manifest counts `unused_users` and `unused_items`, where
there are any. The key of a line is empty where its owner was forgotten, by `--forget`
or `--forget_items`; no log holds an empty key.

A record of successors holds n items in ascending order, and what came after each
in train rows, all int64: `item` [n], `length` [n], and `successor` [sum of
lengths], dense ids, best first, with its `weight` [sum of lengths] in units of
`WEIGHT_UNIT`. Two train rows of a user at distance l add to the weight of (the
earlier's item, the later's); see `beam_pipelines.transitions`. An item that nothing
followed is in no record.

Where features of items were given, `item_features` says what holds them; a manifest
has `item_features`, and the same of users.

This module imports neither TensorFlow nor Beam.
"""

import hashlib
import os

import numpy as np

from ncf_tfdata import object_store, vocabulary
from ncf_tfdata.errors import UserError
from ncf_tfdata.features import records as feature_records
from ncf_tfdata.features.columns import CATEGORY, FeatureTable
from ncf_tfdata.features.records import Features
from ncf_tfdata.manifest import File, Manifest

NAME = 'ncf'

TRAIN, VALIDATION, TEST = SPLITS = ('train', 'validation', 'test')

# How rows are held out, and which of them are asked for.
LEAVE_LAST_OUT, BY_TIME, BY_SHARE = RULES = ('leave-last-out', 'time', 'ratio')
LAST, FIRST, RANDOM, SUCCESSIVE = TARGETS = ('last', 'first', 'random', 'successive')

USER = 'user'
POSITIVE = 'pos'
NEGATIVES = 'negs'
HISTORY = 'history'
HISTORY_LENGTH = 'history_length'
GAP = 'gap'
TIME = 'time'
HISTORY_TIME = 'history_time'

SUCCESSORS = 'successors'
ITEM_FEATURES, USER_FEATURES = 'item-features', 'user-features'

ITEM = 'item'
LENGTH = 'length'
SUCCESSOR = 'successor'
WEIGHT = 'weight'
WEIGHT_UNIT = 2.0**-16
# Two train rows of a user are a transition up to this distance, which weighs
# distance ** -decay; scores look back as far as the last so many rows.
TRANSITION_DISTANCE, TRANSITION_DECAY, TRANSITION_HISTORY = 10, 0.7, 50

# A block closes at whichever comes first; a single user's rows may exceed both, and
# a single item's successors, which fill a block as histories do, the second.
BLOCK_ROWS = 1024
BLOCK_HISTORY = 65_536

MANIFEST = 'manifest.json'
FEATURES_INFO = 'features.json'
DATASET_INFO = 'dataset_info.json'
REJECTS = 'rejects.tsv'
USERS = 'users.tsv'
ITEMS = 'items.tsv'


def features(split: str, times: bool = False) -> tuple[str, ...]:
  """Names of the int64 columns that a record of `split`, or `SUCCESSORS`, holds.

  Args:
    split: Of the record.
    times: Whether the dataset holds times.
  """
  if split == SUCCESSORS:
    return (ITEM, LENGTH, SUCCESSOR, WEIGHT)
  columns = (USER, POSITIVE, NEGATIVES, *((TIME,) if times else ()))
  if split == TRAIN:
    return columns
  columns = (*columns, HISTORY, HISTORY_LENGTH, GAP)
  return (*columns, HISTORY_TIME) if times else columns


def shard_name(split: str, shard: int, num_shards: int) -> str:
  """File name of a shard, in the form that TFDS and Beam share."""
  return f'{NAME}-{split}.tfrecord-{shard:05d}-of-{num_shards:05d}'


class Dataset:
  """A finished dataset directory, opened for reading.

  Attributes:
    directory: Where it is; local, or anything that `fsspec` opens.
    manifest: Its manifest.
    sha256: Digest of the manifest, which covers every file: the dataset's identity.
  """

  def __init__(self, directory: str):
    """Opens a dataset.

    Raises:
      UserError: There is no finished dataset of this schema, or a file that the
        manifest lists is missing or of another size.
    """
    self.directory = object_store.as_path(directory)
    path = self.directory / MANIFEST
    sizes = object_store.sizes(self.directory)
    if MANIFEST not in sizes and sizes:
      # `prepare` replaces nothing that is not proven to be its own.
      raise UserError(
        f'no finished dataset at {directory} (it holds files, and no {MANIFEST}). '
        'Prepare one in a directory of its own, by '
        '`python -m beam_pipelines.prepare --output=…`.'
      )
    if MANIFEST not in sizes:
      raise UserError(
        f'no finished dataset at {directory} (no {MANIFEST}). Run '
        f'`python -m beam_pipelines.prepare --output={directory}` first.'
      )
    content = object_store.read(path)
    try:
      self.manifest = Manifest.from_json(content.decode())
    except (AttributeError, KeyError, TypeError, ValueError) as error:
      raise UserError(
        f'{path} is not a manifest that this version reads ({error}). '
        f'Move {directory} away, and prepare the dataset again.'
      ) from error
    self.sha256 = hashlib.sha256(content).hexdigest()
    for file in self.manifest.files:
      self._check(file, sizes.get(file.name))

  def _check(self, file: File, size: int | None) -> None:
    path = self.directory / file.name
    if size != file.bytes:
      found = 'is missing' if size is None else f'has {size:,} bytes'
      raise UserError(
        f'{path} {found}, expected {file.bytes:,} bytes. '
        'Prepare the dataset again with --overwrite.'
      )

  def verify(self) -> None:
    """Compares the sha256 of every file with the manifest's.

    Raises:
      UserError: A file is gone, or its content is not what was written.
    """
    for file in self.manifest.files:
      digest = hashlib.sha256()
      try:
        for piece in object_store.pieces(self.directory / file.name):
          digest.update(piece)
      except FileNotFoundError:
        self._check(file, None)
      if digest.hexdigest() != file.sha256:
        raise self._corrupt(self.directory / file.name)

  def _corrupt(self, path: str | os.PathLike[str]) -> UserError:
    return UserError(
      f"{path} is corrupt: its sha256 is not the manifest's. "
      'Prepare the dataset again with --overwrite.'
    )

  def check_unchanged(self) -> None:
    """Compares the manifest with what it was when the dataset was opened.

    Raises:
      UserError: Another dataset has taken this one's place, or it is gone.
    """
    try:
      content = object_store.read(self.directory / MANIFEST)
    except FileNotFoundError:
      content = b''
    if hashlib.sha256(content).hexdigest() != self.sha256:
      raise UserError(
        f'the dataset in {self.directory} was replaced while it was in use. Run the '
        'command again; a training starts again with --overwrite.'
      )

  def read_error(self, split: str, reason: str) -> UserError:
    """What to say of a split, or of `SUCCESSORS`, whose reading has failed.

    Args:
      split: That was read.
      reason: Told where every shard is what the manifest says.

    Returns:
      An error that names the shard, if its content has changed or cannot be read.
    """
    try:
      self.check_unchanged()
      files = [file for file in self.manifest.files if file.split == split]
      for file, path in zip(files, self.shards(split), strict=True):
        with open(path, 'rb') as stream:
          digest = hashlib.file_digest(stream, 'sha256').hexdigest()
        if digest != file.sha256:
          if object_store.is_remote(self.directory):
            return UserError(
              f'{path}, a copy of {self.directory / file.name}, is corrupt. Remove it, '
              'and run the command again.'
            )
          return self._corrupt(path)
    except UserError as error:
      return error
    except OSError as error:
      return UserError(
        f'cannot read {error.filename}: {error.strerror}. Mend that, or prepare the '
        'dataset again with --overwrite.'
      )
    return UserError(
      f'the {split} records of {self.directory} cannot be read ({reason}). '
      'Check the disk, or prepare the dataset again with --overwrite.'
    )

  @property
  def num_users(self) -> int:
    """Dense ids of users, those without interactions included: rows of a table."""
    return self.manifest.counts['users']

  @property
  def num_items(self) -> int:
    """Dense ids of items, those without interactions included: rows of a table."""
    return self.manifest.counts['items']

  @property
  def own_items(self) -> int:
    """Items that it holds itself: all but those that a view has added behind them."""
    return self.num_items

  @property
  def active_users(self) -> int:
    """Users who have interactions: all of them, where no ids were kept."""
    return self.num_users - self.manifest.counts.get('unused_users', 0)

  @property
  def catalogue_size(self) -> int:
    """Items that have interactions, and may be ranked, recommended and drawn."""
    return self.num_items - self.manifest.counts.get('unused_items', 0)

  def unused_items(self) -> np.ndarray | None:
    """Items whose line is there for its id alone: bool [num_items].

    None where there are none, which costs no look at the vocabulary.

    Raises:
      UserError: The vocabulary is missing, or not what was written.
    """
    if self.catalogue_size == self.num_items:
      return None
    rows = self.vocabulary(ITEMS).rows
    return None if rows is None else np.equal(rows, 0)

  def untrained_items(self) -> np.ndarray | None:
    """Items that training must not see, not as negatives either: bool [num_items].

    They are the unused ones, and with `--held_out_items` all that have no train rows.
    None where there are none.

    Raises:
      UserError: The vocabulary is missing, or not what was written.
    """
    if not self.manifest.counts.get('items_held_out'):
      return self.unused_items()
    return np.equal(self.vocabulary(ITEMS).counts, 0)

  def rows(self, split: str) -> int:
    """Number of rows of a split; pairs of `SUCCESSORS`."""
    return self.manifest.counts.get(split, 0)

  def has(self, split: str) -> bool:
    """Whether there are shards of a split, or of `SUCCESSORS`; copies none."""
    return any(file.split == split for file in self.manifest.files)

  def features(self, split: str) -> tuple[str, ...]:
    """Names of the columns that a record of `split` holds; see `features`."""
    return features(split, self.manifest.has_times)

  def negatives(self, split: str) -> int:
    """Number of negatives that each row of a split holds."""
    return self.manifest.negatives[split]

  def shards(self, split: str) -> list[str]:
    """Local paths of the shards of a split, or of `SUCCESSORS`, in order.

    TensorFlow opens no s3://: of a dataset on an object store these are copies, made
    by the first call on a machine.

    Raises:
      UserError: They cannot be copied.
    """
    files = [file for file in self.manifest.files if file.split == split]
    if object_store.is_remote(self.directory):
      return object_store.local_copies(self.directory, files, self.sha256)
    return [str(self.directory / file.name) for file in files]

  def vocabulary(self, name: str) -> vocabulary.Vocabulary:
    """Reads `USERS` or `ITEMS`.

    Raises:
      UserError: The file is missing, or not what was written.
    """
    return vocabulary.decode(self._content(name), self.manifest.base is not None)

  def item_features(self) -> Features | None:
    """What is known of items beside their interactions; None where nothing was given.

    Raises:
      UserError: A file of it is missing, or not what was written.
    """
    table = self.manifest.item_features
    return self._features(ITEM, table, ITEM_FEATURES, self.num_items)

  def user_features(self) -> Features | None:
    """What is known of users beside their interactions; None where nothing was given.

    Raises:
      UserError: A file of it is missing, or not what was written.
    """
    table = self.manifest.user_features
    return self._features(USER, table, USER_FEATURES, self.num_users)

  def _features(
    self, role: str, table: FeatureTable | None, kind: str, size: int
  ) -> Features | None:
    if table is None:
      return None
    shards = (self._content(f.name) for f in self.manifest.files if f.split == kind)
    vocabularies = {
      column.name: self._content(feature_records.vocabulary_name(role, column.name))
      for column in table.columns
      if column.kind == CATEGORY
    }
    try:
      return feature_records.decode(role, table, size, shards, vocabularies)
    except (KeyError, ValueError) as error:
      raise self.read_error(kind, str(error)) from error

  def _content(self, name: str) -> bytes:
    """All of a file that the manifest lists.

    Raises:
      UserError: It is missing, or not what was written.
    """
    path = self.directory / name
    (file,) = (file for file in self.manifest.files if file.name == name)
    try:
      content = object_store.read(path)
    except FileNotFoundError:
      self._check(file, None)
      raise
    if hashlib.sha256(content).hexdigest() != file.sha256:
      self.check_unchanged()
      raise self._corrupt(path)
    return content
