"""The history objective against plain numpy, and what a model learns by it."""

import keras
import numpy as np
import pytest
import scipy.special
import tensorflow as tf
import toy_dataset

from ncf_tfdata import run as run_lib
from ncf_tfdata.data import records, sampling, window_batches
from ncf_tfdata.evaluation import ranking
from ncf_tfdata.models import history, history_objective, saved
from ncf_tfdata.models.task import Task
from ncf_tfdata.training import loop
from ncf_tfdata.training.config import TrainConfig
from ncf_tfdata.training.steps import Steps

_USERS, _ITEMS, _LENGTH, _WINDOW = 4, 9, 3, 4
_POPULAR = sampling.Sampler(_ITEMS, np.arange(1, _ITEMS + 1) ** 2, 0.5)


def _batch() -> dict[str, tf.Tensor]:
  """Two windows; the last row is empty and points at a pad."""
  tokens = np.random.default_rng(0).integers(0, _ITEMS, (2, _LENGTH + _WINDOW))
  tokens[1, _LENGTH + 1 :] = _ITEMS
  row = [0, 1, 2, 3, 4, 7]
  return {
    'tokens': tf.constant(tokens[None], tf.int32),
    'user': tf.constant([[0, 0, 1, 1, 2, 0]]),
    'row': tf.constant([row]),
    'weight': tf.constant([[1.0, 1.0, 0.5, 1.0, 2.0, 0.0]]),
  }


def _objective(*, shared=0, l2=0.0, sampler=_POPULAR, user_dropout=0.0, **options):
  model = history.History(
    _USERS,
    _ITEMS,
    **{
      'history_length': _LENGTH,
      'dim': 4,
      'heads': 2,
      'hidden': 3,
      'dropout': 0.0,
      'embedding_stddev': 1.0,
      **options,
    },
  )
  for member in model.networks:
    member.item_bias.assign(np.linspace(-1, 1, _ITEMS))
  objective = history_objective.HistoryObjective(
    model,
    rows_per_step=5.0,
    seed=0,
    sampler=sampler,
    shared_negatives=shared,
    l2=l2,
    user_dropout=user_dropout,
  )
  return model, objective


def _completed(objective, batch=None, step=0):
  zero = tf.constant(0, tf.int64)
  return objective.complete(batch or _batch(), zero, tf.constant(step, tf.int64))


def _value(objective, batch=None, step=0) -> float:
  return objective(_completed(objective, batch, step)).numpy()


def _targets(batch) -> np.ndarray:
  targets = batch['tokens'].numpy()[0, :, _LENGTH:]
  return np.minimum(targets.ravel()[batch['row'][0]], _ITEMS - 1)


def _logits(member, batch, model) -> np.ndarray:
  """Float [n, items], of the whole catalogue."""
  user = batch['user'][0]
  users = member.users(user, model.known(user))
  query = member.query(batch['tokens'][0], batch['row'][0], users)
  return member.logits(query).numpy()


@pytest.mark.parametrize('encoder', history.ENCODERS)
def test_without_negatives_it_is_the_softmax_over_the_catalogue(encoder):
  model, objective = _objective(encoder=encoder)
  batch = _batch()
  rows = -scipy.special.log_softmax(_logits(model.networks[0], batch, model), axis=1)
  rows = rows[np.arange(6), _targets(batch)]
  expected = (rows * batch['weight'].numpy()[0]).sum() / 5
  assert _value(objective) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize('sampler', [_POPULAR, sampling.Sampler(_ITEMS)])
def test_shared_negatives_lose_their_log_q_and_hits_are_masked(sampler):
  model, objective = _objective(shared=20, sampler=sampler)
  completed, batch = _completed(objective), _batch()
  negatives, target = completed['negatives'].numpy()[0], _targets(batch)
  assert set(target) & set(negatives)
  logits = _logits(model.networks[0], batch, model)
  others = logits[:, negatives] - np.log(20) - sampler.log_probability[negatives]
  others[target[:, None] == negatives] = -np.inf
  positive = logits[np.arange(6), target]
  rows = scipy.special.logsumexp(np.c_[positive, others], axis=1) - positive
  expected = (rows * batch['weight'].numpy()[0]).sum() / 5
  assert objective(completed).numpy() == pytest.approx(expected, rel=1e-5)


def test_many_negatives_come_near_the_softmax_over_the_catalogue():
  (_, full), (_, sampled) = _objective(), _objective(shared=200_000)
  assert _value(sampled) == pytest.approx(_value(full), rel=2e-3)


def test_negatives_follow_the_sampler_and_differ_by_step_and_member():
  _, objective = _objective(shared=20_000, members=2)
  one, again, other = (
    _completed(objective, step=step)['negatives'].numpy() for step in (3, 3, 4)
  )
  assert np.array_equal(one, again)
  assert (one == other).mean() < 0.3 and (one[0] == one[1]).mean() < 0.3
  share = np.bincount(one[0], minlength=_ITEMS) / one[0].size
  np.testing.assert_allclose(share, np.exp(_POPULAR.log_probability), atol=0.01)


@pytest.mark.parametrize('user_embedding', [True, False])
def test_l2_is_that_of_the_targets_and_users_of_the_rows(user_embedding):
  options = {'user_embedding': user_embedding}
  (model, plain), (_, penalised) = _objective(**options), _objective(l2=0.1, **options)
  member, batch = model.networks[0], _batch()
  rows = (np.array(member.item_table)[_targets(batch)] ** 2).sum(1)
  if user_embedding:
    rows += (np.array(member.user_table)[batch['user'][0]] ** 2).sum(1)
  expected = 0.1 * (rows * batch['weight'].numpy()[0]).sum() / 5
  assert _value(penalised) - _value(plain) == pytest.approx(expected, rel=1e-3)


def _gradients(model, objective, batch):
  with tf.GradientTape() as tape:
    loss = objective(_completed(objective, batch))
  found = tape.gradient(loss, [weight.value for weight in model.trainable_variables])
  return loss.numpy(), [tf.convert_to_tensor(gradient).numpy() for gradient in found]


def test_a_row_of_weight_0_has_no_share_in_value_or_gradient():
  model, objective = _objective(l2=0.1)
  batch = _batch()
  without = {
    name: tensor if name == 'tokens' else tensor[:, :5]
    for name, tensor in batch.items()
  }
  one, other = (_gradients(model, objective, each) for each in (batch, without))
  assert one[0] == pytest.approx(other[0], rel=1e-6)
  for first, second in zip(one[1], other[1], strict=True):
    np.testing.assert_allclose(first, second, rtol=1e-4, atol=1e-6)


def test_a_member_is_trained_as_if_it_were_alone_and_the_loss_is_the_mean():
  pair, both = _objective(members=2)
  loss, gradients = _gradients(pair, both, _batch())
  single, alone = _objective()
  losses = []
  for index, member in enumerate(pair.networks):
    for weight, value in zip(
      single.networks[0].trainable_variables, member.trainable_variables, strict=True
    ):
      weight.assign(value)
    value, expected = _gradients(single, alone, _batch())
    losses.append(value)
    found = gradients[index * len(expected) : (index + 1) * len(expected)]
    for one, other in zip(found, expected, strict=True):
      np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)
  assert loss == pytest.approx(np.mean(losses), rel=1e-5)


def test_dropout_follows_the_step():
  _, objective = _objective(dropout=0.5)
  assert _value(objective) == _value(objective)
  assert _value(objective) != _value(objective, step=1)


@pytest.mark.slow
@pytest.mark.parametrize('encoder', history.ENCODERS)
def test_it_compiles_to_the_same_value(encoder):
  _, objective = _objective(encoder=encoder, dropout=0.5, shared=8, l2=0.1, members=2)
  completed = _completed(objective)
  compiled = tf.function(objective, jit_compile=True)
  assert compiled(completed).numpy() == pytest.approx(
    objective(completed).numpy(), rel=1e-5
  )


def _chains(num_users: int = 150, num_items: int = 30) -> list[np.ndarray]:
  """Users who start anywhere and go up by one, round and round."""
  generator = np.random.default_rng(0)
  starts = generator.integers(0, num_items, num_users)
  lengths = generator.integers(8, 20, num_users)
  return [
    (start + np.arange(length)) % num_items
    for start, length in zip(starts, lengths, strict=True)
  ]


@pytest.fixture(scope='module')
def chains(tmp_path_factory):
  path = tmp_path_factory.mktemp('chains')
  return toy_dataset.write(path, _chains(), num_items=30, eval_negatives=5)


def _task(dataset, *, shared=16, replicas=1, **options) -> Task:
  length = 0 if options.get('encoder') == 'none' else 4
  shapes = {'batch_size': 256, 'history_length': length, 'window': 16}
  model = history.History(
    dataset.num_users,
    dataset.num_items,
    **{'history_length': length, 'dim': 16, 'heads': 2, 'hidden': 16, **options},
  )
  steps = window_batches.steps_per_epoch(dataset, **shapes)
  objective = history_objective.HistoryObjective(
    model,
    rows_per_step=dataset.rows('train') / steps,
    seed=0,
    sampler=sampling.Sampler(dataset.num_items),
    shared_negatives=shared,
    l2=0.001,
  )
  return Task(
    model,
    objective,
    batches=lambda epoch, step: window_batches.window_batches(
      dataset,
      seed=0,
      replicas=replicas,
      first_epoch=epoch,
      first_step=step,
      **shapes,
    ),
    steps=steps,
    rows=dataset.rows('train'),
    scorer=model,
  )


def _train(dataset, directory, task, epochs=8):
  optimizer = keras.optimizers.Adam(0.02)
  optimizer.build(task.model.trainable_variables)
  run = run_lib.Run(directory)
  run.start({}, dataset, saved.serialize(task.model), overwrite=False)
  options = TrainConfig(
    epochs=epochs,
    monitor='loss',
    patience=0,
    steps_per_call=3,
    checkpoint_every_steps=4,
    jit_compile=False,
  )
  strategy = tf.distribute.get_strategy()
  return loop.fit(task, optimizer, strategy, run, dataset, options, validate=dict)


def _hits(dataset, model) -> float:
  """Share of test rows whose item comes first in the whole catalogue."""
  batches = records.evaluation_batches(dataset, 'test', 1000)
  ranks = ranking.rank_full(model, batches, dataset.num_items, (5,))
  return (ranks.full < 1).mean()


@pytest.mark.slow
@pytest.mark.parametrize(
  'encoder,shared', [('pool', 0), ('pool', 16), ('attention', 16), ('both', 16)]
)
def test_what_always_follows_is_learned(chains, tmp_path, encoder, shared):
  task = _task(chains, encoder=encoder, shared=shared, members=1 + (encoder == 'both'))
  lines = _train(chains, tmp_path, task)
  assert lines[-1]['loss'] < 0.5 * lines[0]['loss']
  assert _hits(chains, task.model) > 0.85


@pytest.mark.slow
def test_mixed_precision_comes_to_about_the_same_loss(chains, tmp_path):
  options = {'encoder': 'both', 'dropout': 0.0}
  wide = _train(chains, tmp_path / 'wide', _task(chains, **options), epochs=2)
  policy = keras.config.dtype_policy()
  keras.config.set_dtype_policy('mixed_bfloat16')
  try:
    task = _task(chains, **options)
  finally:
    keras.config.set_dtype_policy(policy)
  narrow = _train(chains, tmp_path / 'narrow', task, epochs=2)
  assert [row['loss'] for row in narrow] != [row['loss'] for row in wide]
  for one, other in zip(narrow, wide, strict=True):
    assert one['loss'] == pytest.approx(other['loss'], rel=0.03)
  assert {weight.dtype for weight in task.model.weights} == {'float32'}


@pytest.mark.slow
def test_matrix_factorisation_forgets_what_came_last(chains, tmp_path):
  task = _task(chains, encoder='none')
  _train(chains, tmp_path, task)
  assert _hits(chains, task.model) < 0.6


@pytest.mark.slow
def test_a_stopped_run_ends_with_the_same_bits(chains, tmp_path, monkeypatch):
  whole = _task(chains)
  _train(chains, tmp_path / 'whole', whole, epochs=2)
  run, calls = Steps.run, iter(range(6))

  class StopError(Exception):
    pass

  def stop_after(*arguments):
    if next(calls, None) is None:
      raise StopError
    return run(*arguments)

  with monkeypatch.context() as patched, pytest.raises(StopError):
    patched.setattr(Steps, 'run', stop_after)
    _train(chains, tmp_path / 'parts', _task(chains), epochs=2)
  parts = _task(chains)
  _train(chains, tmp_path / 'parts', parts, epochs=2)
  for one, other in zip(whole.model.weights, parts.model.weights, strict=True):
    np.testing.assert_array_equal(one, other)


@pytest.mark.slow
@pytest.mark.parametrize('shared', [0, 16])
def test_shares_of_two_replicas_add_up_to_the_whole(chains, shared):
  one = _task(chains, dropout=0.0, shared=shared)
  two = _task(chains, dropout=0.0, shared=shared, replicas=2)
  streams = (task.batches(0, 0).take(3) for task in (one, two))
  for whole, halves in zip(*streams, strict=True):
    loss, gradients = _gradients(one.model, one.objective, whole)
    found = [
      _gradients(
        one.model, one.objective, {name: x[r : r + 1] for name, x in halves.items()}
      )
      for r in range(2)
    ]
    assert loss == pytest.approx(sum(share for share, _ in found), rel=1e-5)
    parts = zip(*(shares for _, shares in found), strict=True)
    for expected, pair in zip(gradients, parts, strict=True):
      np.testing.assert_allclose(expected, sum(pair), rtol=1e-3, atol=1e-6)


def _row_values(objective, batch, rows=5) -> np.ndarray:
  """What each row adds to the objective, by itself."""
  weights = np.eye(6, dtype='float32')[:rows]
  return np.array(
    [_value(objective, {**batch, 'weight': tf.constant(w[None])}) for w in weights]
  )


def test_a_share_of_the_rows_is_trained_as_a_cold_users():
  def values(dropout, known):
    model, objective = _objective(l2=0.1, user_dropout=dropout)
    # Far from the start, where a user's vector says nothing yet.
    model.networks[0].user_table.assign(np.ones((_USERS, 4)))
    model.user_known.assign(np.full(_USERS, known, 'float32'))
    return _row_values(objective, _batch())

  warm, cold, mixed = values(0.0, 1), values(0.0, 0), values(0.5, 1)
  assert (np.abs(warm - cold) > 1e-3).all()
  of_warm, of_cold = np.isclose(mixed, warm), np.isclose(mixed, cold)
  assert (of_warm ^ of_cold).all()
  assert of_warm.any() and of_cold.any()
  np.testing.assert_allclose(values(1.0, 1), cold, rtol=1e-6)


def test_most_windows_are_told_their_gaps():
  _, objective = _objective(gaps=True)
  gaps = tf.tile(tf.constant([[0, 3, 9, 1, 2, 5, 40]]), [400, 1])
  batch = {**_completed(objective), 'gaps': gaps}
  told = objective._gaps(0, batch).numpy()
  whole = (told == gaps.numpy()).all(axis=1)
  assert (whole | ~told.any(axis=1)).all()
  assert 0.8 < whole.mean() < 0.97
  # Each network by itself.
  assert (objective._gaps(1, batch).numpy() != told).any()


def test_gaps_are_learned_from():
  model, objective = _objective(gaps=True)
  gaps = tf.constant(np.random.default_rng(1).integers(0, 9, (1, 2, 7)), tf.int32)
  batch = _completed(objective, {**_batch(), 'gaps': gaps})
  with tf.GradientTape() as tape:
    loss = objective(batch)
  table = model.networks[0].gap_table
  (gradient,) = tape.gradient(loss, [table.value])
  gradient = tf.convert_to_tensor(gradient).numpy()
  used = np.unique(objective._gaps(0, batch).numpy())
  touched = np.flatnonzero(gradient.any(axis=1))
  # Of what is not known nothing is learned.
  assert len(touched) > 3 and 0 not in touched
  assert set(touched) <= set(used.tolist())
