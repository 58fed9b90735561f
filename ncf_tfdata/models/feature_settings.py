"""What a training makes of features of items and users, where that is left open."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from ncf_tfdata import dataset as dataset_lib
from ncf_tfdata.data.feature_codes import Coder
from ncf_tfdata.models import featured_model
from ncf_tfdata.models.configs import ITEM_ID_DROPOUT, USER_DROPOUT, FeatureConfig
from ncf_tfdata.models.featured_model import SETTINGS
from ncf_tfdata.models.task import Context


@dataclasses.dataclass(frozen=True, eq=False)
class FeatureSettings:
  """Whether and how features are used.

  Attributes:
    model: Arguments of a `FeaturedModel`.
    id_dropout: Share of the items looked at whose id is left out.
    user_dropout: Share of the rows whose user's id is left out, of a model to which
      features alone say something of them then.
    no_negatives: bool [num_items], what is no negative: items that are trained on in
      no other part. They would be put below all others, and with them what is like
      them. None without features of items.
  """

  model: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  id_dropout: float = 0.0
  user_dropout: float = 0.0
  no_negatives: np.ndarray | None = None

  @property
  def of_users(self) -> bool:
    """Whether users are known by what they are."""
    return SETTINGS[dataset_lib.USER] in self.model

  def __str__(self) -> str:
    parts = []
    for role, name in SETTINGS.items():
      if name in self.model:
        known = ' + '.join(shape['name'] or 'numbers' for shape in self.model[name])
        parts.append(f'{role} features {known}')
        if role == dataset_lib.ITEM:
          parts.append(f'item_id_dropout {self.id_dropout}')
    return ', '.join(parts)


def of(config: FeatureConfig, context: Context) -> FeatureSettings:
  """The settings of a training.

  A training that starts from a model has features where that one has.

  Raises:
    UserError: Features are asked for, and the dataset has none.
  """
  dataset = context.dataset
  model: dict[str, Any] = {}
  for role, name in SETTINGS.items():
    if config.uses(role, dataset.manifest, context.base):
      features = featured_model.of_dataset(dataset, role)
      shapes = Coder(features, config.text_buckets).shapes
      model[name] = [shape.to_config() for shape in shapes]
      model['text_buckets'] = config.text_buckets
  of_items, of_users = (name in model for name in SETTINGS.values())
  if of_items:
    model['cold_item_logits'] = config.cold_item_logits
  return FeatureSettings(
    model,
    _share(config.item_id_dropout, ITEM_ID_DROPOUT) if of_items else 0.0,
    _share(config.user_dropout, USER_DROPOUT) if of_users else 0.0,
    dataset.vocabulary(dataset_lib.ITEMS).counts == 0 if of_items else None,
  )


def _share(given: float | None, default: float) -> float:
  return default if given is None else given
