"""The inverse of a large symmetric matrix, in the memory of the matrix.

LAPACK, as scipy calls it, counts cells in 32 bits: from 46,341 columns on, and in some
routines from 23,170, it fails or crashes (scipy issues 14001 and 21837). Here products
of narrow blocks do the work, by numpy's BLAS, and no call is larger than a strip.
"""

from collections.abc import Iterator

import numpy as np

# Columns of a block: products of such blocks run at the machine's speed.
BLOCK = 1024


def needed_bytes(size: int) -> int:
  """Memory of `invert` at its peak, the matrix included."""
  # Three strips: a block's columns, their product, and what is taken off a strip.
  return 8 * size * (size + 3 * min(size, BLOCK))


def blocks(size: int) -> Iterator[slice]:
  """Slices of `BLOCK` rows or columns that cover so many."""
  for start in range(0, size, BLOCK):
    yield slice(start, min(start + BLOCK, size))


def invert(matrix: np.ndarray) -> None:
  """Replaces a symmetric, positive definite matrix by its inverse.

  By the sweep operator, a block of columns at a time: a pivot block A becomes -A⁻¹, its
  column C becomes C A⁻¹, and everything else loses C A⁻¹ Cᵀ; what has been swept by
  all blocks is the negated inverse. As many operations as by Cholesky. Source:
  Goodnight, A tutorial on the SWEEP operator (The American Statistician, 1979).

  Args:
    matrix: float64 [n, n].

  Raises:
    numpy.linalg.LinAlgError: It is not positive definite; what it holds is then lost.
  """
  for part in blocks(len(matrix)):
    _sweep(matrix, part)
  np.negative(matrix, out=matrix)
  for part in blocks(len(matrix)):
    # The sweeps have left the upper triangle as it was.
    matrix[part, part.stop :] = matrix[part.stop :, part].T


def _sweep(matrix: np.ndarray, part: slice) -> None:
  """Sweeps a block of columns, in the lower triangle and the blocks on the diagonal."""
  column = np.concatenate([matrix[part, : part.start].T, matrix[part.start :, part]])
  pivot = column[part]
  np.linalg.cholesky(pivot)  # Tells whether it is positive definite.
  inverse = np.linalg.inv(pivot)
  product = column @ inverse
  for rows in blocks(len(matrix)):
    matrix[rows, : rows.stop] -= product[rows] @ column[: rows.stop].T
  matrix[part, : part.start] = product[: part.start].T
  matrix[part.stop :, part] = product[part.stop :]
  matrix[part, part] = -inverse
