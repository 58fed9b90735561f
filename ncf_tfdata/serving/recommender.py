"""Recommendations of a trained model: the best items that a user has not seen.

A user is one of the dataset, or a new one; with a history, or without. To a cold user,
of whom the model knows nothing, what is popular is recommended, and marked as such.

`saved_model` does the same in a graph, where transitions take longer, and the
last bits of scores are others (docs/design/two-recommenders.md).
"""

from typing import NamedTuple

import numpy as np

from ncf_tfdata import dataset as dataset_lib
from ncf_tfdata.data import events, records
from ncf_tfdata.evaluation import ranking, top_lists
from ncf_tfdata.serving import rules as rules_lib
from ncf_tfdata.vocabulary import UNKNOWN

# What histories are made of, of the columns that a split has.
_COLUMNS = (
  dataset_lib.USER,
  dataset_lib.POSITIVE,
  dataset_lib.HISTORY,
  dataset_lib.HISTORY_LENGTH,
  dataset_lib.TIME,
  dataset_lib.HISTORY_TIME,
)


class Histories(NamedTuple):
  """All that a dataset holds of each user, whatever the split, oldest first.

  Attributes:
    entry: int64 [rows], user after user: items, with the gaps between them where they
      were asked for; see `events`.
    start: int64 [num_users + 1], where each user's rows begin and the last's end.
  """

  entry: np.ndarray
  start: np.ndarray

  @property
  def item(self) -> np.ndarray:
    """The items alone: int64 [rows]."""
    return events.items(self.entry)

  def of(self, user: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Histories of users int64 [n], nothing for `UNKNOWN`.

    Returns:
      Entries int64 [sum of lengths], user after user, and the lengths int64 [n].
    """
    known = user != UNKNOWN
    start = self.start[user * known]
    length = (self.start[user * known + 1] - start) * known
    return self.entry[records.spans(start, length)], length


def read_histories(
  dataset: dataset_lib.Dataset, gaps: bool = False, users: np.ndarray | None = None
) -> Histories:
  """Reads the newest history of users that the dataset holds.

  That of a user's last test record and its positive: train and validation need not hold
  all of it. Without one, that of the last validation record; or else the train rows.

  Args:
    dataset: Where to read.
    gaps: Whether entries tell the gaps between them, of a dataset that holds times.
    users: int64 [n], whose, or `UNKNOWN`; None for all. Of others nothing is kept.

  Raises:
    UserError: A shard is corrupt.
  """
  times = gaps and dataset.manifest.has_times
  wanted = np.full(dataset.num_users, users is None)
  if users is not None:
    wanted[users[users != UNKNOWN]] = True
  left = int(np.count_nonzero(wanted))
  owners, found = [np.zeros(0, np.int64)], [np.zeros((1 + times, 0), np.int64)]
  for split in (dataset_lib.TEST, dataset_lib.VALIDATION, dataset_lib.TRAIN):
    if not left:
      break
    names = [name for name in dataset_lib.features(split, times) if name in _COLUMNS]
    for block in records.columns(dataset, split, names):
      own, columns = _newest(block)
      new = wanted[own]
      owners.append(own[new])
      found.append(columns[:, new])
      # A block holds all rows that a split has of a user.
      done = np.unique(owners[-1])
      wanted[done] = False
      left -= len(done)
      if not left:
        break
  owner, of_rows = np.concatenate(owners), np.concatenate(found, axis=1)
  if (np.diff(owner) < 0).any():
    of_rows = of_rows[:, np.argsort(owner, kind='stable')]
  item, *time = of_rows
  length = np.bincount(owner, minlength=dataset.num_users)
  return Histories(
    events.of_times(item, length, time[0] if time else None),
    np.concatenate([[0], np.cumsum(length)]),
  )


def _newest(block: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
  """What a block knows of each of its users, whatever it was held out for.

  Returns:
    user int64 [rows], contiguous; and int64 [1 or 2, rows], in time order within a
    user: items, and times if the block has them.
  """
  user = block[dataset_lib.USER]
  pairs = [(dataset_lib.HISTORY, dataset_lib.POSITIVE)]
  if dataset_lib.TIME in block:
    pairs.append((dataset_lib.HISTORY_TIME, dataset_lib.TIME))
  if dataset_lib.HISTORY not in block:
    return user, np.stack([block[own] for _, own in pairs])
  # Up to each user's last row.
  length = block[dataset_lib.HISTORY_LENGTH]
  last = np.append(np.flatnonzero(np.diff(user)), len(user) - 1)[: len(user)]
  ends = np.cumsum(length[last])
  columns = [
    np.insert(block[earlier], ends, block[own][last]) for earlier, own in pairs
  ]
  return np.repeat(user[last], length[last] + 1), np.stack(columns)


def extended(
  history: tuple[np.ndarray, np.ndarray], later: tuple[np.ndarray, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
  """Appends to each user's history what came later.

  Both are entries int64 [sum of lengths], user after user, and lengths int64 [n], as
  `Histories.of` has them; so is what is returned.
  """
  (item, length), (later_item, later_length) = history, later
  row = np.arange(len(length))
  owner = np.concatenate([np.repeat(row, length), np.repeat(row, later_length)])
  order = np.argsort(owner, kind='stable')
  return np.concatenate([item, later_item])[order], length + later_length


class Recommendations(NamedTuple):
  """Top lists of n users.

  Attributes:
    item: int64 [n, min(k, num_items)], best first, of equal ones the lower id first;
      -1 where fewer are left.
    score: float32, of the same shape: the model's logits, or counts of train rows.
    by_model: bool [n], False where what is popular is recommended.
  """

  item: np.ndarray
  score: np.ndarray
  by_model: np.ndarray


def known_users(model: ranking.Scorer, dataset: dataset_lib.Dataset) -> np.ndarray:
  """Users of whom a model knows something without a history: bool [num_users].

  Those who were trained on; and those of whom features tell, if the model reads them.
  """
  trained: np.ndarray = dataset.vocabulary(dataset_lib.USERS).counts > 0
  described: np.ndarray | None = getattr(model, 'described_users', None)
  return trained if described is None else trained | described


class Recommender:
  """A model, and what is popular for users of whom it knows nothing.

  model = run.load_model(dataset)
  recommender = Recommender(model, dataset)
  user = np.array([7, UNKNOWN])
  histories = read_histories(dataset, model.reads_gaps)
  recommender.recommend(user, *histories.of(user), k=10).item
  """

  def __init__(self, model: ranking.Scorer, dataset: dataset_lib.Dataset):
    """Takes a trained model, and the dataset it was trained on."""
    self._model = model
    self._known = known_users(model, dataset)
    self._popularity = dataset.vocabulary(dataset_lib.ITEMS).counts.astype(np.float32)
    self._unused = dataset.unused_items()

  def knows(self, user: np.ndarray, history_length: np.ndarray) -> np.ndarray:
    """Of which users the model knows something: bool [n].

    `known_users`; and whoever has a history, if the model reads it.

    Args:
      user: int64 [n], or `UNKNOWN`.
      history_length: int64 [n].
    """
    known = (user != UNKNOWN) & self._known[np.maximum(user, 0)]
    return known | (history_length > 0) if self._model.reads_history else known

  def recommend(
    self,
    user: np.ndarray,
    history: np.ndarray,
    history_length: np.ndarray,
    k: int,
    rules: rules_lib.Rules | None = None,
  ) -> Recommendations:
    """Finds the k best items of each user, without those of the history.

    An id that was kept of an earlier dataset and is unused is no item.

    Args:
      user: int64 [n], or `UNKNOWN`; at most `ranking.batch_rows` for bounded memory.
      history: int64 [sum of lengths], oldest first, user after user: items, or
        entries as `events` has them.
      history_length: int64 [n].
      k: How many, at least 1.
      rules: What else the lists may not hold.
    """
    batch = _batch(user, history, history_length)
    by_model = self.knows(user, history_length)
    scores = np.empty((len(user), len(self._popularity)), np.float32)
    if by_model.any():
      rows = np.repeat(by_model, history_length)
      scores[by_model] = self._model.score_all(
        _batch(user[by_model], history[rows], history_length[by_model])
      )
    scores[~by_model] = self._popularity
    if self._unused is not None:
      scores[:, self._unused] = -np.inf
    ranking.mask_history(scores, batch)
    if rules is not None:
      rules.apply(scores)
    item = top_lists.top_items(scores, k)
    score = np.take_along_axis(scores, item, axis=1)
    return Recommendations(item, score, by_model)


def _batch(
  user: np.ndarray, history: np.ndarray, length: np.ndarray
) -> records.EvaluationBatch:
  """A batch of users without held-out items."""
  nothing = np.full(len(user), -1)
  items = events.items(history)
  return records.EvaluationBatch(
    user, nothing, nothing[:, None][:, :0], items, length, entries=history
  )
