"""A trained model in a catalogue with new items, which nothing was learnt of."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from ncf_tfdata import dataset as dataset_lib
from ncf_tfdata.models.ranking_model import Model
from ncf_tfdata.models.with_added import WithAdded


def with_items(model: Model, num_items: int) -> Model:
  """The same model of a larger catalogue, whose first items are the model's own.

  The rows that the ids of new items have are zero. A model that knows items by what
  they are does not look at them, as at those of any item without train interactions.

  Args:
    model: With its weights; one with features of items.
    num_items: Size of the larger catalogue.

  Returns:
    A model that no dataset is attached to yet.
  """
  if isinstance(model, WithAdded):
    return model.around(with_items(model.model, num_items))
  return _larger(model, num_items)


def _larger(model: Any, num_items: int) -> Any:
  config = keras.saving.serialize_keras_object(model)
  config['config']['num_items'] = num_items
  made = keras.saving.deserialize_keras_object(config)
  of_items = {id(weight) for weight in model.vocabulary_weights()[dataset_lib.ITEMS]}
  # What stands behind the last item, such as a row of pads, stays behind it.
  places = [model.num_items] * (num_items - model.num_items)
  for own, larger in zip(model.weights, made.weights, strict=True):
    value = own.numpy()
    if id(own) in of_items:
      value = np.insert(value, places, 0, axis=0)
    larger.assign(value)
  made.weights_changed()
  return made
