"""A model as a stranger adds one: logistic regression from an item to the next."""

import dataclasses

import keras
import tensorflow as tf

from ncf_tfdata.config import setting
from ncf_tfdata.data import window_batches
from ncf_tfdata.models import counted, registry
from ncf_tfdata.models.configs import ModelConfig
from ncf_tfdata.models.ranking_model import RankingModel, latest_items
from ncf_tfdata.models.task import Task


@dataclasses.dataclass(frozen=True, kw_only=True)
class ToyConfig(ModelConfig):
  """What the toy's flags are made from."""

  losses = ('softmax',)
  decay: float = setting(0.0, 'Strength of |table|^2.', minimum=0, flag='toy_decay')


@keras.saving.register_keras_serializable('toy')
class Toy(RankingModel):
  """Logits of all items are the row of the latest one; the last row is of none."""

  reads_history = True

  def __init__(self, num_users, num_items, **kwargs):
    super().__init__(num_users, num_items, **kwargs)
    shape = num_items + 1, num_items
    self.table = self.add_weight(shape=shape, initializer='zeros', name='table')
    self.built = True

  def catalogue_logits(self, user, history):
    return tf.gather(self.table.value, latest_items(history, 1, self.num_items)[:, 0])

  def candidate_logits(self, user, history, items):
    return tf.gather(self.catalogue_logits(user, history), items, batch_dims=1)


@dataclasses.dataclass
class Objective:
  """The softmax over all items, of windows with one item before each target."""

  model: Toy
  rows: float
  decay: float
  steps_per_program: int = 1

  def complete(self, batch, epoch, step):
    return {name: tensor[0] for name, tensor in batch.items()}

  def __call__(self, batch):
    tokens, row = batch['tokens'], batch['row']
    last, target = (
      tf.gather(tf.reshape(x, [-1]), row) for x in (tokens[:, :-1], tokens[:, 1:])
    )
    target = tf.minimum(target, self.model.num_items - 1)  # Pads have weight 0.
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(
      target, tf.gather(self.model.table.value, last)
    )
    penalty = self.decay * tf.reduce_sum(tf.square(self.model.table.value))
    return tf.reduce_sum(batch['weight'] * losses) / self.rows + penalty


def create(config, context):
  """Makes the task: model, objective and batches."""
  dataset, size = context.dataset, context.batch_size
  model = Toy(dataset.num_users, dataset.num_items, name=context.name)
  steps = window_batches.steps_per_epoch(dataset, size, 1)
  rows = dataset.rows('train')
  return Task(
    model,
    Objective(model, rows / steps, config.decay),
    batches=lambda epoch, step: window_batches.window_batches(
      dataset,
      batch_size=size,
      history_length=1,
      seed=context.seed,
      replicas=context.replicas,
      first_epoch=epoch,
      first_step=step,
    ),
    steps=steps,
    rows=rows,
    scorer=counted.added(model, config, dataset),
  )


ENTRY = registry.Entry('toy', ToyConfig, 'toy_model:create')
