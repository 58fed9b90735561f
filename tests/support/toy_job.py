"""A small preparation, as its pipeline is given it."""

import pathlib
from typing import Any

from beam_pipelines import (
  files,
  histories,
  prepare_job,
  publish,
  schema,
  splits,
  staging,
  transitions,
)
from ncf_tfdata.dataset import TEST, TRAIN, VALIDATION


def make(log: pathlib.Path, output: pathlib.Path, **changes: Any) -> prepare_job.Job:
  """Makes a job, and its staging directory; `changes` are fields of `Job`.

  It keeps every rating, and its two groups of users and of items are few enough to be
  told apart by hand.
  """
  sources = files.match(str(log))
  staged = staging.staging_directory(str(output))
  staging.create_directory(staged)
  fields = {
    'files': tuple(sources),
    'schema': schema.resolve(sources[0].path),
    'staging': staged,
    'min_item_count': 1,
    'min_rating': 1,
    'rules': histories.Rules(
      duplicates=histories.FIRST,
      tie_order=histories.INPUT,
      min_user_count=1,
      max_user_history=100,
      seed=0,
    ),
    'recipe': splits.Recipe(holdout=2, train_negatives=4, eval_negatives=1, seed=0),
    'num_item_groups': 2,
    'num_shards': 2,
    'transitions': transitions.Plan(keep=0, num_shards=1, staging=staged),
    'plan': publish.Plan(
      staging=staged,
      output=str(output),
      flags={'holdout': 2},
      negatives={TRAIN: 4, VALIDATION: 1, TEST: 1},
      max_reject_fraction=0.5,
    ),
  }
  return prepare_job.Job(**(fields | changes))
