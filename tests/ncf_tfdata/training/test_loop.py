"""The training loop in one process: what it returns, writes, and refuses."""

import keras
import numpy as np
import pytest
import toy_dataset
from toy_training import fit, make_task

from ncf_tfdata import run as run_lib
from ncf_tfdata.errors import UserError
from ncf_tfdata.models import saved
from ncf_tfdata.training import loop
from ncf_tfdata.training.checkpoint import Checkpoint
from ncf_tfdata.training.steps import Steps


def _weights(model) -> list[np.ndarray]:
  return [np.array(weight) for weight in model.weights]


def _same(one, other) -> bool:
  return all(map(np.array_equal, _weights(one), _weights(other)))


def _scripted(*values):
  """A validation that returns these values, one an epoch."""
  values = iter(values)
  return lambda: {'ndcg@10': next(values)}


def test_training_lowers_the_loss_and_writes_a_line_an_epoch(dataset, tmp_path):
  history, _, run = fit(dataset, tmp_path, epochs=4)
  losses_ = [row['loss'] for row in history]
  assert losses_ == sorted(losses_, reverse=True)
  assert losses_[0] < 0.75 and losses_[-1] < 0.6
  assert run.history() == history
  assert [row['epoch'] for row in history] == [1, 2, 3, 4]
  assert list(run.logs.rglob('events.out.tfevents.*'))


@pytest.mark.slow
def test_the_best_epochs_weights_are_kept(dataset, tmp_path):
  kept = {}

  def validate():
    value = {1: 0.1, 2: 0.5, 3: 0.5, 4: 0.2}[len(kept) + 1]
    kept[len(kept) + 1] = _weights(task.model)
    return {'ndcg@10': value}

  task = make_task(dataset)
  history, _, run = fit(dataset, tmp_path, epochs=4, task=task, validate=validate)
  assert loop.best_epoch(history, 'ndcg@10')['epoch'] == 2
  saved.load_weights(run, task.model)
  assert all(map(np.array_equal, _weights(task.model), kept[2]))
  assert not all(map(np.array_equal, kept[2], kept[3]))


@pytest.mark.slow
def test_without_validation_the_last_epoch_is_kept(tmp_path):
  dataset = toy_dataset.write(
    tmp_path / 'd', toy_dataset.tastes(), num_items=40, holdout=1
  )
  history, task, run = fit(dataset, tmp_path / 'run', patience=1)
  assert len(history) == 3
  trained = _weights(task.model)
  saved.load_weights(run, task.model)
  assert all(map(np.array_equal, _weights(task.model), trained))


@pytest.mark.slow
def test_patience_counts_epochs_without_a_better_value(dataset, tmp_path):
  validate = _scripted(0.1, 0.3, 0.3, 0.2, 0.9)
  history, _, _ = fit(dataset, tmp_path, epochs=9, patience=2, validate=validate)
  assert [row['ndcg@10'] for row in history] == [0.1, 0.3, 0.3, 0.2]


@pytest.mark.slow
def test_patience_goes_on_counting_in_a_resumed_run(dataset, tmp_path):
  fit(dataset, tmp_path, epochs=3, patience=2, validate=_scripted(0.1, 0.3, 0.2))
  history, _, run = fit(
    dataset, tmp_path, epochs=9, patience=2, validate=_scripted(0.25, 0.9)
  )
  assert [row['ndcg@10'] for row in history] == [0.1, 0.3, 0.2, 0.25]
  assert run.history() == history
  # Stopped is stopped: nothing is trained when it is asked again.
  again, _, _ = fit(dataset, tmp_path, epochs=9, patience=2, validate=_scripted())
  assert again == history


def test_a_lower_loss_is_the_better_one():
  history = [{'epoch': n, 'loss': loss} for n, loss in enumerate([3.0, 1.0, 1.0, 2.0])]
  assert loop.best_epoch(history, 'loss')['epoch'] == 1


class _StopError(Exception):
  pass


@pytest.mark.slow
@pytest.mark.parametrize(
  ('optimizer', 'jit_compile', 'calls'),
  [
    ('adam', False, 1),
    ('adam', False, 7),
    ('lazy_adam', False, 5),
    ('adam', True, 5),
  ],
)
def test_a_run_that_stops_anywhere_ends_with_the_same_bits(
  dataset, tmp_path, monkeypatch, optimizer, jit_compile, calls
):
  options = {
    'steps_per_call': 2,
    'checkpoint_every_steps': 3,
    'optimizer': optimizer,
    'jit_compile': jit_compile,
  }
  history, whole, _ = fit(dataset, tmp_path / 'whole', **options)
  run_steps = Steps.run
  count = iter(range(calls))

  def stop_after(*arguments):
    if next(count, None) is None:
      raise _StopError
    return run_steps(*arguments)

  with monkeypatch.context() as patched:
    patched.setattr(Steps, 'run', stop_after)
    with pytest.raises(_StopError):
      fit(dataset, tmp_path / 'parts', **options)
  resumed, parts, _ = fit(dataset, tmp_path / 'parts', **options)
  assert _same(whole.model, parts.model)
  assert [row['loss'] for row in resumed] == [row['loss'] for row in history]


@pytest.mark.slow
@pytest.mark.parametrize(
  ('owner', 'name'),
  [(run_lib.Run, 'write_history'), (saved, 'save_weights'), (Checkpoint, 'save')],
)
def test_killed_at_an_epochs_end_the_best_weights_are_of_the_best_line(
  dataset, tmp_path, monkeypatch, owner, name
):
  """Of the second epoch, which comes to less when it is judged again."""
  values, judged = iter([0.5, 0.6, 0.4]), []

  def stop(*unused):
    raise _StopError

  def validate():
    judged.append(_weights(task.model))
    if len(judged) == 2:
      patched.setattr(owner, name, stop)
    return {'ndcg@10': next(values)}

  task = make_task(dataset)
  with monkeypatch.context() as patched, pytest.raises(_StopError):
    fit(dataset, tmp_path, epochs=2, task=task, validate=validate)
  again = make_task(dataset)
  history, _, run = fit(dataset, tmp_path, epochs=2, task=again, validate=validate)
  best = loop.best_epoch(history, 'ndcg@10')['epoch']
  saved.load_weights(run, again.model)
  assert all(map(np.array_equal, _weights(again.model), judged[best - 1]))
  assert not all(map(np.array_equal, *judged[:2]))
  assert run.history() == history


@pytest.mark.slow
def test_what_a_kill_left_half_written_is_removed(dataset, tmp_path):
  fit(dataset, tmp_path, epochs=1)
  folder = run_lib.Run(tmp_path).checkpoints
  whole = {path.name for path in folder.iterdir()}
  (folder / 'state-9_temp').mkdir()
  for name in ('state-9_temp/part', 'state-9.index', 'checkpoint.tmp7', 'tmp.best.h5'):
    (folder / name).write_bytes(b'half')
  (folder / 'mine.txt').touch()
  fit(dataset, tmp_path, epochs=1)
  assert {path.name for path in folder.iterdir()} == {*whole, 'mine.txt'}


@pytest.mark.slow
@pytest.mark.parametrize('jit_compile', [False, True])
def test_steps_a_call_do_not_change_a_bit(dataset, tmp_path, jit_compile):
  options = {'jit_compile': jit_compile}
  one, first, _ = fit(dataset, tmp_path / 'a', steps_per_call=1, **options)
  other, second, _ = fit(dataset, tmp_path / 'b', steps_per_call=100, **options)
  assert _same(first.model, second.model)
  assert [row['loss'] for row in one] == [row['loss'] for row in other]


@pytest.mark.slow
@pytest.mark.parametrize(
  ('optimizer', 'options'),
  [
    ('adam', {}),
    ('adam', {'loss': 'softmax', 'shared': 16}),
    ('lazy_adam', {'loss': 'softmax', 'shared': 16}),
    ('lazy_adam', {'loss': 'bpr', 'l2': 0.01}),
  ],
)
def test_compiled_steps_are_the_plain_ones(dataset, tmp_path, optimizer, options):
  results = []
  for jit in (False, True):
    history, task, _ = fit(
      dataset,
      tmp_path / str(jit),
      task=make_task(dataset, **options),
      epochs=2,
      jit_compile=jit,
      optimizer=optimizer,
      rate=0.002,
    )
    results.append([*_weights(task.model), np.array([row['loss'] for row in history])])
  for plain, compiled, weight in zip(
    *results, [*task.model.weights, None], strict=True
  ):
    # A loss of differences has no gradient in the common bias but rounding.
    if weight is not task.model.head_bias:
      np.testing.assert_allclose(plain, compiled, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(
  ('dtype', 'optimizer'), [('bfloat16', 'lazy_adam'), ('float16', 'adam')]
)
def test_mixed_precision_comes_to_about_the_same_loss(
  dataset, tmp_path, dtype, optimizer
):
  options = {'optimizer': optimizer, 'jit_compile': True}
  wide, _, _ = fit(dataset, tmp_path / 'wide', **options)
  policy = keras.config.dtype_policy()
  keras.config.set_dtype_policy(f'mixed_{dtype}')
  try:
    task = make_task(dataset)
  finally:
    keras.config.set_dtype_policy(policy)
  narrow, _, _ = fit(
    dataset, tmp_path / 'narrow', task=task, scaled=dtype == 'float16', **options
  )
  assert [row['loss'] for row in narrow] != [row['loss'] for row in wide]
  for one, other in zip(narrow, wide, strict=True):
    assert one['loss'] == pytest.approx(other['loss'], rel=0.01)
  assert {weight.dtype for weight in task.model.weights} == {'float32'}


@pytest.mark.slow
def test_the_average_of_the_weights_is_judged_and_kept_but_not_trained(
  dataset, tmp_path
):
  judged = []

  def validate():
    judged.append(_weights(task.model))
    return {'ndcg@10': float(len(judged))}

  task = make_task(dataset)
  _, _, run = fit(dataset, tmp_path / 'a', task=task, average=0.9, validate=validate)
  _, plain, _ = fit(dataset, tmp_path / 'b')
  assert _same(task.model, plain.model)
  assert not all(map(np.array_equal, judged[-1], _weights(task.model)))
  saved.load_weights(run, task.model)
  assert all(map(np.array_equal, judged[-1], _weights(task.model)))


@pytest.mark.slow
def test_a_loss_that_is_no_number_is_told_and_not_kept(dataset, tmp_path):
  with pytest.raises(UserError, match=r'loss is (nan|inf).*--learning_rate'):
    fit(dataset, tmp_path, optimizer='sgd', rate=1e30)
  assert not run_lib.Run(tmp_path).history()


@pytest.mark.slow
def test_a_corrupt_shard_is_told_in_one_line(tmp_path):
  dataset = toy_dataset.write(tmp_path / 'd', toy_dataset.tastes(), num_items=40)
  shard = tmp_path / 'd' / 'ncf-train.tfrecord-00001-of-00002'
  content = bytearray(shard.read_bytes())
  content[len(content) // 2] ^= 1
  shard.write_bytes(content)
  with pytest.raises(UserError, match=r'00001-of-00002 is corrupt.*Prepare') as caught:
    fit(dataset, tmp_path / 'run')
  assert '\n' not in str(caught.value)


@pytest.mark.slow
def test_a_user_with_every_item_is_not_trained_on(tmp_path):
  tastes = toy_dataset.tastes(num_users=20, num_items=12, rows=8)
  whole = np.concatenate([np.arange(12), [0, 1]])
  dataset = toy_dataset.write(
    tmp_path / 'd', [whole, *tastes], num_items=12, eval_negatives=0, train_negatives=0
  )
  task = make_task(dataset)
  before = task.model.user_table.numpy()
  history, _, _ = fit(dataset, tmp_path / 'run', task=task)
  assert np.isfinite([row['loss'] for row in history]).all()
  moved = (task.model.user_table.numpy() != before).any(axis=1)
  assert not moved[0]
  assert moved[1:].all()


@pytest.mark.slow
def test_a_dataset_replaced_during_the_run_is_refused(tmp_path):
  path = tmp_path / 'd'
  dataset = toy_dataset.write(path, toy_dataset.tastes(), num_items=40)

  def replace():
    toy_dataset.write(path, toy_dataset.tastes(seed=1), num_items=40)
    return {'ndcg@10': 0.1}

  with pytest.raises(UserError, match=r'was replaced while'):
    fit(dataset, tmp_path / 'run', validate=replace)
