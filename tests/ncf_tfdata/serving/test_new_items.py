"""New items in lists, in an export and on the page, as a user asks for them."""

import json
import urllib.request

import browser
import commands
import numpy as np
import prepared
import pytest
import tensorflow as tf
import toy_new_items

import ncf_tfdata as ncf
from ncf_tfdata.serving.explorer import Explorer

_NEW = {'new-cat': 'cat,2,red', 'new-dog': 'dog,3,grey|pink'}


@pytest.fixture(scope='module')
def dataset(tmp_path_factory):
  return toy_new_items.dataset(tmp_path_factory.mktemp('animals'))


@pytest.fixture(scope='module')
def made(dataset, tmp_path_factory):
  """A run with EASE. Transitions would be added alike, and are slow to export."""
  model = toy_new_items.history_model(dataset, **toy_new_items.options(dataset))
  directory = tmp_path_factory.mktemp('run') / 'run'
  return toy_new_items.run(directory, dataset, model, transitions=0)


@pytest.fixture(scope='module')
def new_file(tmp_path_factory):
  return toy_new_items.write(tmp_path_factory.mktemp('new') / 'new.csv', _NEW)


@pytest.fixture(scope='module')
def run(made, new_file):
  with pytest.warns(UserWarning, match='coat 1'):
    return ncf.Run.load(made.directory, new_items=new_file)


def _command(module: str, *flags: object):
  return commands.run(f'ncf_tfdata.{module}', *flags)


def _recommend(made, *flags: object) -> tuple[list[dict], str]:
  """The lines that `recommend` writes, and what it says on stderr."""
  output = made.directory.parent / 'lists.jsonl'
  done = _command(
    'recommend', f'--run_dir={made.directory}', f'--output={output}', *flags
  )
  assert done.returncode == 0, done.stderr
  return [json.loads(line) for line in output.read_text().splitlines()], done.stderr


@pytest.mark.slow
def test_the_command_recommends_new_items(made, new_file, run):
  flags = (f'--new_items={new_file}', '--allow=new-cat,new-dog,i0,i1', '--k=4')
  lines, said = _recommend(made, '--users=u0,u1', *flags)
  assert 'which are ignored: coat 1.' in said
  for line, own, other in zip(lines, ('cat', 'dog'), ('dog', 'cat'), strict=True):
    assert line['items'].index(f'new-{own}') < line['items'].index(f'new-{other}')
  expected = run.recommend(['u0', 'u1'], k=4, allow=['new-cat', 'new-dog', 'i0', 'i1'])
  for line, one in zip(lines, expected, strict=True):
    assert line['items'] == one.items
    np.testing.assert_allclose(line['scores'], one.scores, 1e-5, 1e-5)


@pytest.mark.slow
def test_an_event_of_a_new_item_counts(made, new_file, tmp_path):
  events = tmp_path / 'events.csv'
  events.write_text('ann,new-dog\nann,never heard of\n')
  flags = (f'--history_file={events}', f'--new_items={new_file}', '--k=3')
  ((line,), said) = _recommend(made, *flags)
  assert '1 of 2 events are of items that the dataset does not know' in said
  assert line['source'] == 'model'
  assert 'new-dog' not in line['items']
  assert all(int(key[1:]) % 2 for key in line['items'])
  # Without the file the model knows nothing of her.
  ((line,), said) = _recommend(made, f'--history_file={events}', '--k=3')
  assert '2 of 2 events' in said
  assert line['source'] == 'popularity'


@pytest.mark.slow
@pytest.mark.parametrize('module', ['recommend', 'similar', 'export', 'explore'])
def test_every_command_tells_a_file_that_does_not_suit(made, tmp_path, module):
  path = toy_new_items.write(tmp_path / 'old.csv', {'i3': 'cat,1,red'})
  more = {
    'recommend': ('--all',),
    'similar': ('--all',),
    'export': (f'--output={tmp_path / "served"}',),
    'explore': ('--port=0',),
  }
  flags = (f'--run_dir={made.directory}', f'--new_items={path}', *more[module])
  line = prepared.error_line(_command(module, *flags))
  assert 'has 1 of 1 items that' in line
  assert "holds already, 'i3' first" in line


@pytest.fixture(scope='module')
def served(run, tmp_path_factory):
  """Signatures of an export, by what the command calls: that would import all anew."""
  made = run.export(tmp_path_factory.mktemp('served') / '1')
  return tf.saved_model.load(str(made.path)).signatures


@pytest.mark.slow
def test_an_export_recommends_new_items_as_the_run_does(served, run):
  users, everything = ['u0', 'u1'], run.dataset.num_items
  found = served['recommend'](user=tf.constant(users), k=tf.constant(everything))
  for items, scores, one in zip(
    found['items'].numpy(),
    found['scores'].numpy(),
    run.recommend(users, k=everything),
    strict=True,
  ):
    mine = {key.decode(): score for key, score in zip(items, scores, strict=True)}
    del mine['']
    assert mine.keys() == set(one.items)
    assert set(_NEW) < mine.keys()
    theirs = [mine[key] for key in one.items]
    np.testing.assert_allclose(theirs, one.scores, 1e-4, 1e-4)


@pytest.mark.slow
def test_every_signature_knows_new_items(served, run):
  users, items = tf.constant(['u0', 'u0']), tf.constant(['new-cat', 'new-dog'])
  pair = served['score'](user=users, item=items)
  assert pair['known'].numpy().all()
  (one,) = run.recommend(['u0'], k=2, allow=['new-cat', 'new-dog'])
  np.testing.assert_allclose(pair['score'], one.scores, 1e-4, 1e-4)
  history = tf.constant([['new-dog', 'i1']])
  after = served['recommend_history'](history=history, k=tf.constant(3))
  (one,) = run.recommend(histories={'nobody': ['new-dog', 'i1']}, k=3)
  assert [key.decode() for key in after['items'].numpy()[0]] == one.items
  why = served['explain'](user=users[:1], items=items[None, :1], count=tf.constant(2))
  assert why['because'].numpy()[0, 0, 0] != b''
  assert not why['ignored'].numpy().any()
  similar = served['similar_by_ease'](item=items[:1], k=tf.constant(2))
  assert similar['known'].numpy().all()
  assert similar['count'].numpy() == [2]


@pytest.mark.slow
def test_categories_of_new_items_count(served, run):
  everything = run.dataset.num_items
  only = {'kind': ['dog'], 'coat': ['grey', 'red']}
  (expected,) = run.recommend(['u1'], k=everything, only=only)
  assert 'new-dog' in expected.items
  assert 'new-cat' not in expected.items
  # Of every six animals two are dogs with such a coat.
  old = {int(key[1:]) for key in expected.items if key != 'new-dog'}
  assert old and all(number % 6 == 3 or number % 6 == 5 for number in old)
  none = tf.constant([['']])
  found = served['recommend_by_rules'](
    user=tf.constant(['u1']),
    k=tf.constant(everything),
    exclude=none,
    allow=none,
    min_score=tf.constant(-np.inf),
    only=tf.constant([['kind:dog', 'coat:grey', 'coat:red', 'coat:pink']]),
  )
  assert found['ignored'].numpy().tolist() == [1]
  count = found['count'].numpy()[0]
  items = [key.decode() for key in found['items'].numpy()[0, :count]]
  assert items == expected.items
  explorer = Explorer(run.model, run.dataset, k=everything)
  rows = explorer.answer('u1', only=only)['answers']
  assert [row['item'] for row in rows] == expected.items
  (kinds, _) = explorer.about()['categories']
  assert {one['value']: one['count'] for one in kinds['values']} == {
    'cat': 21, 'dog': 21,
  }  # fmt: skip


def test_the_page_marks_new_items(run):
  explorer = Explorer(run.model, run.dataset, {'new-cat': 'A <b>cat</b>'}, k=40)
  rows = explorer.answer('u0')['answers']
  assert {row['item'] for row in rows if row.get('new')} == set(_NEW)
  assert all('new' not in row for row in rows if row['item'] not in _NEW)
  (found,) = explorer.items('cat')
  assert found == {'item': 'new-cat', 'name': 'A <b>cat</b>', 'new': True, 'count': 0}
  told = explorer.answer('', ['new-dog'])
  assert told['added'] == [{'item': 'new-dog', 'name': '', 'new': True}]
  assert told['source'] == 'model'
  assert explorer.similar('new-cat')['new']
  assert explorer.about()['items'] == run.dataset.num_items
  with browser.served(explorer) as address:
    url = f'{address}/api/items?q=new-dog'
    with urllib.request.urlopen(url) as response:
      assert json.load(response)[0]['new'] is True
