"""Which rows of a model's weights are of whom, in two datasets: by original key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ncf_tfdata import dataset as dataset_lib
from ncf_tfdata import vocabulary
from ncf_tfdata.errors import UserError
from ncf_tfdata.models import featured_model
from ncf_tfdata.models.ranking_model import RankingModel

RowMatches = Mapping[str, vocabulary.Matches]


def matches(
  here: dataset_lib.Dataset, there: dataset_lib.Dataset, settings: Mapping[str, Any]
) -> RowMatches:
  """The keys that two datasets share, by what the rows of weights are of.

  Args:
    here: A dataset.
    there: Another.
    settings: Of the model, by their names in its `get_config`.
  """
  own, other = (_keys(each, settings) for each in (here, there))
  return {
    name: vocabulary.matches(keys, other[name])
    for name, keys in own.items()
    if name in other
  }


def _keys(
  dataset: dataset_lib.Dataset, settings: Mapping[str, Any]
) -> dict[str, Sequence[str]]:
  names = dataset_lib.USERS, dataset_lib.ITEMS
  found: dict[str, Sequence[str]] = {
    name: dataset.vocabulary(name).texts for name in names
  }
  return found | featured_model.keys_of(dataset, settings)


def of(
  model: RankingModel, matches: RowMatches | None
) -> dict[int, vocabulary.Matches]:
  """The rows of a model's weights that have a key, by id of the weight.

  Raises:
    UserError: The model does not say which they are.
  """
  try:
    weights = model.vocabulary_weights()
  except (AttributeError, NotImplementedError) as error:
    raise UserError(
      f'--model={model.name} starts from no other run: it does not say which of its '
      'weights have a row for each user or item (`vocabulary_weights`). Train without '
      '--warm_start.'
    ) from error
  if matches is None:
    return {}
  return {id(each): matches[name] for name, found in weights.items() for each in found}
