"""Trains a model on a dataset directory and judges it once, on test.

    python -m ncf_tfdata.train --data_dir=data/sample --run_dir=runs/sample \
        --flagfile=configs/seed.cfg

The same command again takes up a run where it was killed, to the same end bit by bit.
"""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from absl import flags

from ncf_tfdata import errors
from ncf_tfdata.errors import UserError

if TYPE_CHECKING:
  import tensorflow as tf

  from ncf_tfdata import dataset as dataset_lib
  from ncf_tfdata import ranking
  from ncf_tfdata import run as run_lib
  from ncf_tfdata import training

_DATA_DIR = flags.DEFINE_string(
    'data_dir', None, 'The dataset directory, made by beam_pipelines.prepare.',
    required=True,
)
_RUN_DIR = flags.DEFINE_string(
    'run_dir', None, 'Where checkpoints, logs and metrics go.', required=True
)
_OVERWRITE = flags.DEFINE_bool(
    'overwrite', False, 'Removes what an earlier run left in --run_dir.'
)
_DRY_RUN = flags.DEFINE_bool(
    'dry_run', False, 'Prints configuration and shapes, and stops.'
)
_SEED = flags.DEFINE_integer(
    'seed', 0, 'Of initial weights, order, negatives and dropout.', lower_bound=0
)

_MODEL = flags.DEFINE_enum(
    'model', 'neumf', ['neumf', 'gmf', 'mlp'],
    'NeuMF (He et al. 2017), or one of its halves alone.',
)
_GMF_DIM = flags.DEFINE_integer('gmf_dim', 32, "Width of GMF's vectors.", lower_bound=1)
_MLP_DIM = flags.DEFINE_integer(
    'mlp_dim', 32, "Width of the MLP's user vectors, and of its item vectors.",
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
    'gmf_weights', True,
    "Learns the weights of GMF's product, from ones; without, it is a dot product.",
)
_STDDEV = flags.DEFINE_float(
    'embedding_initializer_stddev', 0.05,
    'Standard deviation of the normal distribution that embeddings start from.', 0.0,
)

_LOSS = flags.DEFINE_enum(
    'loss', 'bce', ['bce', 'softmax', 'bpr'],
    'Binary cross-entropy, sampled softmax over a positive and its negatives, or '
    'Bayesian personalised ranking.',
)
_NEGATIVES = flags.DEFINE_enum(
    'negatives', 'fresh', ['fresh', 'static'],
    'Negatives drawn anew every epoch from what the user has no train row of, or '
    "those of the dataset's records.",
)
_NUM_NEGATIVES = flags.DEFINE_integer(
    'num_negatives', 4, 'Negatives a row.', lower_bound=1
)
_SHARED = flags.DEFINE_integer(
    'shared_negatives', 0,
    'If not 0, draws so many negatives for a whole batch, instead of --num_negatives '
    "a row. Of these only a row's own positive is masked.", lower_bound=0,
)
_SAMPLER = flags.DEFINE_enum(
    'sampler', 'uniform', ['uniform', 'popularity'],
    'What fresh and shared negatives are drawn from: all items alike, or in '
    'proportion to train rows ** --popularity_exponent.',
)
_EXPONENT = flags.DEFINE_float(
    'popularity_exponent', 0.5, 'Exponent of --sampler=popularity.'
)
_LOGQ = flags.DEFINE_bool(
    'logq_correction', False,
    "Takes the log of its expected count off a negative's logit, with --loss=softmax.",
)
_L2 = flags.DEFINE_float(
    'l2', 0.0,
    'Strength of the mean over rows of |user|^2 + |positive|^2 + mean |negative|^2.',
    0.0,
)
_L2_TABLES = flags.DEFINE_float(
    'l2_tables', 0.0, 'Strength of the sum of squares of whole embedding tables.', 0.0
)
_RECENCY = flags.DEFINE_float(
    'recency', 0.0,
    'A row that is d rows before the last of its user weighs (1 + d)^-recency.', 0.0
)

_OPTIMIZER = flags.DEFINE_enum(
    'optimizer', 'adam', ['adam', 'lazy_adam', 'adagrad', 'rmsprop', 'sgd'],
    "Keras's optimizers, and an Adam whose step touches used rows only.",
)
_RATE = flags.DEFINE_float('learning_rate', 0.001, 'Learning rate.', 0.0)
_DECAY = flags.DEFINE_float(
    'learning_rate_decay', 1.0, 'Factor on the learning rate after each epoch.', 0.0
)
_WARMUP = flags.DEFINE_integer(
    'warmup_steps', 0, 'Steps in which the learning rate rises linearly.', lower_bound=0
)
_BETA_2 = flags.DEFINE_float(
    'beta_2', 0.999, "Decay of the Adams' second moment.", 0.0, 1.0
)
_BATCH = flags.DEFINE_integer(
    'batch_size', 4096, 'Train rows a step, over all replicas.', lower_bound=1
)
_EPOCHS = flags.DEFINE_integer('epochs', 20, 'Passes over the rows.', lower_bound=1)
_PATIENCE = flags.DEFINE_integer(
    'patience', 0,
    'Stops after so many epochs without a better --monitor; 0 never stops early.',
    lower_bound=0,
)
_MONITOR = flags.DEFINE_string(
    'monitor', 'ndcg@10', 'What chooses the best epoch, on validation rows.'
)
_FULL_VALIDATION = flags.DEFINE_bool(
    'full_validation', False,
    'Also ranks the whole catalogue after each epoch, as full_ndcg@10 and so on.',
)
_AVERAGE = flags.DEFINE_float(
    'average_weights', 0.0,
    'If not 0, momentum of a moving average of the weights, which is then judged '
    'and kept in their place.', 0.0, 0.99999,
)

_STRATEGY = flags.DEFINE_enum(
    'strategy', 'default', ['default', 'mirrored'],
    'One device, or a replica on each of the devices of this machine.',
)
_LOGICAL_CPUS = flags.DEFINE_integer(
    'logical_cpus', 1,
    'Splits the CPU into so many devices, to try --strategy=mirrored without GPUs.',
    lower_bound=1,
)
_STEPS_PER_CALL = flags.DEFINE_integer(
    'steps_per_call', 100, 'Steps that run between two looks at the progress.',
    lower_bound=1,
)
_JIT = flags.DEFINE_bool('jit_compile', True, 'Compiles the step by XLA.')
_PRECISION = flags.DEFINE_enum(
    'mixed_precision', 'off', ['off', 'bfloat16', 'float16'],
    'What layers compute in; weights and logits stay float32.',
)
_CHECKPOINT_STEPS = flags.DEFINE_integer(
    'checkpoint_every_steps', 2000,
    'Steps between checkpoints within an epoch; there is one after each epoch too.',
    lower_bound=1,
)

# A run may be taken up with other values of these: they do not change its numbers.
_OPERATIONAL = frozenset([
    _DATA_DIR.name, _RUN_DIR.name, _STEPS_PER_CALL.name, _CHECKPOINT_STEPS.name
])
_NOT_KEPT = frozenset([_OVERWRITE.name, _DRY_RUN.name])

# Cut-offs of every metric that is logged.
_KS = (1, 5, 10, 20)


def _configuration() -> dict[str, str]:
  """Every flag of this module as a flagfile's line, by name."""
  names = [
      value.name for value in globals().values() if isinstance(value, flags.FlagHolder)
  ]
  return {
      name: flags.FLAGS[name].serialize() for name in names if name not in _NOT_KEPT
  }


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


def _strategy() -> 'tf.distribute.Strategy':
  import tensorflow as tf

  if _LOGICAL_CPUS.value > 1:
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices('CPU')[0],
        [tf.config.LogicalDeviceConfiguration()] * _LOGICAL_CPUS.value,
    )
  if _STRATEGY.value == 'default':
    return tf.distribute.get_strategy()
  devices = tf.config.list_logical_devices('GPU') or tf.config.list_logical_devices()
  strategy = tf.distribute.MirroredStrategy([device.name for device in devices])
  if _BATCH.value % strategy.num_replicas_in_sync:
    raise UserError(
        f'Received --batch_size={_BATCH.value}; expected a multiple of the '
        f'{strategy.num_replicas_in_sync} replicas.'
    )
  return strategy


def _neumf(dataset: 'dataset_lib.Dataset', replicas: int) -> 'training.Task':
  from ncf_tfdata import dataset as dataset_lib
  from ncf_tfdata import input_pipeline
  from ncf_tfdata import losses
  from ncf_tfdata import neumf
  from ncf_tfdata import sampling
  from ncf_tfdata import training

  if _LOGQ.value and _LOSS.value != 'softmax':
    raise UserError(
        f'Received --logq_correction with --loss={_LOSS.value}; it is a correction of '
        '--loss=softmax.'
    )
  if _SHARED.value and _NEGATIVES.value == 'static':
    raise UserError(
        'Received --shared_negatives with --negatives=static; expected one of them.'
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
          epochs=_EPOCHS.value,
          seed=_SEED.value,
          negatives='none' if _SHARED.value else _NEGATIVES.value,
          num_negatives=_NUM_NEGATIVES.value,
          sampler=sampler,
          recency=_RECENCY.value,
          first_epoch=epoch,
          first_step=step,
      ),
      steps=input_pipeline.steps_per_epoch(dataset, _BATCH.value),
      rows=dataset.rows(dataset_lib.TRAIN),
  )


# A model's task by name of --model; each reads the flags that it needs.
_TASKS = {'neumf': _neumf, 'gmf': _neumf, 'mlp': _neumf}


def _optimizer(task: 'training.Task', replicas: int):
  import keras

  from ncf_tfdata import optimizers

  if _OPTIMIZER.value == 'lazy_adam' and _L2_TABLES.value:
    raise UserError(
        'Received --optimizer=lazy_adam with --l2_tables, which touches every row; '
        'expected --l2, which acts on the rows of a batch.'
    )
  optimizer = optimizers.create(
      _OPTIMIZER.value,
      optimizers.EpochDecay(_RATE.value, _DECAY.value, task.steps, _WARMUP.value),
      beta_2=_BETA_2.value,
      average=_AVERAGE.value,
  )
  if _PRECISION.value == 'float16':
    optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
  optimizer.build(task.model.trainable_variables)
  return optimizer


def _ranks(
    scorer: 'ranking.Scorer', dataset: 'dataset_lib.Dataset', split: str, full: bool
) -> 'ranking.Ranks':
  from ncf_tfdata import ranking
  from ncf_tfdata import records

  rows = ranking.batch_rows(dataset.num_items)
  batches = records.evaluation_batches(dataset, split, rows)
  if full:
    return ranking.rank_full(scorer, batches, dataset.num_items, _KS)
  return ranking.rank_sampled(scorer, batches)


def _judge(
    scorer: 'ranking.Scorer', dataset: 'dataset_lib.Dataset', split: str
) -> dict[str, dict[str, float]]:
  """Means of all metrics, sampled and full."""
  from ncf_tfdata import metrics

  ranks = _ranks(scorer, dataset, split, full=True)
  return {
      'sampled': metrics.means(ranks.sampled, _KS),
      'full': metrics.means(ranks.full, _KS),
  }


def _validate(
    scorer: 'ranking.Scorer', dataset: 'dataset_lib.Dataset'
) -> dict[str, float]:
  """What a line of epochs.csv says of the validation rows; nothing without any."""
  from ncf_tfdata import dataset as dataset_lib
  from ncf_tfdata import metrics

  split = dataset_lib.VALIDATION
  if not dataset.rows(split):
    return {}
  ranks = _ranks(scorer, dataset, split, _FULL_VALIDATION.value)
  values = metrics.means(ranks.sampled, _KS)
  if ranks.full is not None:
    full = metrics.means(ranks.full, _KS)
    values |= {f'full_{name}': value for name, value in full.items()}
  return values


def _check_monitor() -> None:
  import numpy as np

  from ncf_tfdata import metrics

  names = list(metrics.means(np.zeros(1), _KS))
  if _FULL_VALIDATION.value:
    names += [f'full_{name}' for name in names]
  if _MONITOR.value not in ['loss', *names]:
    raise UserError(
        f'Received --monitor={_MONITOR.value}; expected a name that is logged: loss, '
        f'{", ".join(names)}' + ('' if _FULL_VALIDATION.value else ', or a full_… one '
        'with --full_validation') + '.'
    )


def _describe(
    task: 'training.Task', dataset: 'dataset_lib.Dataset', replicas: int
) -> str:
  """What is about to be trained, on what, and where the results go."""
  weights = ''.join(
      f'  {weight.path:<32} {list(weight.shape)}\n' for weight in task.model.weights
  )
  return (
      f'dataset  {dataset.directory} ({dataset.sha256[:12]}): '
      f'{dataset.num_users:,} users, {dataset.num_items:,} items, '
      f'{task.rows:,} train rows\n'
      f'model    {_MODEL.value}: {task.model.count_params():,} weights\n'
      f'{weights}'
      f'epochs   {_EPOCHS.value} of {task.steps:,} steps of {_BATCH.value:,} rows on '
      f'{replicas} replica{"s" * (replicas > 1)}\n'
      f'run      {_RUN_DIR.value}: flags.cfg, checkpoints/, logs/ (TensorBoard), '
      'epochs.csv, metrics.json'
  )


def _table(results: dict) -> str:
  """HR@10 and NDCG@10 on test, beside the baselines."""
  head = f'{"test":<12} {"HR@10":>8} {"NDCG@10":>8} {"full HR@10":>11} {"full NDCG@10":>13}'
  systems = {_MODEL.value: results['test']}
  systems |= {name: one['test'] for name, one in results['baselines'].items()}
  lines = [
      f'{name:<12} {one["sampled"]["hr@10"]:8.4f} {one["sampled"]["ndcg@10"]:8.4f} '
      f'{one["full"]["hr@10"]:11.4f} {one["full"]["ndcg@10"]:13.4f}'
      for name, one in systems.items()
  ]
  return '\n'.join([head, *lines])


def _protocol(dataset: 'dataset_lib.Dataset') -> str:
  made = dataset.manifest.flags
  return (
      f'protocol: last row of {dataset.rows("test"):,} users held out, ties in time by '
      f'--tie_order={made.get("tie_order")}; {dataset.negatives("test")} uniform '
      f'negatives, full over {dataset.num_items:,} items without the history; ties in '
      f'score count half; items with at least {made.get("min_item_count")} ratings'
  )


def _finish(
    task: 'training.Task',
    run: 'run_lib.Run',
    dataset: 'dataset_lib.Dataset',
    history: list[dict[str, float]],
) -> dict:
  """Judges the best epoch's weights: on test for the first and only time."""
  from ncf_tfdata import baselines
  from ncf_tfdata import dataset as dataset_lib
  from ncf_tfdata import records
  from ncf_tfdata import training

  splits = [
      split
      for split in (dataset_lib.VALIDATION, dataset_lib.TEST)
      if dataset.rows(split)
  ]
  run.load_weights(task.model)
  user, item = records.train_rows(dataset)
  popularity = baselines.create('popularity')(
      user, item, dataset.num_users, dataset.num_items
  )
  judge = lambda scorer: {split: _judge(scorer, dataset, split) for split in splits}
  results = {
      **judge(task.model),
      'baselines': {'popularity': judge(popularity)},
      'best_epoch': training.best_epoch(history, _MONITOR.value)['epoch'],
      'dataset_sha256': dataset.sha256,
      'checkpoint_sha256': run.checkpoint_sha256(),
  }
  run.write_metrics(results)
  return results


def main(argv: Sequence[str]) -> None:
  if len(argv) > 1:
    raise UserError(f'Received {argv[1]!r}; expected flags only, such as --epochs=20.')
  os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
  import keras

  from ncf_tfdata import dataset as dataset_lib
  from ncf_tfdata import run as run_lib
  from ncf_tfdata import training

  dataset = dataset_lib.Dataset(_DATA_DIR.value)
  _check_monitor()
  run = run_lib.Run(_RUN_DIR.value)
  if not _DRY_RUN.value:
    run.start(_configuration(), _OVERWRITE.value, _OPERATIONAL)
  if _PRECISION.value != 'off':
    keras.config.set_dtype_policy(f'mixed_{_PRECISION.value}')
  strategy = _strategy()
  replicas = strategy.num_replicas_in_sync
  with strategy.scope():
    task = _TASKS[_MODEL.value](dataset, replicas)
    optimizer = _optimizer(task, replicas)
  print(_describe(task, dataset, replicas))
  if _DRY_RUN.value:
    print('\n'.join(_configuration().values()))
    return
  run.bind(task.model, dataset)
  results = run.metrics()
  if results is None:
    if not dataset.rows(dataset_lib.VALIDATION):
      print('no validation rows: trains for all epochs and keeps the last')
    history = training.fit(
        task, optimizer, strategy, run, dataset,
        training.Options(
            epochs=_EPOCHS.value,
            monitor=_MONITOR.value,
            patience=_PATIENCE.value,
            steps_per_call=_STEPS_PER_CALL.value,
            checkpoint_every_steps=_CHECKPOINT_STEPS.value,
            jit_compile=_JIT.value,
        ),
        validate=lambda: _validate(task.model, dataset),
    )
    results = _finish(task, run, dataset, history)
  print(f'best epoch {results["best_epoch"]} by {_MONITOR.value} on validation')
  print(_table(results))
  print(_protocol(dataset))


if __name__ == '__main__':
  errors.run(main)
