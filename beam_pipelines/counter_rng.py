"""Random draws by counter: a draw depends on its coordinates and on nothing else.

No generator state is kept, so the same draw comes out on every worker, in any
order of work (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC
2011). The mixing is SplitMix64's (Steele et al., OOPSLA 2014).
"""

import numpy as np

_GAMMA = 0x9E3779B97F4A7C15
_FACTORS = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
_MASK = 2**64 - 1
_PART = 1 << 16  # bytes that are held as whole numbers at once


def mix(values: np.ndarray) -> np.ndarray:
  """SplitMix64's step and finaliser: uint64 to uint64, elementwise."""
  with np.errstate(over='ignore'):
    z = values + np.uint64(_GAMMA)
    z ^= z >> np.uint64(30)
    z *= np.uint64(_FACTORS[0])
    z ^= z >> np.uint64(27)
    z *= np.uint64(_FACTORS[1])
    z ^= z >> np.uint64(31)
    return z


def chain(state: int, content: bytes) -> int:
  """Mixes bytes into a state: `state = mix(state ^ word)` for each eight of them.

  In whole numbers of Python, which are quicker than arrays of one.

  Args:
    state: 64 bits.
    content: Little-endian words; the last one is filled up with zeros.

  Returns:
    The last state, 64 bits.
  """
  first, second = _FACTORS
  for start in range(0, len(content), _PART):
    part = content[start : start + _PART]
    padded = part.ljust(-(-len(part) // 8) * 8, b'\0')
    for word in np.frombuffer(padded, '<u8').tolist():
      z = ((state ^ word) + _GAMMA) & _MASK
      z = ((z ^ (z >> 30)) * first) & _MASK
      z = ((z ^ (z >> 27)) * second) & _MASK
      state = z ^ (z >> 31)
  return state


def bits(*coordinates: int | np.ndarray) -> np.ndarray:
  """64 random bits for each point of some integer coordinates.

  Args:
    *coordinates: Integers and integer arrays that broadcast together; by
      custom the seed first, then what the draw is for, then who and which.

  Returns:
    uint64 of the broadcast shape.
  """
  state = np.zeros((), np.uint64)
  for coordinate in coordinates:
    state = mix(state ^ _unsigned(np.asarray(coordinate)))
  return state


def _unsigned(values: np.ndarray) -> np.ndarray:
  """Whole numbers modulo 2**64, without a copy where they have 64 bits."""
  return (
    values.view(np.uint64) if values.dtype == np.int64 else values.astype(np.uint64)
  )


def below(limit: int, *coordinates: int | np.ndarray) -> np.ndarray:
  """Whole numbers uniform in [0, limit), for limit up to 2**32: int64."""
  high = bits(*coordinates) >> np.uint64(32)
  return ((high * np.uint64(limit)) >> np.uint64(32)).view(np.int64)
