"""The systems that are judged: baselines that are fitted, files, and how all rank."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from ncf_tfdata import dataset as dataset_lib
from ncf_tfdata import run as run_lib
from ncf_tfdata import times as times_lib
from ncf_tfdata.api import predictions
from ncf_tfdata.data import records
from ncf_tfdata.errors import UserError
from ncf_tfdata.evaluation import baselines, candidates, ranking, summary
from ncf_tfdata.evaluation.config import EvaluateConfig


def fits(
  dataset: dataset_lib.Dataset, config: EvaluateConfig, run: run_lib.Run | None
) -> dict[str, baselines.Baseline]:
  """The baselines by what they were asked for as.

  Raises:
    ArgumentError: There is nothing to judge, or to compare with.
    UserError: A baseline is none, or does not suit the dataset or this machine.
  """
  fits = {spec: baselines.create(spec) for spec in config.baselines}
  if run is None and not fits and not config.predictions:
    raise config.invalid(
      'There is nothing to judge: give a run, or name `baselines` or `predictions`.',
      'baselines',
    )
  if run is None and config.compare_to:
    raise config.invalid(
      '`compare_to` compares two runs: give the first as well.', 'compare_to'
    )
  if dataset.manifest.flags.get('held_out_users'):
    for spec, fit in fits.items():
      if fit.name in baselines.OF_USERS:
        raise UserError(
          f'baseline {spec} knows nothing of users who are not in train, and the '
          'dataset was prepared with --held_out_users. Leave it out of --baselines.'
        )
  for spec, fit in fits.items():
    if fit.name in baselines.OF_TIMES and not dataset.manifest.has_times:
      raise UserError(
        f'baseline {spec} needs times, and {dataset.directory} holds none. Prepare a '
        'log with timestamps, by --split=time, --split=ratio or --keep_times.'
      )
    if fit.name in baselines.OF_FEATURES and dataset.manifest.item_features is None:
      raise UserError(
        f'baseline {spec} needs features of items, and {dataset.directory} holds none. '
        'Prepare it again with --item_features=FILE, or leave it out of --baselines.'
      )
  if fits:
    lengths = dataset.vocabulary(dataset_lib.USERS).counts
    for fit in fits.values():
      fit.check_memory(dataset.num_items, lengths)
  return fits


def rank_files(
  files: Mapping[str, predictions.System],
  dataset: dataset_lib.Dataset,
  config: EvaluateConfig,
  progress: bool,
) -> dict[str, ranking.Ranks]:
  """Ranks what other systems have written, by name."""
  found = {}
  for name, system in files.items():
    full = summary.FULL in system.rankings
    asked = config.replace(full_ranking=full)
    ranks = rank(system.scorer, dataset, asked, None, name, progress)
    if summary.SAMPLED not in system.rankings:
      ranks = dataclasses.replace(ranks, sampled=None)
    found[name] = ranks
  return found


def rank_baselines(
  fits: Mapping[str, baselines.Baseline],
  dataset: dataset_lib.Dataset,
  config: EvaluateConfig,
  progress: bool,
) -> dict[str, ranking.Ranks]:
  """Fits baselines, and ranks with each, by what they were asked for as."""
  if not fits:
    return {}
  _, item = rows = records.rows(dataset, *config.fit_splits)
  count = np.bincount(item, minlength=dataset.num_items)
  found = {}
  for name, scorer, seconds in fitted(fits, dataset, config, rows):
    before = f'fitted in {seconds:.1f} s, '
    found[name] = rank(scorer, dataset, config, count, name, progress, before)
    del scorer  # EASE is the square of the catalogue.
  return found


def fitted(
  fits: Mapping[str, baselines.Baseline],
  dataset: dataset_lib.Dataset,
  config: EvaluateConfig,
  rows: tuple[np.ndarray, np.ndarray] | None = None,
) -> Iterator[tuple[str, ranking.Scorer, float]]:
  """Fits baselines, one at a time.

  Args:
    fits: By what they were asked for as.
    dataset: Whose rows they are fitted on.
    config: Of which splits.
    rows: Those rows' users and items, where they have been read.

  Yields:
    What it was asked for as, the scorer, and how many seconds it took.
  """
  if not fits:
    return
  user, item = rows or records.rows(dataset, *config.fit_splits)
  times, features = _times(fits, dataset, config), _features(fits, dataset)
  for name, fit in fits.items():
    start = time.perf_counter()
    asked = times if fit.name in baselines.OF_TIMES else {}
    asked = features if fit.name in baselines.OF_FEATURES else asked
    scorer = fit(user, item, dataset.num_users, dataset.num_items, **asked)
    yield name, scorer, time.perf_counter() - start
    del scorer


def _features(
  fits: Mapping[str, baselines.Baseline], dataset: dataset_lib.Dataset
) -> dict[str, Any]:
  """What baselines that look at features are told; nothing where none does."""
  if not any(fit.name in baselines.OF_FEATURES for fit in fits.values()):
    return {}
  return {'features': dataset.item_features()}


def _times(
  fits: Mapping[str, baselines.Baseline],
  dataset: dataset_lib.Dataset,
  config: EvaluateConfig,
) -> dict[str, Any]:
  """What baselines that look at times are told of them; nothing where none does."""
  cuts = dataset.manifest.cuts
  if cuts is None or not any(fit.name in baselines.OF_TIMES for fit in fits.values()):
    return {}
  return {
    'time': records.row_times(dataset, *config.fit_splits),
    'day': times_lib.DAY * times_lib.units_per_second(cuts.last),
  }


def rank(
  scorer: ranking.Scorer,
  dataset: dataset_lib.Dataset,
  config: EvaluateConfig,
  count: np.ndarray | None,
  name: str,
  progress: bool,
  before: str = '',
) -> ranking.Ranks:
  """Ranks the held-out rows of the split that is asked for.

  Args:
    scorer: What ranks them.
    dataset: Whose they are.
    config: Which split, and among what.
    count: int64 [num_items], rows of each item that the scorer has learnt from; None
      where that is not known.
    name: What it is called.
    progress: Whether to show it.
    before: What to say of the time before.
  """
  start = time.perf_counter()
  ranks = ranking.rank_split(
    scorer,
    dataset,
    config.split,
    config.ks,
    config.full_ranking,
    name if progress else None,
    candidates.of(dataset, count, config.candidates),
    config.score_mib,
  )
  if progress:
    seconds = time.perf_counter() - start
    print(
      f'{name}: {before}ranked {len(ranks.user):,} held-out rows in {seconds:.1f} s '
      f'({len(ranks.user) / seconds:,.0f} rows/s)',
      flush=True,
    )
  return ranks
