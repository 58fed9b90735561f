"""Metrics of ranked recommendation, from ranks to numbers, in plain numpy.

A rank is 0-based and may be fractional: candidates that score higher, plus half of
those that score equal. Each held-out row has exactly one relevant item, so Recall@K
is HR@K and MAP@K is MRR@K by definition; they are listed under both names because
other systems' tables use either.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

# Cut-offs of what is logged and reported, where none are asked for.
KS = (1, 5, 10, 20)


def hit_rate(rank: np.ndarray, k: int) -> np.ndarray:
  """1 where the held-out item is among the first k: [rank < k].

  Source: He et al., Neural Collaborative Filtering (WWW 2017), section 4.1.
  """
  return (rank < k).astype(np.float64)


def ndcg(rank: np.ndarray, k: int) -> np.ndarray:
  """1 / log2(rank + 2) where rank < k, else 0; the ideal DCG of one item is 1.

  Source: Järvelin and Kekäläinen, Cumulated gain-based evaluation of IR techniques
  (TOIS 2002), with the log2(position + 1) discount.
  """
  return np.where(rank < k, 1 / np.log2(rank + 2), 0.0)


def reciprocal_rank(rank: np.ndarray, k: int) -> np.ndarray:
  """1 / (rank + 1) where rank < k, else 0.

  Source: Voorhees, The TREC-8 question answering track report (1999).
  """
  return np.where(rank < k, 1 / (rank + 1), 0.0)


def recall(rank: np.ndarray, k: int) -> np.ndarray:
  """Relevant items found over relevant items: with one of them, the hit rate.

  Source: Manning, Raghavan and Schütze, Introduction to Information Retrieval
  (2008), section 8.3.
  """
  return hit_rate(rank, k)


def average_precision(rank: np.ndarray, k: int) -> np.ndarray:
  """Mean of the precision at each relevant item: with one, the reciprocal rank.

  Source: Manning, Raghavan and Schütze, Introduction to Information Retrieval
  (2008), section 8.4.
  """
  return reciprocal_rank(rank, k)


ROW_METRICS: Mapping[str, Callable[[np.ndarray, int], np.ndarray]] = {
  'hr': hit_rate,
  'ndcg': ndcg,
  'mrr': reciprocal_rank,
  'recall': recall,
  'map': average_precision,
}


def per_row(rank: np.ndarray, ks: Sequence[int]) -> dict[str, np.ndarray]:
  """Every metric at every k, row by row.

  Args:
    rank: float [n].
    ks: Cut-offs.

  Returns:
    float64 [n] by name, such as `ndcg@10`.
  """
  return {
    f'{name}@{k}': metric(rank, k) for k in ks for name, metric in ROW_METRICS.items()
  }


def means(rank: np.ndarray, ks: Sequence[int]) -> dict[str, float]:
  """Every metric at every k, averaged over the rows of `rank`, float [n]."""
  return {name: float(values.mean()) for name, values in per_row(rank, ks).items()}


def coverage(recommended: np.ndarray) -> float:
  """Share of the catalogue that is recommended to anyone, in [0, 1].

  Source: Ge, Delgado-Battenfeld and Jannach, Beyond accuracy (RecSys 2010),
  catalogue coverage.

  Args:
    recommended: int64 [num_items], how many users' lists hold each item.
  """
  return float(np.mean(recommended > 0))


def gini(recommended: np.ndarray) -> float:
  """How unevenly lists are spread over items: 0 is even, 1 is one item only.

  1 / (I - 1) * sum over j of (2 j - I - 1) p_j, with p ascending and j from 1.
  Source: Castells, Hurley and Vargas, Novelty and diversity in recommender systems
  (Recommender Systems Handbook, 2nd edition, 2015).

  Args:
    recommended: int64 [num_items], how many users' lists hold each item.
  """
  items = len(recommended)
  if items < 2 or not recommended.sum():
    return 0.0
  share = np.sort(recommended) / recommended.sum()
  return float(np.dot(2 * np.arange(1, items + 1) - items - 1, share) / (items - 1))


def novelty(recommended: np.ndarray, count: np.ndarray, num_users: int) -> float:
  """Mean self-information of what is recommended, in bits: log2(users / count).

  Source: Zhou et al., Solving the apparent diversity-accuracy dilemma of
  recommender systems (PNAS 2010). An item without train rows counts as having one.

  Args:
    recommended: int64 [num_items], how many users' lists hold each item.
    count: int64 [num_items], train rows of each item.
    num_users: Users of the dataset.
  """
  if not recommended.sum():
    return 0.0
  information = np.log2(num_users / np.maximum(count, 1))
  return float(np.average(information, weights=recommended))


def of_lists(
  recommended: np.ndarray, count: np.ndarray, num_users: int, ks: Sequence[int]
) -> dict[str, float]:
  """Coverage, Gini and novelty of the top k.

  Args:
    recommended: int64 [len(ks), num_items], how many users' first k hold each item.
    count: int64 [num_items], train rows of each item.
    num_users: Users of the dataset.
    ks: The cut-offs of `recommended`.
  """
  values = {}
  for k, lists in zip(ks, recommended, strict=True):
    values[f'coverage@{k}'] = coverage(lists)
    values[f'gini@{k}'] = gini(lists)
    values[f'novelty@{k}'] = novelty(lists, count, num_users)
  return values
