"""The C library's memory, kept by a process for its next block of rows."""

import ctypes

_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8  # of malloc.h
_KEPT = 1 << 30  # bytes at the end of the heap


def keep_freed() -> None:
  """Has glibc keep what is freed, for all threads; does nothing elsewhere.

  By default it maps each large array anew and gives it back: the system clears every
  page again, and tells the other threads. Only a command should call this, since it
  decides for the whole process.
  """
  libc = ctypes.CDLL(None)
  if not hasattr(libc, 'mallopt'):
    return
  libc.mallopt(_MMAP_MAX, 0)
  libc.mallopt(_TRIM_THRESHOLD, _KEPT)
  libc.mallopt(_ARENA_MAX, 1)
