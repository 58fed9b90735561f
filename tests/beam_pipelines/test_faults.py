"""Whatever happens to `prepare`, a reader sees a whole dataset or none."""

import os
import pathlib
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import commands
import prepared
import pytest

from ncf_tfdata import dataset as dataset_lib
from ncf_tfdata.errors import UserError

pytestmark = pytest.mark.slow

_KILLS = 8


def killed(flags, seconds: float) -> bool:
  """Starts `prepare` and kills it after a while; whether it was still at work."""
  with tempfile.TemporaryDirectory() as said:
    process = commands.start(['beam_pipelines.prepare', *flags], said)
    process.join(seconds)
    process.kill()
    process.join()
  return process.exitcode == -signal.SIGKILL


def opened(output: pathlib.Path) -> dict[str, str] | None:
  """What a reader sees: digests of the whole dataset, or None."""
  try:
    dataset_lib.Dataset(str(output)).verify()
  except UserError:
    return None
  # A run killed as it was about to replace it leaves its marker.
  marker = 'ncf-replaced-by-'
  found = prepared.digests(output).items()
  return {name: digest for name, digest in found if not name.startswith(marker)}


def moments(flags, output) -> list[float]:
  """Seeded moments of a run, most of them while it reads and writes."""
  begin = time.monotonic()
  assert prepared.run(*flags, f'--output={output}').returncode == 0
  seconds = time.monotonic() - begin
  shutil.rmtree(output)
  generator = random.Random(7)
  return [seconds * generator.uniform(0.3, 1.02) for _ in range(_KILLS // 2)]


def test_killed_at_any_moment_there_is_no_dataset(tmp_path, sample_log, sample_dataset):
  flags = (f'--input={sample_log}',)
  whole = prepared.digests(sample_dataset.directory)
  output = tmp_path / 'out'
  hits = 0
  for seconds in moments(flags, tmp_path / 'measure'):
    hits += killed([*flags, f'--output={output}'], seconds)
    assert opened(output) in (None, whole)
    if output.exists():
      assert opened(output) == whole  # the run was through
      shutil.rmtree(output)
  assert hits
  # What the killed ones left is swept by the next.
  prepared.prepare(sample_log, output)
  assert prepared.digests(output) == whole
  assert os.listdir(tmp_path) == ['out']


def test_killed_while_overwriting_the_old_or_the_new_is_whole(
  tmp_path, sample_log, sample_dataset
):
  output = tmp_path / 'out'
  flags = (f'--input={sample_log}', '--seed=1')
  new = prepared.prepare(sample_log, tmp_path / 'new', '--seed=1')
  new, old = prepared.digests(new.directory), prepared.digests(sample_dataset.directory)
  shutil.rmtree(tmp_path / 'new')
  shutil.copytree(str(sample_dataset.directory), output)
  hits = 0
  for seconds in moments(flags, tmp_path / 'measure'):
    hits += killed([*flags, '--overwrite', f'--output={output}'], seconds)
    found = opened(output)
    assert found in (old, new)
    if found == new:
      shutil.rmtree(output)
      shutil.copytree(str(sample_dataset.directory), output)
  assert hits
  prepared.prepare(sample_log, output, '--seed=1', '--overwrite')
  assert prepared.digests(output) == new
  assert os.listdir(tmp_path) == ['out']


@pytest.mark.parametrize(
  'step',
  [
    'staging.create_directory',
    'staging.write',
    'staging.write_piece',
    'staging.join_pieces',
    'exchange.publish',
    'exchange._place',
    'exchange._exchange',
  ],
)
@pytest.mark.parametrize('when', ['before', 'after'])
def test_killed_around_each_step(tmp_path, sample_log, sample_dataset, step, when):
  """Kills that no measured moment is sure to hit."""
  output = tmp_path / 'out'
  shutil.copytree(str(sample_dataset.directory), output)
  before = prepared.digests(output)
  program = f"""
import os, signal, sys
from beam_pipelines import command, exchange, staging
from beam_pipelines.prepare import CONFIGS, main
step = {step}
def fatal(*args, **kwargs):
  if {when!r} == 'after':
    step(*args, **kwargs)
  os.kill(os.getpid(), signal.SIGKILL)
{step} = fatal
command.run(main, *CONFIGS)
"""
  paths = f'--input={sample_log}', f'--output={output}'
  done = commands.run_code(program, *paths, '--overwrite', '--seed=1')
  assert done.returncode == -signal.SIGKILL, done.stderr
  found = opened(output)
  assert found is not None
  replaced = when == 'after' and step.startswith('exchange.')
  assert (found != before) == replaced


def test_of_two_runs_at_once_the_later_is_refused(tmp_path, sample_log, sample_dataset):
  """Both begin where there is nothing; `sample_dataset` is finished in between."""
  output = tmp_path / 'out'
  program = f"""
import shutil
from beam_pipelines import command, exchange
from beam_pipelines.prepare import CONFIGS, main
publish = exchange.publish
def later(*args):
  shutil.copytree({str(sample_dataset.directory)!r}, {str(output)!r})
  publish(*args)
exchange.publish = later
command.run(main, *CONFIGS)
"""
  paths = f'--input={sample_log}', f'--output={output}'
  done = commands.run_code(program, *paths, '--seed=1', '--workers=1')
  assert done.returncode == 1, done.stderr
  # Beam says something where it is imported before the command starts.
  last = done.stderr.strip().split('\n')[-1]
  assert last.startswith('error: another run has finished a dataset at')
  assert prepared.digests(output) == prepared.digests(sample_dataset.directory)
  assert os.listdir(tmp_path) == ['out']


def test_an_interrupted_run_leaves_nothing(tmp_path, sample_log):
  program = (
    'from beam_pipelines import command, staging\n'
    'from beam_pipelines.prepare import CONFIGS, main\n'
    'def interrupted(*args): raise KeyboardInterrupt\n'
    'staging.write_piece = interrupted\n'
    'command.run(main, *CONFIGS)\n'
  )
  paths = f'--input={sample_log}', f'--output={tmp_path / "out"}'
  done = commands.run_code(program, *paths)
  assert done.returncode != 0
  assert os.listdir(tmp_path) == []


@pytest.mark.parametrize('workers', [1, 2])
def test_ctrl_c_is_one_line_and_leaves_nothing(tmp_path, workers):
  flags = (
    '--sample_ratings=1000000',
    f'--cache_dir={tmp_path}',
    f'--workers={workers}',
  )
  output = tmp_path / 'out'
  process = subprocess.Popen(
    [sys.executable, '-m', 'beam_pipelines.prepare', f'--output={output}', *flags],
    cwd=prepared.ROOT,
    stdout=subprocess.DEVNULL,
    stderr=subprocess.PIPE,
    text=True,
    start_new_session=True,
  )
  while not list(tmp_path.glob('out.incomplete-*')) and process.poll() is None:
    time.sleep(0.01)
  time.sleep(0.5)  # The job takes more.
  # As a terminal does, to all that the command has started.
  os.killpg(process.pid, signal.SIGINT)
  _, errors = process.communicate(timeout=60)
  # A shell takes both for 130.
  assert process.returncode in (130, -signal.SIGINT)
  assert errors == 'error: stopped by Ctrl-C.\n'
  assert [path.name for path in tmp_path.iterdir()] == ['sample-1000000-0']


@pytest.fixture
def copy(tmp_path, sample_dataset) -> pathlib.Path:
  path = tmp_path / 'copy'
  shutil.copytree(str(sample_dataset.directory), path)
  return path


def test_damage_to_any_file_is_noticed(copy):
  for file in dataset_lib.Dataset(str(copy)).manifest.files:
    path, content = copy / file.name, (copy / file.name).read_bytes()
    if content:
      path.write_bytes(content[:-1])
      with pytest.raises(UserError, match=f'{file.name} has .* bytes, expected'):
        dataset_lib.Dataset(str(copy))
      middle = len(content) // 2
      changed = bytes([content[middle] ^ 1])
      path.write_bytes(content[:middle] + changed + content[middle + 1 :])
      with pytest.raises(UserError, match=f'{file.name} is corrupt'):
        dataset_lib.Dataset(str(copy)).verify()
    path.unlink()
    with pytest.raises(UserError, match=f'{file.name} is missing'):
      dataset_lib.Dataset(str(copy))
    path.write_bytes(content)
  dataset_lib.Dataset(str(copy)).verify()


@pytest.mark.parametrize('size', [None, 0, 1, 500])
def test_without_a_whole_manifest_there_is_no_dataset(copy, size):
  path = copy / dataset_lib.MANIFEST
  content = path.read_bytes()
  path.unlink()
  if size is not None:
    path.write_bytes(content[:size])
  with pytest.raises(UserError) as caught:
    dataset_lib.Dataset(str(copy))
  assert '\n' not in str(caught.value)
  assert '--overwrite' not in str(caught.value)  # It is refused.


@pytest.mark.parametrize('damage', ['manifest.json', 'items.tsv'])
def test_what_a_damaged_dataset_says_is_what_mends_it(copy, sample_log, damage):
  (copy / damage).write_bytes((copy / damage).read_bytes()[:-5])
  with pytest.raises(UserError) as caught:
    dataset_lib.Dataset(str(copy))
  again = [f'--input={sample_log}', f'--output={copy}']
  if 'with --overwrite' in str(caught.value):
    again.append('--overwrite')
  else:
    assert f'Move {copy} away' in str(caught.value)
    assert 'Move it away' in prepared.refused(*again, '--overwrite')
    copy.rename(copy.with_name('away'))
  done = prepared.run(*again)
  assert done.returncode == 0, done.stderr
  dataset_lib.Dataset(str(copy)).verify()


@pytest.fixture
def tiny_disk(tmp_path):
  """A file system of 200 kB."""
  path = tmp_path / 'disk'
  path.mkdir()
  mount = ['mount', '-t', 'tmpfs', '-o', 'size=200k', 'tmpfs', str(path)]
  if (
    shutil.which('mount') is None
    or subprocess.run(mount, capture_output=True, check=False).returncode
  ):
    pytest.skip('no right to mount a file system')
  yield path
  subprocess.run(['umount', str(path)], check=True)


def test_a_full_disk_is_one_clear_line(tiny_disk, sample_log):
  line = prepared.refused(f'--input={sample_log}', f'--output={tiny_disk / "out"}')
  assert 'cannot write' in line
  assert 'No space left on device' in line
  assert os.listdir(tiny_disk) == []


def test_too_large_a_file_is_one_clear_line(tmp_path, sample_log):
  limit = 5000
  done = subprocess.run(
      [sys.executable, '-m', 'beam_pipelines.prepare', f'--input={sample_log}',
       f'--output={tmp_path / "out"}'],
      cwd=prepared.ROOT, capture_output=True, text=True, check=False,
      preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
  )  # fmt: skip
  assert done.returncode == 1, done.stderr
  assert done.stderr.count('\n') == 1
  assert 'error: cannot write' in done.stderr
  assert 'File too large' in done.stderr
  assert os.listdir(tmp_path) == []


def test_a_log_that_changes_between_two_readings_is_refused(tmp_path):
  rows = [
    (user, 'abcdefghijklm'[user + i], 1, i) for user in range(9) for i in range(5)
  ]
  log = prepared.write_log(tmp_path / 'log', rows)
  program = f"""
import pathlib
from beam_pipelines import command, ratings, runners
from beam_pipelines.prepare import CONFIGS, main
runners.share_a_disk = lambda options: False  # as on many machines
log = pathlib.Path({str(log)!r})
text, read, times = log.read_text(), ratings.read, []
def changing(*args):
  times.append(1)
  if len(times) == 2:
    log.write_text(text.upper())
  return read(*args)
ratings.read = changing
command.run(main, *CONFIGS)
"""
  paths = f'--input={log}', f'--output={tmp_path / "out"}'
  done = commands.run_code(program, *paths, *prepared.TOY)
  assert done.returncode == 1, done.stderr
  assert 'Traceback' not in done.stderr
  assert 'log changed while it was read. Run again' in done.stderr
  assert os.listdir(tmp_path) == ['log']
