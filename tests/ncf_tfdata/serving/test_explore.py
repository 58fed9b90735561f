"""The explore page: what it is told, and what a person sees in a real browser."""

import dataclasses
import hashlib
import json
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request

import browser
import numpy as np
import prepared
import pytest
import toy_answers
import toy_dataset
import toy_run

import ncf_tfdata as ncf
from beam_pipelines import sample
from ncf_tfdata import dataset as dataset_lib
from ncf_tfdata import manifest, sample_titles
from ncf_tfdata.data import records
from ncf_tfdata.evaluation import baselines
from ncf_tfdata.models import saved
from ncf_tfdata.serving.explorer import Explorer

# Titles that would do harm, were they taken for HTML.
NAMES = {f'i{item}': f'Film <b>&{item}</b>' for item in range(39)}


@pytest.fixture(scope='module')
def explorer(made, dataset):
  user, item = records.train_rows(dataset)
  popular = baselines.Popularity(user, item, dataset.num_users, dataset.num_items)
  model = saved.load(made, dataset)
  return Explorer(model, dataset, NAMES, others={'popularity': popular})


@pytest.fixture(scope='module')
def address(explorer):
  with browser.served(explorer) as address:
    yield address


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


@pytest.mark.slow
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


def test_another_system_stands_beside_the_model(address, dataset):
  assert [each['name'] for each in _get(address, 'about')['others']] == ['popularity']
  taken = toy_answers.histories(dataset)['u3']
  found = _get(address, 'answer', user='u3', system='popularity')
  expected = toy_answers.popular(dataset, without=taken)
  assert [row['item'] for row in found['answers']] == expected
  assert found['answers'] != _get(address, 'answer', user='u3')['answers']
  # It has no reasons.
  query = {'user': 'u3', 'of': expected[:2], 'system': 'popularity'}
  assert _get(address, 'why', **query) == [[], []]
  for path in ('answer', 'why'):
    with pytest.raises(urllib.error.HTTPError, match='404'):
      _get(address, path, user='u3', system='none')


@pytest.mark.slow
def test_reasons_are_those_of_the_library(address, made, dataset):
  run = ncf.Run(made, dataset)
  (expected,) = run.recommend(histories={'u3': ['i1', 'i2']}, explain=True)
  query = {'user': 'u3', 'item': ['i1', 'i2'], 'of': [*expected.items, 'none']}
  found = _get(address, 'why', **query)
  assert found[-1] == []
  for told, reasons in zip(found, expected.reasons, strict=False):
    assert [(each['item'], each['name']) for each in told] == [
      (reason.item, NAMES.get(reason.item, '')) for reason in reasons
    ]
    np.testing.assert_allclose(
      [each['effect'] for each in told],
      [reason.effect for reason in reasons],
      rtol=1e-4,
    )
  assert any(found) and _get(address, 'why', user='u3') == []


def test_similar_items_are_those_of_the_library(address, made, dataset):
  found = _get(address, 'similar', item='i7')
  assert (found['item'], found['name']) == ('i7', NAMES['i7'])
  (lists,) = found['lists']
  (expected,) = ncf.Run(made, dataset).similar(['i7'])
  assert lists['by'] == 'vectors'
  assert [row['item'] for row in lists['items']] == expected.similar
  counts = dataset.vocabulary(dataset_lib.ITEMS).counts
  assert all(row['count'] == counts[int(row['item'][1:])] for row in lists['items'])
  assert _get(address, 'similar', item='unheard of')['lists'] == []


def test_the_sample_has_titles_of_its_own(tmp_path):
  spec = sample.Spec()
  assert spec.num_items == sample_titles.ITEMS
  number = np.arange(spec.num_items)
  ids = sample.item_ids(spec, number)
  titles = sample_titles.titles(number)
  assert len(set(titles)) == len(titles)
  # A noun is of one genre, and the ten most popular are of ten.
  genres = {}
  for title, genre in zip(titles, number % sample._GENRES, strict=True):
    genres.setdefault(title.split()[2], set()).add(int(genre))
  assert all(len(found) == 1 for found in genres.values())
  path = tmp_path / 'ratings.dat'
  sample.write(str(path), spec)
  # A manifest has the sha256 of its ranges' sha256s: here of one.
  digest = hashlib.sha256(path.read_bytes()).hexdigest()
  assert hashlib.sha256(digest.encode()).hexdigest() == sample_titles.SHA256
  keys = list(map(str, ids[:5]))
  items = [np.arange(3)] * 4
  made = toy_dataset.write(
    tmp_path / 'toy', items, num_items=5, item_keys=keys, eval_negatives=0
  )
  assert sample_titles.of(made) is None
  source = manifest.Source('ratings.dat', 1, sample_titles.SHA256)
  made.manifest = dataclasses.replace(made.manifest, sources=(source,))
  assert sample_titles.of(made) == dict(zip(keys, titles, strict=False))


@pytest.mark.engine
def test_a_person_ticks_titles_in_a_browser(address, made, dataset):
  taken, added = _free(made, dataset, 'u3')
  with browser.page(f'{address}/#user=u3') as page:
    page.wait_for_selector('.answers li')

    def shown():
      rows = page.locator('.answers li')
      return [row.get_attribute('data-item') for row in rows.all()]

    def ready(number):
      page.wait_for_selector(f'body[data-ready="{number}"]')

    def expect(taken):
      ((items, _),) = toy_answers.model_lists(made, dataset, [('u3', taken)])
      assert shown() == items

    expect(taken)
    # A name is text, whatever is in it.
    first = page.locator('.answers li .name').first.inner_text()
    assert first.startswith(NAMES[shown()[0]])
    assert page.locator('#history li').count() == len(taken)
    for number, item in enumerate(added, 2):
      page.fill('#search', item)
      page.locator(f'#items input[value="{item}"]').check()
      ready(number)
    expect([*taken, *added])
    found = _get(address, 'answer', user='u3', item=added)
    moves = page.locator('.answers .move').all_inner_texts()
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


@pytest.mark.engine
def test_a_person_reads_why_and_compares_by_keyboard_and_phone(address):
  with browser.page(f'{address}/#user=u3') as page:
    page.set_viewport_size({'width': 390, 'height': 844})
    page.wait_for_selector('section[data-explained] .meaning')
    why = page.locator('.answers .why').first.inner_text()
    told = _get(address, 'why', user='u3', of=[_first(page)])[0]
    assert f'because of {told[0]["name"]} +{told[0]["effect"]:.2f}' in why
    assert page.evaluate('document.documentElement.scrollWidth') <= 390
    # Enter on a title of the list opens what is similar; Escape closes it.
    page.keyboard.press('ArrowDown')
    page.keyboard.press('Enter')
    page.wait_for_selector('dialog[open] li')
    page.keyboard.press('Escape')
    page.wait_for_selector('dialog:not([open])', state='attached')
    page.keyboard.press('/')
    page.keyboard.type('&12')
    page.wait_for_selector('#items input[value="i12"]')
    page.keyboard.press('ArrowDown')
    page.keyboard.press('Enter')
    page.wait_for_selector('#added button')
    page.fill('#search', 'no such title')
    page.wait_for_selector('#items .empty')
    page.select_option('#other', 'popularity')
    page.wait_for_selector('.two section:nth-child(2) li')
    assert 'with=popularity' in page.url
    page.route('**/api/*', lambda route: route.abort())
    page.click('#nobody')
    page.wait_for_selector('#error:not([hidden])')
    page.unroute('**/api/*')
    page.click('#again')
    page.wait_for_selector('#error[hidden]', state='attached')


def _first(page) -> str:
  return page.locator('.answers li').first.get_attribute('data-item')


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
