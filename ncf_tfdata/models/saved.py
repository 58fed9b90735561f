"""A trained model as a run directory keeps it: its configuration and its weights."""

from typing import Any

import keras

from ncf_tfdata import atomic
from ncf_tfdata import dataset as dataset_lib
from ncf_tfdata.errors import UserError
from ncf_tfdata.models import grown, registry
from ncf_tfdata.models.ranking_model import Model
from ncf_tfdata.run import MODEL, Run


def serialize(model: Model) -> dict[str, Any]:
  """What `Run.start` keeps of a model: its Keras configuration, as JSON."""
  return keras.saving.serialize_keras_object(model)


def settings(serialized: Any) -> dict[str, Any]:
  """The settings of a model that `serialize` described, of the one that is trained.

  None are found where it is not such a description; who loads the model refuses it.
  """
  found: dict[str, Any] = {}
  while isinstance(serialized, dict) and isinstance(serialized.get('config'), dict):
    found = serialized['config']
    serialized = found.get('model')  # of one with item transitions
  return found


def load(run: Run, dataset: dataset_lib.Dataset) -> Model:
  """Makes the model of a run, with the best epoch's weights.

  Args:
    run: The run.
    dataset: That it was trained on, or a view of that with new items.

  Raises:
    UserError: No model has been trained there, or it was on another dataset, or what
      is kept of it is damaged, or it does not know new items.
  """
  model = load_detached(run, dataset)
  if dataset.num_items > dataset.own_items:
    if not getattr(model, 'knows_cold_items', False):
      raise UserError(
        f'the model of {run.directory} knows items by their ids alone, and --new_items '
        'needs one that was trained with --use_item_features. Train such a model, or '
        'leave --new_items out.'
      )
    model = grown.with_items(model, dataset.num_items)
  model.attach(dataset)
  return model


def load_detached(run: Run, dataset: dataset_lib.Dataset) -> Model:
  """As `load`, without what scores need beside the weights."""
  config = run.model(dataset)
  registry.import_all()
  try:
    model = keras.saving.deserialize_keras_object(config)
    if not callable(getattr(model, 'score_all', None)):
      # Keras gives back what it does not take for the configuration of an object.
      raise ValueError('a model is a JSON object with class_name and config')
  except (TypeError, ValueError, KeyError, AttributeError, ImportError) as error:
    reason = str(error).strip().partition('\n')[0]
    raise UserError(
      f'{run.directory / MODEL} does not describe a model ({reason}). '
      'Train again with --overwrite.'
    ) from error
  load_weights(run, model)
  return model


def load_finished(run: Run, dataset: dataset_lib.Dataset) -> Model:
  """Makes the model of a run that has been judged.

  Raises:
    UserError: As `load`, or the run has not finished.
  """
  model = load(run, dataset)
  run.check_finished()
  return model


def load_weights(run: Run, model: Model | keras.Model) -> None:
  """Gives a model the best epoch's weights.

  Raises:
    UserError: The file does not hold them, or is not what was written.
  """
  run.check_weights()
  try:
    model.load_weights(run.best_weights)
  except (OSError, ValueError, KeyError) as error:
    reason = str(error).strip().partition('\n')[0]
    raise UserError(
      f'{run.best_weights} does not hold this model ({reason}). '
      'Train again with --overwrite.'
    ) from error


def save_weights(run: Run, model: keras.Model) -> None:
  """Keeps a model's weights as the best epoch's."""
  with atomic.replaced(run.best_weights) as temporary:
    model.save_weights(temporary, overwrite=True)


def save_fitted(run: Run, scorer: Model) -> None:
  """Keeps what a scorer has fitted beside the weights, to be read by who loads it."""
  scorer.save_fitted(run.best_weights)
