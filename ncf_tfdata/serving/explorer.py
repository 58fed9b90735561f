"""What the explore page shows, as plain values that JSON holds."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ncf_tfdata import dataset as dataset_lib
from ncf_tfdata.data import events
from ncf_tfdata.errors import ArgumentError
from ncf_tfdata.evaluation import ranking
from ncf_tfdata.serving import (
  item_categories,
  reasons,
  recommendation_files,
  recommender,
  rules,
  similar,
  user_segments,
)
from ncf_tfdata.vocabulary import UNKNOWN

# How far down a list its titles' places are known, to tell where one came from.
DEPTH = 100

# Rows of a search, and of a history; both tell how many there are in all.
_FOUND = 30
_SHOWN = 200
# Users of a page of a segment.
_MEMBERS = 10
# Categories of a column that may be chosen: its most frequent ones.
_VALUES = 1000


class UnknownSystemError(LookupError):
  """What is asked for by name is neither the model nor one of the others."""


class Explorer:
  """Recommends to one user at a time, says why, and finds users and titles."""

  def __init__(
    self,
    model: ranking.Scorer,
    dataset: dataset_lib.Dataset,
    names: dict[str, str] | None = None,
    k: int = 10,
    others: Mapping[str, ranking.Scorer] | None = None,
  ):
    """Takes a trained model and its dataset.

    Args:
      model: What is shown.
      dataset: It was trained on, or a view of that with new items.
      names: By item, where there are some.
      k: Length of the lists.
      others: Scorers of the same dataset by name, to be shown beside the model: of
        other runs, or baselines.
    """
    from ncf_tfdata.serving import reasons_in_graph  # It imports TensorFlow.

    users = dataset.vocabulary(dataset_lib.USERS)
    items = dataset.vocabulary(dataset_lib.ITEMS)
    self._k = k
    # The model's own name is '', whatever the others are called.
    self._systems = {'': model, **(others or {})}
    self._recommenders = {
      name: recommender.Recommender(system, dataset)
      for name, system in self._systems.items()
    }
    self._explainers = {
      name: reasons_in_graph.Explainer(system, reasons.COUNT)
      for name, system in self._systems.items()
    }
    self._categories = item_categories.ItemCategories(dataset)
    self._unused = dataset.unused_items()
    gaps = any(map(ranking.reads_gaps, self._systems.values()))
    self._histories = recommender.read_histories(dataset, gaps)
    self._segments = user_segments.UserSegments(dataset, self._histories)
    self._users, self._items = users.keys, items.keys
    self._user, self._item = users.ids(), items.ids()
    self._known = list(self._user.values())
    self._names = [(names or {}).get(key, '') for key in items.keys]
    self._named = names is not None
    self._counts, self._own_items = items.counts, dataset.own_items
    # Searched from the most popular on.
    order = np.argsort(-items.counts, kind='stable')
    if self._unused is not None:
      order = order[~self._unused[order]]
    self._by_popularity = order.tolist()
    self._text = [
      f'{key}\n{name}'.casefold()
      for key, name in zip(items.keys, self._names, strict=True)
    ]
    # One catalogue of scores at a time, however many ask.
    self._lock = threading.Lock()

  def about(self) -> dict[str, Any]:
    """What the page says of the model."""
    model = self._systems['']
    return {
      'model': getattr(model, 'name', ''),
      'reads_history': model.reads_history,
      'others': [
        {'name': name, 'reads_history': system.reads_history}
        for name, system in self._systems.items()
        if name
      ],
      'meaning': reasons.MEANING,
      'categories': [
        _described(name, column) for name, column in self._categories.columns.items()
      ],
      'segments': [
        _described(name, column) for name, column in self._segments.columns.items()
      ],
      'page': _MEMBERS,
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
    return self._with_history(found)

  def segment(self, name: str, value: str, start: int = 0) -> dict[str, Any]:
    """A page of the users of a segment, in a random order that is always the same.

    Args:
      name: Of a column of `about`'s `segments`.
      value: Of that column.
      start: Place of one of the page's users in that order; beyond the end, the last
        page is meant.

    Returns:
      `start` of the page, `total` users in the segment, and `users`, `_MEMBERS` of them
      at most.

    Raises:
      ArgumentError: There is no such segment.
    """
    found = self._segments.users(name, value)
    start = max(0, min(start, len(found) - 1)) // _MEMBERS * _MEMBERS
    page = found[start : start + _MEMBERS].tolist()
    return {'start': start, 'total': len(found), 'users': self._with_history(page)}

  def _with_history(self, found: Sequence[int]) -> list[dict[str, Any]]:
    """Users of dense ids, each with the length of their history."""
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
    return [self._counted(item) for item in found]

  def answer(
    self,
    user: str,
    added: Sequence[str] = (),
    system: str = '',
    only: Mapping[str, Sequence[str]] | None = None,
  ) -> dict[str, Any]:
    """A user's list, and how the title that was added last has moved it.

    Args:
      user: An original id; of a new user the dataset holds no history.
      added: Original ids of titles seen since, in that order. What the dataset does
        not know is passed over.
      system: Whose list it is: '' for the model, or the name of another.
      only: Values by column of categories: all else is left out, as if it were not
        there.

    Returns:
      `user`, `known`: whether the dataset knows them; `history` and `added`, titles,
      the latest first; `history_length`; `source`: `model` or `popularity`; `floor`:
      the score at the end of `DEPTH`; `answers`: titles with `count`, `rank`, `score`
      and `was`, the rank without the last one added, None beyond `DEPTH`; `left`:
      titles that were in the list before that, with `was` and `rank`. `was` is missing,
      and `left` empty, where nothing is added.

    Raises:
      UnknownSystemError: There is no such system.
      ArgumentError: There is no such column of categories, or no such value.
    """
    if system not in self._systems:
      raise UnknownSystemError(system)
    ruled = rules.Rules(~self._categories.having(only), -np.inf) if only else None
    dense, past, seen = self._known_of(user, added)
    # The list as it is, and as it was without the last title.
    histories = [np.concatenate([past, np.array(seen, np.int64)])]
    if seen:
      histories.append(histories[0][:-1])
    length = np.array([len(history) for history in histories])
    with self._lock:
      found = self._recommenders[system].recommend(
        np.full(len(histories), dense),
        np.concatenate(histories),
        length,
        max(self._k, DEPTH),
        ruled,
      )
    ranks = [
      {int(item): rank for rank, item in enumerate(row, 1) if item >= 0}
      for row in found.item
    ]
    now, before = ranks[0], ranks[1] if seen else None
    score = found.score[0][found.item[0] >= 0]
    rows = []
    for item, rank in list(now.items())[: self._k]:
      row = {**self._counted(item), 'rank': rank, 'score': float(score[rank - 1])}
      rows.append(row if before is None else {**row, 'was': before.get(item)})
    left = [
      {**self._title(item), 'was': was, 'rank': now.get(item)}
      for item, was in (before or {}).items()
      if was <= self._k and item != seen[-1] and now.get(item, DEPTH) > self._k
    ]
    return {
      'user': user,
      'known': dense != UNKNOWN,
      'history': self._titles(events.items(past[::-1][:_SHOWN])),
      'history_length': len(past),
      'added': self._titles(seen[::-1]),
      'source': recommendation_files.MODEL
      if found.by_model[0]
      else recommendation_files.POPULARITY,
      'floor': float(score[-1]) if len(score) else 0.0,
      'answers': rows,
      'left': left,
    }

  def why(
    self, user: str, added: Sequence[str], of: Sequence[str], system: str = ''
  ) -> list[list[dict[str, Any]]]:
    """Reasons of items that were recommended, the strongest first.

    Args:
      user: As in `answer`.
      added: As in `answer`.
      of: Original ids of the items, `DEPTH` at most; one that the dataset does not know
        has no reason.
      system: As in `answer`.

    Returns:
      Of each, titles of the history with `effect`, and its `parts` by name.

    Raises:
      UnknownSystemError: There is no such system.
      ArgumentError: There are more items.
    """
    if system not in self._systems:
      raise UnknownSystemError(system)
    if len(of) > DEPTH:
      # Memory grows with them.
      raise ArgumentError(f'`of` must hold at most {DEPTH} items.', of=len(of))
    dense, past, seen = self._known_of(user, added)
    history = np.concatenate([past, np.array(seen, np.int64)])
    items = np.array([[self._item.get(key, -1) for key in of]], np.int64)
    with self._lock:
      found = self._explainers[system](
        np.array([dense]), history, np.array([len(history)]), items
      )
    return [
      [
        {**self._title(item), 'effect': effect, 'parts': parts}
        for item, effect, parts in found.of(0, place)
      ]
      for place in range(len(of))
    ]

  def similar(self, item: str) -> dict[str, Any]:
    """Items similar to one, by all that the model knows.

    Returns:
      The title with its `count`, and `lists`: `by`, and `items`, titles with `count`
      and `score`. No lists where the dataset does not know the item.
    """
    dense = self._item.get(item)
    if dense is None:
      return {'item': item, 'name': '', 'count': 0, 'lists': []}
    model = self._systems['']
    own = model.item_similarities() if hasattr(model, 'item_similarities') else {}
    lists = []
    for by, similarity in own.items():
      with self._lock:
        scores = np.array(similarity(np.array([dense])))
      found = similar.find(scores, np.array([dense]), self._k, self._unused)
      pairs = zip(found.item[0].tolist(), found.score[0].tolist(), strict=True)
      rows = [
        {**self._counted(other), 'score': score} for other, score in pairs if other >= 0
      ]
      lists.append({'by': by, 'items': rows})
    return {**self._counted(dense), 'lists': lists}

  def _known_of(
    self, user: str, added: Sequence[str]
  ) -> tuple[int, np.ndarray, list[int]]:
    """A user's dense id, what the dataset holds of them, and what they saw since."""
    dense = self._user.get(user, UNKNOWN)
    seen = [self._item[key] for key in added if key in self._item]
    return dense, self._histories.of(np.array([dense]))[0], seen

  def _counted(self, item: int) -> dict[str, Any]:
    return {**self._title(item), 'count': int(self._counts[item])}

  def _title(self, item: int) -> dict[str, Any]:
    """An item's id and name; `new` marks one that came after training."""
    title: dict[str, Any] = {'item': self._items[item], 'name': self._names[item]}
    return title if item < self._own_items else {**title, 'new': True}

  def _titles(self, items: Iterable[int]) -> list[dict[str, Any]]:
    return [self._title(item) for item in items]


def _described(name: str, column: item_categories.Column) -> dict[str, Any]:
  """A column: values with how many items, or users, have each, and how many more."""
  pairs = zip(column.places, column.counts().tolist(), strict=True)
  values = [{'value': value, 'count': count} for value, count in pairs]
  return {
    'name': name,
    'values': values[:_VALUES],
    'more': max(0, len(values) - _VALUES),
  }
