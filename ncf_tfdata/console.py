"""Commands without `python -m`: ncf-train runs `ncf_tfdata.train`, and so on."""

import runpy
from collections.abc import Callable

# By the script's name without ncf-.
MODULES = {
  'prepare': 'beam_pipelines.prepare',
  'sample': 'beam_pipelines.sample',
  'train': 'ncf_tfdata.train',
  'evaluate': 'ncf_tfdata.evaluate',
  'recommend': 'ncf_tfdata.recommend',
  'similar': 'ncf_tfdata.similar',
  'export': 'ncf_tfdata.export',
  'explore': 'ncf_tfdata.explore',
  'launch': 'ncf_tfdata.launch',
  'tune': 'ncf_tfdata.tune',
}


def __getattr__(name: str) -> Callable[[], None]:
  """What an entry point calls: `ncf_tfdata.console:train` is `python -m …train`."""
  if name not in MODULES:
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
  return lambda: _run(MODULES[name])


def _run(module: str) -> None:
  # As the main module, which is where absl looks for a command's flags and help.
  runpy.run_module(module, run_name='__main__', alter_sys=True)
