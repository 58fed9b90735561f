"""What a network has to beat: baselines fitted on a dataset's rows, as Scorers.

    popularity                         count of an item's rows
    item-knn:neighbours=100            cosine of items, nearest neighbours kept
    ease:l2=500                        Steck 2019
    transitions:reverse=0:distance=10:decay=0.7:last=50:kept=4096
    sequence-knn:neighbours=100:last=10:kept=4096         Ludewig and Jannach 2018
    content-knn:last=50                cosine of what items are
    category-popularity                mean count of an item's categories
    als:factors=64:regularization=0.01:alpha=1:iterations=15      needs implicit
    bpr:factors=64:regularization=0.01:learning_rate=0.05:iterations=100    ″

A baseline is fitted on (user, item) rows and scores a user by the history in the
evaluation record; ALS and BPR, whose users are fitted, by the user id.

All hold at any catalogue. What would not fit in what memory is free, or in the 10⁹
bytes of `ease:max_gb=…`, is refused before anything is computed. EASE is a square of
the catalogue; of the others, what is kept of an item is bounded.
"""

from __future__ import annotations

import dataclasses
import inspect
import itertools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import scipy.sparse as sp

from ncf_tfdata import dataset as dataset_lib
from ncf_tfdata.data import interactions, transitions
from ncf_tfdata.data.records import EvaluationBatch
from ncf_tfdata.errors import UserError
from ncf_tfdata.evaluation import catalogue_scorer, footprint, ranking
from ncf_tfdata.evaluation.content_baselines import CategoryPopularity, ContentKNN
from ncf_tfdata.evaluation.ease import Ease
from ncf_tfdata.evaluation.item_knn import ItemKNN
from ncf_tfdata.evaluation.sequence_knn import SequenceKNN
from ncf_tfdata.evaluation.time_baselines import DecayedItemKNN, RecentPopularity


class Popularity(catalogue_scorer.SharedScorer):
  """An item's score is the count of its rows."""

  def __init__(
    self, user: np.ndarray, item: np.ndarray, num_users: int, num_items: int
  ):
    del user, num_users
    super().__init__(np.bincount(item, minlength=num_items))


class TransitionCounts(catalogue_scorer.CatalogueScorer):
  """What followed what: counts of succession, discounted by distance.

  For two rows of a user at distance l <= `distance`, C[earlier, later] += l^-decay,
  and `reverse` times that to C[later, earlier]. W = C / sqrt(pop popᵀ) with pop the
  count of rows + 1. A user's scores are the sum over the `last` items, at distance l
  from the end, of l^-decay W[item]. Of what followed an item, the `kept` largest
  counts stay, which bounds the memory.
  """

  def __init__(
    self,
    user: np.ndarray,
    item: np.ndarray,
    num_users: int,
    num_items: int,
    reverse: float = 0.0,
    distance: int = dataset_lib.TRANSITION_DISTANCE,
    decay: float = dataset_lib.TRANSITION_DECAY,
    last: int = dataset_lib.TRANSITION_HISTORY,
    kept: int = footprint.KEPT,
    max_gb: float = 0.0,
  ):
    del num_users
    footprint.check(
      *('transitions', num_items, np.bincount(user), max_gb),
      reverse=reverse,
      distance=distance,
      kept=kept,
    )
    popularity = np.bincount(item, minlength=num_items)
    # Parts of the catalogue with as many rows each.
    parts = -(-distance * len(item) // footprint.PAIRS)
    before = np.cumsum(popularity)
    ends = np.searchsorted(before, np.linspace(0, before[-1], parts + 1)[1:-1])
    bounds = np.unique([0, *ends, num_items])
    counts = sp.vstack(
      [
        interactions.strongest(
          _followed(user, item, start, stop, num_items, distance, decay), kept
        )
        for start, stop in itertools.pairwise(bounds.tolist())
      ]
    ).tocsr()
    self._scores = transitions.TransitionScores(
      counts, popularity, reverse, decay, last
    )

  def score_all(self, batch: EvaluationBatch) -> np.ndarray:
    return self._scores.scores(batch.history, batch.history_length)


def _followed(
  user: np.ndarray,
  item: np.ndarray,
  start: int,
  stop: int,
  num_items: int,
  distance: int,
  decay: float,
) -> sp.csr_matrix:
  """Counts of what followed the items start … stop: float64 [stop - start, items]."""
  shape = (stop - start, num_items)
  counts = sp.csr_matrix(shape)
  for lag in range(1, distance + 1):
    wanted = user[:-lag] == user[lag:]
    if shape[0] < num_items:
      wanted &= (item[:-lag] >= start) & (item[:-lag] < stop)
    earlier, later = item[:-lag][wanted] - start, item[lag:][wanted]
    weight = np.full(len(earlier), lag**-decay)
    counts += sp.csr_matrix((weight, (earlier, later)), shape)
  return counts


class Factors:
  """Dot products of factors that the library implicit has fitted.

  Sources: Hu, Koren and Volinsky, Collaborative filtering for implicit feedback
  datasets (ICDM 2008), for ALS; Rendle et al., BPR (UAI 2009).
  """

  reads_history = False

  def __init__(self, users: np.ndarray, items: np.ndarray):
    """Takes factors float [num_users, d] and [num_items, d]."""
    self._users, self._items = users, items

  def score_candidates(self, batch: EvaluationBatch, items: np.ndarray) -> np.ndarray:
    return np.einsum('nd,ncd->nc', self._users[batch.user], self._items[items])

  def score_all(self, batch: EvaluationBatch) -> np.ndarray:
    return self._users[batch.user] @ self._items.T


def _implicit(name: str) -> Any:
  try:
    # pylint: disable-next=import-outside-toplevel
    from implicit.cpu import als, bpr  # an optional extra
  except ImportError as error:
    raise UserError(
      f'baseline {name} needs the library implicit, which is not installed. '
      'Run `pip install implicit`, or leave it out of --baselines.'
    ) from error
  return als, bpr


def _als(
  user: np.ndarray,
  item: np.ndarray,
  num_users: int,
  num_items: int,
  factors: int = 64,
  regularization: float = 0.01,
  alpha: float = 1.0,
  iterations: int = 15,
) -> Factors:
  als, _ = _implicit('als')
  model = als.AlternatingLeastSquares(
    factors=factors,
    regularization=regularization,
    alpha=alpha,
    iterations=iterations,
    random_state=0,
  )
  rows = interactions.matrix_of(user, item, num_users, num_items).astype(np.float32)
  model.fit(rows, show_progress=False)
  return Factors(model.user_factors, model.item_factors)


def _bpr(
  user: np.ndarray,
  item: np.ndarray,
  num_users: int,
  num_items: int,
  factors: int = 64,
  regularization: float = 0.01,
  learning_rate: float = 0.05,
  iterations: int = 100,
) -> Factors:
  _, bpr = _implicit('bpr')
  model = bpr.BayesianPersonalizedRanking(
    factors=factors,
    regularization=regularization,
    learning_rate=learning_rate,
    iterations=iterations,
    num_threads=1,  # Its threads race, so that two runs would differ.
    random_state=0,
  )
  rows = interactions.matrix_of(user, item, num_users, num_items).astype(np.float32)
  model.fit(rows, show_progress=False)
  return Factors(model.user_factors, model.item_factors)


BASELINES: Mapping[str, Callable[..., ranking.Scorer]] = {
  'popularity': Popularity,
  'recent-popularity': RecentPopularity,
  'item-knn': ItemKNN,
  'item-knn-decay': DecayedItemKNN,
  'ease': Ease,
  'transitions': TransitionCounts,
  'successors': TransitionCounts,  # its former name
  'sequence-knn': SequenceKNN,
  'content-knn': ContentKNN,
  'category-popularity': CategoryPopularity,
  'als': _als,
  'bpr': _bpr,
}


# Those that know a user by his id alone.
OF_USERS = frozenset({'als', 'bpr'})
# Those that look at times, which a dataset may not hold.
OF_TIMES = frozenset({'recent-popularity', 'item-knn-decay'})
# Those that look at features of items, likewise.
OF_FEATURES = frozenset({'content-knn', 'category-popularity'})


@dataclasses.dataclass(frozen=True)
class Baseline:
  """A baseline that is to be fitted.

  Attributes:
    name: One of `BASELINES`.
    parameters: That were given.
  """

  name: str
  parameters: Mapping[str, Any]

  def check_memory(self, num_items: int, lengths: np.ndarray) -> None:
    """Refuses, before anything is computed, what would not fit.

    Args:
      num_items: Size of the catalogue.
      lengths: int64 [num_users], rows of each user.

    Raises:
      UserError: Fitting it to so many rows takes more memory than there is.
    """
    footprint.check(self.name, num_items, lengths, **self.parameters)

  def __call__(
    self,
    user: np.ndarray,
    item: np.ndarray,
    num_users: int,
    num_items: int,
    **more: Any,
  ) -> ranking.Scorer:
    """Fits it to rows int64 [n], user by user, in time order within a user.

    Args:
      user: int64 [n].
      item: int64 [n].
      num_users: Users of the dataset.
      num_items: Size of the catalogue.
      **more: Of those that look at times, `time` int64 [n], and a `day` in its unit; of
        those that look at features, `features` of all items.
    """
    return BASELINES[self.name](
      user, item, num_users, num_items, **more, **self.parameters
    )


def create(spec: str) -> Baseline:
  """A baseline, from `name` or `name:parameter=value:…`.

  Raises:
    UserError: There is no such baseline or parameter, or a value is not a number from
      0, a whole one from 1.
  """
  name, *assignments = spec.split(':')
  if name not in BASELINES:
    raise UserError(f'no baseline {name!r}: expected one of {", ".join(BASELINES)}.')
  known = {
    parameter.name: type(parameter.default)
    for parameter in inspect.signature(BASELINES[name]).parameters.values()
    if parameter.default is not inspect.Parameter.empty
  }
  parameters = {}
  for assignment in assignments:
    key, _, value = assignment.partition('=')
    try:
      parameters[key] = known[key](value)
      if not (1 if known[key] is int else 0) <= parameters[key] < float('inf'):
        raise ValueError(f'{key} is out of range')
    except (KeyError, ValueError) as error:
      expected = ', '.join(
        f'{key}=<{"whole number from 1" if kind is int else "number from 0"}>'
        for key, kind in known.items()
      )
      raise UserError(
        f'baseline {name} does not take {assignment!r}: '
        f'expected {expected or "no parameters"}.'
      ) from error
  return Baseline(name, parameters)
