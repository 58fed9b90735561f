"""What goes wrong in a worker; each function runs in it and lasts until `mend`.

But `progress`, which runs in the scheduler.
"""

import pathlib
import threading
import time
import uuid

from beam_pipelines import exchange, staging

_write, _publish = staging.write, exchange.publish


def progress(dask_scheduler) -> float:
  """Fraction of the job's tasks that are done, 0 where there is no job."""
  states = [task.state for task in dask_scheduler.tasks.values()]
  ahead = sum(state in ('waiting', 'queued', 'processing') for state in states)
  return 1 - ahead / len(states) if ahead else 0.0


def mend() -> None:
  staging.write, exchange.publish = _write, _publish


def fail_once() -> None:
  """A worker's first shard and its first piece are begun, and then the bundle fails."""
  failed = set()

  def write(directory, name, content):
    kind = name.split('-')[0]
    if kind in ('ncf', 'items') and kind not in failed:
      failed.add(kind)
      half = pathlib.Path(directory, f'{name}.{uuid.uuid4().hex}')
      half.write_bytes(content[: len(content) // 2])
      raise RuntimeError('the disk is gone')
    return _write(directory, name, content)

  staging.write = write


def publish_twice() -> None:
  """The publisher fails as soon as the dataset is published, and is tried again."""
  times = []

  def publish(*args):
    _publish(*args)
    times.append(1)
    if len(times) == 1:
      raise RuntimeError('the worker is lost before it can say so')

  exchange.publish = publish


def write_late(output: str, late: str) -> None:
  """A duplicate of each first shard is written again after the dataset is published.

  Args:
    output: The dataset.
    late: File that appears once such a shard is written.
  """

  def duplicate(directory, name, content):
    while not pathlib.Path(output, 'manifest.json').exists():
      time.sleep(0.01)
    _write(directory, name, content)
    pathlib.Path(late).touch()

  def write(directory, name, content):
    if '-00000-of-' in name:
      arguments = (directory, name, content)
      threading.Thread(target=duplicate, args=arguments, daemon=True).start()
    return _write(directory, name, content)

  staging.write = write
