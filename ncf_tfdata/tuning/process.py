"""The process of a trial, as the search sees it."""

from __future__ import annotations

import os
import pathlib
import signal
import subprocess
import sys
from collections.abc import Sequence

from ncf_tfdata.training import preemption

# To save and stop, before it is killed.
_GRACE_SECONDS = 60.0


class Process:
  """A training in a process of its own.

  It fails and runs out of memory alone, its memory is given back as a whole, and each
  has its own tf.distribute strategy, of which TensorFlow takes one a process.
  """

  def __init__(self, lines: Sequence[str], log: pathlib.Path, lock: int):
    """Begins to train.

    Args:
      lines: Of the recipe's flagfile.
      log: File for what it says; appended to.
      lock: File descriptor that it holds open: the search is not over before it.
    """
    self._log = log
    with log.open('ab') as stream:
      self._process = subprocess.Popen(
        [sys.executable, '-m', 'ncf_tfdata.tuning.worker', *lines],
        # Its end tells the process that the search is gone.
        stdin=subprocess.PIPE,
        stdout=stream,
        stderr=subprocess.STDOUT,
        pass_fds=(lock,),
        # Ctrl-C is the search's to pass on.
        start_new_session=True,
      )

  def end(self) -> int | None:
    """The exit code, negative for a signal; None while it runs."""
    return self._process.poll()

  def kill(self) -> None:
    """Ends it where it stands."""
    self._process.kill()
    self._close()

  def stop(self) -> None:
    """Has it save and stop."""
    self._process.terminate()
    try:
      self._process.wait(_GRACE_SECONDS)
    except subprocess.TimeoutExpired:
      self._process.kill()
    self._close()

  def _close(self) -> None:
    self._process.wait()
    if self._process.stdin:
      self._process.stdin.close()

  def reason(self) -> str:
    """Why it ended before its time, in a line."""
    self._close()
    code = self._process.returncode
    if code in (-signal.SIGKILL, preemption.EXIT_CODE, -signal.SIGTERM):
      name = signal.Signals(abs(code) % 128).name
      memory = ', perhaps for want of memory' if code == -signal.SIGKILL else ''
      return f'killed by {name}{memory}'
    if code < 0:
      return f'killed by {signal.Signals(-code).name}'
    lines = self._log.read_text(errors='replace').strip().split(os.linesep)
    return lines[-1].removeprefix('error: ') or f'exit code {code}'

  def was_killed(self) -> bool:
    """Whether a signal has ended it, and not an error of its own."""
    code = self._process.returncode
    return code is not None and (code < 0 or code == preemption.EXIT_CODE)
