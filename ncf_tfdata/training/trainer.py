"""A training from end to end: of configurations, a run with its metrics."""

from __future__ import annotations

import keras

from ncf_tfdata import dataset as dataset_lib
from ncf_tfdata import run as run_lib
from ncf_tfdata.errors import UserError
from ncf_tfdata.evaluation import candidates
from ncf_tfdata.models import registry, saved
from ncf_tfdata.models.configs import ModelConfig
from ncf_tfdata.models.task import Context, Task
from ncf_tfdata.training import devices, judgement, loop, optimizers, workers
from ncf_tfdata.training.config import TrainConfig
from ncf_tfdata.training.preemption import Sigterm
from ncf_tfdata.training.recipe import Recipe
from ncf_tfdata.training.steps import Steps


class Trainer:
  """A training that has been set up: model, optimizer and devices.

  Attributes:
    recipe: What it was set up of.
    task: The model, and what its training needs.
    optimizer: Built for the model.
    workers: The processes that share it.
  """

  def __init__(
    self, dataset: dataset_lib.Dataset, model: ModelConfig, train: TrainConfig
  ):
    """Sets a training up.

    Raises:
      ArgumentError: The configurations contradict each other, or the dataset or the
        devices.
      UserError: The dataset does not have what is asked of it.
    """
    self.recipe = Recipe.resolved(model, train)
    self._dataset = dataset
    place = workers.place()
    self._strategy = devices.create_strategy(train)
    with self._strategy.scope():
      self.task = self._create_task()
      self.optimizer = optimizers.of_config(train, self.task)
    self.workers = workers.Workers(self._strategy, place)

  def _create_task(self) -> Task:
    model, train = self.recipe
    precision = train.mixed_precision
    policy = 'float32' if precision == 'off' else f'mixed_{precision}'
    keras.config.set_dtype_policy(policy)
    entry = registry.of(model)
    context = Context(
      entry.name,
      self._dataset,
      train.objective,
      train.batch_size,
      train.seed,
      self._strategy.num_replicas_in_sync,
      load=lambda directory: saved.load(run_lib.Run(directory), self._dataset),
    )
    return entry.build(model, context)

  def steps(self) -> Steps:
    """What runs the training's steps."""
    jit_compile = self.recipe.train.jit_compile
    return Steps(self.task, self.optimizer, self._strategy, jit_compile)

  def lines(self, run: run_lib.Run) -> dict[str, str]:
    """The flagfile that repeats this training, a line by name of the flag."""
    return self.recipe.lines(str(self._dataset.directory), str(run.directory))

  def describe(self, run: run_lib.Run) -> str:
    """What will be trained on what, and what will be written where."""
    dataset, task = self._dataset, self.task
    shapes = ', '.join(
      f'{weight.name} {list(weight.shape)}' for weight in task.model.weights
    )
    replicas = self._strategy.num_replicas_in_sync
    lines = [f'chosen   {task.chosen}'] if task.chosen else []
    lines += [
      f'dataset  {dataset.directory} (sha256 {dataset.sha256[:12]}): '
      f'{dataset.num_users:,} users, {dataset.num_items:,} items, '
      f'{task.rows:,} train interactions',
      f'model    {task.model.name}, {task.model.count_params():,} weights: {shapes}',
      f'steps    {task.steps:,} an epoch, {self.recipe.train.epochs} epochs at most, '
      f'{replicas} replica{"s" * (replicas > 1)}',
      f'run      {run.directory}: flags.cfg, model.json, checkpoints/, logs/ '
      '(TensorBoard), epochs.csv, ranks/, metrics.json',
    ]
    return '\n'.join(lines)

  def train(
    self,
    run: run_lib.Run,
    *,
    overwrite: bool = False,
    progress: bool = True,
    sigterm: Sigterm | None = None,
  ) -> None:
    """Trains and judges what of the run is not there yet.

    Args:
      run: Where it is kept; one of the same recipe and dataset is taken up.
      overwrite: Whether to remove an earlier run first.
      progress: Whether to show it.
      sigterm: What asks to save and stop; None for nothing.

    Raises:
      UserError: The directory holds something else, or the training failed for a
        reason that can be mended.
      Terminated: SIGTERM came; the state is saved.
    """
    sigterm = sigterm or Sigterm()
    self.workers.by_chief(lambda: self._start(run, overwrite))
    if self.workers.by_chief(lambda: run.metrics() is not None):
      return
    scorer, config = self.task.scorer, self.recipe.train
    known = candidates.of_train(self._dataset)
    history = loop.fit(
      self.task,
      self.optimizer,
      self._strategy,
      run,
      self._dataset,
      config,
      validate=lambda: judgement.validation_metrics(
        scorer, self._dataset, config.full_validation, known
      ),
      workers=self.workers,
      sigterm=sigterm,
      progress=progress,
    )
    best = int(loop.best_epoch(history, config.monitor)['epoch'])
    # Whatever of it a signal leaves undone is done again from the weights.
    self.workers.by_chief(lambda: sigterm.at_once(lambda: self._judge(run, best)))

  def _start(self, run: run_lib.Run, overwrite: bool) -> None:
    if not overwrite and (run.directory / run_lib.FLAGS).exists():
      _check_same(self.recipe, Recipe.parse(run.flags()), run)
    model = saved.serialize(self.task.scorer)
    run.start(self.lines(run), self._dataset, model, overwrite)

  def _judge(self, run: run_lib.Run, best_epoch: int) -> None:
    """Judges the best epoch's weights; writes metrics.json, which ends the run."""
    model = self.task.model
    saved.load_weights(run, model)
    found = {
      'model': model.name,
      'best_epoch': best_epoch,
      'dataset_sha256': self._dataset.sha256,
      'checkpoint_sha256': run.checkpoint_sha256(),
      'model_sha256': run.model_sha256(),
      **judgement.judge(self.task.scorer, run, self._dataset),
    }
    if (weights := getattr(model, 'lag_weights', lambda: None)()) is not None:
      run.write_lags(weights.mean(axis=0))
    run.write_metrics(found)


def _check_same(recipe: Recipe, earlier: Recipe, run: run_lib.Run) -> None:
  """Refuses to take up a run of another recipe.

  Raises:
    UserError: It differs in some flag, given now or then.
  """
  now, before = (
    f'with {" ".join(lines)}' if lines else 'without'
    for lines in recipe.differences(earlier)
  )
  if now != before:
    raise UserError(
      f'{run.directory} holds a run of another configuration: it was started {before}, '
      f'and is now asked for {now}. Name another --run_dir, or start again with '
      '--overwrite.'
    )
