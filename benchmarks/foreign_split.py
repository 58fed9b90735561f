"""What `prepare --export_split` wrote, for systems of other libraries.

Each library has a Python of its own, so this needs numpy alone. A runner, such as
foreign_implicit.py, makes models of the train rows, each judged here on the validation
rows. The best one's lists are written, for the validation and the test rows. Test
targets are never looked at.

    PYTHON foreign_implicit.py '{"system": "als", "split": …, "output": …, …}'
"""

import csv
import dataclasses
import json
import os
import pathlib
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

LENGTH = 200  # Of a list.
CHOSEN = 'chosen.json'
_K = 10


@dataclasses.dataclass(frozen=True)
class Rows:
  """Interactions, by user and position.

  Attributes:
    user: int64 [n], index of `Split.users`.
    item: int64 [n], index of `Split.items`.
    position: int64 [n], interactions of the user before.
  """

  user: np.ndarray
  item: np.ndarray
  position: np.ndarray

  def where(self, keep: np.ndarray) -> 'Rows':
    return Rows(self.user[keep], self.item[keep], self.position[keep])


@dataclasses.dataclass(frozen=True)
class Asked:
  """One question a user.

  Attributes:
    name: validation or test.
    targets: The held-out rows.
    known: What their users did before.
  """

  name: str
  targets: Rows
  known: Rows

  def histories(self) -> list[np.ndarray]:
    """Items of each target's user before it, oldest first."""
    begin = np.searchsorted(self.known.user, self.targets.user)
    end = np.searchsorted(self.known.user, self.targets.user, 'right')
    spans = zip(begin, end, strict=True)
    return [self.known.item[first:last] for first, last in spans]

  def seen(self, num_items: int) -> np.ndarray:
    """bool [targets, num_items], whether the user had one of the first items before."""
    seen = np.zeros((len(self.targets.user), num_items), bool)
    known = self.known.where(self.known.item < num_items)
    seen[np.searchsorted(self.targets.user, known.user), known.item] = True
    return seen


@dataclasses.dataclass(frozen=True)
class Split:
  """The files of a split.

  Attributes:
    users: Ids of the log.
    items: Ids of the log, those of train first.
    num_trained: Items of train.
    train: What may be learnt from.
    asked: `validation` and `test`.
  """

  users: list[str]
  items: list[str]
  num_trained: int
  train: Rows
  asked: dict[str, Asked]


def read(directory: str) -> Split:
  """Reads a directory of `prepare --export_split`.

  Raises:
    ValueError: Several rows of one user are held out: a file of lists has one a user.
  """
  users, items = _Ids(), _Ids()
  train = _rows(directory, 'train', users, items)
  num_trained = len(items.keys)
  asked = {}
  for name in ('validation', 'test'):
    targets = _rows(directory, name, users, items)
    if (np.diff(targets.user) == 0).any():
      raise ValueError(f'{directory} holds several {name} rows of a user.')
    history = _rows(directory, f'{name}-history', users, items)
    asked[name] = Asked(name, targets, _before(targets, train, history))
  return Split(users.keys, items.keys, num_trained, train, asked)


class _Ids:
  """Numbers of ids, in order of appearance."""

  def __init__(self):
    self.keys: list[str] = []
    self._index: dict[str, int] = {}

  def number(self, key: str) -> int:
    if key not in self._index:
      if '\\' in key:
        raise ValueError(f'{key} is escaped: such ids are not read here.')
      self._index[key] = len(self.keys)
      self.keys.append(key)
    return self._index[key]


def _rows(directory: str, name: str, users: _Ids, items: _Ids) -> Rows:
  path = pathlib.Path(directory) / f'{name}.tsv'
  with path.open(newline='') as stream:
    lines = csv.reader(stream, delimiter='\t', quoting=csv.QUOTE_NONE)
    header = next(lines)
    assert header[:3] == ['user', 'item', 'position'], header
    rows = [(users.number(a), items.number(b), int(c)) for a, b, c, *_ in lines]
  return _sorted(np.array(rows, np.int64).reshape(-1, 3))


def _sorted(rows: np.ndarray) -> Rows:
  rows = rows[np.lexsort((rows[:, 2], rows[:, 0]))]
  return Rows(rows[:, 0], rows[:, 1], rows[:, 2])


def _before(targets: Rows, train: Rows, history: Rows) -> Rows:
  """Rows of train and history before the target of the same user."""
  rows = np.concatenate(
    [np.stack([r.user, r.item, r.position], axis=1) for r in (train, history)]
  )
  place = np.searchsorted(targets.user, rows[:, 0])
  place = np.minimum(place, len(targets.user) - 1)
  before = rows[:, 2] < targets.position[place]
  return _sorted(rows[(targets.user[place] == rows[:, 0]) & before])


@dataclasses.dataclass(frozen=True)
class Lists:
  """A list a target, best first.

  Attributes:
    item: int64 [targets, LENGTH], index of `Split.items`; -1 where a list has ended.
    score: float64 [targets, LENGTH].
  """

  item: np.ndarray
  score: np.ndarray


def best(scores: np.ndarray, seen: np.ndarray) -> Lists:
  """The best unseen items of scores [targets, items], which it changes.

  Args:
    scores: The higher the better; NaN where there is none.
    seen: bool of the same shape.
  """
  scores[seen] = -np.inf
  scores[np.isnan(scores)] = -np.inf
  item = np.argsort(-scores, axis=1, kind='stable')[:, :LENGTH]
  score = np.take_along_axis(scores, item, axis=1).astype(np.float64)
  return Lists(np.where(np.isneginf(score), -1, item), score)


def metrics(lists: Lists, targets: Rows) -> dict[str, float]:
  """HR and NDCG at 10; equal scores count half, what is not listed is a miss."""
  found = lists.item == targets.item[:, None]
  score = np.where(found, lists.score, -np.inf).max(axis=1, keepdims=True)
  listed = lists.item >= 0
  rank = np.count_nonzero(listed & (lists.score > score), axis=1)
  ties = np.count_nonzero(listed & (lists.score == score), axis=1) - 1
  rank = rank + ties / 2
  hit = found.any(axis=1) & (rank < _K)
  gain = np.where(hit, 1 / np.log2(np.maximum(rank, 0) + 2), 0)
  return {'hr@10': float(hit.mean()), 'ndcg@10': float(gain.mean())}


class Choice:
  """Keeps the lists of the model that is best on validation, as files.

  Attributes:
    split: What is learnt and asked.
    task: The runner's argument.
    best: NDCG@10 of the best model so far.
  """

  def __init__(self):
    """Reads the task that the command line holds, and its split."""
    self.task = json.loads(sys.argv[1])
    self.split = read(self.task['split'])
    self.best = -1.0
    self._trials: list[dict[str, Any]] = []
    self._begin = time.perf_counter()
    self._output = pathlib.Path(self.task['output'])
    self._output.mkdir(parents=True, exist_ok=True)

  def judge(self, settings: dict[str, Any], lists: Callable[[Asked], Lists]) -> float:
    """Judges a model; returns its NDCG@10 on the validation rows.

    Args:
      settings: What it was made with.
      lists: Gives its lists for validation and test.
    """
    asked = self.split.asked
    found = lists(asked['validation'])
    numbers = metrics(found, asked['validation'].targets)
    trial = {'settings': settings, **numbers}
    trial['seconds'] = round(time.perf_counter() - self._begin, 1)
    trial['cpu_seconds'] = round(time.process_time(), 1)
    self._trials.append(trial)
    print(json.dumps(trial), flush=True)
    if numbers['ndcg@10'] > self.best:
      self.best = numbers['ndcg@10']
      self._write('validation', found)
      self._write('test', lists(asked['test']))
    self._note(ended=False)
    return numbers['ndcg@10']

  def end(self) -> None:
    """Notes that all models were judged."""
    self._note(ended=True)

  def _note(self, ended: bool) -> None:
    chosen = max(self._trials, key=lambda each: each['ndcg@10'])
    note = {'ended': ended, 'chosen': chosen, 'trials': self._trials}
    (self._output / CHOSEN).write_text(json.dumps(note, indent=2) + '\n')

  def _write(self, name: str, lists: Lists) -> None:
    users, items = self.split.users, self.split.items
    path = self._output / f'{name}.csv'
    part = path.with_suffix('.part')
    with part.open('w', newline='') as stream:
      writer = csv.writer(stream)
      writer.writerow(['user', 'item', 'score'])
      targets = self.split.asked[name].targets
      for user, row, scores in zip(targets.user, lists.item, lists.score, strict=True):
        pairs = zip(row.tolist(), scores.tolist(), strict=True)
        writer.writerows([users[user], items[i], s] for i, s in pairs if i >= 0)
    os.replace(part, path)
