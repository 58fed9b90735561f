"""A trained run, and what can be asked of it."""

from __future__ import annotations

import functools
import os
import pathlib
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

from ncf_tfdata import dataset as dataset_lib
from ncf_tfdata import run as run_lib
from ncf_tfdata.api import evaluation, systems
from ncf_tfdata.api.evaluation import Evaluation
from ncf_tfdata.api.recommendations import Recommendations
from ncf_tfdata.api.similar import SimilarItems
from ncf_tfdata.data import new_items as new_items_lib
from ncf_tfdata.errors import ArgumentError
from ncf_tfdata.evaluation.config import EvaluateConfig
from ncf_tfdata.serving import (
  export,
  reasons,
  recommendation_files,
  requests,
  rules,
)
from ncf_tfdata.serving import similar as similar_lib
from ncf_tfdata.training.recipe import Recipe
from ncf_tfdata.vocabulary import UNKNOWN

if TYPE_CHECKING:
  from ncf_tfdata.evaluation import ranking
  from ncf_tfdata.models.ranking_model import Model


class Run:
  """A run directory with the dataset that it was trained on.

      run = ncf.Run.load('runs/mine')
      run.metrics['test']['full']['ndcg@10']
      run.evaluate(baselines=['ease', 'transitions']).table()
      run.recommend(users=['42'], k=10).table()
      run.export('served/mine/1')

  The model is loaded, and with it TensorFlow, when it is first asked for.

  Attributes:
    files: The run directory.
    dataset: What it was trained on, or a view of that with new items behind its own.
  """

  def __init__(self, files: run_lib.Run, dataset: dataset_lib.Dataset):
    """Takes a run and its dataset; `load` opens them."""
    self.files, self.dataset = files, dataset

  @classmethod
  def load(
    cls,
    directory: str | os.PathLike[str],
    data_dir: str | os.PathLike[str] | None = None,
    new_items: str | os.PathLike[str] | None = None,
  ) -> Self:
    """Opens a run directory.

    Args:
      directory: What `train` wrote.
      data_dir: Of the dataset, where it is no longer at the place that the run names.
      new_items: A file of items that came after training, with the columns of the one
        that the dataset was prepared with. They may be recommended, and stand in
        histories. A category that the dataset does not know is ignored, with a warning.

    Raises:
      UserError: There is no run, or no dataset, or no such file, or the dataset has no
        features of items.
    """
    paths = (None if p is None else os.fspath(p) for p in (data_dir, new_items))
    files, dataset, said = _opened(os.fspath(directory), *paths)
    if said:
      warnings.warn(said, stacklevel=2)
    return cls(files, dataset)

  def __repr__(self) -> str:
    return f'Run({str(self.files.directory)!r})'

  @property
  def directory(self) -> pathlib.Path:
    """Path of the run directory."""
    return self.files.directory

  @property
  def recipe(self) -> Recipe:
    """The configurations that it was trained by.

    Raises:
      UserError: flags.cfg is not one of this version.
    """
    return Recipe.parse(self.files.flags())

  @property
  def metrics(self) -> dict[str, Any]:
    """What metrics.json holds.

    Raises:
      UserError: The run has not finished.
    """
    self.files.check_finished()
    return self.files.metrics() or {}

  @functools.cached_property
  def model(self) -> Model:
    """The trained model, with the best epoch's weights.

    Raises:
      UserError: The run has not finished, is damaged, or was trained on another
        dataset, or there are new items and it knows items by their ids alone.
    """
    from ncf_tfdata.models import saved  # It imports TensorFlow.

    return saved.load_finished(self.files, self.dataset)

  def evaluate(
    self,
    config: EvaluateConfig | None = None,
    *,
    progress: bool = True,
    **settings: Any,
  ) -> Evaluation:
    """Judges the model beside others; keeps numbers, ranks and report in the run.

        run.evaluate(baselines=['ease'], predictions={'sasrec': 'lists.csv'})

    Args:
      config: What to do.
      progress: Whether to show it.
      **settings: Settings of `EvaluateConfig`, in place of those of `config`.
        `predictions` may be a mapping, of files by name of the system.

    Raises:
      ArgumentError: There is no such setting, a value is not one that it takes, two
        contradict each other, or the run was loaded with `new_items`.
      UserError: The model cannot be loaded, or a baseline or a file does not suit the
        dataset.
    """
    if isinstance(self.dataset, new_items_lib.GrownDataset):
      # No held-out interaction asks for them, and the run keeps what is measured.
      raise ArgumentError(
        'A model is judged among the items of its dataset: load the run without '
        '`new_items`.',
        new_items=self.dataset.path,
      )
    asked = evaluation.configured(config, settings)
    return evaluation.judge(
      self.dataset, asked, self.files, lambda: self.model, progress
    )

  def recommend(
    self,
    users: Sequence[str] | None = None,
    *,
    histories: Mapping[str, Sequence[str]] | None = None,
    k: int = 10,
    item_names: Mapping[str, str] | None = None,
    exclude: Sequence[str] = (),
    allow: Sequence[str] | None = None,
    min_score: float | None = None,
    only: Mapping[str, Sequence[str]] | None = None,
    explain: bool = False,
  ) -> Recommendations:
    """Finds the k best items of users, without those they have seen.

    Args:
      users: Original ids; all users of the dataset by default. Who is not in the
        dataset gets what is popular.
      histories: In place of `users`: by original id of a user, who may be new, the
        original ids of the items seen since the dataset, oldest first. An item that
        the dataset does not know is ignored, with a warning.
      k: How many, at least 1.
      item_names: Names by original id of the item, to be shown beside it.
      exclude: Original ids of items that are not recommended. One that the dataset
        does not know is ignored, with a warning; so it is in `allow`.
      allow: All that may be recommended; everything where it is None.
      min_score: No lower score is recommended. For a user of whom the model knows
        nothing it is a count of train interactions.
      only: Values by column of categories, of the features of items. An item is
        recommended only if it has one of the values of each column.
      explain: Whether to tell of each item which items of the history it is due to.
        It takes some milliseconds a user.

    Raises:
      ArgumentError: `k` is below 1, or both `users` and `histories` are given, or a
        list of ids is one text, or `min_score` is NaN, or `only` names no column of
        categories or a value that no item has.
      UserError: The model cannot be loaded.
    """
    if k < 1:
      raise ArgumentError('`k` must be at least 1.', k=k)
    if users is not None and histories is not None:
      raise ArgumentError(
        'Give `users` or `histories`, not both.', users=users, histories=histories
      )
    request = self._request(users, histories)
    if request.ignored:
      warnings.warn(
        f'{request.ignored:,} events are of items that the dataset does not know, and '
        'ignored.',
        stacklevel=2,
      )
    for name, keys in (('exclude', exclude), ('allow', allow)):
      if isinstance(keys, str):
        raise ArgumentError(f'`{name}` must be a list of texts.', **{name: keys})
    if min_score is not None and min_score != min_score:
      raise ArgumentError('`min_score` must be a number.', min_score=min_score)
    made = rules.Rules.of_keys(self.dataset, exclude, allow, min_score, only)
    if made.ignored:
      warnings.warn(made.warning(), stacklevel=2)
    return Recommendations(tuple(self.lists(request, k, item_names, made, explain)))

  def _request(
    self,
    users: Sequence[str] | None,
    histories: Mapping[str, Sequence[str]] | None,
  ) -> requests.Request:
    if histories is not None:
      events = [(user, item) for user, items in histories.items() for item in items]
      owners, items = ([event[i] for event in events] for i in (0, 1))
      return requests.Request.of_events(self.dataset, owners, items, list(histories))
    if users is None:
      return requests.Request.of_everyone(self.dataset)
    if isinstance(users, str):
      raise ArgumentError('`users` must be a list of texts.', users=users)
    return requests.Request.of_users(self.dataset, [str(user) for user in users])

  def lists(
    self,
    request: requests.Request,
    k: int,
    item_names: Mapping[str, str] | None = None,
    made: rules.Rules | None = None,
    explain: bool = False,
  ) -> Iterator[recommendation_files.Lists]:
    """Makes the top lists of a request, as many at once as fit into memory.

    Args:
      request: The users.
      k: How many items each list has.
      item_names: Names by original id.
      made: What else the lists may not hold.
      explain: Whether they have reasons.
    """
    from ncf_tfdata.evaluation import ranking
    from ncf_tfdata.serving import reasons_in_graph, recommender

    items = self.dataset.vocabulary(dataset_lib.ITEMS).keys
    names = None if item_names is None else dict(item_names)
    gaps = ranking.reads_gaps(self.model)
    return requests.lists(
      request,
      recommender.Recommender(self.model, self.dataset),
      recommender.read_histories(self.dataset, gaps, request.user),
      recommendation_files.Labels(items, names),
      k,
      made,
      reasons_in_graph.Explainer(self.model, reasons.COUNT) if explain else None,
    )

  def similar(
    self,
    items: Sequence[str] | None = None,
    k: int = 10,
    *,
    by: str = 'vectors',
    item_names: Mapping[str, str] | None = None,
  ) -> SimilarItems:
    """Finds the k items most similar to each of some items.

    Args:
      items: Original ids; all items of the dataset by default. One that the dataset
        does not know is ignored, and counted.
      k: How many, at least 1. Fewer are found where fewer have a score above 0.
      by: `vectors`, the mean of the cosines in the model's tables; `transitions` or
        `ease`, what these say of the other item after the one alone; or a baseline that
        reads histories, such as `item-knn` or `ease:l2=100`, fitted on train.
        Of what the model itself has and a baseline of that name, the model's.
      item_names: Names by original id of the item, to be shown beside it.

    Raises:
      ArgumentError: `k` is below 1, `items` is one text, or `by` is neither.
      UserError: The model cannot be loaded, or there is no such baseline.
    """
    if k < 1:
      raise ArgumentError('`k` must be at least 1.', k=k)
    if isinstance(items, str):
      raise ArgumentError('`items` must be a list of texts.', items=items)
    found, ignored = self.similar_lists(items, k, by, item_names)
    return SimilarItems(tuple(found), ignored)

  def similar_lists(
    self,
    items: Sequence[str] | None,
    k: int,
    by: str,
    item_names: Mapping[str, str] | None = None,
  ) -> tuple[Iterator[similar_lib.Lists], int]:
    """The lists of `similar`, as many at once as fit into memory, and ids ignored."""
    known = self.dataset.vocabulary(dataset_lib.ITEMS)
    if items is None:
      asked = known.known()
    else:
      asked = known.places(list(dict.fromkeys(map(str, items))))
    found = asked[asked != UNKNOWN]
    if (unused := self.dataset.unused_items()) is not None:
      found = found[~unused[found]]
    measure = similar_lib.measure(self.model, self.dataset, by)
    names = None if item_names is None else dict(item_names)
    labels = recommendation_files.Labels(known.keys, names)
    made = similar_lib.lists(measure, found, k, labels, by, unused)
    return made, 0 if items is None else len(asked) - len(found)

  def beside(self, others: Sequence[str]) -> dict[str, ranking.Scorer]:
    """Scorers of the same dataset, by what they were asked for as.

    Args:
      others: Run directories, or baselines, which are fitted on the train rows.

    Raises:
      UserError: One is neither, or is a run on another dataset, or there are new items
        and it knows items by their ids alone.
    """
    runs = [name for name in others if pathlib.Path(name, run_lib.MODEL).exists()]
    specs = tuple(name for name in others if name not in runs)
    asked = EvaluateConfig(baselines=specs)
    fits = systems.fits(self.dataset, asked, self.files)
    found: dict[str, ranking.Scorer] = {
      name: type(self)(run_lib.Run(name), self.dataset).model for name in runs
    }
    for name, scorer, _ in systems.fitted(fits, self.dataset, asked):
      found[name] = scorer
    return {name: found[name] for name in others}

  def export(
    self, output: str | os.PathLike[str], *, overwrite: bool = False
  ) -> export.Exported:
    """Writes a SavedModel that is asked in original ids, and needs TensorFlow alone.

    Args:
      output: Its directory. TensorFlow Serving wants a number for the last part.
      overwrite: Whether to replace an earlier SavedModel.

    Raises:
      UserError: The directory holds something else, or the model cannot be loaded.
    """
    export.check_output(output, overwrite)
    return export.save(self.model, self.dataset, output, overwrite)


def open_run(
  run_dir: str | None, data_dir: str | None, new_items: str | None = None
) -> Run:
  """Opens the run that a command was told of; says on stderr what it ignores.

  Raises:
    UserError: None was given, or there is none, or new items do not suit it.
  """
  files, dataset, said = _opened(run_dir, data_dir, new_items or None)
  if said:
    print(said, file=sys.stderr)
  return Run(files, dataset)


def _opened(
  run_dir: str | None, data_dir: str | None, new_items: str | None
) -> tuple[run_lib.Run, dataset_lib.Dataset, str]:
  """A run, its dataset with new items behind it, and what is ignored of them."""
  files, dataset = run_lib.open_with_dataset(run_dir, data_dir)
  if new_items is None:
    return files, dataset, ''
  grown = new_items_lib.read(dataset, new_items)
  return files, grown, grown.warning()
