"""The training loop, with Keras's own callbacks.

Everything random is a function of (seed, epoch, step), and a checkpoint holds model,
optimizer and position, so a killed run ends where it would have ended. Several workers
run the same loop; the chief alone validates and writes, and tells the others.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ncf_tfdata import dataset as dataset_lib
from ncf_tfdata.errors import LostWorkerError, UserError
from ncf_tfdata.models import saved
from ncf_tfdata.models.task import Task
from ncf_tfdata.run import Run
from ncf_tfdata.training.callbacks import Profile, Progress
from ncf_tfdata.training.checkpoint import Checkpoint
from ncf_tfdata.training.config import TrainConfig
from ncf_tfdata.training.preemption import Sigterm, Terminated
from ncf_tfdata.training.steps import Steps
from ncf_tfdata.training.workers import Place, Workers

# What a call of many steps should take: SIGTERM is seen between two calls.
_CALL_SECONDS = 1.0

# What a step says of its own data, and not of another worker.
_OWN_ERRORS = (
  tf.errors.DataLossError,
  tf.errors.InvalidArgumentError,
  tf.errors.NotFoundError,
  StopIteration,
)


def better(monitor: str, value: float, than: float | None) -> bool:
  """Whether a value of the watched metric is an improvement."""
  if than is None:
    return True
  return value < than if monitor == 'loss' else value > than


def best_epoch(history: list[dict[str, float]], monitor: str) -> dict[str, float]:
  """The line of the first epoch with the best value; the last one's without a value."""
  best = history[-1]
  if monitor not in best:
    return best
  value = None
  for row in history:
    if better(monitor, row[monitor], value):
      best, value = row, row[monitor]
  return best


def _step_error(
  dataset: dataset_lib.Dataset, workers: Workers, error: Exception
) -> UserError:
  """What a step that failed says to the user."""
  if workers.count > 1 and not isinstance(error, _OWN_ERRORS):
    return LostWorkerError()
  return dataset.read_error(dataset_lib.TRAIN, type(error).__name__)


def fit(
  task: Task,
  optimizer: keras.optimizers.Optimizer,
  strategy: tf.distribute.Strategy,
  run: Run,
  dataset: dataset_lib.Dataset,
  config: TrainConfig,
  validate: Callable[[], Mapping[str, float]],
  workers: Workers | None = None,
  sigterm: Sigterm | None = None,
  progress: bool = True,
) -> list[dict[str, float]]:
  """Trains, from the run's checkpoint on if there is one.

  Args:
    task: What to train.
    optimizer: Built, in the strategy's scope.
    strategy: Distribution.
    run: Where state, logs and the best epoch's weights go.
    dataset: What is trained on; checked at the start of every epoch.
    config: How; of its parts only what stands in the class itself is read here.
    validate: The metrics of the weights as they are, by name; the chief's business.
    workers: Of the strategy; None for the only one.
    sigterm: What asks to save and stop; None for nothing.
    progress: Whether to show it.

  Returns:
    A line for each epoch, as in epochs.csv. The best epoch's weights are in the run.

  Raises:
    UserError: The dataset changed or cannot be read, the loss is no number, or the
      run's checkpoint cannot be read, or another worker is gone.
    Terminated: On all workers, if SIGTERM came to any; the state is saved.
  """
  workers = workers or Workers(strategy, Place(0, 1))
  training = _Training(
    task, optimizer, run, dataset, config, validate, workers, progress
  )
  training.train(
    Steps(task, optimizer, strategy, config.jit_compile), sigterm or Sigterm()
  )
  return training.history


class _Training:
  """A training under way.

  Attributes:
    history: A line for each epoch done.
  """

  def __init__(
    self,
    task: Task,
    optimizer: keras.optimizers.Optimizer,
    run: Run,
    dataset: dataset_lib.Dataset,
    config: TrainConfig,
    validate: Callable[[], Mapping[str, float]],
    workers: Workers,
    progress: bool,
  ) -> None:
    self._task, self._optimizer, self._run = task, optimizer, run
    self._dataset, self._config, self._validate = dataset, config, validate
    self._workers, self._progress = workers, progress and workers.chief
    self._checkpoint = Checkpoint(task.model, optimizer, run, workers.chief)
    self._at = self._checkpoint.restore()
    lines = run.history()
    self.history = lines[: self._at.epoch]
    # Of the epoch that was judged when a kill came before its state was saved.
    self._judged = lines[self._at.epoch :][:1]
    traced = config.profile_steps if workers.chief else ()
    self._profile = Profile(traced, str(run.logs))
    self._callbacks = self._create_callbacks()
    # Steps of the next call.
    self._pace = 1

  def _create_callbacks(self) -> keras.callbacks.CallbackList:
    config, task, callbacks = self._config, self._task, []
    if self._progress:
      callbacks.append(Progress(config.epochs, task.rows, task.steps))
    if self._workers.chief:
      logs = str(self._run.logs)
      callbacks.append(keras.callbacks.TensorBoard(logs, write_graph=False))
    stopping = None
    judged = config.monitor == 'loss' or self._dataset.rows('validation')
    if config.patience and judged:
      stopping = keras.callbacks.EarlyStopping(
        config.monitor,
        patience=config.patience,
        mode='min' if config.monitor == 'loss' else 'max',
      )
      callbacks.append(stopping)
    task.model.optimizer = self._optimizer
    task.model.stop_training = False
    made = keras.callbacks.CallbackList(callbacks, model=task.model)
    made.on_train_begin()
    if stopping:
      # Its state follows from the lines so far, so no checkpoint needs to hold it.
      for row in self.history:
        stopping.on_epoch_end(row['epoch'], row)
    return made

  def train(self, steps: Steps, sigterm: Sigterm) -> None:
    """Goes on from where it stands to the end."""
    at, task = self._at, self._task
    if self._progress and (at.epoch or at.step):
      print(f'resuming after epoch {at.epoch}, step {at.step:,} of {task.steps:,}')
    iterator = None
    while at.epoch < self._config.epochs and not task.model.stop_training:
      self._dataset.check_unchanged()
      if iterator is None:
        iterator = self._workers.batches(task.batches(at.epoch, at.step))
      self._callbacks.on_epoch_begin(at.epoch + 1)
      while at.step < task.steps:
        self._call(steps, iterator, self._next_count(sigterm))
      self._end_epoch(sigterm)
    self._profile.stop()
    self._callbacks.on_train_end()

  @property
  def _steps_before(self) -> int:
    """Steps done in all epochs."""
    return self._at.epoch * self._task.steps + self._at.step

  def _next_count(self, sigterm: Sigterm) -> int:
    """How many steps the next call takes, on every worker.

    Raises:
      Terminated: If SIGTERM came to any of them; the state is saved.
    """
    count = min(
      self._config.steps_per_call,
      self._task.steps - self._at.step,
      # Calls end where checkpoints are due, wherever a resumed run began.
      self._due - self._at.step % self._due,
      self._pace,
      self._profile.room(self._steps_before),
    )
    # Each worker's clock tells another pace: all take the chief's.
    chief = self._workers.chief
    count, asked = self._workers.total(count * chief, int(sigterm.asked))
    if asked:
      self._checkpoint.save(self._at)
      self._workers.part()
      raise Terminated
    return count

  @property
  def _due(self) -> int:
    return self._config.checkpoint_every_steps

  def _call(self, steps: Steps, iterator: Any, count: int) -> None:
    """Takes steps, and saves where that is due."""
    at = self._at
    self._profile.at(self._steps_before)
    begin = time.perf_counter()
    try:
      total = steps.run(
        iterator,
        *(tf.constant(n, tf.int64) for n in (at.epoch, at.step, count)),
        tf.constant(at.loss, tf.float64),
      )
      at.loss = float(total)
    except (tf.errors.OpError, StopIteration) as error:
      raise _step_error(self._dataset, self._workers, error) from error
    took = time.perf_counter() - begin
    self._pace = max(1, int(count * _CALL_SECONDS / took))
    at.seconds += took
    at.step += count
    self._profile.at(self._steps_before)
    if not np.isfinite(at.loss):
      raise UserError(
        f'the loss is {at.loss} in epoch {at.epoch + 1}, step {at.step:,}. '
        'Try a lower --learning_rate, with --overwrite.'
      )
    self._callbacks.on_train_batch_end(at.step - 1, {'loss': at.loss / at.step})
    if at.step % self._due == 0 and at.step < self._task.steps:
      self._checkpoint.save(at)

  def _end_epoch(self, sigterm: Sigterm) -> None:
    """Validates, and keeps what is best and where the training stands.

    Raises:
      Terminated: If SIGTERM came while the chief validated; the state is saved.
    """
    at, model = self._at, self._task.model
    raw = _average(self._optimizer, model)

    def line() -> dict[str, float]:
      if self._judged:
        # Its weights may be those that are kept. Judged again, under other workers,
        # it could be better or worse by a rounding, and then they would not.
        judged = self._judged.pop()
        del judged['epoch']
        return judged
      return {
        'loss': at.loss / self._task.steps,
        **sigterm.at_once(self._validate),
        'seconds': at.seconds,
        'examples_per_second': self._task.rows / at.seconds,
      }

    try:
      logs = self._workers.by_chief(line)
    except Terminated:
      _restore(model, raw)
      self._checkpoint.save(at)
      raise
    self.history.append({'epoch': at.epoch + 1, **logs})
    if self._workers.chief:
      # The line comes first: it says which epoch's weights belong there.
      self._run.write_history(self.history)
      if best_epoch(self.history, self._config.monitor) is self.history[-1]:
        saved.save_weights(self._run, model)
    _restore(model, raw)
    self._callbacks.on_epoch_end(at.epoch + 1, logs)
    at.epoch, at.step, at.loss, at.seconds = at.epoch + 1, 0, 0.0, 0.0
    self._checkpoint.save(at)


def _average(
  optimizer: keras.optimizers.Optimizer, model: keras.Model
) -> list[np.ndarray] | None:
  """Puts the moving average into the model; returns what it replaced."""
  if not optimizer.use_ema:
    return None
  raw = [variable.numpy() for variable in model.trainable_variables]
  optimizer.finalize_variable_values(model.trainable_variables)
  return raw


def _restore(model: keras.Model, raw: list[np.ndarray] | None) -> None:
  for variable, value in zip(model.trainable_variables, raw or (), strict=False):
    variable.assign(value)
