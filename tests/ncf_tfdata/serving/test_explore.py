"""The explore page: what it is told, and what a person sees in a real browser."""

import json
import subprocess
import sys
import threading
import urllib.error
import urllib.parse
import urllib.request

import browser
import numpy as np
import prepared
import pytest
import toy_answers
import toy_run

from ncf_tfdata import dataset as dataset_lib
from ncf_tfdata.models import saved
from ncf_tfdata.serving import explore_server
from ncf_tfdata.serving.explorer import Explorer

# Titles that would do harm, were they taken for HTML.
NAMES = {f'i{item}': f'Film <b>&{item}</b>' for item in range(39)}


@pytest.fixture(scope='module')
def explorer(made, dataset):
  return Explorer(saved.load(made, dataset), dataset, NAMES)


@pytest.fixture(scope='module')
def address(explorer):
  with explore_server.serve(explorer) as server:
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f'http://127.0.0.1:{server.server_port}'
    server.shutdown()


def _get(address, path, **query):
  url = f'{address}/api/{path}?{urllib.parse.urlencode(query, doseq=True)}'
  with urllib.request.urlopen(url) as response:
    return json.load(response)


def _free(made, dataset, user, count=2):
  """Items that the user does not have, from the middle of his list."""
  taken = toy_answers.histories(dataset)[user]
  ((items, _),) = toy_answers.model_lists(made, dataset, [(user, taken)], k=15)
  return taken, items[5 : 5 + count]


@pytest.mark.parametrize(
  ('host', 'status'),
  [
    ('localhost:9000', 200),
    ('127.0.0.1', 200),
    ('foreign.example:8000', 403),
    ('127.0.0.1.foreign.example', 403),
    ('localhost@foreign.example:1', 403),
    ('', 403),
  ],
)
def test_a_page_is_answered_under_its_own_names_only(address, host, status):
  request = urllib.request.Request(f'{address}/api/about', headers={'Host': host})
  try:
    with urllib.request.urlopen(request) as response:
      found = response.status
  except urllib.error.HTTPError as error:
    found = error.code
  assert found == status


def test_a_list_moves_as_a_title_is_added(address, made, dataset):
  user = 'u3'
  taken, added = _free(made, dataset, user)
  (before, _), (after, scores) = toy_answers.model_lists(
    made, dataset, [(user, [*taken, added[0]]), (user, [*taken, *added])], k=40
  )
  found = _get(address, 'answer', user=user, item=[*added, 'unheard of'])
  assert [row['item'] for row in found['answers']] == after[:10]
  assert [row['rank'] for row in found['answers']] == list(range(1, 11))
  expected = [before.index(item) + 1 for item in after[:10]]
  assert [row['was'] for row in found['answers']] == expected
  np.testing.assert_allclose(
    [row['score'] for row in found['answers']], scores[:10], rtol=1e-5, atol=1e-5
  )
  gone = [item for item in before[:10] if item not in [*after[:10], added[1]]]
  assert [(row['item'], row['was'], row['rank']) for row in found['left']] == [
    (item, before.index(item) + 1, after.index(item) + 1) for item in gone
  ]
  assert [title['item'] for title in found['history']] == taken[::-1]
  assert [title['item'] for title in found['added']] == added[::-1]
  assert (found['known'], found['source']) == (True, 'model')


def test_someone_new_gets_what_is_popular_until_he_takes_something(address, dataset):
  found = _get(address, 'answer')
  assert found['source'] == 'popularity'
  popular = toy_answers.popular(dataset)
  assert [row['item'] for row in found['answers']] == popular
  assert not any('was' in row for row in found['answers'])
  assert _get(address, 'answer', user='who', item='i4')['source'] == 'model'


def test_a_list_shorter_than_asked_for_is_whole(address, dataset):
  items = dataset.vocabulary(dataset_lib.ITEMS).keys
  found = _get(address, 'answer', item=items[:-3])
  assert sorted(row['item'] for row in found['answers']) == sorted(items[-3:])
  assert _get(address, 'answer', item=items)['answers'] == []


def test_people_and_titles_are_found(address, dataset):
  assert [row['user'] for row in _get(address, 'users', q='u5')] == [
    'u5',
    *(f'u{user}' for user in range(50, 60)),
  ]
  assert _get(address, 'users', q='u5')[0]['history'] == 20
  assert [row['user'] for row in _get(address, 'users', index=64)] == ['u4']
  assert [row['item'] for row in _get(address, 'items', q='FILM <B>&12')] == ['i12']
  assert _get(address, 'items', q='i39')[0] == {
    'item': 'i39',
    'name': '',
    'count': int(dataset.vocabulary(dataset_lib.ITEMS).counts[39]),
  }
  popular = toy_answers.popular(dataset)
  assert [row['item'] for row in _get(address, 'items')][:10] == popular
  with pytest.raises(urllib.error.HTTPError, match='404'):
    _get(address, 'nothing')


@pytest.mark.engine
def test_a_person_ticks_titles_in_a_browser(address, made, dataset):
  taken, added = _free(made, dataset, 'u3')
  with browser.page(f'{address}/#user=u3') as page:
    page.wait_for_selector('#answers li')

    def shown():
      rows = page.locator('#answers li')
      return [row.get_attribute('data-item') for row in rows.all()]

    def ready(number):
      page.wait_for_selector(f'body[data-ready="{number}"]')

    def expect(taken):
      ((items, _),) = toy_answers.model_lists(made, dataset, [('u3', taken)])
      assert shown() == items

    expect(taken)
    # A name is text, whatever is in it.
    first = page.locator('#answers li .name').first.inner_text()
    assert first.startswith(NAMES[shown()[0]])
    assert page.locator('#history li').count() == len(taken)
    for number, item in enumerate(added, 2):
      page.fill('#search', item)
      page.locator(f'#items input[value="{item}"]').check()
      ready(number)
    expect([*taken, *added])
    found = _get(address, 'answer', user='u3', item=added)
    moves = page.locator('#answers .move').all_inner_texts()
    for row, move in zip(found['answers'], moves, strict=True):
      by = row['was'] - row['rank']
      sign = '▲' if by > 0 else '▼' if by < 0 else '='
      assert sign in move
      assert ('new' in move) == (row['was'] > 10)
      assert not by or str(abs(by)) in move
    # The address says it all: a reload shows the same.
    page.reload()
    ready(1)
    expect([*taken, *added])
    page.locator('#added button', has_text=NAMES[added[1]]).click()
    ready(2)
    expect([*taken, added[0]])
    page.locator('#nobody').click()
    ready(3)
    assert shown() == toy_answers.popular(dataset)
    page.fill('#user', 'u3')
    page.locator('#users button', has_text='u3').first.click()
    ready(4)
    expect(taken)


@pytest.mark.slow
def test_the_command_serves_and_says_where(made, dataset, tmp_path):
  (tmp_path / 'names.csv').write_text('i1,"One, and only"\n')
  command = [sys.executable, '-m', 'ncf_tfdata.explore', '--port=0', '--k=3']
  command += [f'--run_dir={made.directory}', f'--item_names={tmp_path / "names.csv"}']
  process = subprocess.Popen(
    command,
    cwd=prepared.ROOT,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )
  try:
    address = process.stdout.readline().split()[0]
    assert _get(address, 'items', q='only')[0]['name'] == 'One, and only'
    taken = toy_answers.histories(dataset)['u7']
    ((items, _),) = toy_answers.model_lists(made, dataset, [('u7', taken)], k=3)
    found = _get(address, 'answer', user='u7')
    assert [row['item'] for row in found['answers']] == items
    with urllib.request.urlopen(address) as response:
      assert b'/api/' in response.read()
  finally:
    process.terminate()
    process.communicate()


def test_a_model_without_histories_says_so(dataset, tmp_path):
  made = toy_run.write(tmp_path / 'run', dataset)
  found = Explorer(saved.load(made, dataset), dataset)
  assert found.about()['reads_history'] is False
  taken = toy_answers.histories(dataset)['u2']
  (before, _), (items, _) = toy_answers.model_lists(
    made, dataset, [('u2', taken), ('u2', [*taken])], k=11
  )
  answer = found.answer('u2', [before[0]])
  assert [row['item'] for row in answer['answers']] == items[1:]
  assert {row['was'] - row['rank'] for row in answer['answers']} == {1}
