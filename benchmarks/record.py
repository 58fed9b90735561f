"""What a result is of: commit, machine, versions and flags, for its JSON file.

`side_by_side.save` adds it to every result, and `compare.py` reads it.
"""

import importlib.metadata
import os
import pathlib
import platform
import re
import subprocess
from typing import Any

from absl import flags

ROOT = pathlib.Path(__file__).resolve().parents[1]

_PACKAGES = ('tensorflow', 'apache-beam', 'numpy')
# Benchmarks write these themselves.
_WRITTEN = (':!benchmarks/results', ':!docs/images')
# Of a path that does not begin here, also behind `--flag=`.
_FOLDER = re.compile(r'(^|[=\s])(?:[/~]|\.\.)(?:\S*/)?')


def now() -> dict[str, Any]:
  """The record of a result that is written now.

  Returns:
    `commit` and `clean`: see `commit_of`.
    `machine`: `cpu` and `vectors`, see `cpu`, and `cores`, `architecture` and
      `memory_gib`.
    `versions`: Python's and those of packages, None of one that is not there.
    `flags`: see `flags_given`.
  """
  return {
    **commit_of(ROOT),
    'machine': _machine(),
    'versions': {
      'python': platform.python_version(),
      **{package: _version(package) for package in _PACKAGES},
    },
    'flags': flags_given(flags.FLAGS),
  }


def flags_given(values: flags.FlagValues) -> dict[str, Any]:
  """Flags that were given and are not their defaults, by name.

  A file or folder is told by the last part of its name: where it stands on a machine
  says nothing about the result.
  """
  if not values.is_parsed():
    return {}
  return {
    name: _plain(values[name].value)
    for name in sorted(values)
    # A short name is an entry of its own, and absl sets some of its flags itself.
    if name == values[name].name and values[name].present
    if values[name].value != values[name].default
  }


def _plain(value: Any) -> Any:
  if isinstance(value, list | tuple):
    return [_plain(part) for part in value]
  if value is None or isinstance(value, bool | int | float):
    return value
  return _FOLDER.sub(r'\1', str(value))


def commit_of(root: pathlib.Path) -> dict[str, Any]:
  """The commit of a working tree, and whether the tree is that commit.

  Files that benchmarks write are left out of `clean`: one writes them before the next
  runs. Both are None outside of a git repository.
  """
  try:
    commit = git(root, 'rev-parse', 'HEAD').strip()
    changes = git(root, 'status', '--porcelain', '--', '.', *_WRITTEN)
  except (OSError, subprocess.CalledProcessError):
    return {'commit': None, 'clean': None}
  return {'commit': commit, 'clean': not changes}


def git(root: pathlib.Path, *arguments: str) -> str:
  """What a git command prints, run in a folder.

  Raises:
    OSError: There is no git.
    subprocess.CalledProcessError: It failed; what it said is in `stderr`.
  """
  command = ['git', '-C', str(root), *arguments]
  return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def _machine() -> dict[str, Any]:
  try:
    text = pathlib.Path('/proc/cpuinfo').read_text()
  except OSError:
    text = ''
  try:
    memory = os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE')
  except (OSError, ValueError):
    memory = None
  return {
    **cpu(text),
    'cores': os.cpu_count(),
    'architecture': platform.machine(),
    'memory_gib': memory and round(memory / 2**30, 1),
  }


def cpu(text: str) -> dict[str, str | None]:
  """The name of the CPU and its widest vector instructions, of /proc/cpuinfo's text.

  Clouds give different CPUs one name, and speed depends on these instructions. Each is
  None where the text does not tell.
  """
  name = re.search(r'^model name\s*:\s*(.*\S)', text, re.MULTILINE)
  known = re.search(r'^(?:flags|Features)\s*:(.*)', text, re.MULTILINE)
  have = known[1].split() if known else []
  kinds = ('avx512f', 'avx2', 'avx', 'sve', 'asimd')
  return {
    'cpu': name[1] if name else None,
    'vectors': next((kind for kind in kinds if kind in have), None),
  }


def _version(package: str) -> str | None:
  try:
    return importlib.metadata.version(package)
  except importlib.metadata.PackageNotFoundError:
    return None
