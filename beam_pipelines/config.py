"""What the jobs are told: how a log becomes a dataset, and who is recommended to."""

from __future__ import annotations

import dataclasses

from beam_pipelines.feature_config import FeatureConfig
from beam_pipelines.split_config import SplitConfig
from ncf_tfdata import dataset
from ncf_tfdata.config import Config, flag_names, setting
from ncf_tfdata.errors import ArgumentError
from ncf_tfdata.serving.config import ListConfig

MAX_SHARDS = 99_999


@dataclasses.dataclass(frozen=True, kw_only=True)
class LogConfig(Config):
  """How the log is read. What is open is found out."""

  format: str = setting(
    'auto',
    'Format of the log: `::`, tab or comma separated, each also gzipped, or Parquet.',
    choices=('auto', 'movielens', 'tsv', 'csv', 'parquet'),
  )
  columns: tuple[str, ...] = setting(
    (),
    'Of a log without a header: what each column is, of user, item, rating, '
    'timestamp, and _ for one to ignore. Found out by default.',
  )
  user_column: str | None = setting(None, "Of a log with a header: the user's column.")
  item_column: str | None = setting(None, "Of a log with a header: the item's column.")
  rating_column: str | None = setting(
    None, "Of a log with a header: the rating's column."
  )
  timestamp_column: str | None = setting(
    None, "Of a log with a header: the timestamp's column."
  )
  max_reject_fraction: float = setting(
    0.001,
    'Largest fraction of lines that may not be ratings; more fail the job.',
    minimum=0,
    maximum=1,
  )

  def column_names(self) -> dict[str, str]:
    """The given name of each role's column, '' where none is."""
    return {
      role: getattr(self, f'{role}_column') or ''
      for role in ('user', 'item', 'rating', 'timestamp')
    }


@dataclasses.dataclass(frozen=True, kw_only=True)
class FilterConfig(Config):
  """Which ratings are kept. The protocol page has the order of the rules."""

  min_item_count: int = setting(5, 'Items with fewer ratings are left out.', minimum=0)
  min_rating: float = setting(
    1.0, 'Ratings below it are left out, after --min_item_count.'
  )
  duplicates: str = setting(
    'first',
    "Which of a user's ratings of one item is kept, in time order.",
    choices=('first', 'last', 'keep'),
  )
  min_user_count: int = setting(
    1, 'Users with fewer ratings are left out, after all of the above.', minimum=1
  )
  max_user_history: int = setting(
    100_000, 'Latest ratings of a user that are kept.', minimum=1
  )
  drop_repeats: bool = setting(
    False,
    "Leave out a rating of the item that the user's rating before was of. For "
    '--duplicates=keep.',
  )
  core: int = setting(
    0,
    'Keep the k-core: after all of the above, take users and items with fewer '
    'ratings out until there are none. 0 does not.',
    minimum=0,
  )
  core_rounds: int = setting(
    20, 'Most rounds of --core; a log that needs more fails the job.', minimum=1
  )

  def check(self) -> None:
    if self.drop_repeats and self.duplicates != 'keep':
      raise self.invalid(
        '`drop_repeats` needs `duplicates` to be keep; else no item comes twice.',
        'drop_repeats',
        'duplicates',
      )


@dataclasses.dataclass(frozen=True, kw_only=True)
class InspectionConfig(Config):
  """What is measured of the log, and what fails the job before it publishes."""

  inspect: bool = setting(
    False,
    'Measure whether results on the log can be trusted: ties, repeats, order, cold '
    'targets, distances in time, suspected bots. The summary and the manifest say it. '
    'A threshold below measures it too.',
  )
  max_tied: float | None = setting(
    None,
    'Largest share of interactions that share their timestamp with another one of '
    'their user; more fail the job.',
    minimum=0,
    maximum=1,
  )
  max_cold_targets: float | None = setting(
    None,
    'Of --split=time: largest share of test targets whose item nobody had up to the '
    'cut; more fail the job.',
    minimum=0,
    maximum=1,
  )
  min_order_effect: float | None = setting(
    None,
    "Least share of the log's sequential rules that must be gone once each user's "
    'interactions are shuffled; less fails the job.',
    minimum=0,
    maximum=1,
  )
  max_bot_rows: float | None = setting(
    None,
    'Largest share of interactions of suspected bots, users with more than 100 times '
    'the mean number of them; more fail the job.',
    minimum=0,
    maximum=1,
  )

  @property
  def asked(self) -> bool:
    """Whether anything is to be measured."""
    return self.inspect or any(
      getattr(self, field.name) is not None
      for field in dataclasses.fields(self)
      if field.name != 'inspect'
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class GrowthConfig(Config):
  """How the dataset of a log that grows follows the one before."""

  ids_from: str | None = setting(
    None,
    'An earlier dataset directory: its users and items keep their dense ids, and new '
    'ones come after. Who is no longer in the log keeps a line without interactions.',
  )
  forget: str | None = setting(
    None,
    'File of users to forget, a key a line, as users.tsv has them. Nothing of them is '
    'written; with --ids_from their ids stay unused. rejects.tsv loses the text of '
    'lines.',
  )
  forget_items: str | None = setting(None, 'The same for items, as items.tsv has them.')
  max_new_item_rows: float | None = setting(
    None,
    'Of --ids_from: largest share of interactions with items that the earlier dataset '
    'does not hold; more fail the job.',
    minimum=0,
    maximum=1,
  )
  max_new_user_rows: float | None = setting(
    None,
    'Of --ids_from: largest share of interactions of users whom the earlier dataset '
    'does not hold; more fail the job.',
    minimum=0,
    maximum=1,
  )
  max_popularity_shift: float | None = setting(
    None,
    "Of --ids_from: largest total variation between items' shares of train "
    'interactions in the earlier dataset and in this one; more fails the job.',
    minimum=0,
    maximum=1,
  )

  def check(self) -> None:
    if self.ids_from is not None:
      return
    for field in dataclasses.fields(self):
      if field.name.startswith('max_') and getattr(self, field.name) is not None:
        raise self.invalid(
          f'`{field.name}` needs `ids_from`: else there is nothing to compare with.',
          field.name,
          'ids_from',
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class PrepareConfig(Config):
  """All that decides a dataset.

  PrepareConfig(
    input='ml-1m/ratings.dat',
    output='data/ml-1m',
    filters=FilterConfig(min_item_count=0),
    transitions=200,
  )
  """

  log: LogConfig = dataclasses.field(default_factory=LogConfig)
  filters: FilterConfig = dataclasses.field(default_factory=FilterConfig)
  splits: SplitConfig = dataclasses.field(default_factory=SplitConfig)
  inspection: InspectionConfig = dataclasses.field(default_factory=InspectionConfig)
  growth: GrowthConfig = dataclasses.field(default_factory=GrowthConfig)
  features: FeatureConfig = dataclasses.field(default_factory=FeatureConfig)
  input: str = setting(
    'sample',
    "What to read: `sample` (built in), a path, glob or folder, or one of TFDS's "
    'movielens/{100k,1m,20m,25m}-ratings, which is downloaded.',
  )
  output: str | None = setting(
    None, 'Dataset directory; data/NAME after the input by default.'
  )
  overwrite: bool = setting(
    False, 'Replace a finished dataset, once the new one is whole.'
  )
  export_split: str | None = setting(
    None,
    'Directory to write the split to as well, as plain files with original ids for '
    'other systems: train.tsv, validation.tsv, test.tsv, and what came before held-out '
    'interactions. New or empty.',
  )
  sample_ratings: int = setting(
    100_000, 'Ratings of the built-in sample.', minimum=1000
  )
  cache_dir: str = setting(
    'data/sources', "Where downloads and the sample's log are kept."
  )
  transitions: int = setting(
    0,
    'Item transitions to write for each item: what came up to ten train interactions '
    'after it most often, for models that use such counts. 0 writes none.',
    minimum=0,
    flag='successors',
  )
  num_shards: int | None = setting(
    None,
    'Shards of each split, and groups of users that the work is spread over; one '
    'for each 8 MiB of input by default, from 64 on for each 24 MiB, and at least 8.',
    minimum=1,
    maximum=MAX_SHARDS,
  )
  seed: int = setting(0, 'Seed of all that is drawn.', minimum=0, maximum=2**63 - 1)
  workers: int | None = setting(
    None,
    'Threads of the direct runner; by default one, and one a core from 100 MB of text '
    'on. Other runners have options of their own.',
    minimum=1,
  )

  def check(self) -> None:
    limit = self.inspection.max_cold_targets
    if limit is not None and self.splits.split != dataset.BY_TIME:
      raise ArgumentError(
        '`max_cold_targets` needs `split` to be time: else no moment tells which items '
        'there were.',
        flag_names(type(self)),
        max_cold_targets=limit,
        split=self.splits.split,
      )


@dataclasses.dataclass(frozen=True, kw_only=True)
class RecommendConfig(ListConfig):
  """To whom an exported model recommends, and where that is written."""

  saved_model: str | None = setting(
    None, 'Directory that `python -m ncf_tfdata.export` wrote.'
  )
  data_dir: str | None = setting(
    None, 'Recommends to all users of this dataset directory.'
  )
  users_file: str | None = setting(
    None,
    'Recommends to the users of these files: a path, glob or folder; the first column '
    'of each line is an original id.',
  )
  history_file: str | None = setting(
    None,
    'Recommends to the users of these files, who may be new: a line `user,item` (or '
    'with a tab or ::), in order of time, no header. Of users who are not new they '
    'hold what came after the dataset.',
  )
  output: str | None = setting(
    None, 'A name .jsonl, .csv or .parquet, which the shards are named after.'
  )
  overwrite: bool = setting(
    False, 'Replaces earlier shards, once the new ones are whole.'
  )
  item_names: str | None = setting(
    None, 'A file whose first columns are item and name: movies.dat.'
  )
  num_shards: int | None = setting(
    None,
    'Files, and groups of users that the work is spread over; one for each MiB of '
    'input by default.',
    minimum=1,
    maximum=MAX_SHARDS,
  )

  def check(self) -> None:
    super().check()
    if bool(self.data_dir) + bool(self.users_file) + bool(self.history_file) != 1:
      raise self.invalid(
        'Say whom to recommend to: one of `data_dir`, `users_file` and `history_file`.'
      )
