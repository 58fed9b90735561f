"""What a training needs to know of a model, and what a model is built from.

This module imports TensorFlow for its types only.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from ncf_tfdata import dataset as dataset_lib
from ncf_tfdata.models.configs import ObjectiveConfig

if TYPE_CHECKING:
  import keras
  import numpy as np
  import tensorflow as tf

  from ncf_tfdata.data import sampling
  from ncf_tfdata.data.train_part import TrainPart
  from ncf_tfdata.models.ranking_model import Model

Batch = Any


class Objective(Protocol):
  """What is minimised. See `losses.Objective`.

  Attributes:
    steps_per_program: Steps that one compiled program takes. Above 1 only where every
      completed batch has the same shapes.
  """

  steps_per_program: int

  def complete(self, batch: Batch, epoch: tf.Tensor, step: tf.Tensor) -> Batch:
    """Adds to a replica's batch what is drawn or looked up; never compiled."""

  def __call__(self, batch: Batch) -> tf.Tensor:
    """The replica's share of the objective, float32 []; compiled by XLA."""


@dataclasses.dataclass(frozen=True)
class Task:
  """A model and all that its training needs to know of it.

  Attributes:
    model: Built, in the strategy's scope.
    objective: What is minimised.
    batches: From (epoch, step) to the stream of batches from there on.
    steps: Steps an epoch.
    rows: Examples an epoch.
    scorer: The model as it is judged, saved and asked: itself, or wrapped.
    chosen: What the configuration left open and the dataset decided, in words.
    part: Of the context, where the batches hold no other train interactions.
  """

  model: keras.Model
  objective: Objective
  batches: Callable[[int, int], tf.data.Dataset]
  steps: int
  rows: int
  scorer: Model
  chosen: str = ''
  part: TrainPart | None = None


@dataclasses.dataclass(frozen=True)
class Context:
  """What a model's builder is given beside the model's own configuration.

  Attributes:
    name: The model's name in the registry.
    dataset: What it is trained on.
    objective: Its loss is one that the model takes.
    batch_size: Rows of a global batch.
    seed: Of all that is drawn.
    replicas: How many share a batch.
    load: The model of a finished run on the same dataset, by its directory.
    base: Settings of the model whose weights this one is to start from, by their names
      in its `get_config`; none without a warm start. What the configuration leaves
      open follows them where it decides shapes.
    part: The train interactions that are fitted; None for all.
  """

  name: str
  dataset: dataset_lib.Dataset
  objective: ObjectiveConfig
  batch_size: int
  seed: int
  replicas: int
  load: Callable[[str], Model]
  base: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  part: TrainPart | None = None

  def trained_users(self) -> np.ndarray:
    """Users whose vectors are learnt, here or in the base: bool [num_users].

    That of another would be noise.
    """
    trained: np.ndarray = self.dataset.vocabulary(dataset_lib.USERS).counts > 0
    if self.part is not None and not self.base:
      # A base has vectors of earlier users; one who is in neither starts near zero.
      trained &= self.part.user_rows > 0
    return trained

  def sampler(self, left_out: np.ndarray | None = None) -> sampling.Sampler:
    """What the objective's negatives are drawn from.

    Args:
      left_out: bool [num_items], never drawn; None for unused ids alone.
    """
    from ncf_tfdata.data import sampling

    counts = None
    if self.objective.sampler == 'popularity':
      counts = self.dataset.vocabulary(dataset_lib.ITEMS).counts
    return sampling.Sampler(
      self.dataset.num_items,
      counts,
      self.objective.popularity_exponent,
      self.dataset.untrained_items() if left_out is None else left_out,
    )
