"""The launcher, where training itself does not begin; see test_workers for the rest."""

import commands

from ncf_tfdata import launch


def test_addresses_are_distinct():
  assert len(set(launch.free_addresses(20))) == 20


def test_one_failure_ends_all_with_its_reason(tmp_path):
  done = commands.run(
    'ncf_tfdata.launch', '--workers=2', f'--log_dir={tmp_path}', '--', '--data_dir=none'
  )
  assert done.returncode == 1
  assert 'prepare' in done.stderr
  last = done.stderr.strip().split('\n')[-1]
  assert last.startswith('error: worker ')
  assert 'exit code 1' in last
  assert {path.name for path in tmp_path.iterdir()} == {'worker-1.log'}
  assert 'Traceback' not in done.stderr


def test_a_flag_that_does_not_exist_is_told(tmp_path):
  done = commands.run(
    'ncf_tfdata.launch', f'--log_dir={tmp_path}', '--', '--no_such_flag=1'
  )
  assert done.returncode == 1
  assert 'no_such_flag' in done.stderr + done.stdout
