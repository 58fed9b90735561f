"""What a training makes of features of items, where that is left open."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from ncf_tfdata import dataset as dataset_lib
from ncf_tfdata.data.feature_codes import Coder
from ncf_tfdata.models import featured_model
from ncf_tfdata.models.configs import ITEM_ID_DROPOUT, FeatureConfig
from ncf_tfdata.models.task import Context


@dataclasses.dataclass(frozen=True, eq=False)
class FeatureSettings:
  """Whether and how features are used.

  Attributes:
    model: Arguments of a `FeaturedModel`.
    id_dropout: Share of the items looked at whose id is left out.
    no_negatives: bool [num_items], what is no negative: items that are trained on in
      no other part. They would be put below all others, and with them what is like
      them. None without features.
  """

  model: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  id_dropout: float = 0.0
  no_negatives: np.ndarray | None = None

  def __str__(self) -> str:
    if not self.model:
      return ''
    known = ' + '.join(
      shape['name'] or 'numbers' for shape in self.model['item_features']
    )
    return f'item features {known}, item_id_dropout {self.id_dropout}'


def of(config: FeatureConfig, context: Context) -> FeatureSettings:
  """The settings of a training.

  A training that starts from a model has features where that one has.

  Raises:
    UserError: Features are asked for, and the dataset has none.
  """
  dataset, wanted = context.dataset, config.use_item_features
  if wanted is None and context.base:
    wanted = 'item_features' in context.base
  if wanted is None:
    wanted = dataset.manifest.item_features is not None or bool(config.item_id_dropout)
  if not wanted:
    return FeatureSettings()
  coder = Coder(featured_model.of_dataset(dataset), config.text_buckets)
  share = config.item_id_dropout
  return FeatureSettings(
    {
      'item_features': [shape.to_config() for shape in coder.shapes],
      'text_buckets': config.text_buckets,
      'cold_item_logits': config.cold_item_logits,
    },
    ITEM_ID_DROPOUT if share is None else share,
    dataset.vocabulary(dataset_lib.ITEMS).counts == 0,
  )
