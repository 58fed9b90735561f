"""Files of other systems, read and made ready to be judged on a dataset."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from ncf_tfdata import dataset as dataset_lib
from ncf_tfdata.errors import UserError
from ncf_tfdata.evaluation import baselines, predictions, summary
from ncf_tfdata.evaluation.config import EvaluateConfig
from ncf_tfdata.serving import prediction_files
from ncf_tfdata.vocabulary import Vocabulary


class System(NamedTuple):
  """Another system, by its file.

  Attributes:
    scorer: Ranks by the file.
    rankings: Those that it can be judged by.
    noted: What metrics.json holds of the file: name, sha256 and counts.
  """

  scorer: predictions.ListScorer
  rankings: tuple[str, ...]
  noted: dict[str, Any]


def as_flags(files: Mapping[str, Any] | Sequence[str]) -> tuple[str, ...]:
  """Files by name, as the setting `predictions` holds them."""
  if isinstance(files, Mapping):
    return tuple(f'{name}={path}' for name, path in files.items())
  return tuple(files)


def read(dataset: dataset_lib.Dataset, config: EvaluateConfig) -> dict[str, System]:
  """Reads all files of an evaluation, by name of the system.

  Raises:
    UserError: A file cannot be read, is not of predictions, or suits neither the
      dataset nor the rankings that are asked for; or a name is a baseline's.
  """
  files = config.prediction_files
  if not files:
    return {}
  taken = set(baselines.BASELINES) & set(files)
  if taken:
    raise UserError(
      f'--predictions gives the name {taken.pop()} of a baseline. Give it another name.'
    )
  users, items = map(dataset.vocabulary, (dataset_lib.USERS, dataset_lib.ITEMS))
  return {
    name: _system(path, dataset, config, users, items) for name, path in files.items()
  }


def _system(
  path: str,
  dataset: dataset_lib.Dataset,
  config: EvaluateConfig,
  users: Vocabulary,
  items: Vocabulary,
) -> System:
  rows = prediction_files.read(path)
  lists, contents = _lists(path, rows, users, items)
  fit = predictions.fit(lists, dataset, config.split, config.ks)
  if fit.without_list == fit.held_out:
    raise UserError(
      f'{path} has no list of a user who is in the {config.split} split. Write lists '
      'of those users, or judge another --split.'
    )
  asked = summary.RANKINGS if config.full_ranking else (summary.SAMPLED,)
  rankings = tuple(ranking for ranking in fit.rankings if ranking in asked)
  if not rankings:
    raise UserError(
      f'{path} lists {100 * fit.candidates:.1f} % of the sampled candidates'
      f'{"" if fit.beyond else " and nothing else"}. Write lists of the whole '
      'catalogue and leave out --nofull_ranking, or scores of every candidate.'
    )
  noted = {
    'file': path.rstrip('/').rpartition('/')[2],
    'sha256': rows.sha256,
    'counts': dataclasses.asdict(contents) | dataclasses.asdict(fit),
  }
  scorer = predictions.ListScorer(lists, dataset.num_items)
  return System(scorer, rankings, noted)


def _lists(
  path: str, rows: prediction_files.Predictions, users: Vocabulary, items: Vocabulary
) -> tuple[predictions.Lists, predictions.Contents]:
  """Lists in dense ids, and what there is in the file."""
  user, item = users.places(rows.user), items.places(rows.item)
  for role, found, keys, vocabulary in (
    ('user', user, rows.user, users),
    ('item', item, rows.item, items),
  ):
    if (found < 0).all():
      example = vocabulary.texts[int(vocabulary.known()[0])]
      raise UserError(
        f'no {role} of {path} is in the dataset: received {keys[0].as_py()!r} and so '
        f'on, expected ids of the log such as {example.as_py()!r}.'
      )
  stranger = user < 0
  unknown = (item < 0) & ~stranger
  kept = (user >= 0) & (item >= 0)
  score, rank = (
    None if values is None else values[kept] for values in (rows.score, rows.rank)
  )
  try:
    lists, repeated = predictions.lists_of(
      user[kept], item[kept], score, rank, len(users)
    )
  except ValueError as error:
    raise UserError(f'{path}: {error}. Leave one of the columns out.') from error
  contents = predictions.Contents(
    rows=len(user),
    lists=int(np.count_nonzero(np.diff(lists.start))),
    unknown_users=_distinct(rows.user, stranger),
    unknown_user_rows=int(np.count_nonzero(stranger)),
    unknown_items=_distinct(rows.item, unknown),
    unknown_item_rows=int(np.count_nonzero(unknown)),
    repeated=repeated,
  )
  return lists, contents


def _distinct(keys: pa.ChunkedArray, chosen: np.ndarray) -> int:
  return len(keys.filter(pa.array(chosen)).unique())
