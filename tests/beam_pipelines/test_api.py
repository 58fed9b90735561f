"""`beam_pipelines.prepare` as a call."""

import dataclasses
import subprocess
import sys

import prepared
import pytest

import beam_pipelines
from beam_pipelines import FilterConfig, LogConfig, PrepareConfig, SplitConfig
from beam_pipelines import prepare as prepare_dataset
from ncf_tfdata import config
from ncf_tfdata.errors import UserError


@pytest.mark.slow
def test_it_writes_what_the_command_writes(tmp_path, capfd):
  log = prepared.write_log(tmp_path / 'ratings.dat', prepared.LOG)
  made = prepare_dataset(
    PrepareConfig(
      input=str(log),
      output=str(tmp_path / 'called'),
      filters=FilterConfig(min_item_count=1),
      splits=SplitConfig(eval_negatives=2),
      num_shards=2,
    ),
    progress=False,
  )
  assert capfd.readouterr() == ('', '')
  twin = prepared.prepare(log, tmp_path / 'typed', *prepared.TOY)
  assert prepared.digests(made.path) == prepared.digests(twin.directory)
  assert made.manifest == twin.manifest
  assert made.counts['read'] == len(prepared.LOG)
  assert f'{"ratings read":<45}{len(prepared.LOG):>15}' in made.table()
  assert repr(made.table()) == str(made.table())


def test_a_job_that_fails_raises_what_the_user_can_mend(tmp_path):
  log = tmp_path / 'ratings.dat'
  log.write_text('1::2::3::4\n' + 'no rating\n' * 9)
  paths = {'input': str(log), 'output': str(tmp_path / 'out')}
  with pytest.raises(UserError, match='9 of 10 lines are not ratings'):
    prepare_dataset(PrepareConfig(**paths), progress=False)
  with pytest.raises(UserError, match='--no_such_option'):
    prepare_dataset(PrepareConfig(**paths), beam_options=['--no_such_option=1'])
  with pytest.raises(UserError, match='--input= is empty'):
    prepare_dataset(PrepareConfig(input=' ', output=str(tmp_path / 'out')))
  assert [path.name for path in tmp_path.iterdir()] == ['ratings.dat']


def test_the_package_offers_every_part_of_a_configuration():
  parts = [
    field.default_factory
    for field in dataclasses.fields(PrepareConfig)
    if field.default_factory is not dataclasses.MISSING
  ]
  assert FilterConfig in parts
  for part in parts:
    assert getattr(beam_pipelines, part.__name__) is part


@pytest.mark.parametrize(
  ('make', 'told'),
  [
    (
      lambda: SplitConfig(held_out_users=1),
      '`held_out_users`: expected a share of users',
    ),
    (
      lambda: SplitConfig(held_out_users=-0.1),
      '`held_out_users`: expected a share of users',
    ),
    (lambda: SplitConfig(holdout=3), '`holdout` must be from 1 to 2'),
    (
      lambda: LogConfig(max_reject_fraction=float('nan')),
      '`max_reject_fraction` must be from 0 to 1',
    ),
    (lambda: PrepareConfig(seed=2**63), '`seed` must be from 0 to'),
    (lambda: PrepareConfig(filters=None), '`filters` must be of FilterConfig'),
  ],
)
def test_values_that_cannot_be_are_named(make, told):
  with pytest.raises(ValueError, match=told):
    make()


def test_its_flags_are_those_of_the_manifest():
  flags = config.values(PrepareConfig(transitions=7))
  assert flags['successors'] == 7
  assert flags['columns'] == []
  assert flags['user_column'] is None


def test_importing_it_takes_no_beam_and_defines_no_flag():
  program = """
import sys
import beam_pipelines
from absl import flags
beam_pipelines.PrepareConfig()
beam_pipelines.prepare
import beam_pipelines.prepare
assert callable(beam_pipelines.prepare)
assert not {'input', 'output', 'seed'} & set(flags.FLAGS)
assert not {'apache_beam', 'tensorflow'} & set(sys.modules)
"""
  done = subprocess.run(
    [sys.executable, '-c', program], cwd=prepared.ROOT, capture_output=True, text=True
  )
  assert done.returncode == 0, done.stderr


def test_names_are_all_there():
  import ncf_tfdata

  for name in beam_pipelines.__all__:
    assert getattr(beam_pipelines, name) is not None
    assert name in dir(beam_pipelines)
  assert beam_pipelines.__version__ == ncf_tfdata.__version__
