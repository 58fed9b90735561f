"""What two preparations must agree on: rows of each split, and which pairs they are."""

import numpy as np


def digest(user: np.ndarray, item: np.ndarray) -> int:
  """Of pairs of keys, in whatever order they come."""
  x = user.astype(np.uint64) << np.uint64(32) | item.astype(np.uint64)
  for factor in (0xBF58476D1CE4E5B9, 0x94D049BB133111EB):
    x = (x ^ (x >> np.uint64(30))) * np.uint64(factor)
  return int((x ^ (x >> np.uint64(31))).sum())


def of_dataset(directory: str) -> dict:
  """Users, items, and rows and digest of each split; keys are whole numbers."""
  from ncf_tfdata import dataset as dataset_lib
  from ncf_tfdata.data import records

  dataset = dataset_lib.Dataset(directory)
  keys = [
    np.array(dataset.vocabulary(name).keys, np.int64)
    for name in (dataset_lib.USERS, dataset_lib.ITEMS)
  ]
  found: dict = {'users': dataset.num_users, 'items': dataset.num_items}
  for split in dataset_lib.SPLITS:
    user, item = records.rows(dataset, split)
    found[split] = [len(user), digest(keys[0][user], keys[1][item])]
  return found
