"""Whole numbers in few bytes."""

import numpy as np


def narrow(values: np.ndarray) -> np.ndarray:
  """Values >= 0 in the narrowest unsigned type that holds them: bytes to shuffle."""
  return values.astype(np.min_scalar_type(values.max(initial=0)))
