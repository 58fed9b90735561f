"""What was measured of a log, to tell whether results on it can be trusted.

`beam_pipelines.inspection` measures it. Whole numbers are kept, and shares follow from
them, so that a manifest has the same text on every machine.

This module imports neither TensorFlow nor Beam.
"""

import dataclasses
from typing import Any

# Times that a pair of items has to come up to be a rule.
MIN_SUPPORT = 5
# A user with more rows than so many times the mean is suspected to be a bot.
BOT_FACTOR = 100


@dataclasses.dataclass(frozen=True)
class Inspection:
  """The measures of a log, of its kept rows where nothing else is said.

  Attributes:
    counts: `rows` and `users`. With times: `tied_rows`, which share theirs with another
      row of their user, and `tied_users`, whose last row does. `log_rows` that passed
      the filters of items and ratings, of which `repeated_rows` are of an item that
      their user had before, and `consecutive_repeats` had in the row before.
      `rules`, pairs of items that follow each other at least `MIN_SUPPORT` times, and
      `shuffled_rules`, those that are left once each user's rows are shuffled.
      `bots`, users with more rows than `BOT_FACTOR` times the mean, and
      `bot_rows`. `SPLIT_targets` for each held-out split. Of a split by time also,
      for each cut: `rows_after_SPLIT_cut`, `users_after_SPLIT_cut` and
      `items_after_SPLIT_cut`, who have no row up to it, and `SPLIT_cold_targets`, of
      such items.
    distances: Quartiles of the time between a held-out row and the user's row before,
      `SPLIT_since_row_before`, and the user's last train row, `SPLIT_since_train`, in
      the unit of the log's times. Exact below 1,024, above to within 1/512.
    bots: The first few of them, those with most rows, and the rows of each.
  """

  counts: dict[str, int]
  distances: dict[str, tuple[int, ...]]
  bots: dict[str, int]

  @classmethod
  def from_content(cls, content: dict[str, Any]) -> 'Inspection':
    """Takes what `dataclasses.asdict` made of one, and JSON of that."""
    distances = {name: tuple(found) for name, found in content['distances'].items()}
    return cls(content['counts'], distances, content['bots'])

  def share(self, part: str, whole: str) -> float | None:
    """One count as a share of another; None where either is not known, or 0 of 0."""
    if part not in self.counts or not self.counts.get(whole):
      return None
    return self.counts[part] / self.counts[whole]

  @property
  def tied(self) -> float | None:
    """Share of the rows that share their time with another row of their user."""
    return self.share('tied_rows', 'rows')

  @property
  def cold_targets(self) -> float | None:
    """Share of the test targets whose item nobody had up to the cut."""
    return self.share('test_cold_targets', 'test_targets')

  @property
  def order_effect(self) -> float | None:
    """Share of the sequential rules that are gone once users' rows are shuffled."""
    left = self.share('shuffled_rules', 'rules')
    return None if left is None else 1 - left

  @property
  def bot_share(self) -> float | None:
    """Share of the rows that are of suspected bots."""
    return self.share('bot_rows', 'rows')
