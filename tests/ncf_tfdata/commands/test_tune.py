"""A search that trains: by command and by call, killed and taken up."""

import csv
import json
import pathlib
import shutil
import time

import commands
import prepared
import pytest
import trained
import warm_trials

import ncf_tfdata as ncf
from ncf_tfdata import run as run_lib
from ncf_tfdata.tuning import search
from ncf_tfdata.tuning.directory import Directory

_SPACE = 'learning_rate=0.001..0.1:log,gmf_dim=4,8'
_TRAINED = {
  'epochs': 2,
  'batch_size': 256,
  'steps_per_call': 1,
  'jit_compile': False,
  'full_validation': True,
  'monitor': 'full_ndcg@10',
}
_FLAGS = (
  '--gmf_dim=8',
  '--mlp_dim=8',
  '--mlp_layers=8',
  '--epochs=2',
  '--batch_size=256',
  '--steps_per_call=1',
  '--nojit_compile',
  '--full_validation',
  '--monitor=full_ndcg@10',
)


def tune(data, output) -> ncf.Tuned:
  """Searches by call, in forks."""
  model = ncf.NeuMFConfig(gmf_dim=8, mlp_dim=8, mlp_layers=(8,))
  patch = pytest.MonkeyPatch()
  patch.setattr(search.Search.__init__, '__defaults__', (warm_trials.Process,))
  try:
    return ncf.tune(
      ncf.Dataset(str(data)),
      _SPACE,
      model,
      ncf.TrainConfig(**_TRAINED),
      output=output,
      progress=False,
      trials=2,
    )
  finally:
    patch.undo()


def rows(output: pathlib.Path) -> list[dict[str, str]]:
  """The lines of trials.csv, without what a clock has a part in."""
  with (output / 'trials.csv').open(newline='') as stream:
    return [{**row, 'seconds': ''} for row in csv.DictReader(stream)]


def command(data, output, *flags):
  """The words of a `tune` command that is the same as `tune`."""
  paths = (f'--data_dir={data}', f'--output={output}')
  return ('ncf_tfdata.tune', *paths, *_FLAGS, f'--search={_SPACE}', *flags)


@pytest.fixture(scope='module')
def tuned(dataset, tmp_path_factory) -> ncf.Tuned:
  return tune(dataset.directory, tmp_path_factory.mktemp('tuned') / 'out')


def test_every_trial_was_judged_by_validation_alone(tuned):
  assert [trial.state for trial in tuned.trials] == ['finished'] * 2
  assert tuned.best.value == max(trial.value for trial in tuned.trials)
  for trial in tuned.trials:
    run = run_lib.Run(tuned.directory / 'trials' / f'{trial.number:04d}')
    curve = [row['full_ndcg@10'] for row in run.history()]
    assert list(trial.curve) == curve
    # Neither metrics nor ranks: nothing of test was asked.
    assert run.metrics() is None
    assert not (run.directory / run_lib.RANKS).exists()
  assert str(tuned.best.number) in tuned.table().split('\n')[2]


def test_training_the_flagfile_judges_the_run_or_repeats_it(dataset, tuned, tmp_path):
  flagfile = f'--flagfile={tuned.flagfile}'
  done = commands.run('ncf_tfdata.train', flagfile, **trained.ONE_THREAD)
  assert done.returncode == 0, done.stderr
  assert 'epoch 2/2' not in done.stdout  # trained before
  run = tuned.directory / 'trials' / f'{tuned.best.number:04d}'
  judged = json.loads((run / 'metrics.json').read_text())
  value = judged['validation']['full']['ndcg@10']
  assert value == pytest.approx(tuned.best.value, abs=1e-12)
  assert 'test' in judged
  again = tmp_path / 'again'
  done = commands.run(
    'ncf_tfdata.train', flagfile, f'--run_dir={again}', **trained.ONE_THREAD
  )
  assert done.returncode == 0, done.stderr
  assert trained.metrics(again) == judged
  assert ncf.Run.load(again).recipe == tuned.recipe
  # A judged run is its user's: a longer search leaves it.
  Directory(tuned.directory).tidy(1, 1 - tuned.best.number)
  assert run_lib.Run(run).best_weights.exists()


def test_killed_in_a_trial_it_goes_on_and_no_byte_of_test_is_read(
  dataset, tuned, tmp_path
):
  """The same search, of a dataset whose test shards hold nothing but zeros."""
  data, output, said = (tmp_path / name for name in ('data', 'out', 'said'))
  shutil.copytree(dataset.directory, data)
  shards = list(data.glob('ncf-test.tfrecord-*'))
  assert shards
  for path in shards:
    path.write_bytes(bytes(path.stat().st_size))
  said.mkdir()
  words = command(data, output, '--trials=2', '--checkpoint_every_steps=1')
  process = commands.start([*words], str(said), **trained.ONE_THREAD)
  run = run_lib.Run(output / 'trials' / '0000')
  while not run.has_state() and process.exitcode is None:
    time.sleep(0.01)
  process.kill()
  process.join()
  assert process.exitcode == -9
  with Directory(output).held():  # The training has ended as well.
    pass
  tune(data, output)
  assert rows(output) == rows(tuned.directory)
  assert 'resuming after epoch' in (output / 'trials' / '0000.log').read_text()


def test_the_command_shows_what_it_finds(dataset, tuned):
  """All trials have ended: there is nothing left to train."""
  done = commands.run(*command(dataset.directory, tuned.directory, '--trials=2'))
  assert done.returncode == 0, done.stderr
  assert '2 trials: 2 finished' in done.stdout
  assert f'--flagfile={tuned.flagfile}' in done.stdout
  assert '0, as given' in done.stdout


@pytest.mark.parametrize(
  ('flags', 'told'),
  [
    (('--search=gmf_dm=1,2',), 'gmf_dim?'),
    (('--time_budget=soon',), 'received --time_budget=soon'),
    (('--pruner=none',), 'another pruner'),
    (('--data_dir=nowhere',), 'no finished dataset'),
    (('--output=gs://bucket/out',), 'gs://'),
  ],
)
def test_a_mistake_is_one_line(dataset, tuned, flags, told):
  done = commands.run(*command(dataset.directory, tuned.directory, *flags))
  assert told in prepared.error_line(done)
