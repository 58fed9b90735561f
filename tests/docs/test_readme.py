"""The README says what the commands do."""

import subprocess
import sys

import prepared
import pytest

README = (prepared.ROOT / 'README.md').read_text()


@pytest.mark.parametrize(
  'modules',
  [
    ('beam_pipelines.prepare',),
    ('ncf_tfdata.train', 'ncf_tfdata.training.recipe_flags'),
    ('ncf_tfdata.evaluate',),
    ('ncf_tfdata.recommend',),
    ('ncf_tfdata.export',),
    ('ncf_tfdata.explore',),
    ('ncf_tfdata.launch',),
    ('beam_pipelines.recommend',),
  ],
  ids=lambda modules: modules[0],
)
def test_every_flag_is_in_the_readme(modules):
  names = subprocess.run(
    [
      sys.executable,
      '-c',
      'import importlib, sys\n'
      'from absl import flags\n'
      'for module in sys.argv[1:]:\n'
      '  importlib.import_module(module)\n'
      '  for flag in flags.FLAGS.flags_by_module_dict()[module]:\n'
      '    print(flag.name)\n',
      *modules,
    ],
    cwd=prepared.ROOT,
    capture_output=True,
    text=True,
    check=True,
  ).stdout.split()
  assert names
  assert [name for name in names if f'`--{name}`' not in README] == []
