"""How a log differs from that of the dataset whose ids it keeps.

`beam_pipelines.drift` counts it. Whole numbers are kept, and shares follow from them,
so that a manifest has the same text on every machine.

This module imports neither TensorFlow nor Beam.
"""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Drift:
  """What is new in a log, of its kept rows where nothing else is said.

  Attributes:
    counts: `users` and `items` with rows, of which `new_users` and `new_items` are not
      in the base. `rows`, of which `new_user_rows` and `new_item_rows` are theirs.
      `unused_users` and `unused_items` of the base have no rows. `train_rows` and
      `base_train_rows`: those of both datasets; `risen_rows` and `risen_base_rows`:
      those among them of items whose share of train rows is larger than in the base.
  """

  counts: dict[str, int]

  def share(self, part: str, whole: str) -> float | None:
    """One count as a share of another; None for a share of nothing."""
    return self.counts[part] / self.counts[whole] if self.counts[whole] else None

  @property
  def new_item_rows(self) -> float | None:
    """Share of the rows that are of items which the base does not hold."""
    return self.share('new_item_rows', 'rows')

  @property
  def new_user_rows(self) -> float | None:
    """Share of the rows that are of users whom the base does not hold."""
    return self.share('new_user_rows', 'rows')

  @property
  def popularity_shift(self) -> float | None:
    """Total variation between items' shares of train rows then and now, in [0, 1].

    Half the sum of absolute differences, which is the sum of the rises: Levin, Peres
    and Wilmer, Markov chains and mixing times (2009), proposition 4.2 and remark 4.3.
    """
    now = self.share('risen_rows', 'train_rows')
    then = self.share('risen_base_rows', 'base_train_rows')
    return None if now is None or then is None else now - then
