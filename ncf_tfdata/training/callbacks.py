"""What a person sees of a training while it runs, and traces of its steps."""

import sys
from typing import Any

import keras
import tensorflow as tf
import tqdm


class Progress(keras.callbacks.Callback):  # type: ignore[misc]
  """A bar within an epoch where there is a terminal, and a line after each."""

  def __init__(self, epochs: int, rows: int, steps: int):
    super().__init__()
    self._epochs, self._rows, self._batch = epochs, rows, -(-rows // steps)

  def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
    self._bar = tqdm.tqdm(
      total=self._rows,
      unit=' examples',
      unit_scale=True,
      leave=False,
      desc=f'epoch {epoch}/{self._epochs}',
      disable=not sys.stderr.isatty(),
    )

  def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
    self._bar.update(min(self._rows, (batch + 1) * self._batch) - self._bar.n)
    self._bar.set_postfix_str(f'loss {logs["loss"]:.4f}')

  def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
    self._bar.close()
    names = [name for name in ('loss', 'hr@10', 'ndcg@10') if name in logs]
    values = '  '.join(f'{name} {logs[name]:.4f}' for name in names)
    print(
      f'epoch {epoch}/{self._epochs}  {values}  {logs["seconds"]:.1f} s  '
      f'{logs["examples_per_second"]:,.0f} examples/s',
      flush=True,
    )


class Profile:
  """Traces a range of steps, counted over all epochs, for TensorBoard's profiler.

  Args:
    steps: The first, and the end; nothing for no trace.
    logs: Directory of TensorBoard's files.
  """

  def __init__(self, steps: tuple[int, ...], logs: str):
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
      self.stop()

  def stop(self) -> None:
    """Stops wherever the training ends."""
    if self._running:
      tf.profiler.experimental.stop()
      self._running = False
