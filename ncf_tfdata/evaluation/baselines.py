"""What a network has to beat: baselines fitted on a dataset's rows, as Scorers.

    popularity                         count of an item's rows
    item-knn:neighbours=100            cosine of items, nearest neighbours kept
    ease:l2=500                        Steck 2019
    successors:reverse=0:distance=10:decay=0.7:last=50
    als:factors=64:regularization=0.01:alpha=1:iterations=15      needs implicit
    bpr:factors=64:regularization=0.01:learning_rate=0.05:iterations=100    ″

A baseline is fitted on (user, item) rows and scores a user by the history in the
evaluation record; ALS and BPR, whose users are fitted, by the user id.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np
import scipy.linalg
import scipy.sparse as sp

from ncf_tfdata import dataset as dataset_lib
from ncf_tfdata import memory
from ncf_tfdata.data import transitions
from ncf_tfdata.errors import UserError
from ncf_tfdata.evaluation import ranking

if TYPE_CHECKING:
  # It imports TensorFlow, which nothing here needs.
  from ncf_tfdata.data.records import EvaluationBatch

# Above this density a dense product is faster than scipy's sparse one.
_DENSE = 0.005


class _CatalogueScorer:
  """A scorer that knows whole catalogues only; candidates are columns of it."""

  reads_history = True

  def score_candidates(self, batch: EvaluationBatch, items: np.ndarray) -> np.ndarray:
    return np.take_along_axis(self.score_all(batch), items, axis=1)

  def score_all(self, batch: EvaluationBatch) -> np.ndarray:
    raise NotImplementedError


def _interactions(
  user: np.ndarray, item: np.ndarray, num_users: int, num_items: int
) -> sp.csr_matrix:
  """float64 [num_users, num_items], 1 where a user has the item."""
  matrix = sp.csr_matrix((np.ones(len(user)), (user, item)), (num_users, num_items))
  matrix.data[:] = 1
  return matrix


def _history(batch: EvaluationBatch, num_items: int) -> sp.csr_matrix:
  """float64 [n, num_items], 1 where an item is in the history."""
  row = np.repeat(np.arange(len(batch.user)), batch.history_length)
  return _interactions(row, batch.history, len(batch.user), num_items)


def _is_dense(matrix: sp.csr_matrix) -> bool:
  return matrix.nnz > _DENSE * matrix.shape[0] * matrix.shape[1]


def _gram(matrix: sp.csr_matrix) -> np.ndarray:
  """Xᵀ X, float64 [num_items, num_items]: users that two items share."""
  if not _is_dense(matrix):
    return (matrix.T @ matrix).toarray()
  users, items = matrix.shape
  gram = np.zeros((items, items))
  step = memory.block_rows(items)
  for start in range(0, users, step):
    block = matrix[start : start + step].toarray()
    gram += block.T @ block
  return gram


class Popularity(_CatalogueScorer):
  """An item's score is the count of its rows."""

  reads_history = False

  def __init__(
    self, user: np.ndarray, item: np.ndarray, num_users: int, num_items: int
  ):
    del user, num_users
    self._count = np.bincount(item, minlength=num_items).astype(np.float32)

  def score_all(self, batch: EvaluationBatch) -> np.ndarray:
    return np.broadcast_to(self._count, (len(batch.user), len(self._count)))


class ItemKNN(_CatalogueScorer):
  """Sum of the cosines between an item and those in the history.

  cos(i, j) = |users of both| / sqrt(|users of i| |users of j|); of each i only its
  nearest neighbours j count. Source: Sarwar et al., Item-based collaborative
  filtering recommendation algorithms (WWW 2001); Deshpande and Karypis (TOIS 2004).
  """

  def __init__(
    self,
    user: np.ndarray,
    item: np.ndarray,
    num_users: int,
    num_items: int,
    neighbours: int = 100,
  ):
    matrix = _interactions(user, item, num_users, num_items)
    count = np.asarray(matrix.sum(axis=0)).ravel()
    matrix = (matrix @ sp.diags(1 / np.sqrt(np.maximum(count, 1)))).tocsc()
    step = memory.block_rows(num_items)
    self._neighbours = sp.hstack(
      [
        _nearest(matrix, start, min(start + step, num_items), neighbours)
        for start in range(0, num_items, step)
      ]
    ).tocsr()

  def score_all(self, batch: EvaluationBatch) -> np.ndarray:
    history = _history(batch, self._neighbours.shape[0])
    return (history @ self._neighbours).toarray().astype(np.float32)


def _nearest(
  matrix: sp.csc_matrix, start: int, stop: int, neighbours: int
) -> sp.csc_matrix:
  """Cosines of the items start … stop (columns) with their nearest items (rows)."""
  cosine = (matrix.T @ matrix[:, start:stop]).toarray().T
  item = np.arange(stop - start)
  cosine[item, item + start] = 0
  if neighbours < cosine.shape[1]:
    cosine[cosine < ranking.kth_largest(cosine, neighbours)] = 0
  return sp.csc_matrix(cosine.T)


class Ease(_CatalogueScorer):
  """Scores x B, where B is the ridge regression of items on each other.

  P = (Xᵀ X + l2 I)⁻¹, B = I - P diag(P)⁻¹ with a zero diagonal. Source: Steck,
  Embarrassingly shallow autoencoders for sparse data (WWW 2019), equation 8.
  Memory: two float64 [num_items, num_items].
  """

  def __init__(
    self,
    user: np.ndarray,
    item: np.ndarray,
    num_users: int,
    num_items: int,
    l2: float = 500.0,
  ):
    gram = _gram(_interactions(user, item, num_users, num_items))
    diagonal = np.diag_indices(num_items)
    gram[diagonal] += l2
    # By Cholesky, in place: half the work and memory of a general inverse.
    lapack = scipy.linalg.lapack
    factor, failed = lapack.dpotrf(gram.T, lower=1, clean=1, overwrite_a=1)
    if failed:
      raise UserError(f'EASE has no solution with l2={l2}: give it a positive one.')
    inverse, _ = lapack.dpotri(factor, lower=1, overwrite_c=1)
    inverse += np.tril(inverse, -1).T
    weights = inverse.T  # Symmetric so far; in row order, as products want it.
    weights /= -np.diag(weights).copy()
    weights[diagonal] = 0
    self._weights = weights

  def score_all(self, batch: EvaluationBatch) -> np.ndarray:
    history = _history(batch, len(self._weights))
    if _is_dense(history):
      history = history.toarray()
    return (history @ self._weights).astype(np.float32)


class SuccessorCounts(_CatalogueScorer):
  """What followed what: counts of succession, discounted by distance.

  For two rows of a user at distance l <= `distance`, C[earlier, later] += l^-decay,
  and `reverse` times that to C[later, earlier]. W = C / sqrt(pop popᵀ) with pop the
  count of rows + 1. A user's scores are the sum over the `last` items, at distance l
  from the end, of l^-decay W[item].
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
  ):
    del num_users
    shape = (num_items, num_items)
    counts = sp.csr_matrix(shape)
    for lag in range(1, distance + 1):
      same = user[:-lag] == user[lag:]
      earlier, later = item[:-lag][same], item[lag:][same]
      counts += sp.csr_matrix(
        (np.full(len(earlier), lag**-decay), (earlier, later)), shape
      )
    popularity = np.bincount(item, minlength=num_items)
    self._scores = transitions.TransitionScores(
      counts, popularity, reverse, decay, last
    )

  def score_all(self, batch: EvaluationBatch) -> np.ndarray:
    return self._scores.scores(batch.history, batch.history_length)


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


def _implicit(name: str):
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
  rows = _interactions(user, item, num_users, num_items).astype(np.float32)
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
  rows = _interactions(user, item, num_users, num_items).astype(np.float32)
  model.fit(rows, show_progress=False)
  return Factors(model.user_factors, model.item_factors)


BASELINES: Mapping[str, Callable[..., ranking.Scorer]] = {
  'popularity': Popularity,
  'item-knn': ItemKNN,
  'ease': Ease,
  'successors': SuccessorCounts,
  'als': _als,
  'bpr': _bpr,
}


# Those that know a user by his id alone.
OF_USERS = frozenset({'als', 'bpr'})


def create(spec: str) -> Callable[[np.ndarray, np.ndarray, int, int], ranking.Scorer]:
  """A baseline's fit, from `name` or `name:parameter=value:…`.

  Returns:
    fit(user, item, num_users, num_items): rows int64 [n] user by user, in time
    order within a user.

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
  return lambda *rows: BASELINES[name](*rows, **parameters)
