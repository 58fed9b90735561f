"""A dataset with items that came after it, for models that know items by what they are.

Nothing is learnt of them, and nothing is fitted anew. They have the dense ids behind
the dataset's own and no interactions, so that whoever asks the view treats them as the
cold items that a dataset may hold itself.

This module imports no TensorFlow.
"""

from __future__ import annotations

import numpy as np

from ncf_tfdata import dataset as dataset_lib
from ncf_tfdata.errors import UserError
from ncf_tfdata.features import files
from ncf_tfdata.features.records import Features
from ncf_tfdata.vocabulary import UNKNOWN, Vocabulary

# In place of when an item was first seen: after everything.
_NEVER = np.iinfo(np.int64).max


class GrownDataset(dataset_lib.Dataset):
  """A dataset, and new items behind its own.

  Directory, manifest, sha256 and records are the dataset's: this is a view, and no
  dataset to train or to judge a model on.

  Attributes:
    path: The file of new items.
    new: What the file says of them.
  """

  def __init__(
    self,
    dataset: dataset_lib.Dataset,
    path: str,
    new: files.NewFeatures,
    features: Features,
  ):
    """Takes a dataset and new items; `read` reads them.

    Args:
      dataset: With features of items.
      path: The file of new items.
      new: What it says of them.
      features: Of the dataset's own items.
    """
    # What the dataset's own constructor reads has been read.
    self.directory, self.manifest = dataset.directory, dataset.manifest
    self.sha256 = dataset.sha256
    self.path, self.new = path, new
    self._dataset, self._features_of_all = dataset, features.extended(new.features)

  @property
  def own_items(self) -> int:
    return self._dataset.num_items

  @property
  def num_items(self) -> int:
    return self.own_items + len(self.new.keys)

  def unused_items(self) -> np.ndarray | None:
    unused = self._dataset.unused_items()
    return None if unused is None else np.pad(unused, (0, len(self.new.keys)))

  def vocabulary(self, name: str) -> Vocabulary:
    known = self._dataset.vocabulary(name)
    if name != dataset_lib.ITEMS:
      return known
    return Vocabulary.of(
      (*known.keys, *self.new.keys),
      self._padded(known.counts, 0),
      None if known.first_times is None else self._padded(known.first_times, _NEVER),
      None if known.rows is None else self._padded(known.rows, 0),
    )

  def _padded(self, values: np.ndarray, value: int) -> np.ndarray:
    return np.pad(values, (0, len(self.new.keys)), constant_values=value)

  def item_features(self) -> Features:
    return self._features_of_all

  def warning(self) -> str:
    """What to say of categories that the dataset does not know; '' of none."""
    if not self.new.unknown:
      return ''
    found = ', '.join(f'{name} {count:,}' for name, count in self.new.unknown.items())
    return (
      f'{self.path} has categories that no item of the dataset has, which are ignored: '
      f'{found}.'
    )


def read(dataset: dataset_lib.Dataset, path: str) -> GrownDataset:
  """Reads a file of items that a dataset does not hold.

  Args:
    dataset: With features of items.
    path: With the columns of the file that it was prepared with; see `files.read`.

  Raises:
    UserError: The dataset has no features or holds an item of the file, or the file
      cannot be read.
  """
  table, features = dataset.manifest.item_features, dataset.item_features()
  if table is None or features is None:
    raise UserError(
      f'--new_items={path} needs a model that knows items by what they are, and '
      f'{dataset.directory} has no features of items. Prepare it again with '
      '--item_features=FILE, and train on it.'
    )
  new = files.read(path, table, features)
  place = dataset.vocabulary(dataset_lib.ITEMS).places(new.keys)
  there = [new.keys[at] for at in np.flatnonzero(place != UNKNOWN)]
  if there:
    raise UserError(
      f'{path} has {len(there):,} of {len(new.keys):,} items that {dataset.directory} '
      f'holds already, {there[0]!r} first: expected items that came after it. Leave '
      'them out of the file.'
    )
  return GrownDataset(dataset, path, new, features)
