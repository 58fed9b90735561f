"""A mistake that the user can mend is one line, in whatever way the workers run."""

import sys

import commands
import prepared
import pytest

_WORKER = 'apache_beam.runners.worker.sdk_worker_main'
_MODES = {
  'in_memory': ('--workers=1',),
  'threads': ('--workers=2',),
  'processes': ('--direct_num_workers=2', '--direct_running_mode=multi_processing'),
  'portable': (
    '--runner=PortableRunner',
    '--job_endpoint=embed',
    '--environment_type=beam:env:harness_subprocess_python:v1',
    f'--environment_config={sys.executable} -m {_WORKER}',
  ),
}


@pytest.fixture(scope='module')
def bad_log(sample_log, tmp_path_factory):
  """A log of which a tenth is no rating."""
  lines = sample_log.read_text().splitlines()
  lines[1::10] = ['oops'] * len(lines[1::10])
  path = tmp_path_factory.mktemp('bad') / 'log.dat'
  path.write_text('\n'.join(lines))
  return path


@pytest.mark.slow
@pytest.mark.parametrize('flags', _MODES.values(), ids=_MODES)
def test_a_mistake_is_one_line_in_every_mode(tmp_path, bad_log, flags):
  line = prepared.refused(f'--input={bad_log}', f'--output={tmp_path / "out"}', *flags)
  assert 'more than --max_reject_fraction=0.001 allows' in line
  assert 'while running' not in line


@pytest.mark.slow
def test_the_traceback_is_there_for_who_asks(tmp_path, bad_log):
  flags = (f'--input={bad_log}', f'--output={tmp_path / "out"}', '--workers=2')
  done = prepared.run(*flags, '--verbosity=1')
  assert done.returncode == 1
  assert 'Traceback' in done.stderr
  assert 'apache_beam' in done.stderr
  assert done.stderr.strip().split('\n')[-1].startswith('error: ')


@pytest.mark.slow
@pytest.mark.parametrize('mode', ['threads', 'in_memory'])
def test_a_fault_of_ours_keeps_its_traceback(tmp_path, sample_log, mode):
  program = (
    'import sys\n'
    'from beam_pipelines import command, histories\n'
    'from beam_pipelines.prepare import CONFIGS, main\n'
    'def broken(*_):\n'
    '  print("what a worker says", file=sys.stderr)\n'
    '  raise ZeroDivisionError("a fault of ours")\n'
    'histories.gather = broken\n'
    'command.run(main, *CONFIGS)\n'
  )
  paths = f'--input={sample_log}', f'--output={tmp_path / "out"}'
  done = commands.run_code(program, *paths, *_MODES[mode])
  assert done.returncode == 1
  assert 'what a worker says' in done.stderr
  assert 'in broken' in done.stderr
  assert 'a fault of ours' in done.stderr.strip().split('\n')[-1]
