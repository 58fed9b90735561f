"""Ranks of held-out items, among sampled negatives and in the whole catalogue.

Rank = candidates that score higher + half of those that score equal (0-based), so a
constant scorer scores like chance. What a system does not rank at all is a miss at
every K: rank infinity. Full ranking leaves out what the user already has; sampled
metrics can invert the order of two systems (Krichene and Rendle, On sampled metrics
for item recommendation, KDD 2020), hence both.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np

from ncf_tfdata import dataset as dataset_lib
from ncf_tfdata import side_thread
from ncf_tfdata.data import records
from ncf_tfdata.data.records import EvaluationBatch
from ncf_tfdata.errors import UserError
from ncf_tfdata.evaluation import shared_scores, top_lists
from ncf_tfdata.evaluation.candidates import Candidates


class Scorer(Protocol):
  """What can be ranked: a model or a baseline. Scores are finite; higher is better.

  Both methods may use a batch's `user` and `history`, and never its `positive`. What
  they returned stays as it is: it is ranked while the next batch is scored. A
  scorer with an attribute `omits_items` that is true may score an item -inf: it is
  not recommended at all. One whose attribute `knows_cold_items` is true knows items by
  what they are: one that nothing was learnt of is no miss by that alone. An attribute
  `described_users`, bool [num_users] or None, says which users it knows by what they
  are. What it asks of histories, `reads_gaps` says.

  Attributes:
    reads_history: Whether scores depend on the history, and not on the user alone.
  """

  reads_history: bool

  def score_candidates(self, batch: EvaluationBatch, items: np.ndarray) -> np.ndarray:
    """Scores float [n, c] of the candidates `items`, int64 [n, c]."""

  def score_all(self, batch: EvaluationBatch) -> np.ndarray:
    """Scores float [n, num_items] of all items."""


def reads_gaps(scorer: Scorer) -> bool:
  """Whether a scorer asks for entries of histories with their gaps; see `data.events`.

  It says so by an attribute of this name; one without it asks for items.
  """
  return getattr(scorer, 'reads_gaps', False)


@dataclasses.dataclass(frozen=True)
class Ranks:
  """All that metrics, intervals, segments and comparisons are computed from.

  Attributes:
    user: int64 [n].
    positive: int64 [n], the held-out items.
    history_length: int64 [n].
    candidates: uint64 [n], a checksum of the row's negatives, whatever their order:
      two systems are comparable where it is the same.
    sampled: float64 [n], ranks among the row's negatives, or None. The rank of what
      is not ranked at all is infinite.
    full: float64 [n], ranks in the catalogue without the history, or None.
    ks: Cut-offs of `recommended`.
    recommended: int64 [len(ks), num_items], how many rows' first k hold each item,
      or None where `full` is.
    gap: int64 [n], time since the user's row before, or None where it is not known.
  """

  user: np.ndarray
  positive: np.ndarray
  history_length: np.ndarray
  candidates: np.ndarray
  sampled: np.ndarray | None = None
  full: np.ndarray | None = None
  ks: tuple[int, ...] = ()
  recommended: np.ndarray | None = None
  gap: np.ndarray | None = None


# MiB of a batch's scores, where nothing else is asked for.
SCORES_MIB = 32
_SEEN_BEFORE = np.uint64(0x5EE4BEF04E)
# The fields that hold a value for each row.
ROW_FIELDS = (
  'user',
  'positive',
  'history_length',
  'candidates',
  'sampled',
  'full',
  'gap',
)


def batch_rows(num_items: int, mebibytes: int = SCORES_MIB) -> int:
  """Rows that a batch may have so that its score matrix stays at bounded memory.

  Args:
    num_items: Size of the catalogue.
    mebibytes: What the scores may take, and what a system makes of them on the way.
  """
  return max(1, (mebibytes << 20) // (8 * num_items))


def _of_shape(scores: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
  if scores.shape != shape:
    raise ValueError(f'Received: scores of shape {scores.shape}, expected {shape}')
  return scores


def _check(scorer: Scorer, scores: np.ndarray) -> np.ndarray:
  known = np.isfinite(scores)
  if getattr(scorer, 'omits_items', False):
    known |= np.isneginf(scores)
  if not known.all():
    # A comparison with NaN is false, so a diverged model would rank first.
    raise UserError(
      'the scores hold NaN or infinity: the model has diverged. '
      'Train it again with a lower learning rate.'
    )
  return scores


def _rank(scores: np.ndarray, target: np.ndarray, itself: int) -> np.ndarray:
  higher = top_lists.count(scores > target[:, None])
  equal = top_lists.count(scores == target[:, None]) - itself
  return np.where(np.isneginf(target), np.inf, higher + 0.5 * equal)


def sampled_ranks(scores: np.ndarray) -> np.ndarray:
  """Ranks of the first column among the others.

  Args:
    scores: float [n, 1 + k], the positive's score and then its negatives'.

  Returns:
    float64 [n].
  """
  return _rank(scores[:, 1:], scores[:, 0], itself=0)


def mask_history(scores: np.ndarray, batch: EvaluationBatch) -> None:
  """Sets what the user already has to -inf in `scores` [n, num_items], in place."""
  row = np.repeat(np.arange(len(batch.user)), batch.history_length)
  scores[row, batch.history] = -np.inf


def full_ranks(scores: np.ndarray, batch: EvaluationBatch) -> np.ndarray:
  """Ranks of the positives among all items but the history.

  Args:
    scores: float [n, num_items]; masked in place.
    batch: The n rows that were scored.

  Returns:
    float64 [n].
  """
  row = np.arange(len(batch.user))
  target = scores[row, batch.positive]
  mask_history(scores, batch)
  # Where duplicates are kept, the positive may itself be in the history.
  scores[row, batch.positive] = target
  return _rank(scores, target, itself=1)


def _checksum(items: np.ndarray) -> np.ndarray:
  """Of the sets in the rows of int64 [n, k]: sums of mixed ids, uint64 [n]."""
  mixed = items.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
  for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
    mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
  return (mixed ^ (mixed >> np.uint64(31))).sum(axis=1, dtype=np.uint64)


def _with_negatives(batch: EvaluationBatch) -> np.ndarray:
  """The positive and then the negatives, int64 [n, 1 + k]."""
  return np.concatenate([batch.positive[:, None], batch.negatives], axis=1)


def _of_batch(
  batch: EvaluationBatch,
  candidates: Candidates | None,
  sampled: np.ndarray,
  full: np.ndarray | None = None,
) -> Ranks:
  checksum = _checksum(batch.negatives)
  if candidates is not None and candidates.first_times is not None:
    # Not comparable with ranks among all items.
    checksum ^= _SEEN_BEFORE
  return Ranks(
    batch.user,
    batch.positive,
    batch.history_length,
    checksum,
    sampled,
    full,
    gap=batch.gap,
  )


def _join(parts: Sequence[Ranks]) -> Ranks:
  columns: dict[str, Any] = {
    name: np.concatenate([getattr(part, name) for part in parts])
    for name in ROW_FIELDS
    if getattr(parts[0], name) is not None
  }
  return Ranks(**columns)


def rank_sampled(
  scorer: Scorer,
  batches: Iterable[EvaluationBatch],
  candidates: Candidates | None = None,
) -> Ranks:
  """Ranks held-out items among the negatives of their rows.

  Args:
    scorer: What to judge.
    batches: Rows.
    candidates: What leaves items out, where anything does.

  Raises:
    UserError: A score is not finite.
  """
  parts = []
  for batch in batches:
    items = _with_negatives(batch)
    scores = _of_shape(scorer.score_candidates(batch, items), items.shape)
    _check(scorer, scores)
    if candidates is not None:
      scores = np.array(scores)
      candidates.hide_among(scores, items, batch)
    parts.append(_of_batch(batch, candidates, sampled_ranks(scores)))
  return _join(parts)


def rank_full(
  scorer: Scorer,
  batches: Iterable[EvaluationBatch],
  num_items: int,
  ks: Sequence[int],
  candidates: Candidates | None = None,
) -> Ranks:
  """Ranks held-out items among their negatives and in the whole catalogue.

  Args:
    scorer: What to judge.
    batches: Rows, at most `batch_rows(num_items)` in a batch.
    num_items: Size of the catalogue.
    ks: Lengths of the lists that `recommended` counts.
    candidates: What leaves items out, where anything does.

  Raises:
    UserError: A score is not finite.
  """
  parts = []
  recommended = np.zeros((len(ks), num_items), np.int64)

  def scored() -> Iterator[tuple[EvaluationBatch, np.ndarray]]:
    for batch in batches:
      shape = (len(batch.user), num_items)
      yield batch, _of_shape(scorer.score_all(batch), shape)

  def ranked(batch: EvaluationBatch, scores: np.ndarray) -> tuple[Ranks, np.ndarray]:
    sampled, full, top = _ranked(scorer, batch, scores, max(ks), candidates)
    return _of_batch(batch, candidates, sampled, full), top

  for part, top in side_thread.behind(ranked, scored()):
    parts.append(part)
    for lists, k in zip(recommended, ks, strict=True):
      first = top[:, :k]
      lists += np.bincount(first[first >= 0], minlength=num_items)
  return dataclasses.replace(_join(parts), ks=tuple(ks), recommended=recommended)


def _ranked(
  scorer: Scorer,
  batch: EvaluationBatch,
  every: np.ndarray,
  k: int,
  candidates: Candidates | None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Ranks of n rows by their scores float [n, num_items] of all items.

  Returns:
    Sampled and full ranks float64 [n], and lists int64 [n, k].

  Raises:
    UserError: A score is not finite.
  """
  if candidates is None and shared_scores.are_shared(every):
    one = shared_scores.SharedScores(every[0])
    sampled = sampled_ranks(every[0][_with_negatives(batch)])
    return sampled, one.full_ranks(batch), one.top_items(batch, k)
  # A copy, for the masking below must not reach into a scorer's memory.
  scores = _check(scorer, np.array(every))
  if candidates is not None:
    candidates.hide(scores, batch)
  sampled = sampled_ranks(np.take_along_axis(scores, _with_negatives(batch), axis=1))
  return sampled, full_ranks(scores, batch), top_lists.top_items(scores, k)


def rank_split(
  scorer: Scorer,
  dataset: dataset_lib.Dataset,
  split: str,
  ks: Sequence[int],
  full: bool = True,
  shown_as: str | None = None,
  candidates: Candidates | None = None,
  mebibytes: int = SCORES_MIB,
) -> Ranks:
  """Ranks the held-out items of a dataset's split.

  Args:
    scorer: What ranks them.
    dataset: Whose they are.
    split: Validation or test.
    ks: Cut-offs of the top lists, in full ranking.
    full: Whether to rank the whole catalogue as well.
    shown_as: What a bar of progress is called; None for no bar.
    candidates: What leaves items out, where anything does.
    mebibytes: See `batch_rows`.

  Raises:
    UserError: The split has no rows, a shard is corrupt, or a score is no number.
  """
  if candidates is not None and getattr(scorer, 'knows_cold_items', False):
    candidates = candidates.with_cold()
  batches: Iterable[EvaluationBatch] = records.evaluation_batches(
    dataset, split, batch_rows(dataset.num_items, mebibytes)
  )
  if shown_as is not None:
    batches = _shown(batches, dataset.rows(split), shown_as)
  if full:
    return rank_full(scorer, batches, dataset.num_items, ks, candidates)
  return rank_sampled(scorer, batches, candidates)


def _shown(
  batches: Iterable[EvaluationBatch], total: int, name: str
) -> Iterator[EvaluationBatch]:
  import tqdm

  bar = tqdm.tqdm(total=total, desc=name, unit=' users', leave=False, disable=None)
  with bar:
    for batch in batches:
      yield batch
      bar.update(len(batch.user))
