"""What decides a preparation."""

import dataclasses

from beam_pipelines import (
  cuts,
  files,
  histories,
  publish,
  split_files,
  splits,
  transitions,
)
from beam_pipelines.schema import Schema


@dataclasses.dataclass(frozen=True)
class Job:
  """Everything that decides what the job does; small, and sent to every worker.

  Attributes:
    files: The sources.
    schema: How to read them.
    staging: Directory where files are written until they are published.
    min_item_count: Least number of ratings of an item.
    min_rating: Least rating.
    rules: How a user's rows are thinned and ordered.
    recipe: How they are split.
    num_item_groups: Groups of items to spread the work over.
    num_shards: Groups of users, each one shard.
    transitions: Which of what followed what is kept.
    plan: For the leaf.
    core: Least number of rows of every user and item; 0 for no such rule.
    core_rounds: Most rounds that may take.
    cut: Which moments are looked for; None where none is needed.
    inspect: Whether the log is measured.
    export: Where the split is written as plain files; None for nowhere.
  """

  files: tuple[files.File, ...]
  schema: Schema
  staging: str
  min_item_count: int
  min_rating: float
  rules: histories.Rules
  recipe: splits.Recipe
  num_item_groups: int
  num_shards: int
  transitions: transitions.Plan
  plan: publish.Plan
  core: int = 0
  core_rounds: int = 1
  cut: cuts.Plan | None = None
  inspect: bool = False
  export: split_files.Plan | None = None

  @property
  def by_time(self) -> bool:
    """Whether the log is split by time."""
    return self.cut is not None and self.cut.by_time
