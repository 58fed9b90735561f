"""Segments of a dataset's users, to look at some of one: by what they did and are.

What a segment is made of is what the evaluator parts its rows by: activity, popularity,
and beside them what is known of users.
"""

from __future__ import annotations

import numpy as np

from ncf_tfdata import dataset as dataset_lib
from ncf_tfdata.errors import ArgumentError
from ncf_tfdata.evaluation import segments
from ncf_tfdata.features.records import Categories, Numbers
from ncf_tfdata.serving.item_categories import Column
from ncf_tfdata.serving.recommender import Histories

# Of the order in which users of a segment are shown: the same at each start.
_SEED = 0

_HISTORY, _LATEST, _TRAINING = 'history length', 'latest title', 'training'


class UserSegments:
  """Users by segment; a segment is a value of a column, of which a user may have many.

  Attributes:
    columns: By name: of history lengths, quarters; of latest titles, head, middle and
      tail; whether users were trained on, if some were not; and what the dataset knows
      of users, categories as they are and numbers by quarters.
  """

  def __init__(self, dataset: dataset_lib.Dataset, histories: Histories):
    """Takes a dataset and its histories.

    Raises:
      UserError: A file of its features is missing, or not what was written.
    """
    users = dataset.vocabulary(dataset_lib.USERS)
    # Who was forgotten has no key, and is in no segment.
    self._known = users.known()
    self._rank = np.random.default_rng(_SEED).permutation(len(users))
    self.columns: dict[str, Column] = {}
    if not len(self._known):
      return
    length = np.diff(histories.start)[self._known]
    self._add(_HISTORY, segments.quarters(length, ' titles'))
    counts = dataset.vocabulary(dataset_lib.ITEMS).counts
    # Nobody's latest title is at -1.
    items = np.append(histories.item, -1)
    latest = np.where(length > 0, items[histories.start[self._known + 1] - 1], -1)
    by_popularity = segments.by_popularity_of(latest, counts, dataset.unused_items())
    self._add(_LATEST, by_popularity)
    trained = users.counts[self._known] > 0
    if not trained.all():
      self._add(
        _TRAINING,
        [
          segments.Segment('trained on', trained),
          segments.Segment('not trained on', ~trained),
        ],
      )
    self._add_features(dataset)

  def _add(
    self, name: str, parts: list[segments.Segment], rows: np.ndarray | None = None
  ) -> None:
    """Adds a column of parts of known users, or of those of these places."""
    dense = self._known if rows is None else self._known[rows]
    value, place = np.nonzero([part.member for part in parts])
    order = np.argsort(dense[place], kind='stable')
    self.columns[name] = Column(
      {part.name: number for number, part in enumerate(parts)},
      dense[place][order].astype(np.int32),
      value[order].astype(np.int32),
    )

  def _add_features(self, dataset: dataset_lib.Dataset) -> None:
    features = dataset.user_features()
    for column in () if features is None else features.columns:
      # What is counted here has its name already.
      name = f'{column.name} (feature)' if column.name in self.columns else column.name
      if isinstance(column, Categories):
        made = Column.of(column)
        known = np.isin(made.row, self._known)
        self.columns[name] = made._replace(row=made.row[known], value=made.value[known])
      elif isinstance(column, Numbers):
        values = column.values[self._known]
        (rows,) = np.nonzero(~np.isnan(values))
        if len(rows):
          self._add(name, segments.quarters(_exact(values[rows]), ''), rows)

  def users(self, name: str, value: str) -> np.ndarray:
    """Dense ids of a segment's users, in a random order that is always the same.

    Raises:
      ArgumentError: There is no such segment.
    """
    column = self.columns.get(name)
    if column is None or value not in column.places:
      known = ', '.join(self.columns)
      raise ArgumentError(
        f'There is no such segment of users. Its first part is one of {known}.',
        segment=f'{name}:{value}',
      )
    found: np.ndarray = column.row[column.value == column.places[value]]
    return found[np.argsort(self._rank[found])].astype(np.int64)


def _exact(values: np.ndarray) -> np.ndarray:
  """Float32 [n] as numbers that are written as people write them: 3, and 0.1."""
  whole = values.astype(np.int64)
  return whole if (whole == values).all() else values.astype(str).astype(float)
