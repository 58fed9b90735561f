"""Ranked lists of another system as a Scorer, and what can be said of them.

What a list does not hold is not recommended: a miss at every K, however short the list
and however small the catalogue. Lists are judged as models are: what the user has seen
is left out, and of items with equal scores half count as higher.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ncf_tfdata import dataset as dataset_lib
from ncf_tfdata.data import records
from ncf_tfdata.data.records import EvaluationBatch
from ncf_tfdata.evaluation import catalogue_scorer, ranking, summary


@dataclasses.dataclass(frozen=True)
class Lists:
  """Lists of n items in all, each item once in a list, best first.

  Attributes:
    start: int64 [num_users + 1]: a user's list begins here, and ends where the next
      one's begins.
    item: int64 [n], dense ids.
    level: float32 [n], higher is better; equal where scores were.
  """

  start: np.ndarray
  item: np.ndarray
  level: np.ndarray

  def of(self, user: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The lists of int64 [n] users, one after the other.

    Returns:
      row: int64 [m], which of the users.
      place: int64 [m], index of `item` and `level`.
    """
    start = self.start[user]
    length = self.start[user + 1] - start
    return np.repeat(np.arange(len(user)), length), records.spans(start, length)


def lists_of(
  user: np.ndarray,
  item: np.ndarray,
  score: np.ndarray | None,
  rank: np.ndarray | None,
  num_users: int,
) -> tuple[Lists, int]:
  """Puts rows in any order into lists.

  Args:
    user: int64 [n], dense ids.
    item: int64 [n], dense ids.
    score: float64 [n], higher is better; or None.
    rank: float64 [n], lower is better; or None. It counts where there is no score.
      Without both, the order of the rows is that of the lists.
    num_users: Users of the dataset.

  Returns:
    The lists, and how many rows were left out because they repeat an item of a list:
    its best place counts.

  Raises:
    ValueError: `score` and `rank` contradict each other.
  """
  if score is not None and rank is not None:
    _check_order(user, score, rank)
  if score is None:
    score = np.arange(len(user), 0, -1) if rank is None else -rank
  order = np.lexsort((-score, user))
  user, item, score = user[order], item[order], score[order]
  # Sorted by user and item, and stably, the best of each comes first.
  by_item = np.lexsort((item, user))
  again = np.zeros(len(user), bool)
  again[by_item[1:]] = (np.diff(user[by_item]) == 0) & (np.diff(item[by_item]) == 0)
  user, item, score = user[~again], item[~again], score[~again]
  start = np.searchsorted(user, np.arange(num_users + 1))
  # How many different scores are above an item's, negated: exact as float32.
  above = np.cumsum((np.diff(score) != 0) & (np.diff(user) == 0))
  above = np.concatenate([[0], above])[: len(user)]
  level = above[start[user]] - above
  return Lists(start, item, level.astype(np.float32)), int(np.count_nonzero(again))


def _check_order(user: np.ndarray, score: np.ndarray, rank: np.ndarray) -> None:
  order = np.lexsort((rank, user))
  user, score, rank = user[order], score[order], rank[order]
  rises = (np.diff(user) == 0) & (np.diff(rank) > 0) & (np.diff(score) > 0)
  if rises.any():
    users = len(np.unique(user[1:][rises]))
    raise ValueError(
      f'score and rank contradict each other in the lists of {users:,} users: a higher '
      'score is better, and a lower rank'
    )


class ListScorer(catalogue_scorer.CatalogueScorer):
  """Scores a list's items by their place, and no others."""

  reads_history = False
  omits_items = True

  def __init__(self, lists: Lists, num_items: int):
    """Takes lists and the size of the catalogue."""
    self._lists, self._num_items = lists, num_items

  def score_all(self, batch: EvaluationBatch) -> np.ndarray:
    scores = np.full((len(batch.user), self._num_items), -np.inf, np.float32)
    row, place = self._lists.of(batch.user)
    scores[row, self._lists.item[place]] = self._lists.level[place]
    return scores


@dataclasses.dataclass(frozen=True)
class Contents:
  """What a file holds.

  Attributes:
    rows: Items of all lists.
    lists: Users of the dataset who have a list.
    unknown_users: Users that the dataset does not know.
    unknown_user_rows: Rows of theirs, which are ignored.
    unknown_items: Items that the dataset does not know, in lists of known users.
    unknown_item_rows: Rows of these, which are ignored.
    repeated: Rows that repeat an item of a list: its best place counts.
  """

  rows: int
  lists: int
  unknown_users: int
  unknown_user_rows: int
  unknown_items: int
  unknown_item_rows: int
  repeated: int


@dataclasses.dataclass(frozen=True)
class Fit:
  """How lists fit the held-out rows of a split.

  Attributes:
    held_out: Held-out rows.
    users: Users whom they are of. A list serves all rows of its user.
    without_list: Rows whose user has no list: misses.
    largest_k: The largest K.
    short: Rows whose list holds fewer items than that, without seen ones.
    seen: Items of lists that their user has seen, which are left out.
    listed: Held-out items that are in their list, at any place.
    candidates: Share of the rows' sampled candidates that lists hold, in [0, 1].
    beyond: Items of lists that are neither seen nor sampled candidates.
  """

  held_out: int
  users: int
  without_list: int
  largest_k: int
  short: int
  seen: int
  listed: int
  candidates: float
  beyond: int

  @property
  def rankings(self) -> tuple[str, ...]:
    """The rankings that such lists can be judged by.

    Sampled: where every candidate is listed, for a short list would look bad. Full:
    where more is listed than the candidates, for a list of these would look good.
    """
    can = {summary.SAMPLED: self.candidates == 1, summary.FULL: self.beyond > 0}
    return tuple(ranking for ranking in summary.RANKINGS if can[ranking])


def fit(
  lists: Lists, dataset: dataset_lib.Dataset, split: str, ks: Sequence[int]
) -> Fit:
  """Counts how lists fit the held-out rows of a split.

  Raises:
    UserError: The split has no rows, or a shard is corrupt.
  """
  num_items = dataset.num_items
  users, has_list, length, positives = [], [], [], []
  seen = candidates = found = 0
  for batch in records.evaluation_batches(
    dataset, split, ranking.batch_rows(num_items)
  ):
    row, place = lists.of(batch.user)
    key = row * num_items + lists.item[place]
    owner = np.repeat(np.arange(len(batch.user)), batch.history_length)
    known = np.isin(key, owner * num_items + batch.history)
    # Where duplicates are kept, a seen item may be held out.
    known &= lists.item[place] != batch.positive[row]
    asked = np.concatenate([batch.positive[:, None], batch.negatives], axis=1)
    asked += num_items * np.arange(len(asked))[:, None]
    users.append(batch.user)
    has_list.append(np.bincount(row, minlength=len(batch.user)) > 0)
    length.append(np.bincount(row[~known], minlength=len(batch.user)))
    positives.append(np.isin(asked[:, 0], key))
    seen += int(np.count_nonzero(known))
    candidates += asked.size
    found += int(np.count_nonzero(np.isin(asked, key)))
  known_user, lengths = np.concatenate(has_list), np.concatenate(length)
  return Fit(
    held_out=len(lengths),
    users=len(np.unique(np.concatenate(users))),
    without_list=int(np.count_nonzero(~known_user)),
    largest_k=max(ks),
    short=int(np.count_nonzero(lengths[known_user] < max(ks))),
    seen=seen,
    listed=int(np.count_nonzero(np.concatenate(positives))),
    candidates=found / candidates,
    beyond=int(lengths.sum()) - found,
  )


def describe(counts: Mapping[str, Any]) -> Iterator[str]:
  """Says what was counted in a file, a sentence for each thing worth saying.

  Args:
    counts: Fields of `Contents` and of `Fit`, by name.
  """

  def said(name: str) -> str:
    return f'{counts[name]:,}'

  yield f'{said("rows")} rows; {said("lists")} users of the dataset have a list.'
  for kind in ('user', 'item'):
    if counts[f'unknown_{kind}s']:
      yield (
        f'{said(f"unknown_{kind}s")} {kind}s, in {said(f"unknown_{kind}_rows")} rows, '
        'are not in the dataset: ignored.'
      )
  if counts['repeated']:
    yield f'{said("repeated")} rows repeat an item of a list: its best place counts.'
  if counts['seen']:
    yield (
      f'{said("seen")} items of lists were seen by their user before: left out, as for '
      'every system.'
    )
  held_out = said('held_out')
  # Runs of before this was counted have one row a user.
  if counts.get('users', counts['held_out']) < counts['held_out']:
    yield (
      f'{held_out} held-out rows are of {said("users")} users: a list serves all rows '
      'of its user. A system that is asked anew each time knows more.'
    )
  if counts['without_list']:
    yield (
      f'{said("without_list")} of {held_out} held-out rows are of users without a '
      'list: a miss at every K.'
    )
  if counts['short']:
    yield (
      f'{said("short")} of {held_out} held-out rows have lists shorter than '
      f'{counts["largest_k"]}, the largest K: what is not listed is a miss.'
    )
  if not counts['listed']:
    yield (
      'No list holds its held-out item. Were they made with the held-out rows as '
      'history, which leaves these out?'
    )
  if counts['candidates'] < 1:
    yield (
      f'Lists hold {100 * counts["candidates"]:.1f} % of the sampled candidates, not '
      'all: no sampled ranking, which would look too bad.'
    )
  if not counts['beyond']:
    yield (
      'Lists hold nothing but sampled candidates: no full ranking, which would look '
      'too good.'
    )
