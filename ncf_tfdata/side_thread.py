"""Work on one thing in a thread, and on another in the caller's."""

from collections.abc import Callable, Iterable, Iterator
from concurrent import futures
from typing import Any, TypeVar

Result = TypeVar('Result')
Other = TypeVar('Other')


def behind(
  work: Callable[..., Result], made: Iterable[tuple[Any, ...]]
) -> Iterator[Result]:
  """Yields what `work` returns of each of some arguments, in their order.

  It works in a thread of its own, and the arguments are made in the caller's. numpy and
  TensorFlow let go of Python's lock, so that two cores are used.

  Args:
    work: What is to be done.
    made: Its arguments. Two of them are in memory at once.

  Raises:
    Exception: What `work` raises.
  """
  with futures.ThreadPoolExecutor(1) as pool:
    waiting = None
    for arguments in made:
      submitted = pool.submit(work, *arguments)
      if waiting is not None:
        yield waiting.result()
      waiting = submitted
    if waiting is not None:
      yield waiting.result()


def both(one: Callable[[], Result], other: Callable[[], Other]) -> tuple[Result, Other]:
  """What two functions return, of which the first works in a thread.

  Raises:
    Exception: What either raises.
  """
  with futures.ThreadPoolExecutor(1) as pool:
    submitted = pool.submit(one)
    found = other()
    return submitted.result(), found
