"""`train` through its command line: what it learns, resumes and refuses."""

import json
import shutil
import time

import prepared
import pytest
import trained


@pytest.fixture(scope='module')
def whole(sample_dataset, tmp_path_factory):
  """A run that nothing disturbed."""
  directory = tmp_path_factory.mktemp('whole') / 'run'
  return trained.train(sample_dataset.directory, directory)


def test_leaves_the_run_directory_of_the_contract(whole, sample_dataset):
  names = {path.name for path in whole.iterdir()}
  assert {'flags.cfg', 'checkpoints', 'logs', 'epochs.csv', 'metrics.json'} <= names
  result = trained.metrics(whole)
  assert result['dataset_sha256'] == sample_dataset.sha256
  for split in ('validation', 'test'):
    for ranking in ('sampled', 'full'):
      assert 0 <= result[split][ranking]['ndcg@10'] <= result[split][ranking]['hr@10']
      assert 'hr@10' in result['baselines']['popularity'][split][ranking]
  assert len(trained.numbers(whole)) == 3


def test_the_best_epoch_is_the_best_on_validation(whole):
  scores = [float(row['ndcg@10']) for row in trained.numbers(whole)]
  result = trained.metrics(whole)
  assert result['best_epoch'] == 1 + scores.index(max(scores))
  assert result['validation']['sampled']['ndcg@10'] == pytest.approx(max(scores), 1e-5)


def test_the_flagfile_of_a_run_repeats_it(whole, sample_dataset, tmp_path):
  again = tmp_path / 'again'
  trained.train(
    sample_dataset.directory,
    again,
    f'--flagfile={whole / "flags.cfg"}',
    f'--run_dir={again}',
  )
  assert trained.metrics(again) == trained.metrics(whole)


@pytest.mark.parametrize('model', [(), trained.HISTORY], ids=['neumf', 'history'])
def test_killed_at_any_moment_it_ends_with_the_same_bits(
  model, sample_dataset, tmp_path
):
  """SIGKILL at four moments of one run, each time taken up by the same command."""
  run_dir = tmp_path / 'killed'
  whole = trained.train(sample_dataset.directory, tmp_path / 'whole', *model)
  flags = (*model, '--checkpoint_every_steps=5', '--steps_per_call=1')
  begin = time.monotonic()
  reference = trained.train(sample_dataset.directory, tmp_path / 'timed', *flags)
  seconds = time.monotonic() - begin
  assert trained.metrics(reference) == trained.metrics(whole)
  kills = 0
  for turn in range(4):
    process = trained.start(sample_dataset.directory, run_dir, tmp_path, *flags)
    process.join(seconds * (0.2 + 0.2 * turn))
    kills += process.is_alive()
    process.kill()
    process.join()
  assert kills
  trained.train(sample_dataset.directory, run_dir, *flags)
  assert trained.metrics(run_dir) == trained.metrics(whole)
  assert trained.numbers(run_dir) == trained.numbers(whole)


def test_a_seed_is_a_seed_and_zero_is_one(whole, sample_dataset, tmp_path):
  other = trained.train(sample_dataset.directory, tmp_path / 'one', '--seed=1')
  assert trained.numbers(other) != trained.numbers(whole)


@pytest.mark.parametrize('model', [(), trained.HISTORY], ids=['neumf', 'history'])
def test_two_replicas_equal_one(model, sample_dataset, tmp_path):
  """Up to the order of a sum; without dropout, which each replica draws apart."""
  flags = (
    *model,
    '--dropout=0',
    '--optimizer=sgd',
    '--learning_rate=0.1',
    '--epochs=2',
  )
  one = trained.train(sample_dataset.directory, tmp_path / 'one', *flags)
  two = trained.train(
    sample_dataset.directory,
    tmp_path / 'two',
    *flags,
    '--strategy=mirrored',
    '--logical_cpus=2',
  )
  for a, b in zip(trained.numbers(one), trained.numbers(two), strict=True):
    assert float(a['loss']) == pytest.approx(float(b['loss']), rel=1e-4)


@pytest.mark.parametrize(
  'flags',
  [
    ('--model=gmf', '--loss=bpr', '--optimizer=lazy_adam', '--l2=0.01'),
    (
      '--model=mlp',
      '--loss=softmax',
      '--negatives=static',
      '--learning_rate=0.05',
      '--optimizer=adagrad',
    ),
    (
      '--loss=softmax',
      '--shared_negatives=64',
      '--sampler=popularity',
      '--logq_correction',
      '--recency=1',
      '--item_bias',
      '--nogmf_weights',
    ),
    ('--loss=softmax', '--shared_negatives=64', '--batch_by_user', '--cosine_decay'),
    (*trained.HISTORY, '--optimizer=lazy_adam', '--l2=0.05'),
    (*trained.HISTORY, '--history_encoder=both', '--nouser_embedding'),
    (
      *trained.HISTORY,
      '--history_encoder=none',
      '--user_embedding',
      '--shared_negatives=0',
    ),
    ('--average_weights=0.9', '--warmup_steps=5', '--learning_rate_decay=0.5'),
  ],
  ids=lambda flags: flags[-1],
)
def test_every_way_of_training_learns(sample_dataset, tmp_path, flags):
  flags = (*flags, '--jit_compile')
  run_dir = trained.train(sample_dataset.directory, tmp_path / 'run', *flags)
  losses = [float(row['loss']) for row in trained.numbers(run_dir)]
  assert losses[-1] < losses[0]


def test_without_validation_rows_it_keeps_the_last_epoch(sample_log, tmp_path):
  twin = prepared.prepare(sample_log, tmp_path / 'twin', '--holdout=1')
  run_dir = trained.train(twin.directory, tmp_path / 'run')
  result = trained.metrics(run_dir)
  assert result['best_epoch'] == 3
  assert 'validation' not in result
  assert 'test' in result


def test_another_configuration_or_dataset_is_refused(whole, sample_dataset, tmp_path):
  run_dir = tmp_path / 'run'
  shutil.copytree(whole, run_dir)
  assert 'seed' in trained.refused(sample_dataset.directory, run_dir, '--seed=5')
  log = prepared.write_log(tmp_path / 'log.dat', prepared.LOG)
  other = prepared.prepare(log, tmp_path / 'other', *prepared.TOY)
  assert 'dataset' in trained.refused(other.directory, run_dir)


def test_a_flag_that_is_left_out_is_another_configuration(sample_dataset, tmp_path):
  run_dir, flags = tmp_path / 'run', ('--dropout=0.5', '--l2=0.1', '--epochs=1')
  data = sample_dataset.directory
  trained.train(data, run_dir, *flags)
  before = (run_dir / 'flags.cfg').read_bytes()
  (run_dir / 'metrics.json').unlink()
  line = trained.refused(data, run_dir, '--dropout=0.5', '--epochs=1')
  assert 'it was started with --l2=0.1, and is now asked for without' in line
  line = trained.refused(data, run_dir, *flags, '--warmup_steps=3')
  assert 'with --warmup_steps=0, and is now asked for with --warmup_steps=3' in line
  assert (run_dir / 'flags.cfg').read_bytes() == before
  # What has no part in the numbers may differ, and what says the same.
  trained.train(data, run_dir, *flags, '--steps_per_call=7', '--loss=bce')
  assert (run_dir / 'metrics.json').exists()


def test_a_run_of_another_model_is_told_by_the_model_alone(whole, sample_dataset):
  line = trained.refused(sample_dataset.directory, whole, '--model=gmf')
  assert 'started with --model=neumf, and is now asked for with --model=gmf.' in line


def test_flags_of_another_version_are_not_taken_up(whole, sample_dataset, tmp_path):
  run_dir = tmp_path / 'run'
  shutil.copytree(whole, run_dir)
  with (run_dir / 'flags.cfg').open('a') as stream:
    stream.write('--a_flag_to_come=1\n')
  assert 'a_flag_to_come' in trained.refused(sample_dataset.directory, run_dir)


def test_what_a_user_can_mend_is_one_line(sample_dataset, tmp_path):
  data = sample_dataset.directory
  assert 'prepare' in trained.refused(tmp_path / 'none', tmp_path / 'run')
  assert 'ndcg@10' in trained.refused(data, tmp_path / 'run', '--monitor=auc')
  line = trained.refused(data, tmp_path / 'run', '--model=history', '--history_heads=3')
  assert '--history_heads=3' in line
  assert '--history_heads must divide --history_dim' in line
  line = trained.refused(data, tmp_path / 'run', '--model=history', '--loss=bpr')
  assert 'received --loss=bpr: --loss must be softmax' in line
  assert 'train_negatives' in trained.refused(
    data, tmp_path / 'run', '--negatives=static', '--num_negatives=9'
  )


def test_a_corrupt_shard_is_told_in_one_line(sample_dataset, tmp_path):
  broken = tmp_path / 'broken'
  shutil.copytree(str(sample_dataset.directory), broken)
  shard = sorted(broken.glob('ncf-train*'))[0]
  content = bytearray(shard.read_bytes())
  content[len(content) // 2] ^= 0xFF
  shard.write_bytes(content)
  assert shard.name in trained.refused(broken, tmp_path / 'run')


def test_dry_run_prints_the_configuration_and_writes_nothing(sample_dataset, tmp_path):
  done = trained.run(sample_dataset.directory, tmp_path / 'run', '--dry_run')
  assert done.returncode == 0
  assert '--gmf_dim=8' in done.stdout
  assert not (tmp_path / 'run').exists()


def test_metrics_json_holds_plain_numbers(whole):
  json.dumps(trained.metrics(whole), allow_nan=False)


def test_steps_are_traced_where_asked_and_nothing_else_changes(
  whole, sample_dataset, tmp_path
):
  flags = ('--profile_steps=5,7', '--steps_per_call=4')
  run_dir = trained.train(sample_dataset.directory, tmp_path / 'run', *flags)
  assert list((run_dir / 'logs').rglob('*.xplane.pb'))
  assert trained.numbers(run_dir) == trained.numbers(whole)
  beyond = trained.train(
    sample_dataset.directory, tmp_path / 'beyond', '--profile_steps=5,9999'
  )
  assert list((beyond / 'logs').rglob('*.xplane.pb'))
  line = trained.refused(
    sample_dataset.directory, tmp_path / 'wrong', '--profile_steps=7,5'
  )
  assert '--profile_steps=7,5' in line
