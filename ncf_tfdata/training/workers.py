"""The workers that share one training, and what they tell each other.

The workers are the processes of `TF_CONFIG`, as TensorFlow's cluster resolver reads it:
{"cluster": {"worker": ["host:port", …]}, "task": {"type": "worker", "index": 0}}, the
first of which is the chief, or a `chief` and workers. Without it there is one.
"""

import contextlib
import json
import os
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from ncf_tfdata.errors import LostWorkerError, UserError
from ncf_tfdata.training.preemption import Terminated

CONFIG = 'TF_CONFIG'
_JOBS = ('chief', 'worker')

# How the chief's work ended, as it is told to the others.
_DONE, _REFUSED, _TERMINATED, _FAILED = 'done', 'refused', 'terminated', 'failed'
_RAISED = {_REFUSED: UserError, _TERMINATED: Terminated}


class Place(NamedTuple):
  """Which of how many workers a process is; the chief is 0."""

  worker: int
  workers: int


def place() -> Place:
  """This process's place, by `TF_CONFIG`.

  Raises:
    UserError: `TF_CONFIG` names no place among a chief and workers.
  """
  text = os.environ.get(CONFIG) or '{}'
  try:
    config = json.loads(text)
    cluster = config.get('cluster') or {'worker': ['']}
    task = config.get('task') or {'type': 'worker', 'index': 0}
    order = [
      (job, index) for job in _JOBS for index in range(len(cluster.get(job, ())))
    ]
    found = Place(order.index((task['type'], int(task['index']))), len(order))
    if set(cluster) - set(_JOBS):
      raise ValueError
  except (ValueError, TypeError, KeyError, AttributeError) as error:
    raise UserError(
      f'received {CONFIG}={text}, expected a cluster of one chief and workers, or of '
      'workers, and this task among them: '
      '{"cluster": {"worker": ["a:1234", "b:1234"]}, '
      '"task": {"type": "worker", "index": 0}}.'
    ) from error
  return found


class Workers:
  """What a strategy's workers do together.

  Attributes:
    index: Which of them this process is.
    count: How many there are.
    chief: Whether this is the one who validates and writes.
  """

  def __init__(self, strategy: tf.distribute.Strategy, place: Place):
    self._strategy = strategy
    self.index, self.count = place
    self.chief = self.index == 0
    self._replicas = strategy.num_replicas_in_sync // self.count

    def total(values: tf.Tensor) -> tf.Tensor:
      everywhere = strategy.run(lambda x: x, args=(values,))
      return strategy.reduce('SUM', everywhere, axis=None)

    signature = [tf.TensorSpec([None], tf.int64)]
    self._total = tf.function(total, input_signature=signature)

  def total(self, *values: int) -> list[int]:
    """Sums numbers over the workers, each of which must ask; returns the sums.

    Raises:
      LostWorkerError: A worker is gone.
    """
    if self.count == 1:
      return list(values)
    return (self._sum(np.array(values)) // self._replicas).tolist()

  def _sum(self, values: np.ndarray) -> np.ndarray:
    try:
      return self._total(tf.constant(values, tf.int64)).numpy()
    except tf.errors.OpError as error:
      raise LostWorkerError from error

  def by_chief(self, work: Callable[[], Any]) -> Any:
    """Has the chief do something that the others wait for.

    Args:
      work: Returns what JSON can hold; called by the chief alone.

    Returns:
      What the work returned, to all workers.

    Raises:
      UserError: The chief's, to all workers.
      Terminated: Likewise.
    """
    if self.count == 1:
      return work()
    end, answer, raised = _DONE, None, None
    if self.chief:
      try:
        answer = work()
      except BaseException as error:
        raised = error
        end = next(
          (n for n, kind in _RAISED.items() if isinstance(error, kind)), _FAILED
        )
        answer = str(error) or type(error).__name__
    end, answer = self._told([end, answer])
    if raised:
      raise raised
    if end == _TERMINATED:
      raise Terminated
    if end != _DONE:
      raise UserError(answer if end == _REFUSED else f'the chief failed: {answer}')
    return answer

  def _told(self, message: Any) -> Any:
    """The chief's message, as a sum to which no other worker adds anything."""
    text = json.dumps(message).encode() if self.chief else b''
    (length,) = self.total(len(text))
    characters = np.zeros(length, np.int64)
    characters[: len(text)] = np.frombuffer(text, np.uint8)
    told = json.loads(bytes(self.total(*characters.tolist())))
    self.part()
    return told

  def part(self) -> None:
    """Waits until all workers know the last sum, after which one may leave.

    A worker that left at once would be gone while another still reads from it.
    """
    with contextlib.suppress(LostWorkerError):  # It had come here, and has left.
      self.total(0)

  def batches(self, stream: tf.data.Dataset) -> Iterator[Any]:
    """Shares a stream of global batches out to the replicas of all workers.

    Args:
      stream: The same on every worker. The first axis of what an element holds is
        static, and a multiple of the number of replicas.

    Returns:
      An iterator for `strategy.run`: of each batch the worker's own part, in order of
      the replicas. Every worker reads all of the stream, so that none needs to know
      where the rows of the others are.
    """
    strategy = self._strategy
    if strategy.num_replicas_in_sync == 1:
      return iter(strategy.experimental_distribute_dataset(stream))
    (rows,) = {spec.shape[0] for spec in stream.element_spec.values()}
    share = rows // strategy.num_replicas_in_sync
    part = slice(
      self.index * self._replicas * share, (self.index + 1) * self._replicas * share
    )

    def own(context: tf.distribute.InputContext) -> tf.data.Dataset:
      own_rows = stream
      if self.count > 1:
        own_rows = stream.map(lambda batch: {k: x[part] for k, x in batch.items()})
      return own_rows.rebatch(share, drop_remainder=True).prefetch(tf.data.AUTOTUNE)

    return iter(strategy.distribute_datasets_from_function(own))
