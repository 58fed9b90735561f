"""The history model against its formula in plain numpy, and as a scorer."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from ncf_tfdata import memory
from ncf_tfdata.data import records
from ncf_tfdata.models import dropout, history, history_encoders

_USERS, _ITEMS, _LENGTH = 7, 11, 5


def _model(**options) -> history.History:
  options = {
    'history_length': _LENGTH,
    'dim': 8,
    'heads': 2,
    'hidden': 6,
    'embedding_stddev': 1.0,
    **options,
  }
  model = history.History(_USERS, _ITEMS, **options)
  generator = np.random.default_rng(0)
  for weight in model.trainable_variables:  # Gains and biases start from constants.
    weight.assign(weight + generator.normal(0, 0.3, weight.shape))
  return model


_HISTORIES = [[3, 1, 4, 0, 5, 9, 2], [6, 5], [3], [], [8, 9, 7, 10, 3], [2, 0, 2], [1]]


def _batch(histories=_HISTORIES, user=None) -> records.EvaluationBatch:
  n = len(histories)
  return records.EvaluationBatch(
    user=np.arange(n) if user is None else np.array(user),
    positive=np.zeros(n, np.int64),
    negatives=np.zeros((n, 0), np.int64),
    history=np.array([item for items in histories for item in items], np.int64),
    history_length=np.array([len(items) for items in histories]),
  )


def _norm(x, gain, shift, epsilon=1e-6):
  return (x - x.mean(-1, keepdims=True)) / np.sqrt(
    x.var(-1, keepdims=True) + epsilon
  ) * gain + shift


def _softmax(x):
  return np.exp(x - x.max()) / np.exp(x - x.max()).sum()


def _attended(layer, latest) -> np.ndarray:
  """What attention adds for one history, float [k, dim], one head at a time."""
  dim = latest.shape[1]
  x = _norm(latest, np.array(layer.norm.gamma), np.array(layer.norm.beta), 1e-3)
  keys, values = np.split(x @ np.array(layer.keys.kernel), 2, axis=1)
  query, gate = np.split(x[-1] @ np.array(layer.queries.kernel), 2)
  bias = np.array(layer.lag)
  bias = bias[:, bias.shape[1] - len(latest) :]
  out, width = np.zeros(dim), dim // len(bias)
  for head, by_lag in enumerate(bias):
    part = slice(head * width, (head + 1) * width)
    weights = _softmax(keys[:, part] @ query[part] / np.sqrt(width) + by_lag)
    out[part] = weights @ values[:, part]
  return out * gate / (1 + np.exp(-gate)) @ np.array(layer.output_layer.kernel)


def _logits(member, user, items, codes=()) -> np.ndarray:
  """All logits of one user by the formula, one lag and one head at a time.

  Of the gaps before items there may be codes.
  """
  table, bias = np.array(member.item_table), np.array(member.item_bias)
  dim = table.shape[1]
  latest = table[items[-_LENGTH:]].reshape(-1, dim)
  for vector, code in zip(latest, codes[-_LENGTH:], strict=False):
    if code:
      vector += np.array(member.gap_table)[code]
  padded = np.concatenate([np.zeros((2, dim)), latest])
  parts, query = [padded[-1], padded[-2]], np.zeros(dim)
  if member.pool is not None:
    lag, scale = np.array(member.pool.lag), np.array(member.pool.scale)
    pooled = np.zeros(dim)
    for back in range(1, len(latest) + 1):
      for head, weights in enumerate(lag):
        part = slice(head * dim // len(lag), (head + 1) * dim // len(lag))
        pooled[part] += weights[_LENGTH - back] * latest[-back, part]
    parts.append(pooled * scale)
    query = query + pooled * scale
  if member.attention is not None:
    seen = latest[-member.attention.lag.shape[1] :]
    added = _attended(member.attention, seen) if len(seen) else np.zeros(dim)
    parts.append(padded[-1] + added)
    query = query + added + (padded[-1] if member.pool is None else 0)
  if member.user_table is not None:
    vector = np.zeros(dim) if user is None else np.array(member.user_table)[user]
    parts.append(vector)
    query = query + vector
  if member.pool is not None or member.attention is not None:
    normed = _norm(np.stack(parts), np.array(member.gain), np.array(member.shift))
    hidden = normed.ravel() @ np.array(member.up.kernel) + np.array(member.up.bias)
    hidden = hidden / (1 + np.exp(-1.702 * hidden))
    query = query + hidden @ np.array(member.down.kernel) + np.array(member.down.bias)
  return table[:-1] @ query + bias


_KINDS = [
  {},
  {'user_embedding': False},
  {'encoder': 'attention'},
  {'encoder': 'both'},
  {'encoder': 'none'},
  {'encoder': 'both', 'members': 2},
  {'gaps': True},
  {'encoder': 'both', 'attention_length': 2},
  {'encoder': 'attention', 'attention_length': 1},
]


@pytest.mark.parametrize('options', _KINDS)
def test_every_way_to_a_logit_gives_the_formulas(options):
  model = _model(**options)
  expected = np.array(
    [
      np.mean([_logits(member, user, items) for member in model.networks], axis=0)
      for user, items in enumerate(_HISTORIES)
    ]
  )
  batch, items = _batch(), np.tile(np.arange(_ITEMS)[::-1], (_USERS, 1))
  close = {'rtol': 1e-4, 'atol': 1e-4}
  np.testing.assert_allclose(model.score_all(batch), expected, **close)
  np.testing.assert_allclose(
    model.score_candidates(batch, items), expected[:, ::-1], **close
  )


_GAPS = [[9, 0, 1, 7, 8, 3, 100], [5, 2**40], [4], [], [0] * 5, [1, 1, 1], [0]]


def _timed(histories, gaps) -> records.EvaluationBatch:
  """A batch whose histories have times."""
  time = [np.cumsum(row, dtype=np.int64) for row in gaps]
  return _batch(histories)._replace(history_time=np.concatenate(time))


@pytest.mark.parametrize('options', [*_KINDS[:4], {'members': 2}])
def test_gaps_are_added_to_the_items_they_come_before(options):
  model = _model(**options, gaps=True)
  codes = [
    [0, *((1 + gap).bit_length() for gap in row[1:])][: len(row)] for row in _GAPS
  ]
  rows = list(zip(_HISTORIES, codes, strict=True))
  close = {'rtol': 1e-4, 'atol': 1e-4}

  def expected(told):
    return np.array(
      [
        np.mean(
          [_logits(member, user, items, code if told else ()) for member in networks],
          axis=0,
        )
        for user, (items, code) in enumerate(rows)
      ]
    )

  networks, timed = model.networks, _timed(_HISTORIES, _GAPS)
  np.testing.assert_allclose(model.score_all(timed), expected(True), **close)
  # Without times they are not known.
  np.testing.assert_allclose(model.score_all(_batch()), expected(False), **close)
  assert not np.allclose(expected(True), expected(False), atol=0.1)
  items = np.tile(np.arange(_ITEMS)[::-1], (_USERS, 1))
  found = model.score_candidates(timed, items)
  np.testing.assert_allclose(found, expected(True)[:, ::-1], **close)


def test_a_model_that_reads_no_gaps_is_none_the_wiser_of_times():
  model = _model()
  found = model.score_all(_timed(_HISTORIES, _GAPS))
  np.testing.assert_array_equal(found, model.score_all(_batch()))
  assert 'gaps' not in model.get_config()


@pytest.mark.parametrize('length', [None, 1, 2, 4])
@pytest.mark.parametrize('encoder', ['pool', 'attention', 'both'])
def test_a_window_answers_like_one_history_at_a_time(encoder, length):
  model = _model(encoder=encoder, attention_length=length)
  member = model.networks[0]
  generator = np.random.default_rng(3)
  # Two users, the second behind his pads; more of the line than the history's length.
  pads = [_ITEMS] * _LENGTH
  first, second = (generator.integers(0, _ITEMS, n).tolist() for n in (9, 6))
  line = [*pads, *first, *pads, *second]
  tokens = tf.constant([line], tf.int32)
  targets = len(line) - _LENGTH
  place = [*range(9), *range(9 + _LENGTH, targets)]
  row = tf.constant(place, tf.int32)
  user = tf.constant([0] * 9 + [1] * 6)
  found = member.query(tokens, row, member.users(user, model.known(user)))
  histories = [own[:n] for own in (first, second) for n in range(len(own))]
  batch = _batch(histories, user=user.numpy())
  np.testing.assert_allclose(
    member.logits(found), model.score_all(batch), rtol=1e-4, atol=1e-4
  )


def test_a_band_is_the_toeplitz_matrix_of_the_weights():
  weights = np.random.default_rng(0).normal(size=(2, 3))
  expected = np.zeros((2, 4, 7))
  for target in range(4):
    for lag in range(3):
      expected[:, target, target + lag] = weights[:, lag]
  found = history_encoders.band(tf.constant(weights), 4)
  np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize('encoder', ['pool', 'attention', 'both'])
def test_only_the_latest_items_count(encoder):
  model = _model(encoder=encoder)
  one, other = ([*earlier, 1, 2, 3, 4, 5] for earlier in ([], [9, 8, 7]))
  scores = model.score_all(_batch([one, other], user=[2, 2]))
  np.testing.assert_allclose(scores[0], scores[1], rtol=1e-5, atol=1e-5)


def test_a_user_who_is_not_known_has_a_zero_vector():
  model = _model()
  member, items = model.networks[0], [3, 1, 4]
  model.user_known.assign([1, 0, 1, 1, 1, 1, 1])
  # 1 was not trained on; the others are of no table.
  scores = model.score_all(_batch([items] * 4, user=[1, -1, _USERS, 0]))
  expected = _logits(member, None, items)
  for row in scores[:3]:
    np.testing.assert_allclose(row, expected, rtol=1e-4, atol=1e-4)
  assert not np.allclose(scores[3], expected, atol=1e-2)
  user = tf.constant([1, 0])
  vectors = member.users(user, model.known(user)).numpy()
  assert not vectors[0].any() and vectors[1].any()


@pytest.mark.parametrize('members', [1, 2])
def test_scores_do_not_depend_on_how_they_are_chunked(monkeypatch, members):
  model, batch = _model(members=members), _batch()
  items = np.tile(np.arange(5), (_USERS, 1))
  catalogue, pairs = model.score_all(batch), model.score_candidates(batch, items)
  monkeypatch.setattr(memory, 'BLOCK_CELLS', 1)
  np.testing.assert_allclose(model.score_all(batch), catalogue, rtol=1e-5, atol=1e-5)
  np.testing.assert_allclose(
    model.score_candidates(batch, items), pairs, rtol=1e-5, atol=1e-5
  )


@pytest.mark.parametrize('options', _KINDS)
def test_a_model_is_made_again_from_its_configuration_and_weights(options, tmp_path):
  model = _model(**options, dropout=0.5, name='history', seed=3)
  model.user_known.assign([1, 0, 1, 1, 0, 1, 1])
  made = keras.saving.deserialize_keras_object(
    keras.saving.serialize_keras_object(model)
  )
  model.save_weights(tmp_path / 'x.weights.h5')
  made.load_weights(tmp_path / 'x.weights.h5')
  assert made.get_config() == model.get_config()
  np.testing.assert_array_equal(made.user_known, model.user_known)
  assert np.array_equal(made.score_all(_batch()), model.score_all(_batch()))


def test_initial_weights_follow_the_seed_and_differ_by_member():
  def tables(**options):
    model = history.History(_USERS, _ITEMS, dim=8, heads=2, **options)
    return [np.array(member.item_table) for member in model.networks]

  (one,), (again,), (other,) = tables(), tables(), tables(seed=1)
  assert np.array_equal(one, again) and not np.array_equal(one, other)
  first, second = tables(members=2)
  assert np.array_equal(first, one) and not np.array_equal(first, second)


def test_the_pool_starts_from_powers_of_the_lag():
  lag = history.History(_USERS, _ITEMS, 4, dim=8, heads=2).lag_weights()
  assert lag.shape == (1, 2, 4)
  np.testing.assert_allclose(lag.sum(axis=2), 1, rtol=1e-6)
  np.testing.assert_allclose(lag[0, 0] / lag[0, 0, 0], np.arange(1, 5) ** -0.25)
  np.testing.assert_allclose(lag[0, 1] / lag[0, 1, 0], np.arange(1, 5) ** -1.5)
  assert _model(encoder='attention').lag_weights() is None


@pytest.mark.parametrize('encoder', history.ENCODERS)
def test_mixed_precision_computes_narrow_and_answers_in_float32(encoder):
  policy = keras.config.dtype_policy()
  wide = _model(encoder=encoder)
  keras.config.set_dtype_policy('mixed_bfloat16')
  try:
    narrow = _model(encoder=encoder)
  finally:
    keras.config.set_dtype_policy(policy)
  assert {weight.dtype for weight in narrow.weights} == {'float32'}
  scores, expected = narrow.score_all(_batch()), wide.score_all(_batch())
  assert scores.dtype == np.float32
  assert not np.array_equal(scores, expected)
  np.testing.assert_allclose(scores, expected, atol=0.05 * np.abs(expected).max())


@pytest.mark.parametrize(
  'options,message',
  [
    ({'encoder': 'none', 'user_embedding': False}, 'needs `user_embedding`'),
    ({'encoder': 'lstm'}, 'must be one of pool, attention, both, none'),
    ({'heads': 3}, '`heads` must divide `dim`. Received: heads=3, dim=8'),
    ({'encoder': 'both', 'attention_length': 6}, 'must be from 1 to `history_length`'),
    ({'history_length': 1}, 'Received: history_length=1'),
  ],
)
def test_options_that_contradict_each_other_are_refused(options, message):
  with pytest.raises(ValueError, match=message):
    _model(**options)


def _seed(value: int) -> tf.Tensor:
  return tf.constant(value, tf.uint64)


def test_dropout_is_a_function_of_its_seed_and_keeps_the_mean():
  x = tf.ones([300, 400])
  one, again, other = (
    dropout.dropout(x, 0.3, _seed(seed)).numpy() for seed in (5, 5, 6)
  )
  assert np.array_equal(one, again)
  assert set(np.unique(one)) == {0, np.float32(1 / 0.7)}
  sd = np.sqrt(0.3 * 0.7 / one.size) / 0.7
  assert abs(one.mean() - 1) < 5 * sd
  # Masks of neighbouring seeds, rows and columns have nothing to do with each other.
  kept = one > 0
  for unrelated in (other > 0, np.roll(kept, 1, 0), np.roll(kept, 1, 1)):
    assert abs((kept == unrelated).mean() - 0.58) < 0.01
  assert dropout.dropout(x, 0.3, None) is x
  assert dropout.dropout(x, 0.0, _seed(1)) is x


def test_masks_of_two_seeds_are_not_one_mask_at_two_offsets():
  low, high = _seed(1), _seed((7 << 32) + 2)
  one, other = (dropout.keep([1000], 0.5, seed).numpy() for seed in (low, high))
  assert (one[1:] == other[:-1]).mean() < 0.6
