"""What is counted of the dataset and added to a model's logits, as configured."""

from __future__ import annotations

from ncf_tfdata import dataset as dataset_lib
from ncf_tfdata.data import content
from ncf_tfdata.models.configs import ModelConfig
from ncf_tfdata.models.ranking_model import Model
from ncf_tfdata.models.with_ease import WithEase
from ncf_tfdata.models.with_transitions import WithTransitions


def added(model: Model, config: ModelConfig, dataset: dataset_lib.Dataset) -> Model:
  """The model as it is judged and asked: with transitions and EASE, where they weigh.

  Raises:
    UserError: The dataset has no transitions, or EASE takes more memory than there is.
  """
  knows_cold_items = getattr(model, 'knows_cold_items', False)
  neighbours = content.NEIGHBOURS if knows_cold_items else 0
  if config.transition_logits:
    model = WithTransitions(
      model,
      config.transition_logits,
      config.transition_smoothing,
      config.transition_reverse or 0.0,
      neighbours,
    )
  if config.ease_logits:
    model = WithEase(model, config.ease_logits, config.ease_l2, neighbours)
  model.attach(dataset)
  return model
