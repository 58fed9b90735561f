"""What TensorFlow says at its start, kept off a command's stderr.

`TF_CPP_MIN_LOG_LEVEL` alone does not: TensorFlow's libraries log while they are loaded,
before they have read it (https://github.com/tensorflow/tensorflow/issues/100442). So
the import runs with stderr led through a filter, which drops lines of the level INFO
and nothing else. The filter is a process: what a library says before it aborts, as on a
CPU without AVX, still gets through.

Nor does the import bring what Keras takes along where it is there, for parts that no
command has a use of. And it is not interrupted to look for garbage.
"""

import contextlib
import gc
import importlib.abc
import importlib.machinery
import importlib.util
import os
import pathlib
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from types import ModuleType

from ncf_tfdata import hidden

LEVEL = 'TF_CPP_MIN_LOG_LEVEL'

# Warnings of the GPU libraries matter to who has a GPU. Without one, not even the
# errors do: that there is no CUDA is one of them.
_DRIVER = pathlib.Path('/proc/driver/nvidia')
_GPU_LEVEL, _CPU_LEVEL = '1', '3'

# For galleries of images, and wrappers for scikit-learn: a quarter of the time of the
# import. Keras does without them, as where they are not installed.
_UNUSED = ('matplotlib', 'sklearn')

Context = Callable[[], contextlib.AbstractContextManager[None]]

# Lines of the form `I0000 00:00:1795601341.436039    7832 port.cc:153] …`, and the
# notice before the first of them.
_FILTER = r"""
import re, sys
informing = re.compile(rb'I\d{4} |WARNING: All log messages before absl::InitializeLog')
for line in sys.stdin.buffer:
  if not informing.match(line):
    sys.stdout.buffer.write(line)
    sys.stdout.buffer.flush()
"""


def quieten() -> None:
  """Keeps TensorFlow's start-up lines off stderr, from its import on.

  All are shown where `TF_CPP_MIN_LOG_LEVEL` is 0, by which a user asks for them. Call
  it before TensorFlow is imported; the import itself may come at any time, or never.
  """
  level = _GPU_LEVEL if _DRIVER.exists() else _CPU_LEVEL
  quiet = os.environ.setdefault(LEVEL, level) != '0'
  if 'tensorflow' not in sys.modules:
    context = _quietly if quiet else _uncollected
    sys.meta_path.insert(0, _Finder('tensorflow', context))
  if 'keras' not in sys.modules:
    # Whichever is imported first imports the other.
    sys.meta_path.insert(0, _Finder('keras', _without_unused))


class _Finder(importlib.abc.MetaPathFinder):
  """Finds a package until it is loaded, with a loader that does so within a context."""

  def __init__(self, name: str, context: Context):
    self._name, self._context = name, context

  def find_spec(
    self,
    fullname: str,
    path: Sequence[str] | None,
    target: ModuleType | None = None,
  ) -> importlib.machinery.ModuleSpec | None:
    if fullname != self._name:
      return None
    # TensorFlow looks for Keras before it loads it.
    self.remove()
    spec = importlib.util.find_spec(fullname)
    sys.meta_path.insert(0, self)
    if spec is not None and spec.loader is not None:
      spec.loader = _Loader(spec.loader, self, self._context)
    return spec

  def remove(self) -> None:
    """Finds nothing any more."""
    if self in sys.meta_path:
      sys.meta_path.remove(self)


class _Loader(importlib.abc.Loader):
  """Loads as another loader does, within a context."""

  def __init__(self, loader: importlib.abc.Loader, finder: _Finder, context: Context):
    self._loader, self._finder, self._context = loader, finder, context

  def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
    return self._loader.create_module(spec)

  def exec_module(self, module: ModuleType) -> None:
    self._finder.remove()
    # Whoever asks the module for its loader shall find the one that it has.
    assert module.__spec__ is not None
    module.__loader__ = module.__spec__.loader = self._loader
    with self._context():
      self._loader.exec_module(module)


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
  """Has Python not look for garbage meanwhile, nor ever again at what is there then.

  An import makes a million objects that stay, and Python looks at all of them again
  and again: a fifth of the time of the import.
  """
  collected = gc.isenabled()
  gc.disable()
  try:
    yield
  finally:
    gc.freeze()
    if collected:
      gc.enable()


@contextlib.contextmanager
def _without_unused() -> Iterator[None]:
  with hidden.hidden(_UNUSED), _uncollected():
    yield


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
  with _filtered_stderr(), _uncollected():
    yield


@contextlib.contextmanager
def _filtered_stderr() -> Iterator[None]:
  """Leads this process's stderr, libraries' writes as well, through the filter."""
  sys.stderr.flush()
  stderr = os.dup(2)
  # Isolated and without site-packages, it is there in some hundredths of a second.
  filtering = subprocess.Popen(
    [sys.executable, '-I', '-S', '-c', _FILTER],
    stdin=subprocess.PIPE,
    stdout=stderr,
    # Ctrl-C is for the command; the filter ends with its input.
    start_new_session=True,
  )
  assert filtering.stdin is not None
  os.dup2(filtering.stdin.fileno(), 2)
  filtering.stdin.close()
  try:
    yield
  finally:
    sys.stderr.flush()
    os.dup2(stderr, 2)
    os.close(stderr)
    filtering.wait()
