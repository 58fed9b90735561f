"""What decides a preparation, and how it follows from a configuration."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

from beam_pipelines import (
  cuts,
  features,
  files,
  forgotten,
  gate,
  histories,
  kept_ids,
  keys,
  publish,
  split_files,
  splits,
  transitions,
)
from beam_pipelines.config import MAX_SHARDS, PrepareConfig
from beam_pipelines.schema import TIMESTAMP, Schema
from beam_pipelines.split_config import SplitConfig
from ncf_tfdata import config as config_lib
from ncf_tfdata import dataset
from ncf_tfdata.errors import UserError

# What decides the content of a dataset, and so stands in its manifest.
_CONTENT_FLAGS = (
  'columns',
  'duplicates',
  'eval_negatives',
  'format',
  'holdout',
  'item_column',
  'max_reject_fraction',
  'max_user_history',
  'min_item_count',
  'min_rating',
  'min_user_count',
  'rating_column',
  'seed',
  'tie_order',
  'timestamp_column',
  'train_negatives',
  'user_column',
)
# Only where they are in use, so that a dataset without is the same as ever.
_OPTIONAL_FLAGS = (
  'core',
  'drop_repeats',
  'held_out_items',
  'held_out_users',
  'keep_times',
  'successors',
)
# Of files of features; the manifest says more of them.
_FEATURE_FLAGS = (
  'feature_encoding',
  'item_feature_columns',
  'item_feature_key',
  'user_feature_columns',
  'user_feature_key',
)
# Of a log that is cut by time or share, beside the rule itself.
_CUT_FLAGS = {
  dataset.BY_TIME: ('time_quantile', 'time_at', 'targets'),
  dataset.BY_SHARE: ('test_share', 'targets'),
}
# Text whose pairs, ten a rating and up to 16 bytes each, are about 16 MiB.
_SUCCESSORS_SHARD_BYTES = 2 << 20


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
    cut: Which moments are looked for; None where no times are written.
    inspect: Whether the log is measured.
    features: Files of what is known beside the log.
    scratch: A directory that all workers see on one disk; None where there is none.
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
  features: tuple[features.Plan, ...] = ()
  scratch: str | None = None

  @property
  def export(self) -> split_files.Plan | None:
    """Where the split is written as plain files; None for nowhere."""
    return self.plan.export

  @property
  def kept(self) -> kept_ids.Plan | None:
    """Whose dense ids are kept; None for nobody's."""
    return self.plan.kept

  @property
  def forget(self) -> forgotten.Plan:
    """Whom nothing is written of."""
    return self.plan.forget

  @property
  def by_time(self) -> bool:
    """Whether the log is split by time."""
    return self.cut is not None and self.cut.by_time


def of_config(
  config: PrepareConfig,
  sources: Sequence[files.File],
  layout: Schema,
  size: int,
  output: str,
  staging: str,
  scratch: str | None = None,
) -> Job:
  """Everything that the pipeline is told, of what a user has asked for.

  Args:
    config: Which log becomes which dataset.
    sources: Its files.
    layout: Their `schema.Schema`.
    size: Bytes of text in them.
    output: Dataset directory.
    staging: Directory that the job writes to first.
    scratch: Directory on a disk that all workers share, if there is one.
  """
  num_groups = keys.num_groups(size)
  num_shards = config.num_shards or min(num_groups, MAX_SHARDS)
  num_ranges = max(keys.MIN_GROUPS, -(-size // _SUCCESSORS_SHARD_BYTES))
  split, kept = config.splits, config.filters
  recipe = splits.Recipe(
    split.holdout,
    split.train_negatives,
    split.eval_negatives,
    config.seed,
    split.held_out_users,
    split.split,
    split.targets,
    split.test_share,
    split.held_out_items,
  )
  times = TIMESTAMP in layout.roles
  cut, inspect = _cut(split, layout), config.inspection.asked
  gate.refuse_unknown(config.inspection, times, layout)
  paths = [source.path for source in sources]
  growth = config.growth
  base = kept_ids.plan(growth.ids_from)
  forget = forgotten.plan(growth.forget, growth.forget_items)
  export = split_files.plan(config.export_split, output, paths, recipe.splits, times)
  return Job(
    files=tuple(sources),
    schema=layout,
    staging=staging,
    min_item_count=kept.min_item_count,
    min_rating=kept.min_rating,
    rules=histories.Rules(
      duplicates=kept.duplicates,
      tie_order=split.tie_order,
      min_user_count=kept.min_user_count,
      max_user_history=kept.max_user_history,
      seed=config.seed,
      drop_repeats=kept.drop_repeats,
      # Gaps are known before rows are taken out only where no rule follows.
      keep_times=cut is not None or kept.core > 0 or inspect or export is not None,
      count_repeats=inspect,
    ),
    recipe=recipe,
    num_item_groups=num_groups,
    num_shards=num_shards,
    transitions=transitions.Plan(
      config.transitions, min(num_ranges, MAX_SHARDS), staging, scratch
    ),
    plan=dataclasses.replace(
      _publication(config, recipe, num_shards, output, staging),
      export=export,
      kept=base,
      forget=forget,
    ),
    core=kept.core,
    core_rounds=kept.core_rounds,
    cut=cut,
    inspect=inspect,
    features=tuple(_features(config, len(sources), num_groups, num_shards)),
    scratch=scratch,
  )


def _features(
  config: PrepareConfig, num_sources: int, item_groups: int, user_groups: int
) -> Iterator[features.Plan]:
  """The files of features, numbered after those of the log."""
  groups = {dataset.ITEM: item_groups, dataset.USER: user_groups}
  for number, (role, num_groups) in enumerate(groups.items(), num_sources):
    found = features.plan(config.features, role, number, num_groups)
    if found is not None:
      yield found


def _cut(split: SplitConfig, layout: Schema) -> cuts.Plan | None:
  """Which moments the job looks for; None where no times are written.

  Raises:
    UserError: The log has no times, and is to be split by them, or they are to be kept.
  """
  if TIMESTAMP not in layout.roles:
    if split.split == dataset.BY_TIME:
      raise _no_times('--split=time', layout, 'pass --split=ratio')
    if split.keep_times:
      raise _no_times('--keep_times', layout, 'leave --keep_times out')
    return None
  if split.split == dataset.LEAVE_LAST_OUT and not split.keep_times:
    return None
  return cuts.Plan(
    split.split == dataset.BY_TIME,
    split.time_quantile,
    split.time_at or '',
    split.holdout == 2,
  )


def _no_times(flag: str, layout: Schema, instead: str) -> UserError:
  return UserError(
    f'{flag} needs timestamps, and the log has none: {layout}. Name their column by '
    f'--columns or --timestamp_column, or {instead}.'
  )


def _publication(
  config: PrepareConfig,
  recipe: splits.Recipe,
  num_shards: int,
  output: str,
  staging: str,
) -> publish.Plan:
  """What is published, where, and on what conditions."""
  given = config_lib.values(config)
  flags = {name: given[name] for name in _CONTENT_FLAGS}
  flags |= {name: given[name] for name in _OPTIONAL_FLAGS if given[name]}
  rule = config.splits.split
  if rule != dataset.LEAVE_LAST_OUT:
    flags |= {name: given[name] for name in ('split', *_CUT_FLAGS[rule])}
  if config.features.asked:
    flags |= {name: given[name] for name in _FEATURE_FLAGS if given[name]}
  held_out = dict.fromkeys(recipe.splits, config.splits.eval_negatives)
  return publish.Plan(
    staging=staging,
    output=output,
    flags={**flags, 'num_shards': num_shards},
    negatives={**held_out, dataset.TRAIN: config.splits.train_negatives},
    max_reject_fraction=config.log.max_reject_fraction,
    overwrite=config.overwrite,
    allow_empty_splits=config.splits.allow_empty_splits,
    gate=config.inspection,
    growth=config.growth,
  )
