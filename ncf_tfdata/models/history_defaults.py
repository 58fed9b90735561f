"""What a history model is like where its configuration is open: a matter of the log.

A log with few rows a user wants short histories, narrow vectors and much
regularisation; one with many wants the opposite. Between the two ends, which were
tuned on validation (Amazon Beauty and MovieLens-1M), values go with the logarithm of
rows a user.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple, Self

import numpy as np

from ncf_tfdata import config as config_lib
from ncf_tfdata import dataset as dataset_lib
from ncf_tfdata.data import records
from ncf_tfdata.models.configs import USER_DROPOUT, HistoryConfig, ObjectiveConfig

# Train rows a user of the two ends.
_SPARSE, _DENSE = 8.0, 160.0

# EASE is fitted for each loaded model: of so many items within 5 s on two cores.
_EASE_ITEMS = 5000


class Defaults(NamedTuple):
  """Settings of `HistoryConfig` of the same names, and of the objective's l2."""

  length: int
  dim: int
  user_embedding: bool
  dropout: float
  l2: float
  transition_logits: float
  transition_reverse: float
  ease_logits: float
  user_dropout: float
  gaps: bool

  def __str__(self) -> str:
    return ', '.join(f'{name} {value}' for name, value in self._asdict().items())

  def as_wide_as(self, base: Mapping[str, Any]) -> Self:
    """These, with the shapes of a model that another is to start from.

    Args:
      base: Its settings, of `History.get_config`; none of none.
    """
    shapes = {
      'length': base.get('history_length'),
      'dim': base.get('dim'),
      'user_embedding': base.get('user_embedding'),
      'gaps': base.get('gaps', False) if base else None,
    }
    # A model without an encoder has length 0, which is none that could be asked for.
    return self._replace(**{k: v for k, v in shapes.items() if v or v is False})

  def under(self, config: HistoryConfig, l2: float | None) -> Self:
    """These, with what a configuration and an objective do not leave open."""
    given = {name: getattr(config, name) for name in self._fields if name != 'l2'}
    given['l2'] = l2
    return self._replace(**{k: v for k, v in given.items() if v is not None})

  def model(self) -> dict[str, Any]:
    """Those that are settings of `HistoryConfig`, by name."""
    return {name: value for name, value in self._asdict().items() if name != 'l2'}


def of(
  rows_per_user: float,
  successors: bool,
  items: int,
  new_users: float = 0.0,
  times: bool = False,
) -> Defaults:
  """The defaults for a log.

  Args:
    rows_per_user: Mean number of train rows of a user.
    successors: Whether the dataset has successor counts.
    items: Size of the catalogue.
    new_users: Share of the validation rows' users who have no train rows.
    times: Whether the dataset holds times.
  """
  ends = math.log(_SPARSE), math.log(_DENSE)
  place = (math.log(max(rows_per_user, 1.0)) - ends[0]) / (ends[1] - ends[0])
  share = min(max(place, 0.0), 1.0)

  def between(sparse: float, dense: float) -> float:
    return round(sparse * (dense / sparse) ** share, 3)

  return Defaults(
    length=round(between(12, 50)),
    dim=64 if share < 0.5 else 128,
    # With few rows a vector of theirs would say what the history says, and worse.
    user_embedding=share >= 0.5,
    dropout=between(0.5, 0.2),
    l2=between(0.1, 0.05),
    transition_logits=between(2.0, 1.5) if successors else 0.0,
    transition_reverse=0.5 if share < 0.5 else 0.0,
    # With few rows a user it says nothing that transitions do not.
    ease_logits=2.0 if share >= 0.5 and items <= _EASE_ITEMS else 0.0,
    # At most a half, so that vectors of users are still learnt.
    user_dropout=round(min(new_users, 0.5), 3),
    gaps=times,
  )


def of_dataset(dataset: dataset_lib.Dataset, user_features: bool = False) -> Defaults:
  """The defaults for the train rows of a dataset.

  Args:
    dataset: With them.
    user_features: Whether the model knows users by what they are. Features then learn
      to do without the vectors of ids, whatever the log.
  """
  rows = dataset.rows(dataset_lib.TRAIN)
  apart = dataset.manifest.counts.get('users_held_out', 0)
  users = max(1, dataset.active_users - apart)
  found = of(
    rows / users,
    dataset.has(dataset_lib.SUCCESSORS),
    dataset.num_items,
    _new_users(dataset),
    dataset.manifest.has_times,
  )
  if user_features:
    found = found._replace(user_dropout=max(found.user_dropout, USER_DROPOUT))
  return found


def settled(
  config: HistoryConfig, objective: ObjectiveConfig, dataset: dataset_lib.Dataset
) -> dict[str, Any]:
  """What settings that are None come to, by name of the flag."""
  features = config.uses(dataset_lib.USER, dataset.manifest)
  chosen = of_dataset(dataset, features).under(config, objective.l2)
  flags = config_lib.flag_names(HistoryConfig)
  found = {
    flags[name]: value
    for name, value in chosen.model().items()
    if getattr(config, name) is None
  }
  return found if objective.l2 is not None else {**found, 'l2': chosen.l2}


def _new_users(dataset: dataset_lib.Dataset) -> float:
  """The share of the validation rows' users who have no train rows.

  0 where each user's last rows are held out: there all have some.
  """
  manifest = dataset.manifest
  if not (manifest.is_cut and manifest.has_times):
    return 0.0
  if not dataset.rows(dataset_lib.VALIDATION):
    return 0.0
  users = np.unique(records.rows(dataset, dataset_lib.VALIDATION)[0])
  return float((dataset.vocabulary(dataset_lib.USERS).counts[users] == 0).mean())
