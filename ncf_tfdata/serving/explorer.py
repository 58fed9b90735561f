"""What the explore page shows, as plain values that JSON holds."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ncf_tfdata import dataset as dataset_lib
from ncf_tfdata.evaluation.ranking import Scorer
from ncf_tfdata.serving import recommendation_files, recommender

# How far down a list its titles' places are known, to tell where one came from.
DEPTH = 100

# Rows of a search, and of a history; both tell how many there are in all.
_FOUND = 30
_SHOWN = 200


class Explorer:
  """Recommends to one user at a time, and finds users and titles."""

  def __init__(
    self,
    model: Scorer,
    dataset: dataset_lib.Dataset,
    names: dict[str, str] | None = None,
    k: int = 10,
  ):
    """Takes a trained model, its dataset, names by item, and the length of lists."""
    users = dataset.vocabulary(dataset_lib.USERS)
    items = dataset.vocabulary(dataset_lib.ITEMS)
    self._model, self._k = model, k
    self._recommender = recommender.Recommender(model, dataset)
    self._histories = recommender.read_histories(dataset)
    self._users, self._items = users.keys, items.keys
    self._user, self._item = users.ids(), items.ids()
    self._known = list(self._user.values())
    self._names = [(names or {}).get(key, '') for key in items.keys]
    self._named = names is not None
    self._counts = items.counts
    # Searched from the most popular on.
    order = np.argsort(-items.counts, kind='stable')
    if (unused := dataset.unused_items()) is not None:
      order = order[~unused[order]]
    self._by_popularity = order.tolist()
    self._text = [
      f'{key}\n{name}'.casefold()
      for key, name in zip(items.keys, self._names, strict=True)
    ]
    # One catalogue of scores at a time, however many ask.
    self._lock = threading.Lock()

  def about(self) -> dict[str, Any]:
    """What the page says of the model."""
    return {
      'model': getattr(self._model, 'name', ''),
      'reads_history': self._model.reads_history,
      'named': self._named,
      'users': len(self._user),
      'items': len(self._by_popularity),
      'k': self._k,
    }

  def users(self, text: str = '', index: int | None = None) -> list[dict[str, Any]]:
    """Users whose id begins with a text, an equal one first; or the one at an index."""
    if index is not None:
      found = [self._known[index % len(self._known)]]
    else:
      found = [self._user[text]] if text in self._user else []
      for key, user in self._user.items():
        if len(found) == _FOUND:
          break
        if key.startswith(text) and key != text:
          found.append(user)
    _, length = self._histories.of(np.array(found, np.int64))
    return [
      {'user': self._users[user], 'history': int(size)}
      for user, size in zip(found, length, strict=True)
    ]

  def items(self, text: str = '') -> list[dict[str, Any]]:
    """Titles whose name or id holds every word of a text; the most popular first."""
    words = text.casefold().split()
    found = []
    if text.strip() in self._item:
      found.append(self._item[text.strip()])
    for item in self._by_popularity:
      if len(found) == _FOUND:
        break
      if all(word in self._text[item] for word in words) and item not in found:
        found.append(item)
    return [{**self._title(item), 'count': int(self._counts[item])} for item in found]

  def answer(self, user: str, added: Sequence[str] = ()) -> dict[str, Any]:
    """A user's list, and how the title that was added last has moved it.

    Args:
      user: An original id; of a new user the dataset holds no history.
      added: Original ids of titles seen since, in that order. What the dataset does
        not know is passed over.

    Returns:
      `user`, `known`: whether the dataset knows them; `history` and `added`, titles,
      the latest first; `history_length`; `source`: `model` or `popularity`; `floor`:
      the score at the end of `DEPTH`; `answers`: titles with `rank`, `score` and
      `was`, the rank without the last one added, None beyond `DEPTH`; `left`: titles
      that were in the list before that, with `was` and `rank`. `was` is missing, and
      `left` empty, where nothing is added.
    """
    dense = self._user.get(user, recommender.UNKNOWN)
    seen = [self._item[key] for key in added if key in self._item]
    past = self._histories.of(np.array([dense]))[0]
    # The list as it is, and as it was without the last title.
    histories = [np.concatenate([past, np.array(seen, np.int64)])]
    if seen:
      histories.append(histories[0][:-1])
    length = np.array([len(history) for history in histories])
    with self._lock:
      found = self._recommender.recommend(
        np.full(len(histories), dense),
        np.concatenate(histories),
        length,
        max(self._k, DEPTH),
      )
    ranks = [
      {int(item): rank for rank, item in enumerate(row, 1) if item >= 0}
      for row in found.item
    ]
    now, before = ranks[0], ranks[1] if seen else None
    score = found.score[0][found.item[0] >= 0]
    rows = []
    for item, rank in list(now.items())[: self._k]:
      row = {**self._title(item), 'rank': rank, 'score': float(score[rank - 1])}
      rows.append(row if before is None else {**row, 'was': before.get(item)})
    left = [
      {**self._title(item), 'was': was, 'rank': now.get(item)}
      for item, was in (before or {}).items()
      if was <= self._k and item != seen[-1] and now.get(item, DEPTH) > self._k
    ]
    return {
      'user': user,
      'known': dense != recommender.UNKNOWN,
      'history': self._titles(past[::-1][:_SHOWN]),
      'history_length': len(past),
      'added': self._titles(seen[::-1]),
      'source': recommendation_files.MODEL
      if found.by_model[0]
      else recommendation_files.POPULARITY,
      'floor': float(score[-1]) if len(score) else 0.0,
      'answers': rows,
      'left': left,
    }

  def _title(self, item: int) -> dict[str, str]:
    return {'item': self._items[item], 'name': self._names[item]}

  def _titles(self, items: Iterable[int]) -> list[dict[str, str]]:
    return [self._title(item) for item in items]
