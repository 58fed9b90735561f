"""The recipe of a training, as flags, and what it makes: model, objective, optimizer.

A model takes part by an entry in `_TASKS`, which reads the flags that it needs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from absl import flags

from ncf_tfdata.errors import UserError

if TYPE_CHECKING:
  import keras
  import tensorflow as tf

  from ncf_tfdata import dataset as dataset_lib
  from ncf_tfdata import neumf, training

_SEED = flags.DEFINE_integer(
  'seed', 0, 'Of initial weights, order, negatives and dropout.', lower_bound=0
)

_MODEL = flags.DEFINE_enum(
  'model',
  'neumf',
  ['neumf', 'gmf', 'mlp'],
  'NeuMF (He et al. 2017), or one of its halves alone.',
)
_GMF_DIM = flags.DEFINE_integer('gmf_dim', 32, "Width of GMF's vectors.", lower_bound=1)
_MLP_DIM = flags.DEFINE_integer(
  'mlp_dim',
  32,
  "Width of the MLP's user vectors, and of its item vectors.",
  lower_bound=1,
)
_MLP_LAYERS = flags.DEFINE_list(
  'mlp_layers', ['256', '128', '64'], "Units of the MLP's layers, comma-separated."
)
_DROPOUT = flags.DEFINE_float(
  'dropout', 0.0, "Dropout rate on the MLP's output.", 0.0, 0.99
)
_ITEM_BIAS = flags.DEFINE_bool('item_bias', False, 'Learns a bias of each item.')
_GMF_WEIGHTS = flags.DEFINE_bool(
  'gmf_weights',
  True,
  "Learns the weights of GMF's product, from ones; without, it is a dot product.",
)
_STDDEV = flags.DEFINE_float(
  'embedding_initializer_stddev',
  0.05,
  'Standard deviation of the normal distribution that embeddings start from.',
  0.0,
)

_PRETRAINED_GMF = flags.DEFINE_string(
  'pretrained_gmf', None, 'Run of --model=gmf that a NeuMF starts from.'
)
_PRETRAINED_MLP = flags.DEFINE_string(
  'pretrained_mlp', None, 'Run of --model=mlp that a NeuMF starts from.'
)
_PRETRAINED_ALPHA = flags.DEFINE_float(
  'pretrained_alpha', 0.5, 'Share of the pretrained GMF in the logit.', 0.0, 1.0
)

_LOSS = flags.DEFINE_enum(
  'loss',
  'bce',
  ['bce', 'softmax', 'bpr'],
  'Binary cross-entropy, sampled softmax over a positive and its negatives, or '
  'Bayesian personalised ranking.',
)
_NEGATIVES = flags.DEFINE_enum(
  'negatives',
  'fresh',
  ['fresh', 'static'],
  'Negatives drawn anew every epoch from what the user has no train row of, or '
  "those of the dataset's records.",
)
_NUM_NEGATIVES = flags.DEFINE_integer(
  'num_negatives', 4, 'Negatives a row.', lower_bound=1
)
_SHARED = flags.DEFINE_integer(
  'shared_negatives',
  0,
  'If not 0, draws so many negatives for a whole batch, instead of --num_negatives '
  "a row. Of these only a row's own positive is masked.",
  lower_bound=0,
)
_BY_USER = flags.DEFINE_bool(
  'batch_by_user',
  False,
  "Keeps a user's rows together in a batch, so that --shared_negatives are scored "
  'once a user, and masks all that these rows hold.',
)
_SAMPLER = flags.DEFINE_enum(
  'sampler',
  'uniform',
  ['uniform', 'popularity'],
  'What fresh and shared negatives are drawn from: all items alike, or in '
  'proportion to train rows ** --popularity_exponent.',
)
_EXPONENT = flags.DEFINE_float(
  'popularity_exponent', 0.5, 'Exponent of --sampler=popularity.'
)
_LOGQ = flags.DEFINE_bool(
  'logq_correction',
  False,
  "Takes the log of its expected count off a negative's logit, with --loss=softmax.",
)
_L2 = flags.DEFINE_float(
  'l2',
  0.0,
  'Strength of the mean over rows of |user|^2 + |positive|^2 + mean |negative|^2.',
  0.0,
)
_L2_TABLES = flags.DEFINE_float(
  'l2_tables', 0.0, 'Strength of the sum of squares of whole embedding tables.', 0.0
)
_RECENCY = flags.DEFINE_float(
  'recency',
  0.0,
  'A row that is d rows before the last of its user weighs (1 + d)^-recency.',
  0.0,
)

_OPTIMIZER = flags.DEFINE_enum(
  'optimizer',
  'adam',
  ['adam', 'lazy_adam', 'adagrad', 'rmsprop', 'sgd'],
  "Keras's optimizers, and an Adam whose step touches used rows only.",
)
_RATE = flags.DEFINE_float('learning_rate', 0.001, 'Learning rate.', 0.0)
_DECAY = flags.DEFINE_float(
  'learning_rate_decay', 1.0, 'Factor on the learning rate after each epoch.', 0.0
)
_COSINE = flags.DEFINE_bool(
  'cosine_decay',
  False,
  'The learning rate falls to 0 along a half cosine over --epochs.',
)
_WARMUP = flags.DEFINE_integer(
  'warmup_steps', 0, 'Steps in which the learning rate rises linearly.', lower_bound=0
)
_BETA_2 = flags.DEFINE_float(
  'beta_2', 0.999, "Decay of the Adams' second moment.", 0.0, 1.0
)
EPOCHS = flags.DEFINE_integer(
  'epochs', 20, 'Passes over the train rows.', lower_bound=1
)
_BATCH = flags.DEFINE_integer(
  'batch_size', 4096, 'Train rows a step, over all replicas.', lower_bound=1
)
_AVERAGE = flags.DEFINE_float(
  'average_weights',
  0.0,
  'If not 0, momentum of a moving average of the weights, which is then judged '
  'and kept in their place.',
  0.0,
  0.99999,
)

_STRATEGY = flags.DEFINE_enum(
  'strategy',
  'default',
  ['default', 'mirrored'],
  'One device, or a replica on each of the devices of this machine.',
)
_LOGICAL_CPUS = flags.DEFINE_integer(
  'logical_cpus',
  1,
  'Splits the CPU into so many devices, to try --strategy=mirrored without GPUs.',
  lower_bound=1,
)
_PRECISION = flags.DEFINE_enum(
  'mixed_precision',
  'off',
  ['off', 'bfloat16', 'float16'],
  'What layers compute in; weights and logits stay float32.',
)


def _layers() -> tuple[int, ...]:
  try:
    layers = tuple(int(units) for units in _MLP_LAYERS.value)
  except ValueError:
    layers = ()
  if not layers or min(layers) < 1:
    raise UserError(
      f'Received --mlp_layers={",".join(_MLP_LAYERS.value)}; expected numbers of '
      'units, such as 256,128,64.'
    )
  return layers


def create_strategy() -> tf.distribute.Strategy:
  """The strategy of --strategy, on the devices of this machine.

  Raises:
    UserError: The batch cannot be shared out evenly.
  """
  import tensorflow as tf

  if _LOGICAL_CPUS.value > 1:
    tf.config.set_logical_device_configuration(
      tf.config.list_physical_devices('CPU')[0],
      [tf.config.LogicalDeviceConfiguration()] * _LOGICAL_CPUS.value,
    )
  if _STRATEGY.value == 'default':
    return tf.distribute.get_strategy()
  devices = tf.config.list_logical_devices('GPU') or tf.config.list_logical_devices()
  mirrored = tf.distribute.MirroredStrategy([device.name for device in devices])
  if _BATCH.value % mirrored.num_replicas_in_sync:
    raise UserError(
      f'Received --batch_size={_BATCH.value}; expected a multiple of the '
      f'{mirrored.num_replicas_in_sync} replicas.'
    )
  return mirrored


def _neumf(dataset: dataset_lib.Dataset, replicas: int) -> training.Task:
  from ncf_tfdata import dataset as dataset_lib
  from ncf_tfdata import input_pipeline, losses, neumf, sampling, training

  if _LOGQ.value and _LOSS.value != 'softmax':
    raise UserError(
      f'Received --logq_correction with --loss={_LOSS.value}; it is a correction of '
      '--loss=softmax.'
    )
  if _SHARED.value and _NEGATIVES.value == 'static':
    raise UserError(
      'Received --shared_negatives with --negatives=static; expected one of them.'
    )
  if _BY_USER.value and not _SHARED.value:
    raise UserError(
      'Received --batch_by_user without --shared_negatives, which it is for.'
    )
  model = neumf.NeuMF(
    dataset.num_users,
    dataset.num_items,
    gmf_dim=0 if _MODEL.value == 'mlp' else _GMF_DIM.value,
    mlp_dim=0 if _MODEL.value == 'gmf' else _MLP_DIM.value,
    mlp_layers=_layers(),
    dropout=_DROPOUT.value,
    item_bias=_ITEM_BIAS.value,
    gmf_weights=_GMF_WEIGHTS.value,
    embedding_stddev=_STDDEV.value,
    seed=_SEED.value,
    name=_MODEL.value,
  )
  if _PRETRAINED_GMF.value or _PRETRAINED_MLP.value:
    _start_from_halves(model, dataset)
  counts = None
  if _SAMPLER.value == 'popularity':
    counts = dataset.vocabulary(dataset_lib.ITEMS).counts
  sampler = sampling.Sampler(dataset.num_items, counts, _EXPONENT.value)
  objective = losses.Objective(
    model,
    _LOSS.value,
    batch_size=_BATCH.value,
    seed=_SEED.value,
    sampler=sampler,
    num_negatives=_NUM_NEGATIVES.value,
    shared_negatives=_SHARED.value,
    by_user=_BY_USER.value,
    logq=_LOGQ.value,
    l2=_L2.value,
    l2_tables=_L2_TABLES.value,
    replicas=replicas,
  )
  return training.Task(
    model,
    objective,
    batches=lambda epoch, step: input_pipeline.train_batches(
      dataset,
      batch_size=_BATCH.value,
      seed=_SEED.value,
      negatives='none' if _SHARED.value else _NEGATIVES.value,
      num_negatives=_NUM_NEGATIVES.value,
      sampler=sampler,
      recency=_RECENCY.value,
      by_user=_BY_USER.value,
      first_epoch=epoch,
      first_step=step,
    ),
    steps=input_pipeline.steps_per_epoch(dataset, _BATCH.value),
    rows=dataset.rows(dataset_lib.TRAIN),
  )


def _start_from_halves(model: neumf.NeuMF, dataset: dataset_lib.Dataset) -> None:
  from ncf_tfdata import pretraining
  from ncf_tfdata import run as run_lib

  gmf, mlp = _PRETRAINED_GMF.value, _PRETRAINED_MLP.value
  if _MODEL.value != 'neumf' or not gmf or not mlp:
    raise UserError(
      f'Received --model={_MODEL.value} --pretrained_gmf={gmf} '
      f'--pretrained_mlp={mlp}; expected --model=neumf and both runs.'
    )
  pretraining.fuse(
    model,
    run_lib.Run(gmf).load_model(dataset),
    run_lib.Run(mlp).load_model(dataset),
    _PRETRAINED_ALPHA.value,
  )


# How a model's task is made, by name of --model.
_TASKS = {'neumf': _neumf, 'gmf': _neumf, 'mlp': _neumf}


def create_task(dataset: dataset_lib.Dataset, replicas: int) -> training.Task:
  """Model and objective, in the scope of the strategy.

  Raises:
    UserError: Flags contradict each other or the dataset.
  """
  import keras

  if _PRECISION.value != 'off':
    keras.config.set_dtype_policy(f'mixed_{_PRECISION.value}')
  return _TASKS[_MODEL.value](dataset, replicas)


def create_optimizer(task: training.Task) -> keras.optimizers.Optimizer:
  """The optimizer, built for the task's model, in the scope of the strategy.

  Raises:
    UserError: Flags contradict each other.
  """
  import keras

  from ncf_tfdata import optimizers

  if _OPTIMIZER.value == 'lazy_adam' and _L2_TABLES.value:
    raise UserError(
      'Received --optimizer=lazy_adam with --l2_tables, which touches every row; '
      'expected --l2, which acts on the rows of a batch.'
    )
  result = optimizers.create(
    _OPTIMIZER.value,
    optimizers.LearningRate(
      _RATE.value,
      steps_per_epoch=task.steps,
      decay=_DECAY.value,
      warmup_steps=_WARMUP.value,
      cosine_steps=EPOCHS.value * task.steps if _COSINE.value else 0,
    ),
    beta_2=_BETA_2.value,
    average=_AVERAGE.value,
  )
  if _PRECISION.value == 'float16':
    result = keras.optimizers.LossScaleOptimizer(result)
  result.build(task.model.trainable_variables)
  return result
