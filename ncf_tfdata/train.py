"""Trains a model on a dataset directory and judges it once, on test.

    python -m ncf_tfdata.train --data_dir=data/sample --run_dir=runs/sample

The same command again takes up a run where it was killed, to the same end bit by bit.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from absl import flags

from ncf_tfdata import command
from ncf_tfdata.errors import UserError
from ncf_tfdata.training import preemption, recipe, recipe_flags

if TYPE_CHECKING:
  import keras
  import tensorflow as tf

  from ncf_tfdata import dataset as dataset_lib
  from ncf_tfdata import run as run_lib
  from ncf_tfdata.evaluation import ranking
  from ncf_tfdata.training import loop
  from ncf_tfdata.training import workers as workers_lib
  from ncf_tfdata.training.steps import Task

_DATA_DIR = flags.DEFINE_string(
  'data_dir', 'data/sample', 'Dataset directory, made by beam_pipelines.prepare.'
)
_RUN_DIR = flags.DEFINE_string(
  'run_dir', None, 'Run directory. Default: runs/ and the name of --data_dir.'
)
_OVERWRITE = flags.DEFINE_bool(
  'overwrite', False, 'Removes what an earlier run left in --run_dir.'
)
_DRY_RUN = flags.DEFINE_bool(
  'dry_run', False, 'Prints configuration and shapes, and stops.'
)
_PATIENCE = flags.DEFINE_integer(
  'patience',
  0,
  'Stops after so many epochs without a better --monitor; 0 never stops early.',
  lower_bound=0,
)
_MONITOR = flags.DEFINE_string(
  'monitor', 'ndcg@10', 'What chooses the best epoch, on validation rows.'
)
_FULL_VALIDATION = flags.DEFINE_bool(
  'full_validation',
  False,
  'Also ranks the whole catalogue after each epoch: full_ndcg@10 and so on.',
)
_JIT = flags.DEFINE_bool('jit_compile', True, 'Compiles the step by XLA.')
_STEPS_PER_CALL = flags.DEFINE_integer(
  'steps_per_call',
  100,
  'Most steps between two looks at the progress and at signals; fewer where they take '
  'more than a second.',
  lower_bound=1,
)
_PROFILE_STEPS = flags.DEFINE_list(
  'profile_steps',
  [],
  'First step to trace for the profiler of TensorBoard, and the step to stop before, '
  'counted over all epochs: 100,120.',
)
_CHECKPOINT_STEPS = flags.DEFINE_integer(
  'checkpoint_every_steps',
  2000,
  'Steps between checkpoints within an epoch; there is one after each epoch too.',
  lower_bound=1,
)
flags.adopt_module_key_flags(recipe_flags)

# A run may be taken up with other values of these: its numbers stay the same. Whether
# --data_dir is the same dataset is told by its sha256.
_OPERATIONAL = frozenset(
  {'data_dir', 'run_dir', 'steps_per_call', 'checkpoint_every_steps', 'profile_steps'}
)
_NOT_KEPT = frozenset({'overwrite', 'dry_run'})

# Cut-offs of every metric that is logged.
_KS = (1, 5, 10, 20)


def main(argv: Sequence[str]) -> None:
  """The command."""
  if len(argv) > 1:
    raise UserError(f'unexpected argument {argv[1]!r}: flags begin with --.')

  from ncf_tfdata import dataset as dataset_lib
  from ncf_tfdata import run as run_lib
  from ncf_tfdata.models import saved
  from ncf_tfdata.training import workers as workers_lib

  dataset = dataset_lib.Dataset(_DATA_DIR.value)
  _check_monitor(dataset)
  options = _options()
  place = workers_lib.place()
  run = run_lib.Run(_RUN_DIR.value or os.path.join('runs', dataset.directory.name))
  if place.workers > 1:
    print(f'worker {place.worker} of {place.workers}, waits for the rest', flush=True)
  strategy = recipe.create_strategy()
  with strategy.scope():
    task = recipe.create_task(dataset, strategy.num_replicas_in_sync)
    optimizer = recipe.create_optimizer(task)
  workers = workers_lib.Workers(strategy, place)
  if workers.chief:
    print(_description(task, dataset, strategy, run))
  if _DRY_RUN.value:
    print('\n'.join(_configuration().values()))
    return
  workers.by_chief(
    lambda: run.start(
      _configuration(),
      dataset,
      saved.serialize(task.scorer),
      _OVERWRITE.value,
      ignored=_OPERATIONAL,
    )
  )
  with preemption.Sigterm() as sigterm:
    try:
      _finish(task, optimizer, strategy, run, dataset, options, workers, sigterm)
    except preemption.Terminated:
      if workers.chief:
        without = ' without --overwrite' if _OVERWRITE.value else ''
        print(f'stopped by SIGTERM, saved: the same command{without} goes on from here')
      raise
  if workers.chief:
    _print_results(run, dataset)


def _finish(
  task: Task,
  optimizer: keras.optimizers.Optimizer,
  strategy: tf.distribute.Strategy,
  run: run_lib.Run,
  dataset: dataset_lib.Dataset,
  options: loop.Options,
  workers: workers_lib.Workers,
  sigterm: preemption.Sigterm,
) -> None:
  """Trains and judges what of the run is not there yet."""
  from ncf_tfdata.models import saved
  from ncf_tfdata.training import loop

  if workers.by_chief(lambda: run.metrics() is not None):
    return
  history = loop.fit(
    task,
    optimizer,
    strategy,
    run,
    dataset,
    options,
    validate=lambda: _validation_metrics(task.scorer, dataset),
    workers=workers,
    sigterm=sigterm,
  )
  best = loop.best_epoch(history, _MONITOR.value)

  def judge() -> None:
    saved.load_weights(run, task.model)
    judgement = {
      'model': task.model.name,
      'best_epoch': best['epoch'],
      'dataset_sha256': dataset.sha256,
      'checkpoint_sha256': run.checkpoint_sha256(),
      'model_sha256': run.model_sha256(),
      **_judgement(task.scorer, run, dataset),
    }
    if (weights := getattr(task.model, 'lag_weights', lambda: None)()) is not None:
      run.write_lags(weights.mean(axis=0))
    run.write_metrics(judgement)

  # Whatever of it a signal leaves undone is done again from the weights.
  workers.by_chief(lambda: sigterm.at_once(judge))


def _options() -> loop.Options:
  from ncf_tfdata.training import loop

  return loop.Options(
    epochs=recipe_flags.EPOCHS.value,
    monitor=_MONITOR.value,
    patience=_PATIENCE.value,
    steps_per_call=_STEPS_PER_CALL.value,
    checkpoint_every_steps=_CHECKPOINT_STEPS.value,
    jit_compile=_JIT.value,
    profile_steps=_profile_steps(),
  )


def _configuration() -> dict[str, str]:
  """Every flag of this command as a flagfile's line, by name."""
  main_module = flags.FLAGS.find_module_defining_flag('run_dir')
  return {
    flag.name: flag.serialize()
    for flag in flags.FLAGS.get_key_flags_for_module(main_module)
    if flag.name not in _NOT_KEPT and flag.value is not None
  }


def _profile_steps() -> tuple[int, int] | None:
  if not _PROFILE_STEPS.value:
    return None
  try:
    first, end = map(int, _PROFILE_STEPS.value)
  except ValueError:
    first, end = 0, 0
  if not 0 <= first < end:
    raise UserError(
      f'received --profile_steps={",".join(_PROFILE_STEPS.value)}, expected the first '
      'step and the one to stop before, such as 100,120.'
    )
  return first, end


def _check_monitor(dataset: dataset_lib.Dataset) -> None:
  import numpy as np

  from ncf_tfdata.evaluation import metrics

  names = list(metrics.means(np.zeros(1), _KS))
  known = ['loss', *names, *(f'full_{name}' for name in names)]
  if _MONITOR.value not in known:
    raise UserError(
      f'received --monitor={_MONITOR.value}, expected a name that is logged: '
      f'{", ".join(known)}.'
    )
  if _MONITOR.value.startswith('full_') and not _FULL_VALIDATION.value:
    raise UserError(
      f'--monitor={_MONITOR.value} is logged with --full_validation only: add it.'
    )
  if _PATIENCE.value and not dataset.rows('validation'):
    print('the dataset has no validation rows: trains for all epochs, keeps the last')


def _description(
  task: Task,
  dataset: dataset_lib.Dataset,
  strategy: tf.distribute.Strategy,
  run: run_lib.Run,
) -> str:
  """What will be trained on what, and what will be written where."""
  shapes = ', '.join(
    f'{weight.name} {list(weight.shape)}' for weight in task.model.weights
  )
  replicas = strategy.num_replicas_in_sync
  return '\n'.join(
    [
      f'dataset  {dataset.directory} (sha256 {dataset.sha256[:12]}): '
      f'{dataset.num_users:,} users, {dataset.num_items:,} items, '
      f'{task.rows:,} train rows',
      f'model    {task.model.name}, {task.model.count_params():,} weights: {shapes}',
      f'steps    {task.steps:,} an epoch, {recipe_flags.EPOCHS.value} epochs at most, '
      f'{replicas} replica{"s" * (replicas > 1)}',
      f'run      {run.directory}: flags.cfg, model.json, checkpoints/, logs/ '
      '(TensorBoard), epochs.csv, ranks/, metrics.json',
    ]
  )


def _ranks(
  scorer: ranking.Scorer, dataset: dataset_lib.Dataset, split: str, full: bool
) -> ranking.Ranks:
  from ncf_tfdata.data import records
  from ncf_tfdata.evaluation import ranking

  rows = ranking.batch_rows(dataset.num_items)
  batches = records.evaluation_batches(dataset, split, rows)
  if full:
    return ranking.rank_full(scorer, batches, dataset.num_items, _KS)
  return ranking.rank_sampled(scorer, batches)


def _validation_metrics(
  scorer: ranking.Scorer, dataset: dataset_lib.Dataset
) -> dict[str, float]:
  """What a line of epochs.csv says of the validation rows; nothing without any."""
  from ncf_tfdata.evaluation import metrics

  if not dataset.rows('validation'):
    return {}
  ranks = _ranks(scorer, dataset, 'validation', _FULL_VALIDATION.value)
  values = metrics.means(ranks.sampled, _KS)
  if ranks.full is not None:
    full = metrics.means(ranks.full, _KS)
    values |= {f'full_{name}': value for name, value in full.items()}
  return values


def _judgement(
  model: ranking.Scorer, run: run_lib.Run, dataset: dataset_lib.Dataset
) -> dict[str, Any]:
  """Model and popularity on all held-out rows; asks test, for the only time."""
  from ncf_tfdata.data import records
  from ncf_tfdata.evaluation import baselines, summary

  popularity = baselines.create('popularity')(
    *records.train_rows(dataset), dataset.num_users, dataset.num_items
  )
  count = dataset.vocabulary('items.tsv').counts
  judged: dict[str, dict[str, Any]] = {summary.MODEL: {}, 'popularity': {}}
  for split in ('validation', 'test'):
    if not dataset.rows(split):
      continue
    for name, scorer in ((summary.MODEL, model), ('popularity', popularity)):
      ranks = _ranks(scorer, dataset, split, full=True)
      summary.save_ranks(summary.ranks_path(run.directory, split, name), ranks)
      judged[name][split] = summary.summarize(ranks, _KS, count, dataset.num_users)
  fitted = {
    split: {'fit_on': 'train', **summary}
    for split, summary in judged['popularity'].items()
  }
  return {**judged[summary.MODEL], 'baselines': {'popularity': fitted}}


def _print_results(run: run_lib.Run, dataset: dataset_lib.Dataset) -> None:
  from ncf_tfdata.evaluation import protocol, summary
  from ncf_tfdata.reporting import table

  results = run.metrics() or {}
  systems = {
    results['model']: results['test'],
    **{name: splits['test'] for name, splits in results['baselines'].items()},
  }
  chosen = (
    f'by {_MONITOR.value} on validation' if 'validation' in results else 'the last'
  )
  print(f'\nbest epoch: {results["best_epoch"]}, {chosen}')
  for name in summary.RANKINGS:
    print(f'\ntest, {name} ranking, 95 % intervals\n')
    print(table.metrics_table(systems, name, (10,)))
  print(f'\n{protocol.describe(dataset, "test")}')
  print(
    f'\nnext: python -m ncf_tfdata.evaluate --run_dir={run.directory} '
    '--baselines=popularity,ease,successors'
  )


if __name__ == '__main__':
  command.run(main, takes_arguments=True)
