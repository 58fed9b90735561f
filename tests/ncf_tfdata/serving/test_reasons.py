"""Reasons of recommendations, against numpy, by every way to ask."""

import json

import commands
import numpy as np
import pytest
import tensorflow as tf
import toy_answers
import toy_batch
import toy_dataset
import toy_run

import ncf_tfdata as ncf
from ncf_tfdata import dataset as dataset_lib
from ncf_tfdata.data import transitions
from ncf_tfdata.models import history_effects, saved, transitions_in_graph
from ncf_tfdata.models.history import History
from ncf_tfdata.models.neumf import NeuMF
from ncf_tfdata.models.with_ease import WithEase
from ncf_tfdata.models.with_transitions import WithTransitions
from ncf_tfdata.serving import reasons, reasons_in_graph, saved_model

pytestmark = pytest.mark.slow

_USERS, _ITEMS = 6, 11
# An item twice, three times, all items, one, and none.
_HISTORIES = [[3, 1, 4, 0, 3], [6, 6, 2, 6], list(range(_ITEMS)), [5], [], [2, 8, 2]]
_CANDIDATES = np.array([[9, 0], [1, 1], [10, 3], [4, 5], [0, 7], [8, 6]])
_CLOSE = {'rtol': 1e-4, 'atol': 1e-5}


@pytest.fixture(scope='module')
def toy(tmp_path_factory):
  items = [np.array([0, 1, 2, 3, 9, 0]), np.array([4, 5, 6, 2, 10, 1])] * 3
  return toy_dataset.write(
    tmp_path_factory.mktemp('toy'),
    items,
    num_items=_ITEMS,
    holdout=1,
    train_negatives=1,
    eval_negatives=1,
  )


def _network() -> History:
  return History(
    _USERS, _ITEMS, 4, dim=8, heads=2, hidden=6, embedding_stddev=1.0, name='history'
  )


def _model(toy, network, last=50):
  """A network with transitions, drawn at random, and EASE around it."""
  generator = np.random.default_rng(0)
  counts = generator.random((_ITEMS, _ITEMS)) * (
    generator.random((_ITEMS, _ITEMS)) < 0.4
  )
  wrapped = WithTransitions(network, 1.5, smoothing=0.1)
  wrapped.scores = transitions.TransitionScores(
    transitions.sp.csr_matrix(counts), generator.integers(0, 9, _ITEMS), last=last
  )
  model = WithEase(wrapped, 2.0, l2=3.0)
  model._dataset = toy
  return model


def _effects(model, histories=_HISTORIES, candidates=_CANDIDATES):
  """`history_effects` as dictionaries of item by row; what is twice is summed."""
  batch = toy_batch.of(histories)
  ragged = tf.RaggedTensor.from_row_lengths(batch.history, batch.history_length)
  found = model.history_effects(
    tf.constant(batch.user), ragged, tf.constant(candidates)
  )
  assert tuple(found) == model.effect_names
  by_name = {}
  for name, effects in found.items():
    rows = np.split(effects.numpy(), np.cumsum(batch.history_length)[:-1])
    by_name[name] = [
      {
        item: sum(
          (effect for seen, effect in zip(history, row, strict=True) if seen == item),
          np.zeros(candidates.shape[1]),
        )
        for item in set(history)
      }
      for history, row in zip(histories, rows, strict=True)
    ]
  return by_name


def _scores(scorer, histories, candidates=_CANDIDATES):
  return scorer.score_candidates(toy_batch.of(histories), candidates)


@pytest.fixture(params=[0, _ITEMS])
def by_table(request, monkeypatch):
  """Has transitions come apart by their cells, and by a table of all pairs."""
  monkeypatch.setattr(transitions_in_graph, '_TABLE_ITEMS', request.param)


def test_what_is_added_comes_apart_exactly(toy, by_table):
  network = _network()
  model = _model(toy, network)
  found = _effects(model)
  nothing = [[] for _ in _HISTORIES]
  with_transitions = model.model
  for name, whole, without in (
    ('transitions', with_transitions, network),
    ('ease', model, with_transitions),
  ):
    added = _scores(whole, _HISTORIES) - _scores(without, _HISTORIES)
    base = _scores(whole, nothing) - _scores(without, nothing)
    parts = [sum(row.values(), np.zeros(_CANDIDATES.shape[1])) for row in found[name]]
    np.testing.assert_allclose(parts, added - base, **_CLOSE)
    assert np.abs(parts).max() > 0.1


def test_a_part_of_ease_is_its_weight_and_one_of_transitions_its_share(toy, by_table):
  model = _model(toy, _network(), last=3)
  found = _effects(model)
  scores = model.model.scores
  for row, history in enumerate(_HISTORIES):
    for item in set(history):
      expected = 2.0 * model.weights[item, _CANDIDATES[row]]
      np.testing.assert_allclose(found['ease'][row][item], expected, **_CLOSE)
    for place, candidate in enumerate(_CANDIDATES[row]):
      weight = dict.fromkeys(history, 0.0)
      for lag, item in enumerate(history[:-4:-1], 1):
        weight[item] += lag**-scores.decay * scores.weights[item, candidate]
      total = sum(weight.values())
      gain = 1.5 * (np.log(0.1 + total) - np.log(0.1))
      for item, part in weight.items():
        expected = gain * part / total if total else 0.0
        got = found['transitions'][row][item][place]
        np.testing.assert_allclose(got, expected, **_CLOSE)


def test_leave_one_out_is_the_score_less_that_without_the_item(toy):
  network = _network()
  found = _effects(_model(toy, network))['leave_one_out']
  whole = _scores(network, _HISTORIES)
  for row, history in enumerate(_HISTORIES):
    for item in set(history):
      left = list(_HISTORIES)
      left[row] = [other for other in history if other != item]
      expected = whole[row] - _scores(network, left)[row]
      np.testing.assert_allclose(found[row][item], expected, **_CLOSE)


def test_so_many_items_are_left_out_and_no_more(monkeypatch):
  monkeypatch.setattr(history_effects, 'LATEST', 3)
  found = _effects(_network())['leave_one_out']
  asked = [{item for item, effect in row.items() if effect.any()} for row in found]
  assert asked == [{4, 0, 3}, {2, 6}, {8, 9, 10}, {5}, set(), {8, 2}]


def test_the_strongest_are_told_and_nothing_that_speaks_against(toy):
  model = _model(toy, _network())
  batch = toy_batch.of(_HISTORIES)
  items = np.array(_CANDIDATES)
  items[0, 1] = -1
  asked = (batch.user, batch.history, batch.history_length, items)
  told = reasons_in_graph.Explainer(model, 4)(*asked)
  found = _effects(model)
  assert told.item.shape == (len(_HISTORIES), 2, 4)
  for row, history in enumerate(_HISTORIES):
    for place in range(2):
      effects = {
        item: sum(found[name][row][item][place] for name in found)
        for item in set(history)
      }
      best = sorted((e, item) for item, e in effects.items() if e > 0)[::-1][:4]
      if items[row, place] < 0:
        best = []
      got = told.of(row, place)
      assert [item for item, *_ in got] == [item for _, item in best]
      np.testing.assert_allclose([e for _, e, _ in got], [e for e, _ in best], **_CLOSE)
      for _, effect, parts in got:
        np.testing.assert_allclose(sum(parts.values()), effect, **_CLOSE)
  assert (told.item[:, :, 3] < 0).any() and (told.item >= 0).any()


def test_chunks_of_users_are_explained_as_all_at_once(toy, monkeypatch):
  model, batch = _model(toy, _network()), toy_batch.of(_HISTORIES)
  asked = (batch.user, batch.history, batch.history_length, _CANDIDATES)
  whole = reasons_in_graph.Explainer(model, 2)(*asked)
  monkeypatch.setattr('ncf_tfdata.memory.BLOCK_CELLS', 1)
  chunks = reasons_in_graph.Explainer(model, 2)(*asked)
  assert whole.item.tolist() == chunks.item.tolist()
  np.testing.assert_allclose(whole.effect, chunks.effect, **_CLOSE)


def test_who_reads_no_history_has_no_reasons(toy):
  batch = toy_batch.of(_HISTORIES)
  asked = (batch.user, batch.history, batch.history_length, _CANDIDATES)
  plain = NeuMF(_USERS, _ITEMS, gmf_dim=4, mlp_dim=4, mlp_layers=(8,), name='neumf')
  assert (reasons_in_graph.Explainer(plain, 2)(*asked).item == -1).all()
  assert (reasons_in_graph.Explainer(object(), 2)(*asked).item == -1).all()
  # With transitions around it those are the reasons.
  told = reasons_in_graph.Explainer(_model(toy, plain), 2)(*asked)
  assert set(told.parts) == {'transitions', 'ease'} and (told.item >= 0).any()


@pytest.fixture(scope='module')
def asked(dataset, tmp_path_factory):
  root = tmp_path_factory.mktemp('reasons')
  made = toy_answers.history_run(root / 'run', dataset, weight=0.0, ease=3.0)
  run = ncf.Run(made, dataset)
  # What `test_export.py` loads again, without the file.
  server = saved_model.Server(run.model, dataset)
  yield run, server.signatures


def _told(answer, row, place):
  """A reason for each that an export's answer has: item and effect."""
  pairs = zip(
    answer['because'][row, place].numpy(), answer['effects'][row, place], strict=True
  )
  return [(item.decode(), float(effect)) for item, effect in pairs if item]


def test_library_command_and_export_give_the_same_reasons(asked, tmp_path):
  run, signatures = asked
  users = [*run.dataset.vocabulary(dataset_lib.USERS).keys[:6], 'stranger']
  histories = toy_answers.histories(run.dataset)
  lists = list(run.recommend(users, k=4, explain=True))
  answer = signatures['explain'](
    user=tf.constant(users),
    items=tf.constant([[*each.items[:3], 'no such'] for each in lists]),
    count=tf.constant(reasons.COUNT),
  )
  assert answer['ignored'].numpy().tolist() == [1] * len(users)
  for row, each in enumerate(lists):
    assert not _told(answer, row, 3)
    for place, told in enumerate(each.reasons[:3]):
      served = _told(answer, row, place)
      assert [reason.item for reason in told] == [item for item, _ in served]
      np.testing.assert_allclose(
        [reason.effect for reason in told], [effect for _, effect in served], **_CLOSE
      )
      for number, reason in enumerate(told):
        assert reason.item in histories[each.user]
        parts = [float(answer[name][row, place, number]) for name in reason.parts]
        np.testing.assert_allclose(list(reason.parts.values()), parts, **_CLOSE)
  assert lists[-1].source == 'popularity' and not any(lists[-1].reasons)
  path = tmp_path / 'lists.jsonl'
  done = commands.run(
    'ncf_tfdata.recommend',
    f'--run_dir={run.directory}',
    f'--users={",".join(users)}',
    '--k=4',
    '--explain',
    f'--output={path}',
  )
  assert done.returncode == 0, done.stderr
  lines = [json.loads(line) for line in path.read_text().splitlines()]
  assert [line['items'] for line in lines] == [each.items for each in lists]
  for line, each in zip(lines, lists, strict=True):
    found = [[reason['item'] for reason in told] for told in line['reasons']]
    assert found == [[reason.item for reason in told] for told in each.reasons]
  assert 'because of' in str(run.recommend(users[:1], explain=True).table())


def test_histories_are_explained_whoever_has_them(asked):
  run, signatures = asked
  user, history = next(iter(toy_answers.histories(run.dataset).items()))
  keys = run.dataset.vocabulary(dataset_lib.ITEMS).keys
  later = [item for item in keys if item not in history][:2]
  (list_after,) = run.recommend(histories={user: later}, k=3, explain=True)
  items = tf.constant([list_after.items])
  after = signatures['explain_after'](
    user=tf.constant([user]),
    later=tf.constant([[*later, 'nothing']]),
    items=items,
    count=tf.constant(2),
  )
  assert after['ignored'].numpy().tolist() == [1]
  for place, told in enumerate(list_after.reasons):
    served = [item for item, _ in _told(after, 0, place)]
    assert served == [reason.item for reason in told[:2]]
  (alone,) = run.recommend(histories={'new': history}, k=3, explain=True)
  found = signatures['explain_history'](
    history=tf.constant([['', *history]]),
    items=tf.constant([alone.items]),
    count=tf.constant(3),
  )
  for place, told in enumerate(alone.reasons):
    assert [reason.item for reason in told] == [i for i, _ in _told(found, 0, place)]


@pytest.mark.parametrize(
  ('inputs', 'said'),
  [
    ({'count': 0}, 'count must be at least 1'),
    ({'items': [['i1'], ['i2']]}, 'items must have a row for each user'),
  ],
)
def test_what_cannot_be_explained_is_refused(asked, inputs, said):
  given = {'user': ['u1'], 'items': [['i1']], 'count': 1} | inputs
  tensors = {
    name: tf.constant(value, tf.int32 if name == 'count' else tf.string)
    for name, value in given.items()
  }
  with pytest.raises(tf.errors.InvalidArgumentError, match=said):
    asked[1]['explain'](**tensors)


def test_an_export_of_a_model_without_histories_explains_nothing(dataset, tmp_path):
  made = toy_run.write(tmp_path / 'run', dataset)
  server = saved_model.Server(saved.load(made, dataset), dataset)
  assert not [name for name in server.signatures if name.startswith('explain')]
  answer = server.explain(
    tf.constant(['u1']), tf.constant([['i1', 'x']]), tf.constant(2)
  )
  assert answer['because'].numpy().tolist() == [[[b'', b'']] * 2]
