"""How much memory a dense block of numbers may take, and how much there is."""

import pathlib

from ncf_tfdata.errors import UserError

# Numbers in a dense block: 32 MiB of float32.
BLOCK_CELLS = 1 << 23

# Where Linux keeps the limit of a container, and what it uses: of cgroups v2 and v1.
_CGROUPS = (
  ('/sys/fs/cgroup/memory.max', '/sys/fs/cgroup/memory.current'),
  (
    '/sys/fs/cgroup/memory/memory.limit_in_bytes',
    '/sys/fs/cgroup/memory/memory.usage_in_bytes',
  ),
)


def block_rows(width: int) -> int:
  """Rows that a dense block of so many columns may have, at least 1."""
  return max(1, BLOCK_CELLS // width)


def available() -> int:
  """Bytes that this process can take now without swapping, or the container's end."""
  import psutil

  free = psutil.virtual_memory().available
  for limit, used in _CGROUPS:
    try:
      left = int(pathlib.Path(limit).read_text()) - int(pathlib.Path(used).read_text())
    except (OSError, ValueError):  # no such group, or `max`: no limit
      continue
    free = min(free, max(left, 0))
  return free


def require(what: str, needed: int, max_gb: float, otherwise: str) -> None:
  """Refuses what would not fit.

  Args:
    what: Takes the memory; begins the error.
    needed: Bytes that it takes at its peak.
    max_gb: What it may take, in 10⁹ bytes; 0 for what is `available`.
    otherwise: What the user can do instead; ends the error.

  Raises:
    UserError: It needs more than it may take.
  """
  limit = int(max_gb * 1e9) if max_gb else available()
  if needed > limit:
    free = f'max_gb={max_gb:g}' if max_gb else f'{limit / 1e9:.1f} GB are free'
    raise UserError(
      f'{what} takes {needed / 1e9:,.1f} GB of memory, and {free}. {otherwise}'
    )
