"""Who imports whom: which modules do without TensorFlow, and that nothing looks up."""

import ast
import pathlib
import subprocess
import sys

import prepared
import pytest

PACKAGE = prepared.ROOT / 'ncf_tfdata'

# These start in an instant, and workers of Beam import some of them.
WITHOUT_TENSORFLOW = (
  'ncf_tfdata',
  'ncf_tfdata.api',
  'ncf_tfdata.atomic',
  'ncf_tfdata.command',
  'ncf_tfdata.config',
  'ncf_tfdata.dataset',
  'ncf_tfdata.errors',
  *(
    f'ncf_tfdata.features.{path.stem}'
    for path in sorted((PACKAGE / 'features').glob('[a-z]*.py'))
  ),
  'ncf_tfdata.manifest',
  'ncf_tfdata.memory',
  'ncf_tfdata.models.configs',
  'ncf_tfdata.models.registry',
  'ncf_tfdata.object_store',
  'ncf_tfdata.run',
  *(
    f'ncf_tfdata.evaluation.{path.stem}'
    for path in sorted((PACKAGE / 'evaluation').glob('[a-z]*.py'))
  ),
  'ncf_tfdata.data.records',
  'ncf_tfdata.data.transitions',
  'ncf_tfdata.reporting.table',
  'ncf_tfdata.serving.explore_server',
  'ncf_tfdata.serving.explorer',
  'ncf_tfdata.serving.list_files',
  'ncf_tfdata.serving.prediction_files',
  'ncf_tfdata.serving.reasons',
  'ncf_tfdata.serving.recommendation_files',
  'ncf_tfdata.serving.recommender',
  'ncf_tfdata.serving.similar',
  'ncf_tfdata.serving.user_segments',
  'ncf_tfdata.evaluate',
  'ncf_tfdata.export',
  'ncf_tfdata.explore',
  'ncf_tfdata.recommend',
  'ncf_tfdata.similar',
  'ncf_tfdata.train',
  'ncf_tfdata.tune',
  'ncf_tfdata.training.config',
  'ncf_tfdata.training.recipe',
  *(
    f'ncf_tfdata.tuning.{path.stem}'
    for path in sorted((PACKAGE / 'tuning').glob('[a-z]*.py'))
  ),
)

# A room may import those of floors below it. Beside each other on a floor, none may
# import another. What is not in a room, and no command, is the contract of files; so
# are features, which a dataset may hold.
FLOORS = (
  {'contract'},
  {'data'},
  {'evaluation'},
  {'models'},
  {'reporting', 'serving', 'training'},
  {'tuning'},
  {'api'},
  {'commands'},
)
COMMANDS = {
  'command',
  'console',
  'evaluate',
  'explore',
  'export',
  'launch',
  'recommend',
  'similar',
  'train',
  'tune',
}


def _modules() -> dict[str, pathlib.Path]:
  found = {}
  for path in PACKAGE.rglob('*.py'):
    parts = path.relative_to(prepared.ROOT).with_suffix('').parts
    found['.'.join(part for part in parts if part != '__init__')] = path
  return found


MODULES = _modules()


def _imports(name: str) -> set[str]:
  """The package's modules that a module imports anywhere, types aside or not."""
  found = set()
  for node in ast.walk(ast.parse(MODULES[name].read_text())):
    if isinstance(node, ast.Import):
      found |= {alias.name for alias in node.names}
    elif isinstance(node, ast.ImportFrom):
      assert not node.level, f'{name} imports by dots'
      for alias in node.names:
        whole = f'{node.module}.{alias.name}'
        found.add(whole if whole in MODULES else str(node.module))
  return {module for module in found if module in MODULES} - {name}


def _room(name: str) -> str:
  parts = name.split('.')
  if len(parts) == 1:
    return 'commands'  # The package itself, which is what users import.
  if parts[1] == 'features':
    return 'contract'
  if len(parts) == 2 and not (PACKAGE / parts[1]).is_dir():
    return 'commands' if parts[1] in COMMANDS else 'contract'
  return parts[1]


def _floor(room: str) -> int:
  return next(floor for floor, rooms in enumerate(FLOORS) if room in rooms)


def test_modules_that_need_no_tensorflow_load_none():
  lines = ['import importlib, sys']
  for name in WITHOUT_TENSORFLOW:
    lines += [
      f'importlib.import_module({name!r})',
      "found = {'tensorflow', 'keras', 'apache_beam'} & set(sys.modules)",
      f'assert not found, ({name!r}, found)',
    ]
  done = subprocess.run(
    [sys.executable, '-c', '\n'.join(lines)],
    cwd=prepared.ROOT,
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 0, done.stderr


@pytest.mark.parametrize('name', sorted(MODULES))
def test_no_module_imports_upwards(name):
  room = _room(name)
  above = {
    imported
    for imported in _imports(name)
    if _room(imported) != room and _floor(_room(imported)) >= _floor(room)
  }
  assert not above


def test_no_module_imports_itself_by_way_of_others():
  state: dict[str, str] = {}

  def visit(name: str, path: list[str]) -> None:
    state[name] = 'under way'
    for imported in sorted(_imports(name)):
      assert state.get(imported) != 'under way', [*path, name, imported]
      if imported not in state:
        visit(imported, [*path, name])
    state[name] = 'done'

  for name in sorted(MODULES):
    if name not in state:
      visit(name, [])
