"""Item to item: what is similar to an item, by a model or by a baseline.

A scorer that reads histories is asked what it would recommend after that item alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from ncf_tfdata import dataset as dataset_lib
from ncf_tfdata.data import records
from ncf_tfdata.errors import ArgumentError
from ncf_tfdata.evaluation import baselines, ranking, top_lists
from ncf_tfdata.serving import list_files
from ncf_tfdata.serving.recommendation_files import Labels

# What items are similar by, where nobody says: a model's `item_similarities` has it.
VECTORS = 'vectors'

# Of items int64 [n], the similarity float32 [n, num_items] of all items.
Similarity = Callable[[np.ndarray], np.ndarray]


def measure(model: Any, dataset: dataset_lib.Dataset, by: str) -> Similarity:
  """How similar items are, by what is asked for.

  Args:
    model: A trained model.
    dataset: It was trained on.
    by: What the model knows by itself (`item_similarities`: vectors, transitions,
      ease), or a baseline that reads histories, which is fitted on the train rows.

  Raises:
    ArgumentError: It is neither.
    UserError: The baseline does not exist, or takes more memory than there is.
  """
  own = model.item_similarities()
  if by in own:
    return lambda item: np.array(own[by](item))
  name = by.partition(':')[0]
  if name == VECTORS or name in baselines.OF_TIMES | baselines.OF_USERS:
    raise _unsuited(by, own)
  fit = baselines.create(by)
  fit.check_memory(dataset.num_items, dataset.vocabulary(dataset_lib.USERS).counts)
  scorer = fit(*records.train_rows(dataset), dataset.num_users, dataset.num_items)
  if not scorer.reads_history:
    raise _unsuited(by, own)

  def after(item: np.ndarray) -> np.ndarray:
    nobody, one = np.full(len(item), -1), np.ones(len(item), np.int64)
    batch = records.EvaluationBatch(nobody, nobody, nobody[:, None][:, :0], item, one)
    return np.array(scorer.score_all(batch))

  return after


def _unsuited(by: str, own: Any) -> ArgumentError:
  known = ', '.join(own) or 'nothing that this model has'
  return ArgumentError(
    f'`by` must be one of {known}, or a baseline that reads histories and no times, '
    'such as item-knn.',
    by=by,
  )


class SimilarItems(NamedTuple):
  """The items most similar to each of n items, most similar first.

  Attributes:
    item: int64 [n, min(k, num_items)]; -1 where fewer have a similarity above 0.
    score: float32, of the same shape.
  """

  item: np.ndarray
  score: np.ndarray


def find(
  scores: np.ndarray, item: np.ndarray, k: int, unused: np.ndarray | None = None
) -> SimilarItems:
  """Finds the k items most similar to each of n items, without itself.

  Args:
    scores: float32 [n, num_items], of a `Similarity`; written over.
    item: int64 [n].
    k: How many, at least 1.
    unused: bool [num_items], ids that are of no item now.
  """
  scores[np.arange(len(item)), item] = -np.inf
  if unused is not None:
    scores[:, unused] = -np.inf
  # What never met an item has 0, and is not similar.
  scores[scores <= 0] = -np.inf
  found = top_lists.top_items(scores, k)
  score = np.take_along_axis(scores, found, axis=1).astype(np.float32)
  return SimilarItems(found, np.where(found < 0, np.float32(0), score))


class Lists(NamedTuple):
  """Similar items by original id, as a file holds them.

  Attributes:
    item: n items that were asked about.
    similar: object [n, k], most similar first; '' where there are fewer.
    score: float32 [n, k].
    by: What they are similar by.
    names: Of the items that were asked about, n; None where none are given.
    name: object [n, k], of the similar ones.
  """

  item: Sequence[str]
  similar: np.ndarray
  score: np.ndarray
  by: str
  names: Sequence[str] | None = None
  name: np.ndarray | None = None

  def columns(self) -> dict[str, np.ndarray]:
    """A row for each item of each list."""
    row, place = np.nonzero(self.similar != '')
    columns = {
      'item': np.array(self.item, object)[row],
      'rank': (place + 1).astype(np.int32),
      'similar': self.similar[row, place],
      'score': self.score[row, place],
      'by': np.full(len(row), self.by, object),
    }
    if self.name is not None:
      columns['name'] = self.name[row, place]
    return columns

  def lines(self) -> Iterator[dict[str, Any]]:
    """A mapping for each list, as JSON has it."""
    for row, item in enumerate(self.item):
      length = np.count_nonzero(self.similar[row] != '')
      line = {
        'item': item,
        'similar': self.similar[row, :length].tolist(),
        'scores': list_files.decimals(self.score[row, :length]),
        'by': self.by,
      }
      if self.name is not None:
        line['names'] = self.name[row, :length].tolist()
      yield line


def types(named: bool = False) -> dict[str, pa.DataType]:
  """Columns of a table of similar items, with names or without."""
  found = {
    'item': pa.string(),
    'rank': pa.int32(),
    'similar': pa.string(),
    'score': pa.float32(),
    'by': pa.string(),
  }
  return found | ({'name': pa.string()} if named else {})


def lists(
  similarity: Similarity,
  item: np.ndarray,
  k: int,
  labels: Labels,
  by: str,
  unused: np.ndarray | None = None,
) -> Iterator[Lists]:
  """Makes the lists of items int64 [n], as many at once as fit into memory."""
  step = ranking.batch_rows(len(labels.key) - 1)
  for start in range(0, len(item), step):
    part = item[start : start + step]
    found = find(similarity(part), part, k, unused)
    made = Lists(labels.key[part].tolist(), labels.key[found.item], found.score, by)
    if labels.name is not None:
      names = labels.name[part].tolist()
      made = made._replace(names=names, name=labels.name[found.item])
    yield made
