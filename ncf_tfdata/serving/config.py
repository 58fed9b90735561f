"""What the commands that ask a trained model are told."""

from __future__ import annotations

import dataclasses

from ncf_tfdata.config import Config, setting


def _output() -> str | None:
  return setting(None, 'A file .jsonl, .csv or .parquet. Default: the screen.')


def _item_names() -> str | None:
  return setting(None, 'A file whose first columns are item and name: movies.dat.')


@dataclasses.dataclass(frozen=True, kw_only=True)
class FinishedRunConfig(Config):
  """Which model is asked."""

  run_dir: str | None = setting(None, 'Run directory of a trained model.')
  data_dir: str | None = setting(None, "Dataset directory. Default: the run's.")
  new_items: str | None = setting(
    None,
    'A file of items that came after training, with the columns of the one that '
    '`prepare --item_features` read. A model with features of items knows them without '
    'another training.',
  )


@dataclasses.dataclass(frozen=True, kw_only=True)
class ListConfig(Config):
  """What a list of recommendations may hold, and whether it says why."""

  k: int = setting(10, 'Recommendations for each user.', minimum=1)
  exclude: tuple[str, ...] | None = setting(
    None, 'Items that are not recommended: original ids.'
  )
  allow: tuple[str, ...] | None = setting(
    None, 'All items that may be recommended: original ids. Default: everything.'
  )
  only: tuple[str, ...] | None = setting(
    None,
    'Categories of the only items that are recommended: genres:Comedy,genres:Drama. An '
    'item needs one of the values of each column that is named. A value with a comma '
    'stands in double quotes, together with its column.',
  )
  min_score: float | None = setting(
    None,
    "No lower score is recommended: the model's, or for whom it knows nothing of, a "
    'count of train interactions.',
  )
  explain: bool = setting(
    False,
    'Says of each recommendation which items of the history it is due to. It takes '
    'some milliseconds a user.',
  )

  def check(self) -> None:
    if self.allow is not None and not any(self.allow):
      # A filter that found nothing must not allow everything.
      raise self.invalid('`allow` must name an item.', 'allow')
    if self.only is not None and not any(self.only):
      raise self.invalid('`only` must name a category.', 'only')


@dataclasses.dataclass(frozen=True, kw_only=True)
class RecommendConfig(FinishedRunConfig, ListConfig):
  """To whom `recommend` recommends, and where that is written."""

  users: tuple[str, ...] | None = setting(None, 'Whom to recommend to: original ids.')
  all: bool = setting(False, 'Recommends to all users of the dataset.')
  history_file: str | None = setting(
    None,
    'Recommends to the users of this file, who may be new: a line `user,item` (or with '
    'a tab or ::), in order of time, no header. Of users who are not new it holds '
    'what came after the dataset.',
  )
  output: str | None = _output()
  item_names: str | None = _item_names()

  def check(self) -> None:
    super().check()
    if bool(self.users) + self.all + bool(self.history_file) != 1:
      raise self.invalid(
        'Say whom to recommend to: one of `users`, `all` and `history_file`.'
      )


@dataclasses.dataclass(frozen=True, kw_only=True)
class SimilarConfig(FinishedRunConfig):
  """To which items `similar` finds others, by what, and where they are written."""

  items: tuple[str, ...] | None = setting(None, 'To which items: original ids.')
  all: bool = setting(False, 'Finds items similar to each of the dataset.')
  by: str = setting(
    'vectors',
    'What similar items have in common: `vectors`, `transitions` or `ease` of the '
    'model, where it has them, or a baseline that reads histories: item-knn, '
    'sequence-knn, transitions, ease.',
  )
  k: int = setting(10, 'Similar items for each item.', minimum=1)
  output: str | None = _output()
  item_names: str | None = _item_names()

  def check(self) -> None:
    if bool(self.items) == self.all:
      raise self.invalid('Say to which items: one of `items` and `all`.')


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExportConfig(FinishedRunConfig):
  """Where `export` writes a SavedModel."""

  output: str | None = setting(
    None,
    'Directory of the SavedModel. TensorFlow Serving wants a number for its last part.',
  )
  overwrite: bool = setting(False, 'Replaces an earlier SavedModel.')


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExploreConfig(FinishedRunConfig):
  """What `explore` shows, and where."""

  item_names: str | None = _item_names()
  compare_to: tuple[str, ...] = setting(
    (),
    'What may be shown beside the run: other run directories of the same dataset, or '
    'baselines such as popularity, transitions and ease.',
  )
  k: int = setting(10, 'Items in a list.', minimum=1, maximum=100)
  port: int = setting(8000, 'Where the page is served; 0 takes a free port.', minimum=0)
