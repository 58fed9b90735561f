"""What TensorFlow reads when it makes a graph of Python."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import tensorflow as tf

Function = TypeVar('Function', bound=Callable[..., Any])


def without_autograph(function: Function) -> Function:
  """Marks what has no `if` and no loop over tensors, nor what it calls.

  AutoGraph reads the source of each function for them, which is half of a trace.
  """
  return tf.autograph.experimental.do_not_convert(function)
