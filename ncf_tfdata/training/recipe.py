"""What the flags of a recipe make: strategy, model, objective, optimizer.

A model takes part by an entry in `_TASKS`, which reads the flags that it needs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from absl import flags

from ncf_tfdata import _compat
from ncf_tfdata.errors import UserError
from ncf_tfdata.training import recipe_flags

if TYPE_CHECKING:
  import keras
  import tensorflow as tf

  from ncf_tfdata import dataset as dataset_lib
  from ncf_tfdata.data import sampling
  from ncf_tfdata.models import neumf, ranking_model
  from ncf_tfdata.training.steps import Task


def _layers() -> tuple[int, ...]:
  try:
    layers = tuple(int(units) for units in recipe_flags.MLP_LAYERS.value)
  except ValueError:
    layers = ()
  if not layers or min(layers) < 1:
    raise UserError(
      f'Received --mlp_layers={",".join(recipe_flags.MLP_LAYERS.value)}; expected '
      'numbers of units, such as 256,128,64.'
    )
  return layers


def create_strategy() -> tf.distribute.Strategy:
  """The strategy of --strategy on this machine, or that of `TF_CONFIG`'s workers.

  Raises:
    UserError: The batch cannot be shared out evenly, or `TF_CONFIG` is none.
  """
  import tensorflow as tf

  from ncf_tfdata.training import workers

  if workers.place().workers > 1:
    return _evenly(_multi_worker())
  if recipe_flags.LOGICAL_CPUS.value > 1:
    tf.config.set_logical_device_configuration(
      tf.config.list_physical_devices('CPU')[0],
      [tf.config.LogicalDeviceConfiguration()] * recipe_flags.LOGICAL_CPUS.value,
    )
  if recipe_flags.STRATEGY.value == 'default':
    return tf.distribute.get_strategy()
  devices = tf.config.list_logical_devices('GPU') or tf.config.list_logical_devices()
  names = [device.name for device in devices]
  return _evenly(tf.distribute.MirroredStrategy(names))


def _multi_worker() -> tf.distribute.Strategy:
  import tensorflow as tf

  if recipe_flags.LOGICAL_CPUS.value > 1:
    raise UserError(
      f'Received --logical_cpus={recipe_flags.LOGICAL_CPUS.value} with several workers '
      'in TF_CONFIG, each of which is one CPU or all its GPUs; expected one of the two.'
    )
  strategy = tf.distribute.MultiWorkerMirroredStrategy()
  _compat.drop_health_check(strategy)
  return strategy


def _evenly(strategy: tf.distribute.Strategy) -> tf.distribute.Strategy:
  """The strategy itself, once it is known to share a batch out evenly."""
  if recipe_flags.BATCH.value % strategy.num_replicas_in_sync:
    raise UserError(
      f'Received --batch_size={recipe_flags.BATCH.value}; expected a multiple of the '
      f'{strategy.num_replicas_in_sync} replicas.'
    )
  return strategy


def _neumf(dataset: dataset_lib.Dataset, replicas: int) -> Task:
  from ncf_tfdata import dataset as dataset_lib
  from ncf_tfdata.data import row_batches
  from ncf_tfdata.models import losses, neumf
  from ncf_tfdata.training.steps import Task

  if dataset.manifest.flags.get('held_out_users'):
    raise UserError(
      f'Received --model={recipe_flags.MODEL.value} on a dataset whose test users are '
      'not in train, of whom it knows nothing; expected --model=history, or a dataset '
      'prepared without --held_out_users.'
    )
  if recipe_flags.LOGQ.value and recipe_flags.LOSS.value != 'softmax':
    raise UserError(
      f'Received --logq_correction with --loss={recipe_flags.LOSS.value}; it is a '
      'correction of --loss=softmax.'
    )
  if recipe_flags.SHARED.value and recipe_flags.NEGATIVES.value == 'static':
    raise UserError(
      'Received --shared_negatives with --negatives=static; expected one of them.'
    )
  if recipe_flags.BY_USER.value and not recipe_flags.SHARED.value:
    raise UserError(
      'Received --batch_by_user without --shared_negatives, which it is for.'
    )
  model = neumf.NeuMF(
    dataset.num_users,
    dataset.num_items,
    gmf_dim=0 if recipe_flags.MODEL.value == 'mlp' else recipe_flags.GMF_DIM.value,
    mlp_dim=0 if recipe_flags.MODEL.value == 'gmf' else recipe_flags.MLP_DIM.value,
    mlp_layers=_layers(),
    dropout=recipe_flags.DROPOUT.value or 0.0,
    item_bias=recipe_flags.ITEM_BIAS.value,
    gmf_weights=recipe_flags.GMF_WEIGHTS.value,
    embedding_stddev=recipe_flags.STDDEV.value,
    seed=recipe_flags.SEED.value,
    name=recipe_flags.MODEL.value,
  )
  if recipe_flags.PRETRAINED_GMF.value or recipe_flags.PRETRAINED_MLP.value:
    _start_from_halves(model, dataset)
  sampler = _sampler(dataset)
  objective = losses.Objective(
    model,
    recipe_flags.LOSS.value,
    batch_size=recipe_flags.BATCH.value,
    seed=recipe_flags.SEED.value,
    sampler=sampler,
    num_negatives=recipe_flags.NUM_NEGATIVES.value,
    shared_negatives=recipe_flags.SHARED.value,
    by_user=recipe_flags.BY_USER.value,
    logq=recipe_flags.LOGQ.value,
    l2=recipe_flags.L2.value or 0.0,
    l2_tables=recipe_flags.L2_TABLES.value,
    replicas=replicas,
  )
  return Task(
    model,
    objective,
    batches=lambda epoch, step: row_batches.train_batches(
      dataset,
      batch_size=recipe_flags.BATCH.value,
      seed=recipe_flags.SEED.value,
      negatives='none' if recipe_flags.SHARED.value else recipe_flags.NEGATIVES.value,
      num_negatives=recipe_flags.NUM_NEGATIVES.value,
      sampler=sampler,
      recency=recipe_flags.RECENCY.value,
      by_user=recipe_flags.BY_USER.value,
      first_epoch=epoch,
      first_step=step,
    ),
    steps=row_batches.steps_per_epoch(dataset, recipe_flags.BATCH.value),
    rows=dataset.rows(dataset_lib.TRAIN),
    scorer=_with_transitions(
      model,
      dataset,
      recipe_flags.SUCCESSOR_LOGITS.value or 0.0,
      recipe_flags.SUCCESSOR_REVERSE.value or 0.0,
    ),
  )


def _with_transitions(
  model: ranking_model.Model,
  dataset: dataset_lib.Dataset,
  weight: float,
  reverse: float,
) -> ranking_model.Model:
  """The model as it is judged and asked: with item transitions, where they weigh.

  Raises:
    UserError: The dataset has none.
  """
  from ncf_tfdata.models.with_transitions import WithTransitions

  if weight:
    smoothing = recipe_flags.SUCCESSOR_SMOOTHING.value
    model = WithTransitions(model, weight, smoothing, reverse)
  model.attach(dataset)
  return model


def _start_from_halves(model: neumf.NeuMF, dataset: dataset_lib.Dataset) -> None:
  from ncf_tfdata import run as run_lib
  from ncf_tfdata.models import pretraining, saved

  gmf, mlp = recipe_flags.PRETRAINED_GMF.value, recipe_flags.PRETRAINED_MLP.value
  if recipe_flags.MODEL.value != 'neumf' or not gmf or not mlp:
    raise UserError(
      f'Received --model={recipe_flags.MODEL.value} --pretrained_gmf={gmf} '
      f'--pretrained_mlp={mlp}; expected --model=neumf and both runs.'
    )
  pretraining.fuse(
    model,
    saved.load(run_lib.Run(gmf), dataset),
    saved.load(run_lib.Run(mlp), dataset),
    recipe_flags.PRETRAINED_ALPHA.value,
  )


def _history(dataset: dataset_lib.Dataset, replicas: int) -> Task:
  from ncf_tfdata import dataset as dataset_lib
  from ncf_tfdata.data import window_batches
  from ncf_tfdata.models import history, history_defaults, history_objective
  from ncf_tfdata.training.steps import Task

  if recipe_flags.LOSS.value != 'softmax':
    raise UserError(
      f'Received --model=history with --loss={recipe_flags.LOSS.value}; expected '
      '--loss=softmax.'
    )
  defaults = history_defaults.of_dataset(dataset)
  given = {name: flags.FLAGS[name].value for name in defaults._fields}
  chosen = defaults._replace(
    **{name: value for name, value in given.items() if value is not None}
  )
  print(f'history  {chosen}')
  encoder = recipe_flags.HISTORY_ENCODER.value
  length = 0 if encoder == 'none' else chosen.history_length
  batch_size, seed = recipe_flags.BATCH.value, recipe_flags.SEED.value
  model = history.History(
    dataset.num_users,
    dataset.num_items,
    history_length=length,
    encoder=encoder,
    dim=chosen.history_dim,
    heads=recipe_flags.HISTORY_HEADS.value,
    hidden=recipe_flags.HISTORY_HIDDEN.value or 2 * chosen.history_dim,
    user_embedding=chosen.user_embedding,
    members=recipe_flags.MEMBERS.value,
    dropout=chosen.dropout,
    embedding_stddev=recipe_flags.STDDEV.value,
    seed=seed,
    name='history',
  )
  # The vector of a user without train rows would be noise.
  trained = dataset.vocabulary(dataset_lib.USERS).counts > 0
  model.user_known.assign(trained.astype('float32'))
  steps = window_batches.steps_per_epoch(dataset, batch_size, length)
  rows = dataset.rows(dataset_lib.TRAIN)
  objective = history_objective.HistoryObjective(
    model,
    rows_per_step=rows / steps,
    seed=seed,
    sampler=_sampler(dataset),
    shared_negatives=recipe_flags.SHARED.value,
    l2=chosen.l2,
  )
  return Task(
    model,
    objective,
    batches=lambda epoch, step: window_batches.window_batches(
      dataset,
      batch_size=batch_size,
      history_length=length,
      seed=seed,
      recency=recipe_flags.RECENCY.value,
      replicas=replicas,
      first_epoch=epoch,
      first_step=step,
    ),
    steps=steps,
    rows=rows,
    scorer=_with_transitions(
      model, dataset, chosen.successor_logits, chosen.successor_reverse
    ),
  )


def _sampler(dataset: dataset_lib.Dataset) -> sampling.Sampler:
  from ncf_tfdata import dataset as dataset_lib
  from ncf_tfdata.data import sampling

  counts = None
  if recipe_flags.SAMPLER.value == 'popularity':
    counts = dataset.vocabulary(dataset_lib.ITEMS).counts
  return sampling.Sampler(dataset.num_items, counts, recipe_flags.EXPONENT.value)


# How a model's task is made, by name of --model.
_TASKS = {'neumf': _neumf, 'gmf': _neumf, 'mlp': _neumf, 'history': _history}


def create_task(dataset: dataset_lib.Dataset, replicas: int) -> Task:
  """Model and objective, in the scope of the strategy.

  Raises:
    UserError: Flags contradict each other or the dataset.
  """
  import keras

  if recipe_flags.PRECISION.value != 'off':
    keras.config.set_dtype_policy(f'mixed_{recipe_flags.PRECISION.value}')
  return _TASKS[recipe_flags.MODEL.value](dataset, replicas)


def create_optimizer(task: Task) -> keras.optimizers.Optimizer:
  """The optimizer, built for the task's model, in the scope of the strategy.

  Raises:
    UserError: Flags contradict each other.
  """
  import keras

  from ncf_tfdata.training import optimizers

  if recipe_flags.OPTIMIZER.value == 'lazy_adam' and recipe_flags.L2_TABLES.value:
    raise UserError(
      'Received --optimizer=lazy_adam with --l2_tables, which touches every row; '
      'expected --l2, which acts on the rows of a batch.'
    )
  result = optimizers.create(
    recipe_flags.OPTIMIZER.value,
    optimizers.LearningRate(
      recipe_flags.RATE.value,
      steps_per_epoch=task.steps,
      decay=recipe_flags.DECAY.value,
      warmup_steps=recipe_flags.WARMUP.value,
      cosine_steps=recipe_flags.EPOCHS.value * task.steps
      if recipe_flags.COSINE.value
      else 0,
    ),
    beta_2=recipe_flags.BETA_2.value,
    average=recipe_flags.AVERAGE.value,
  )
  if recipe_flags.PRECISION.value == 'float16':
    result = keras.optimizers.LossScaleOptimizer(result)
  result.build(task.model.trainable_variables)
  return result
