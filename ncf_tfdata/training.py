"""The training loop, with Keras's own callbacks.

Everything random is a function of (seed, epoch, step), and a checkpoint holds model,
optimizer and position, so a killed run ends where it would have ended. Several workers
run the same loop; the chief alone validates and writes, and tells the others.
"""

import dataclasses
import sys
import time
from collections.abc import Callable, Mapping

import keras
import numpy as np
import tensorflow as tf
import tqdm

from ncf_tfdata import dataset as dataset_lib
from ncf_tfdata import sampling
from ncf_tfdata.errors import LostWorkerError, UserError
from ncf_tfdata.run import Run
from ncf_tfdata.steps import Steps, Task
from ncf_tfdata.termination import Sigterm, Terminated
from ncf_tfdata.workers import Place, Workers

# What a call of many steps should take: SIGTERM is seen between two calls.
_CALL_SECONDS = 1.0

# What a step says of its own data, and not of another worker.
_OWN_ERRORS = (
  tf.errors.DataLossError,
  tf.errors.InvalidArgumentError,
  tf.errors.NotFoundError,
  StopIteration,
)


@dataclasses.dataclass(frozen=True)
class Options:
  """How to train; the names are those of the flags of `ncf_tfdata.train`."""

  epochs: int
  monitor: str
  patience: int
  steps_per_call: int
  checkpoint_every_steps: int
  jit_compile: bool
  profile_steps: tuple[int, int] | None = None


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


class _Progress(keras.callbacks.Callback):
  """A bar within an epoch where there is a terminal, and a line after each."""

  def __init__(self, epochs: int, rows: int, steps: int):
    super().__init__()
    self._epochs, self._rows, self._batch = epochs, rows, -(-rows // steps)

  def on_epoch_begin(self, epoch, logs=None):
    self._bar = tqdm.tqdm(
      total=self._rows,
      unit=' examples',
      unit_scale=True,
      leave=False,
      desc=f'epoch {epoch}/{self._epochs}',
      disable=not sys.stderr.isatty(),
    )

  def on_train_batch_end(self, batch, logs=None):
    self._bar.update(min(self._rows, (batch + 1) * self._batch) - self._bar.n)
    self._bar.set_postfix_str(f'loss {logs["loss"]:.4f}')

  def on_epoch_end(self, epoch, logs=None):
    self._bar.close()
    names = [name for name in ('loss', 'hr@10', 'ndcg@10') if name in logs]
    values = '  '.join(f'{name} {logs[name]:.4f}' for name in names)
    print(
      f'epoch {epoch}/{self._epochs}  {values}  {logs["seconds"]:.1f} s  '
      f'{logs["examples_per_second"]:,.0f} examples/s',
      flush=True,
    )


class _Profile:
  """Traces a range of steps, counted over all epochs, for TensorBoard's profiler."""

  def __init__(self, steps: tuple[int, int] | None, logs: str):
    self._first, self._end = steps or (0, 0)
    self._logs, self._running = logs, False

  def room(self, step: int) -> int:
    """Steps that a call may have so that it ends where the trace begins or ends."""
    ahead = [bound - step for bound in (self._first, self._end) if bound > step]
    return min(ahead, default=sys.maxsize)

  def at(self, step: int) -> None:
    """Starts or stops before a step."""
    if self._first <= step < self._end and not self._running:
      tf.profiler.experimental.start(self._logs)
      self._running = True
    elif self._running and step >= self._end:
      tf.profiler.experimental.stop()
      self._running = False


class _State:
  """What a checkpoint holds, and where training stands."""

  def __init__(
    self,
    task: Task,
    optimizer: keras.optimizers.Optimizer,
    run: Run,
    chief: bool,
  ):
    def integer():
      return tf.Variable(0, dtype=tf.int64, trainable=False)

    def double():
      return tf.Variable(0.0, dtype=tf.float64, trainable=False)

    # epoch: epochs done; step: steps done of the next one, and their loss and time.
    self._position = {
      'epoch': integer(),
      'step': integer(),
      'loss': double(),
      'seconds': double(),
    }
    self._chief = chief
    self._manager = tf.train.CheckpointManager(
      tf.train.Checkpoint(model=task.model, optimizer=optimizer, **self._position),
      str(run.checkpoints),
      max_to_keep=1,
      checkpoint_name='state',
    )

  def restore(self) -> tuple[int, int, float, float]:
    """Returns epoch, step, loss and seconds of the checkpoint, or of the beginning.

    Raises:
      UserError: The checkpoint cannot be read.
    """
    latest = self._manager.latest_checkpoint
    if latest:
      try:
        self._manager.checkpoint.restore(latest).assert_consumed()
      except (tf.errors.OpError, AssertionError, ValueError) as error:
        reason = str(error).strip().partition('\n')[0]
        raise UserError(
          f'the checkpoint {latest} cannot be restored ({reason}). '
          'Train again with --overwrite.'
        ) from error
    return tuple(value.numpy().item() for value in self._position.values())

  def save(self, *position) -> None:
    """Saves the chief's state, which all workers share."""
    if not self._chief:
      return
    for variable, value in zip(self._position.values(), position, strict=True):
      variable.assign(value)
    self._manager.save(checkpoint_number=None)


def _step_error(
  dataset: dataset_lib.Dataset, workers: Workers, error: Exception
) -> UserError:
  """What a step that failed says to the user."""
  if workers.count > 1 and not isinstance(error, _OWN_ERRORS):
    return LostWorkerError()
  try:
    dataset.verify()  # names the file, where its content has changed
  except UserError as corrupt:
    return corrupt
  if sampling.NO_NEGATIVE in str(error):
    return UserError(
      f'{sampling.NO_NEGATIVE}. Use --shared_negatives, or prepare again with '
      '--max_user_history.'
    )
  return UserError(
    f'the train rows of {dataset.directory} cannot be read ({type(error).__name__}). '
    'Check the disk, or prepare the dataset again with --overwrite.'
  )


def _check_unchanged(dataset: dataset_lib.Dataset) -> None:
  directory = str(dataset.directory)
  if dataset_lib.Dataset(directory).sha256 != dataset.sha256:
    raise UserError(
      f'the dataset in {directory} was replaced while this run trained on it. '
      'Start again with --overwrite, or name another --run_dir.'
    )


def fit(
  task: Task,
  optimizer: keras.optimizers.Optimizer,
  strategy: tf.distribute.Strategy,
  run: Run,
  dataset: dataset_lib.Dataset,
  options: Options,
  validate: Callable[[], Mapping[str, float]],
  workers: Workers | None = None,
  sigterm: Sigterm | None = None,
) -> list[dict[str, float]]:
  """Trains, from the run's checkpoint on if there is one.

  Args:
    task: What to train.
    optimizer: Built, in the strategy's scope.
    strategy: Distribution.
    run: Where state, logs and the best epoch's weights go.
    dataset: What is trained on; checked at the start of every epoch.
    options: How.
    validate: The metrics of the weights as they are, by name; the chief's business.
    workers: Of the strategy; None for the only one.
    sigterm: What asks to save and stop; None for nothing.

  Returns:
    A line for each epoch, as in epochs.csv. The best epoch's weights are in the run.

  Raises:
    UserError: The dataset changed or cannot be read, the loss is no number, or the
      run's checkpoint cannot be read, or another worker is gone.
    Terminated: On all workers, if SIGTERM came to any; the state is saved.
  """
  workers = workers or Workers(strategy, Place(0, 1))
  sigterm = sigterm or Sigterm()
  state = _State(task, optimizer, run, workers.chief)
  done, step, loss, seconds = state.restore()
  history = run.history()[:done]
  if workers.chief and (done or step):
    print(f'resuming after epoch {done}, step {step:,} of {task.steps:,}')
  stopping = None
  if options.patience and (options.monitor == 'loss' or dataset.rows('validation')):
    stopping = keras.callbacks.EarlyStopping(
      options.monitor,
      patience=options.patience,
      mode='min' if options.monitor == 'loss' else 'max',
    )
  shown = [
    _Progress(options.epochs, task.rows, task.steps),
    keras.callbacks.TensorBoard(str(run.logs), write_graph=False),
  ]
  callbacks = keras.callbacks.CallbackList(
    [
      *(shown if workers.chief else []),
      *([stopping] if stopping else []),
    ],
    model=task.model,
  )
  task.model.optimizer = optimizer
  task.model.stop_training = False
  callbacks.on_train_begin()
  if stopping:
    # Its state follows from the lines so far, so no checkpoint needs to hold it.
    for row in history:
      stopping.on_epoch_end(row['epoch'], row)
  steps = Steps(task, optimizer, strategy, options.jit_compile)
  iterator = None
  profile = _Profile(options.profile_steps if workers.chief else None, str(run.logs))
  pace = 1
  for epoch in range(done, options.epochs):
    if task.model.stop_training:
      break
    _check_unchanged(dataset)
    if iterator is None:
      iterator = workers.batches(task.batches(epoch, step))
    callbacks.on_epoch_begin(epoch + 1)
    while step < task.steps:
      # Calls end where checkpoints are due, wherever a resumed run began.
      due = options.checkpoint_every_steps
      count = min(options.steps_per_call, task.steps - step, due - step % due, pace)
      count = min(count, profile.room(epoch * task.steps + step))
      # Each worker's clock tells another pace: all take the chief's.
      count, asked = workers.total(count * workers.chief, int(sigterm.asked))
      if asked:
        state.save(epoch, step, loss, seconds)
        raise Terminated
      profile.at(epoch * task.steps + step)
      begin = time.perf_counter()
      try:
        total = steps.run(
          iterator,
          *(tf.constant(n, tf.int64) for n in (epoch, step, count)),
          tf.constant(loss, tf.float64),
        )
        loss = float(total)
      except (tf.errors.OpError, StopIteration) as error:
        raise _step_error(dataset, workers, error) from error
      took = time.perf_counter() - begin
      pace = max(1, int(count * _CALL_SECONDS / took))
      seconds += took
      step += count
      profile.at(epoch * task.steps + step)
      if not np.isfinite(loss):
        raise UserError(
          f'the loss is {loss} in epoch {epoch + 1}, step {step:,}. '
          'Try a lower --learning_rate, with --overwrite.'
        )
      callbacks.on_train_batch_end(step - 1, {'loss': loss / step})
      if step % due == 0 and step < task.steps:
        state.save(epoch, step, loss, seconds)
    raw = _average(optimizer, task.model)

    def line(loss=loss, seconds=seconds):
      return {
        'loss': loss / task.steps,
        **sigterm.at_once(validate),
        'seconds': seconds,
        'examples_per_second': task.rows / seconds,
      }

    try:
      logs = workers.by_chief(line)
    except Terminated:
      _restore(task.model, raw)
      state.save(epoch, step, loss, seconds)
      raise
    history.append({'epoch': epoch + 1, **logs})
    if workers.chief:
      if best_epoch(history, options.monitor) is history[-1]:
        run.save_weights(task.model)
      run.write_history(history)
    _restore(task.model, raw)
    callbacks.on_epoch_end(epoch + 1, logs)
    step, loss, seconds = 0, 0.0, 0.0
    state.save(epoch + 1, step, loss, seconds)
  profile.at(sys.maxsize)  # Whatever was to be traced beyond the last step.
  callbacks.on_train_end()
  return history


def _average(optimizer, model) -> list[np.ndarray] | None:
  """Puts the moving average into the model; returns what it replaced."""
  if not optimizer.use_ema:
    return None
  raw = [variable.numpy() for variable in model.trainable_variables]
  optimizer.finalize_variable_values(model.trainable_variables)
  return raw


def _restore(model, raw: list[np.ndarray] | None) -> None:
  for variable, value in zip(model.trainable_variables, raw or (), strict=False):
    variable.assign(value)
