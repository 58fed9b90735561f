"""Users by segment: who is in which, the pages of them, and the page in a browser."""

import json
import urllib.error
import urllib.parse
import urllib.request

import browser
import numpy as np
import pytest
import toy_answers
import toy_dataset
import toy_features

from ncf_tfdata import dataset as dataset_lib
from ncf_tfdata.errors import ArgumentError
from ncf_tfdata.features.records import Features
from ncf_tfdata.models import saved
from ncf_tfdata.serving import recommender, user_segments
from ncf_tfdata.serving.explorer import Explorer

_USERS, _ITEMS = 30, 40
# Two users are in no train row: they have two interactions, which are held out.
_COLD = (4, 5)
_CLUBS = [['north', 'a, <b>'], ['north'], [], ['north', 'sci:fi']]
_AGES = [20.0, 30.0, np.nan, 40.0, 50.0]


@pytest.fixture(scope='module')
def dataset(tmp_path_factory):
  tastes = toy_dataset.tastes(_USERS, _ITEMS, 12)
  for user in range(_USERS):
    tastes[user] = tastes[user][: 5 + user % 8]
  for user in _COLD:
    tastes[user] = tastes[user][:2]
  made = toy_dataset.write(tmp_path_factory.mktemp('toy'), tastes, num_items=_ITEMS)
  users = range(_USERS)
  columns = (
    toy_features.categories('club', [_CLUBS[user % 4] for user in users]),
    toy_features.numbers('age', [_AGES[user % 5] for user in users]),
    # Of a name that is taken.
    toy_features.categories('training', [['by bike']] * _USERS),
  )
  return toy_features.add(made, Features(_USERS, columns), 'user')


@pytest.fixture(scope='module')
def explorer(made, dataset):
  return Explorer(saved.load(made, dataset), dataset)


@pytest.fixture(scope='module')
def address(explorer):
  with browser.served(explorer) as address:
    yield address


def _segments(dataset):
  histories = recommender.read_histories(dataset)
  return user_segments.UserSegments(dataset, histories)


def _members(made, dataset, name):
  """Original ids of the users of each segment of a column."""
  keys = dataset.vocabulary(dataset_lib.USERS).keys
  return {
    value: {keys[user] for user in made.users(name, value)}
    for value in made.columns[name].places
  }


def test_users_are_parted_by_what_they_did(dataset):
  made = _segments(dataset)
  taken = toy_answers.histories(dataset)
  quarters = _members(made, dataset, 'history length')
  assert sorted(user for part in quarters.values() for user in part) == sorted(taken)
  bounds = []
  for name, members in quarters.items():
    lengths = {len(taken[user]) for user in members}
    low, high = min(lengths), max(lengths)
    assert name == (f'{low} titles' if low == high else f'{low}–{high} titles')
    bounds += [low, high]
  assert bounds == sorted(bounds) and len(quarters) == 4
  counts = dataset.vocabulary(dataset_lib.ITEMS).counts
  latest = _members(made, dataset, 'latest title')
  least = [
    min(counts[int(taken[user][-1][1:])] for user in members)
    for members in latest.values()
  ]
  assert least == sorted(least, reverse=True)
  assert [name.partition(',')[0] for name in latest] == ['head', 'middle', 'tail']
  assert sorted(user for part in latest.values() for user in part) == sorted(taken)
  cold = {f'u{user}' for user in _COLD}
  assert _members(made, dataset, 'training') == {
    'trained on': set(taken) - cold,
    'not trained on': cold,
  }


def test_users_are_parted_by_what_is_known_of_them(dataset):
  made = _segments(dataset)
  clubs = _members(made, dataset, 'club')
  assert clubs == {
    name: {f'u{user}' for user in range(_USERS) if name in _CLUBS[user % 4]}
    for name in ('north', 'a, <b>', 'sci:fi')
  }
  # Of whom no age is known, they are in no quarter.
  assert _members(made, dataset, 'age') == {
    str(int(age)): {f'u{user}' for user in range(_USERS) if _AGES[user % 5] == age}
    for age in (20.0, 30.0, 40.0, 50.0)
  }
  assert list(_members(made, dataset, 'training (feature)')) == ['by bike']


def test_a_dataset_without_features_has_segments_all_the_same(tmp_path):
  made = toy_dataset.write(tmp_path, toy_dataset.tastes(8, 40, 5), num_items=40)
  found = _segments(made)
  # All are trained on, and have as many.
  assert list(found.columns) == ['history length', 'latest title']
  assert list(found.columns['history length'].places) == ['5 titles']


def test_pages_hold_each_user_once_in_an_order_that_stays(explorer, dataset):
  about = {column['name']: column['values'] for column in explorer.about()['segments']}
  (north,) = (each for each in about['club'] if each['value'] == 'north')
  expected = {f'u{user}' for user in range(_USERS) if user % 4 != 2}
  assert north['count'] == len(expected) == 23
  pages = [explorer.segment('club', 'north', start) for start in (0, 10, 20)]
  assert [page['start'] for page in pages] == [0, 10, 20]
  assert {page['total'] for page in pages} == {23}
  rows = [row for page in pages for row in page['users']]
  users = [row['user'] for row in rows]
  assert len(users) == 23 and set(users) == expected
  # At random, and the same whenever it is asked for.
  assert users != sorted(users, key=lambda user: int(user[1:]))
  again = _segments(dataset).users('club', 'north')
  assert [f'u{user}' for user in again] == users
  taken = toy_answers.histories(dataset)
  assert all(row['history'] == len(taken[row['user']]) for row in rows)
  # Any place of a page names it; beyond the end, the last one is meant.
  assert explorer.segment('club', 'north', 17) == pages[1]
  assert explorer.segment('club', 'north', 10**12) == pages[2]


def _get(address, **query):
  url = f'{address}/api/segment?{urllib.parse.urlencode(query)}'
  with urllib.request.urlopen(url) as response:
    return json.load(response)


def test_the_server_answers_segments_and_refuses_others(address, explorer):
  found = _get(address, of='club:sci:fi')
  assert found == explorer.segment('club', 'sci:fi')
  assert _get(address, of='club:north', **{'from': 12}) == (
    explorer.segment('club', 'north', 10)
  )
  for start in ('9' * 5000, '-3', 'x', ''):
    assert _get(address, of='club:sci:fi', **{'from': start}) == found
  for wrong in ('club:south', 'nothing:north', 'club', ''):
    with pytest.raises(urllib.error.HTTPError, match='400') as refused:
      _get(address, of=wrong)
    assert b'no such segment' in refused.value.read()
  with pytest.raises(ArgumentError, match='history length, latest title, training'):
    explorer.segment('none', 'x')


@pytest.mark.engine
def test_a_person_steps_through_a_segment_by_keyboard_and_phone(address, explorer):
  north = [explorer.segment('club', 'north', start)['users'] for start in (0, 10, 20)]
  with browser.page(address) as page:
    page.set_viewport_size({'width': 390, 'height': 844})

    def users():
      rows = page.locator('#members button').all()
      return [row.get_attribute('value') for row in rows]

    def expect(number, user):
      """The page of the segment that is shown, and of whom the list is."""
      page.wait_for_selector(f'#members button[value="{user}"][aria-current=true]')
      page.wait_for_function(
        f'document.getElementById("who").innerText == "user {user}"'
      )
      assert users() == [row['user'] for row in north[number]]

    page.wait_for_selector('#segments:not([hidden])')
    assert page.locator('#members-shown').is_hidden()
    page.select_option('#segment', 'club:north')
    page.wait_for_selector('#members button')
    chosen = page.locator('#segment option:checked')
    assert chosen.inner_text() == 'club: north (23)'
    assert page.locator('#members-count').inner_text() == '1–10 of 23'
    assert page.evaluate('document.documentElement.scrollWidth') <= 390
    # It comes before the list.
    top = '["#segments", "#lists"].map(id => document.querySelector(id).offsetTop)'
    box, lists = page.evaluate(top)
    assert box < lists
    # In a box the letter chooses, here of what begins with it.
    page.focus('#segment')
    page.keyboard.press('n')
    page.wait_for_function('document.getElementById("segment").value != "club:north"')
    assert 'user=u' not in page.url
    page.select_option('#segment', 'club:north')
    page.wait_for_function(
      'document.getElementById("members-count").innerText == "1–10 of 23"'
    )
    page.locator('#segment').evaluate('box => box.blur()')
    page.keyboard.press('n')
    expect(0, north[0][0]['user'])
    page.keyboard.press('n')
    expect(0, north[0][1]['user'])
    page.locator(f'#members button[value="{north[0][9]["user"]}"]').click()
    expect(0, north[0][9]['user'])
    # After a page's last user comes the first of the next one.
    page.click('#next-user')
    expect(1, north[1][0]['user'])
    page.reload()
    expect(1, north[1][0]['user'])
    page.click('#page-on')
    page.wait_for_function('document.getElementById("page-on").disabled')
    assert users() == [row['user'] for row in north[2]]
    page.locator('#members button').last.click()
    expect(2, north[2][-1]['user'])
    # And after the last of all, the first.
    page.click('#next-user')
    expect(0, north[0][0]['user'])
    assert page.locator('#page-back').is_disabled()
    page.select_option('#segment', '')
    page.wait_for_selector('#members-shown', state='hidden')
    assert 'in=' not in page.url


@pytest.mark.engine
def test_a_segment_that_is_not_there_is_passed_over_and_a_lost_server_told(address):
  with browser.page(f'{address}/#in=club:south&from=10') as page:
    page.wait_for_selector('body[data-ready]')
    assert page.locator('#members-shown').is_hidden()
    page.route('**/api/*', lambda route: route.abort())
    page.select_option('#segment', 'club:a, <b>')
    page.wait_for_selector('#error:not([hidden])')
    page.wait_for_selector('#members .empty')
    assert page.locator('#members').inner_text() == 'These users could not be read.'
    assert page.locator('#next-user').is_disabled()
    page.unroute('**/api/*')
    page.click('#again')
    page.wait_for_selector('#error[hidden]', state='attached')
    page.wait_for_selector('#members button')
    page.route(
      '**/api/segment*',
      lambda route: route.fulfill(json={'start': 0, 'total': 0, 'users': []}),
    )
    page.select_option('#segment', 'club:north')
    page.wait_for_selector('#members .empty')
    assert page.locator('#members').inner_text() == 'No user is in this segment.'
    assert page.locator('#next-user').is_disabled()
