"""The exported model, asked where our package is not, against all others who answer."""

import json
import subprocess
import sys
import urllib.parse
import urllib.request
from typing import NamedTuple

import browser
import commands
import numpy as np
import prepared
import pytest
import tensorflow as tf
import toy_answers
import toy_run

import ncf_tfdata as ncf
from ncf_tfdata import dataset as dataset_lib
from ncf_tfdata import memory, run
from ncf_tfdata.models import saved
from ncf_tfdata.serving import saved_model
from ncf_tfdata.serving.explorer import Explorer

pytestmark = pytest.mark.slow

# Runs where nothing but TensorFlow can be imported, or was: directory of the model
# and questions in, answers out.
_CLIENT = """
import json, sys
import tensorflow as tf

model = tf.saved_model.load(sys.argv[1])
answers = []
types = {'k': tf.int32, 'count': tf.int32, 'min_score': tf.float32}
for signature, inputs in json.load(sys.stdin):
  inputs = {
    name: tf.constant(value, types.get(name, tf.string))
    for name, value in inputs.items()
  }
  outputs = model.signatures[signature](**inputs)
  answers.append({name: value.numpy().tolist() for name, value in outputs.items()})
assert not any(name.startswith('ncf_tfdata') for name in sys.modules)
print(json.dumps(answers, default=bytes.decode, allow_nan=False))
"""


class Served(NamedTuple):
  """A run, its dataset, and its export."""

  run: run.Run
  dataset: dataset_lib.Dataset
  directory: object

  def ask(self, tmp_path, *questions) -> list[dict]:
    done = subprocess.run(
      [sys.executable, '-P', '-c', _CLIENT, str(self.directory)],
      input=json.dumps(questions),
      cwd=tmp_path,
      capture_output=True,
      text=True,
      check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)

  def people(self) -> list[tuple[str, list[str]]]:
    return list(toy_answers.histories(self.dataset).items())


def _command(module: str, made: run.Run, *flags: object):
  return commands.run(f'ncf_tfdata.{module}', f'--run_dir={made.directory}', *flags)


def _export(made: run.Run, dataset, directory) -> Served:
  done = _command('export', made, f'--output={directory}')
  assert done.returncode == 0, done.stdout + done.stderr
  assert [entry.name for entry in directory.parent.iterdir()] == [directory.name]
  return Served(made, dataset, directory)


@pytest.fixture(scope='module')
def neumf(sample_dataset, tmp_path_factory):
  root = tmp_path_factory.mktemp('neumf')
  made = toy_run.write(root / 'run', sample_dataset)
  return _export(made, sample_dataset, root / 'served' / '1')


@pytest.fixture(scope='module')
def history(sample_log, tmp_path_factory):
  """Of a dataset with users who are in test only, successors both ways, and times."""
  root = tmp_path_factory.mktemp('history')
  dataset = prepared.prepare(
    *(sample_log, root / 'data', '--held_out_users=0.4', '--successors=100'),
    '--keep_times',
  )
  made = toy_answers.history_run(root / 'run', dataset, reverse=0.5)
  return _export(made, dataset, root / 'served' / '1')


@pytest.fixture(params=['neumf', 'history'])
def served(request):
  return request.getfixturevalue(request.param)


def _assert_lists(answer, expected):
  """An answer of the export has these (items, scores), all by the model."""
  assert answer['items'] == [items for items, _ in expected]
  scores = [scores for _, scores in expected]
  np.testing.assert_allclose(answer['scores'], scores, rtol=1e-4, atol=1e-4)
  assert all(answer['known'])


def _on_the_page(made, dataset, users) -> list[list[str]]:
  """What the explore page is told of each user."""
  explorer = Explorer(saved.load(made, dataset), dataset)
  found = []
  with browser.served(explorer) as address:
    for user in users:
      query = urllib.parse.urlencode({'user': user})
      with urllib.request.urlopen(f'{address}/api/answer?{query}') as response:
        found.append([row['item'] for row in json.load(response)['answers']])
  return found


def test_all_ways_to_ask_give_the_evaluators_lists(served, tmp_path):
  people = served.people()
  assert len(people) == served.dataset.num_users > 100
  users = [user for user, _ in people]
  expected = toy_answers.model_lists(served.run, served.dataset, people)
  pairs = {
    'user': [user for user in users for _ in range(10)],
    'item': [item for items, _ in expected for item in items],
  }
  lists, scored = served.ask(
    tmp_path, ('recommend', {'user': users, 'k': 10}), ('score', pairs)
  )
  _assert_lists(lists, expected)
  path = tmp_path / 'all.jsonl'
  done = _command('recommend', served.run, '--all', f'--output={path}')
  assert done.returncode == 0, done.stderr
  found = [json.loads(line) for line in path.read_text().splitlines()]
  assert [line['items'] for line in found[: len(users)]] == lists['items']
  done = commands.run(
    'beam_pipelines.recommend',
    f'--saved_model={served.directory}',
    f'--data_dir={served.dataset.directory}',
    f'--output={tmp_path / "beam.jsonl"}',
  )
  assert done.returncode == 0, done.stdout + done.stderr
  (path,) = tmp_path.glob('beam-*.jsonl')
  by_user = {
    line['user']: line['items']
    for line in map(json.loads, path.read_text().splitlines())
  }
  assert len(by_user) == served.dataset.num_users
  assert [by_user[user] for user in users] == lists['items']
  assert _on_the_page(served.run, served.dataset, users) == lists['items']
  # A pair has the score that it has in the list.
  scores = [score for _, scores in expected for score in scores]
  np.testing.assert_allclose(scored['score'], scores, rtol=1e-4, atol=1e-4)
  assert all(scored['known'])


def test_reasons_and_similar_items_are_those_of_the_library(history, tmp_path):
  run = ncf.Run(history.run, history.dataset)
  items = list(history.dataset.vocabulary(dataset_lib.ITEMS).keys[:20])
  users = [user for user, _ in history.people()[:20]]
  lists = list(run.recommend(users, k=3, explain=True))
  why, similar, after = history.ask(
    tmp_path,
    (
      'explain',
      {'user': users, 'items': [each.items for each in lists], 'count': 3},
    ),
    ('similar', {'item': [*items, 'nothing'], 'k': 5}),
    ('similar_by_transitions', {'item': items, 'k': 5}),
  )
  for row, each in enumerate(lists):
    for place, told in enumerate(each.reasons):
      found = list(filter(None, why['because'][row][place]))
      assert found == [reason.item for reason in told]
      for number, reason in enumerate(told):
        assert set(reason.parts) == {'leave_one_out', 'transitions'}
        parts = [why[name][row][place][number] for name in reason.parts]
        np.testing.assert_allclose(
          parts, list(reason.parts.values()), rtol=1e-3, atol=1e-4
        )
  assert similar['known'] == [True] * 20 + [False]
  for answer, by in ((similar, 'vectors'), (after, 'transitions')):
    for row, each in enumerate(run.similar(items, k=5, by=by)):
      assert list(filter(None, answer['items'][row])) == each.similar
      assert answer['count'][row] == len(each.similar)
      scores = answer['scores'][row][: len(each.scores)]
      np.testing.assert_allclose(scores, each.scores, rtol=1e-4)


def test_strangers_get_what_is_popular(served, tmp_path):
  user = served.people()[0][0]
  items = served.dataset.vocabulary(dataset_lib.ITEMS)
  count = int(items.counts[3])
  lists, scored = served.ask(
    tmp_path,
    ('recommend', {'user': ['nobody', user], 'k': 5}),
    (
      'score',
      {'user': ['nobody', user, ''], 'item': [items.keys[3], 'nothing', 'nothing']},
    ),
  )
  assert lists['known'] == [False, True]
  assert lists['items'][0] == toy_answers.popular(served.dataset, k=5)
  assert scored == {'known': [False] * 3, 'score': [count, 0, 0]}


def test_a_list_may_be_longer_than_what_is_left(served, tmp_path):
  (user, taken), *_ = served.people()
  catalogue = served.dataset.vocabulary(dataset_lib.ITEMS).keys
  k = len(catalogue) + 3
  rules = {'exclude': [catalogue[:3]], 'allow': [['']], 'min_score': -1e9}
  rules['only'] = [['']]
  lists, ruled = served.ask(
    tmp_path,
    ('recommend', {'user': [user], 'k': k}),
    ('recommend_by_rules', {'user': [user], 'k': k, **rules}),
  )
  left = len(catalogue) - len(set(taken))
  assert sorted(lists['items'][0][:left]) == sorted(set(catalogue) - set(taken))
  assert lists['items'][0][left:] == [''] * (k - left)
  assert lists['scores'][0][left:] == [0] * (k - left)
  (count,), (items,) = ruled['count'], ruled['items']
  assert items[:count] == [
    item for item in lists['items'][0][:left] if item not in catalogue[:3]
  ]
  assert len(items) == len(catalogue) and not any(items[count:])


def test_histories_are_answered_wherever_they_are_filled_up(history, tmp_path):
  people = [
    ('', taken[:length])
    for (_, taken), length in zip(history.people(), [1, 2, 5, 60], strict=False)
  ]
  width = max(len(taken) for _, taken in people) + 2

  def filled(fill):
    return [fill(taken, [''] * (width - len(taken))) for _, taken in people]

  front = filled(lambda taken, fill: fill + taken)
  behind = filled(lambda taken, fill: taken + fill)
  between = filled(lambda taken, fill: [taken[0], 'nothing', *fill[1:], *taken[1:]])
  found = history.ask(
    tmp_path,
    *(
      ('recommend_history', {'history': given, 'k': 10})
      for given in (front, behind, between)
    ),
    ('recommend_history', {'history': [['', 'nothing']], 'k': 10}),
  )
  expected = toy_answers.model_lists(history.run, history.dataset, people)
  for answer in found[:3]:
    _assert_lists(answer, expected)
  assert found[3]['known'] == [False]
  assert found[3]['items'] == [toy_answers.popular(history.dataset)]


def test_what_users_took_later_continues_what_they_have(history, tmp_path):
  catalogue = history.dataset.vocabulary(dataset_lib.ITEMS).keys
  later = [[catalogue[2], ''], ['', ''], [catalogue[8], catalogue[1]]]
  known = history.people()[:2]
  users = [*(user for user, _ in known), 'new']
  pasts = [*(taken for _, taken in known), []]
  people = [
    (user, [*past, *filter(None, more)])
    for user, past, more in zip(users, pasts, later, strict=True)
  ]
  (answer,) = history.ask(
    tmp_path, ('recommend_after', {'user': users, 'later': later, 'k': 10})
  )
  expected = toy_answers.model_lists(history.run, history.dataset, people)
  _assert_lists(answer, expected)


def test_a_catalogue_in_chunks_is_the_same(neumf, monkeypatch):
  # Widths of the tower's layer and of a chunk that the catalogue is no multiple of.
  monkeypatch.setattr(memory, 'BLOCK_CELLS', 8 * 3 * 7)
  server = saved_model.Server(saved.load(neumf.run, neumf.dataset), neumf.dataset)
  people = neumf.people()[:3]
  found = server.recommend(tf.constant([user for user, _ in people]), tf.constant(10))
  assert neumf.dataset.num_items % 7
  answer = {name: value.numpy() for name, value in found.items()}
  answer['items'] = [[key.decode() for key in row] for row in answer['items']]
  _assert_lists(answer, toy_answers.model_lists(neumf.run, neumf.dataset, people))


def test_neumf_has_no_signatures_of_histories(neumf):
  signatures = tf.saved_model.load(str(neumf.directory)).signatures
  assert set(signatures) == {'score', 'similar', 'recommend', 'recommend_by_rules'}


def test_an_export_is_replaced_only_where_that_is_asked(neumf, tmp_path):
  done = _command('export', neumf.run, f'--output={neumf.directory}')
  assert '--overwrite' in prepared.error_line(done)
  (tmp_path / 'mine').write_text('mine')
  done = _command('export', neumf.run, f'--output={tmp_path}', '--overwrite')
  assert done.returncode == 1
  assert (tmp_path / 'mine').read_text() == 'mine'
  notes = neumf.directory / 'notes.txt'
  notes.write_text('mine')
  done = _command('export', neumf.run, f'--output={neumf.directory}', '--overwrite')
  assert 'more than a SavedModel, such as notes.txt' in prepared.error_line(done)
  assert notes.read_text() == 'mine'
  notes.unlink()
  done = _command('export', neumf.run, f'--output={neumf.directory}', '--overwrite')
  assert done.returncode == 0, done.stderr
