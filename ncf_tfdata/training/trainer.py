"""A training from end to end: of configurations, a run with its metrics."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import keras

from ncf_tfdata import dataset as dataset_lib
from ncf_tfdata import run as run_lib
from ncf_tfdata.data import train_part
from ncf_tfdata.errors import UserError
from ncf_tfdata.evaluation import candidates
from ncf_tfdata.models import registry, saved
from ncf_tfdata.models.configs import ModelConfig
from ncf_tfdata.models.task import Context, Task
from ncf_tfdata.run_lock import RunLock
from ncf_tfdata.training import (
  devices,
  judgement,
  loop,
  optimizers,
  warm_start,
  workers,
)
from ncf_tfdata.training.checkpoint import Checkpoint, Position
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
    self,
    dataset: dataset_lib.Dataset,
    model: ModelConfig,
    train: TrainConfig,
    taken_up: run_lib.Run | None = None,
  ):
    """Sets a training up.

    Args:
      dataset: What is trained on.
      model: What is trained.
      train: How.
      taken_up: The run that this may go on with, if one is there and not overwritten.
        With it a warm start that was made needs no base any more.

    Raises:
      ArgumentError: The configurations contradict each other, or the dataset or the
        devices.
      UserError: The dataset does not have what is asked of it, or the run to start
        from is not there, its weights do not fit, or it was trained on what is tested.
    """
    self.recipe = Recipe.resolved(model, train)
    self._dataset = dataset
    place = workers.place()
    self._strategy = devices.create_strategy(train)
    self._base, settings = warm_start.opened(train, taken_up)
    first_step = warm_start.FIRST_STEP if train.warm_start_moments else 0
    with self._strategy.scope():
      self.task = self._create_task(settings)
      self.optimizer = optimizers.of_config(train, self.task, first_step)
    if self._base is not None:
      self._base.check(self.recipe, self.task.model)
      self._base.check_days(dataset)
    self.workers = workers.Workers(self._strategy, place)

  def _create_task(self, base: Mapping[str, Any]) -> Task:
    model, train = self.recipe
    precision = train.mixed_precision
    policy = 'float32' if precision == 'off' else f'mixed_{precision}'
    keras.config.set_dtype_policy(policy)
    entry = registry.of(model)
    since = train.train_since
    part = None if since is None else train_part.since(self._dataset, since)
    context = Context(
      entry.name,
      self._dataset,
      train.objective,
      train.batch_size,
      train.seed,
      self._strategy.num_replicas_in_sync,
      load=lambda directory: saved.load(run_lib.Run(directory), self._dataset),
      base=base,
      part=part,
    )
    task = entry.build(model, context)
    if task.part is not part:
      raise UserError(
        f'--train_since={since} with --model={entry.name}, which does not take a part '
        'of the train interactions. Leave it out.'
      )
    return task

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
      *self._start_in_words(),
      f'steps    {task.steps:,} an epoch, {self.recipe.train.epochs} epochs at most, '
      f'{replicas} replica{"s" * (replicas > 1)}',
      f'run      {run.directory}: flags.cfg, model.json, checkpoints/, logs/ '
      '(TensorBoard), epochs.csv, ranks/, metrics.json',
    ]
    return '\n'.join(lines)

  def _start_in_words(self) -> list[str]:
    if self._base is None:
      return []
    base = self._base
    lines = [
      f'start    the weights of {base.run.directory} (dataset {base.dataset.directory})'
    ]
    if between := base.passed_over(self._dataset, self.task.part):
      lines.append(
        f'warning  interactions between {between} are fitted neither by that run nor '
        'by this one: an earlier --train_since takes them in'
      )
    return lines

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
    with self._begun(run, overwrite, progress):
      if self.workers.by_chief(lambda: run.metrics() is not None):
        return
      history = self._fit(run, sigterm, progress) if self.recipe.train.epochs else []
      monitor = self.recipe.train.monitor
      best = int(loop.best_epoch(history, monitor)['epoch']) if history else 0
      # Whatever of it a signal leaves undone is done again from the weights.
      self.workers.by_chief(lambda: sigterm.at_once(lambda: self._judge(run, best)))

  def fit(self, run: run_lib.Run, *, sigterm: Sigterm | None = None) -> None:
    """Trains what of the run is not there yet, and leaves the judging to `train`.

    Of the held-out interactions it reads validation alone.

    Args:
      run: Where it is kept; one of the same recipe and dataset is taken up.
      sigterm: What asks to save and stop; None for nothing.

    Raises:
      UserError: The directory holds something else, or the training failed for a
        reason that can be mended.
      Terminated: SIGTERM came; the state is saved.
    """
    with self._begun(run, overwrite=False, progress=True):
      if self.recipe.train.epochs:
        self._fit(run, sigterm or Sigterm(), progress=True)

  @contextlib.contextmanager
  def _begun(self, run: run_lib.Run, overwrite: bool, progress: bool) -> Iterator[None]:
    """Makes or takes up a run, which no other training touches meanwhile."""
    lock = RunLock()

    def start() -> dict[str, Any] | None:
      lock.take(run.directory)
      return self._start(run, overwrite)

    try:
      note = self.workers.by_chief(start)
      if note and progress and self.workers.chief:
        print(f'started from {warm_start.in_words(note)}')
      yield
    finally:
      lock.release()

  def _fit(
    self, run: run_lib.Run, sigterm: Sigterm, progress: bool
  ) -> list[dict[str, float]]:
    scorer, config = self.task.scorer, self.recipe.train
    known = candidates.of_train(self._dataset)

    def validate() -> dict[str, float]:
      scorer.weights_changed()
      return judgement.validation_metrics(
        scorer, self._dataset, config.full_validation, known
      )

    return loop.fit(
      self.task,
      self.optimizer,
      self._strategy,
      run,
      self._dataset,
      config,
      validate=validate,
      workers=self.workers,
      sigterm=sigterm,
      progress=progress,
    )

  def _start(self, run: run_lib.Run, overwrite: bool) -> dict[str, Any] | None:
    """Makes the run, and a state of the base's weights; returns the note of it."""
    if not overwrite and (run.directory / run_lib.FLAGS).exists():
      _check_same(self.recipe, Recipe.parse(run.flags()), run)
    model = saved.serialize(self.task.scorer)
    if self._base is not None:
      return self._start_from(self._base, run, model, overwrite)
    run.start(self.lines(run), self._dataset, model, overwrite)
    return None

  def _start_from(
    self,
    base: warm_start.Base,
    run: run_lib.Run,
    model: Mapping[str, Any],
    overwrite: bool,
  ) -> dict[str, Any]:
    """Makes the run of a base; from then on it is taken up as any, by all workers."""
    if run.directory.resolve() == base.run.directory.resolve():
      raise UserError(
        f'--warm_start={base.run.directory} is the --run_dir itself. Name another '
        '--run_dir.'
      )
    moments = self.recipe.train.warm_start_moments
    matches = base.matches(self._dataset)
    note = base.note(self._dataset, matches, moments)
    if not overwrite and run.warm_start() not in (None, note):
      raise UserError(
        f'{base.run.directory} is no longer what {run.directory} was started from. '
        'Start again with --overwrite.'
      )
    run.start(self.lines(run), self._dataset, model, overwrite, note)
    base.transfer(self.task.model, self.optimizer, matches, moments)
    if not self.recipe.train.epochs:
      saved.save_weights(run, self.task.model)
      run.write_history([])
    checkpoint = Checkpoint(self.task.model, self.optimizer, run, chief=True)
    checkpoint.save(Position())
    return note

  def _judge(self, run: run_lib.Run, best_epoch: int) -> None:
    """Judges the best epoch's weights; writes metrics.json, which ends the run."""
    model, scorer = self.task.model, self.task.scorer
    saved.load_weights(run, model)
    saved.save_fitted(run, scorer)
    found = {
      'model': model.name,
      'best_epoch': best_epoch,
      'dataset_sha256': self._dataset.sha256,
      'checkpoint_sha256': run.checkpoint_sha256(),
      'model_sha256': run.model_sha256(),
      **judgement.judge(scorer, run, self._dataset),
    }
    if (note := run.warm_start()) is not None:
      found[run_lib.WARM_START] = note
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
