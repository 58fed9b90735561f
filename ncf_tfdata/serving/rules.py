"""What a list may hold of what a user has not seen: exclude, allow, min_score, only.

For all users of a request, in numpy. `rules_in_graph` has them user by user.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Self

import numpy as np

from ncf_tfdata import dataset as dataset_lib
from ncf_tfdata.serving.item_categories import ItemCategories
from ncf_tfdata.vocabulary import UNKNOWN


class Rules(NamedTuple):
  """Which items of a catalogue may be recommended, and from which score on.

  Attributes:
    hidden: bool [num_items], items that are not recommended.
    min_score: No lower score is recommended: the model's, or for a user of whom it
      knows nothing, a count of train rows.
    ignored: How many of the ids that made the rules the dataset does not know.
  """

  hidden: np.ndarray
  min_score: float
  ignored: int = 0

  @classmethod
  def of_keys(
    cls,
    dataset: dataset_lib.Dataset,
    exclude: Sequence[str] = (),
    allow: Sequence[str] | None = None,
    min_score: float | None = None,
    only: Mapping[str, Sequence[str]] | None = None,
  ) -> Self:
    """Rules by original ids of items; ids that the dataset does not know are ignored.

    Args:
      dataset: Of the model.
      exclude: Never recommended, though `allow` names it.
      allow: All that may be recommended; everything where it is None. Of a list
        without any known id nothing is.
      min_score: As the attribute; None for every score.
      only: Values by name of a column of categories: nothing is recommended that has
        not one of the values of each. None for everything.

    Raises:
      ArgumentError: There is no such column of categories, or no such value.
    """
    known = dataset.vocabulary(dataset_lib.ITEMS)
    hidden = np.full(len(known), allow is not None)
    ignored = 0
    allowed = () if allow is None else allow
    for keys, hide in ((allowed, False), (exclude, True)):
      keys = [key for key in keys if key]
      place = known.places(keys)
      hidden[place[place != UNKNOWN]] = hide
      ignored += int(np.count_nonzero(place == UNKNOWN))
    if only is not None:
      hidden |= ~ItemCategories(dataset).having(only)
    return cls(hidden, -np.inf if min_score is None else min_score, ignored)

  def warning(self) -> str:
    """What is to be said of ids that were ignored."""
    return warning(self.ignored)

  def apply(self, scores: np.ndarray) -> None:
    """Sets what may not be recommended to -inf in float32 [n, num_items], in place."""
    scores[:, self.hidden] = -np.inf
    # In the scores' own precision, as in a graph.
    scores[scores < np.float32(self.min_score)] = -np.inf


def warning(ignored: int) -> str:
  """What is to be said of ids that were ignored."""
  return (
    f'{ignored:,} ids to exclude or to allow are of no item that the dataset knows, '
    'and ignored.'
  )
