"""What a training asks of the held-out rows: validation after each epoch, test once."""

from __future__ import annotations

from typing import Any

from ncf_tfdata import dataset as dataset_lib
from ncf_tfdata import run as run_lib
from ncf_tfdata.data import records
from ncf_tfdata.evaluation import baselines, candidates, metrics, ranking, summary


def validation_metrics(
  scorer: ranking.Scorer,
  dataset: dataset_lib.Dataset,
  full: bool,
  known: candidates.Candidates | None,
) -> dict[str, float]:
  """What a line of epochs.csv says of the validation rows; nothing without any.

  Args:
    scorer: What is trained.
    dataset: Whose rows are ranked.
    full: Whether to rank the whole catalogue as well.
    known: What leaves items out; read once for all epochs.
  """
  if not dataset.rows(dataset_lib.VALIDATION):
    return {}
  found = ranking.rank_split(
    scorer, dataset, dataset_lib.VALIDATION, metrics.KS, full, candidates=known
  )
  prefix = {summary.SAMPLED: '', summary.FULL: 'full_'}
  return {
    f'{prefix[ranking]}{name}': value
    for ranking, rank in summary.rankings(found).items()
    for name, value in metrics.means(rank, metrics.KS).items()
  }


def judge(
  model: ranking.Scorer, run: run_lib.Run, dataset: dataset_lib.Dataset
) -> dict[str, Any]:
  """Model and popularity on all held-out rows; asks test, for the only time.

  Keeps the ranks in the run.

  Returns:
    A summary for each split, and `baselines`, as metrics.json holds them.
  """
  popularity = baselines.create('popularity')(
    *records.train_rows(dataset), dataset.num_users, dataset.num_items
  )
  count = dataset.vocabulary(dataset_lib.ITEMS).counts
  known, unused = candidates.of(dataset, count), dataset.unused_items()
  judged: dict[str, dict[str, Any]] = {summary.MODEL: {}, 'popularity': {}}
  for split in (dataset_lib.VALIDATION, dataset_lib.TEST):
    if not dataset.rows(split):
      continue
    for name, scorer in ((summary.MODEL, model), ('popularity', popularity)):
      found = ranking.rank_split(scorer, dataset, split, metrics.KS, candidates=known)
      summary.save_ranks(summary.ranks_path(run.directory, split, name), found)
      judged[name][split] = summary.summarize(
        found, metrics.KS, count, dataset.active_users, unused=unused
      )
  fitted = {
    split: {'fit_on': 'train', **numbers}
    for split, numbers in judged['popularity'].items()
  }
  return {**judged[summary.MODEL], 'baselines': {'popularity': fitted}}
