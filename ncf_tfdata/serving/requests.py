"""Who is recommended to: users by original id, and what they did since the dataset."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Self

import numpy as np

from ncf_tfdata import dataset as dataset_lib
from ncf_tfdata.evaluation import ranking
from ncf_tfdata.serving import recommender
from ncf_tfdata.serving.reasons import Explain
from ncf_tfdata.serving.recommendation_files import Labels, Lists
from ncf_tfdata.serving.rules import Rules
from ncf_tfdata.vocabulary import UNKNOWN


class Request(NamedTuple):
  """n users who want recommendations.

  Attributes:
    key: Original ids, n of them.
    user: int64 [n], dense ids, or `vocabulary.UNKNOWN`.
    later: int64 [sum of lengths], items since the dataset, user after user.
    later_length: int64 [n].
    ignored: How many events were of items that the dataset does not know.
  """

  key: Sequence[str]
  user: np.ndarray
  later: np.ndarray
  later_length: np.ndarray
  ignored: int = 0

  @classmethod
  def of_everyone(cls, dataset: dataset_lib.Dataset) -> Self:
    """All users of a dataset but those who were forgotten, who have no key."""
    users = dataset.vocabulary(dataset_lib.USERS)
    user = users.known()
    keys = users.texts.take(user).to_pylist()
    return cls(keys, user, np.zeros(0, np.int64), np.zeros_like(user))

  @classmethod
  def of_users(cls, dataset: dataset_lib.Dataset, keys: Sequence[str]) -> Self:
    """Users by original id, each once, in the order of their first appearance."""
    return cls.of_events(dataset, (), (), keys)

  @classmethod
  def of_events(
    cls,
    dataset: dataset_lib.Dataset,
    owners: Sequence[str],
    items: Sequence[str],
    keys: Sequence[str] | None = None,
  ) -> Self:
    """Users, new or not, with what they did since the dataset.

    Args:
      dataset: Of the model.
      owners: Original id of the user of each event.
      items: Original id of the item of each event, in order of time.
      keys: The users; those of the events by default.
    """
    keys = list(dict.fromkeys(owners if keys is None else keys))
    user = dataset.vocabulary(dataset_lib.USERS).places(keys)
    place = {key: index for index, key in enumerate(keys)}
    owner = np.array([place[key] for key in owners], np.int64)
    item = dataset.vocabulary(dataset_lib.ITEMS).places(items)
    known = item != UNKNOWN
    owner = owner[known]
    later = item[known][np.argsort(owner, kind='stable')]
    length = np.bincount(owner, minlength=len(keys))
    return cls(keys, user, later, length, int(np.count_nonzero(~known)))

  def parts(self, num_items: int) -> Iterator[slice]:
    """Slices of the users whose scores fit into memory."""
    rows = ranking.batch_rows(num_items)
    for start in range(0, len(self.key), rows):
      yield slice(start, min(start + rows, len(self.key)))


def lists(
  request: Request,
  made: recommender.Recommender,
  histories: recommender.Histories,
  labels: Labels,
  k: int,
  rules: Rules | None = None,
  explain: Explain | None = None,
) -> Iterator[Lists]:
  """Makes the top lists of a request, as many at once as fit into memory.

  Args:
    request: The users.
    made: What recommends to them.
    histories: Of the dataset.
    labels: Of the items.
    k: How many items each list has.
    rules: What else the lists may not hold.
    explain: Finds the reasons of what was recommended, where they are asked for.
  """
  for part in request.parts(len(labels.key) - 1):
    begin = request.later_length[: part.start].sum()
    length = request.later_length[part]
    later = request.later[begin : begin + length.sum()]
    user = request.user[part]
    history = recommender.extended(histories.of(user), (later, length))
    found = made.recommend(user, *history, k, rules)
    told = None if explain is None else explain(user, *history, found.item)
    yield labels.lists(request.key[part], found, told)
