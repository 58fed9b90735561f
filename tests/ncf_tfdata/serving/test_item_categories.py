"""Lists of some categories alone: what items have, what is refused, and the page."""

import types
import urllib.error
import urllib.parse
import urllib.request

import browser
import commands
import numpy as np
import prepared
import pytest
import tensorflow as tf
import toy_categories
import toy_dataset
import toy_run

import ncf_tfdata as ncf
from ncf_tfdata.data import records
from ncf_tfdata.errors import ArgumentError
from ncf_tfdata.evaluation import baselines
from ncf_tfdata.features.records import Categories, Features
from ncf_tfdata.serving import explorer as explorer_lib
from ncf_tfdata.serving import (
  item_categories,
  rules_in_graph,
  saved_model,
)
from ncf_tfdata.serving.config import RecommendConfig

_COMEDY = {'genres': ['Comedy']}


@pytest.fixture(scope='module')
def dataset(dataset):
  return toy_categories.add_to(dataset)


@pytest.fixture(scope='module')
def plain(tmp_path_factory):
  """A run on a dataset without features."""
  root = tmp_path_factory.mktemp('plain')
  made = toy_dataset.write(root / 'data', toy_dataset.tastes(), num_items=40)
  return ncf.Run(toy_run.write(root / 'run', made), made)


@pytest.fixture(scope='module')
def run(made, dataset):
  return ncf.Run(made, dataset)


@pytest.fixture(scope='module')
def explorer(run, dataset):
  user, item = records.train_rows(dataset)
  popular = baselines.Popularity(user, item, dataset.num_users, dataset.num_items)
  return explorer_lib.Explorer(run.model, dataset, others={'popularity': popular})


@pytest.fixture(scope='module')
def address(explorer):
  with browser.served(explorer) as address:
    yield address


def _wide(num_items, num_values, each):
  """Items with up to `each` values of a column of many; and those as a dataset."""
  generator = np.random.default_rng(0)
  value = np.sort(generator.integers(0, num_values, (num_items, each)), axis=1)
  first = np.diff(value, axis=1, prepend=-1) > 0
  names = tuple(f'v{number}' for number in range(num_values))
  column = Categories(
    'c', value[first].astype(np.int32), first.sum(axis=1, dtype=np.int32), names, None
  )
  features = Features(num_items, (column,))
  dataset = types.SimpleNamespace(
    num_items=num_items, item_features=lambda: features, directory='wide'
  )
  return value, item_categories.ItemCategories(dataset)


def test_a_column_and_a_value_are_parted_at_the_first_colon():
  found = item_categories.parsed(['a:b', 'c:d:e', 'a:f, g', 'a: '])
  assert found == {'a': ['b', 'f, g', ' '], 'c': ['d:e']}
  for wrong in ('a', 'a:', ':b', '', ':'):
    with pytest.raises(ArgumentError, match='genres:Comedy'):
      item_categories.parsed([wrong])


@pytest.mark.parametrize(
  'only',
  [
    {'genres': ['Comedy']},
    {'genres': ['sci:fi', 'Drama, of old']},
    {'genres': ['Comedy', 'sci:fi'], 'shelf': ['s0', 's3']},
    {'shelf': ['s1'], 'genres': toy_categories.GENRES},
  ],
)
def test_items_have_one_of_the_values_of_each_column(dataset, only):
  pairs = [f'{name}:{value}' for name, values in only.items() for value in values]
  expected = [toy_categories.has(number, pairs) for number in range(40)]
  known = item_categories.ItemCategories(dataset)
  assert known.having(only).tolist() == expected
  assert 0 < sum(expected) < 40
  in_graph = rules_in_graph.Categories(known)
  found = in_graph.having(tf.constant([pairs, [''] * len(pairs)])).numpy()
  assert found.tolist() == [expected, [True] * 40]


def test_no_values_are_had_by_no_item_and_no_columns_by_all(dataset, run):
  known = item_categories.ItemCategories(dataset)
  assert not known.having({'genres': []}).any()
  assert known.having({}).all()
  (nothing,) = run.recommend(['u1'], only={'genres': []})
  assert not nothing.items
  (all_of_it,) = run.recommend(['u1'], only={})
  assert all_of_it.items == next(iter(run.recommend(['u1']))).items


def test_a_wide_column_is_no_matrix_of_items_and_values():
  # A cell for every item and value of each user would be 4 GB.
  value, known = _wide(num_items=100_000, num_values=1000, each=4)
  named = [[0, 5, 5], [999, 1, 0], [-1, -1, -1], [7, -1, 9999]]
  texts = [[f'c:v{one}' if one >= 0 else '' for one in row] for row in named] * 10
  found = rules_in_graph.Categories(known).having(tf.constant(texts)).numpy()
  for row, wanted in zip(found, named * 10, strict=True):
    expected = np.isin(value, wanted).any(axis=1)
    np.testing.assert_array_equal(row, expected | (max(wanted) < 0))
  only = {'c': ['v999', 'v1', 'v0']}
  np.testing.assert_array_equal(known.having(only), found[1])


def _refusals(directory):
  no_column = f'{directory} has no column genre, and `only` takes columns of categories'
  return {
    'genre:Comedy': f'{no_column}: genres, shelf.',
    'weight:3': 'weight is a column of kind number, and `only` takes columns of '
    'categories: genres, shelf.',
    'genres:Comdey': 'No item has this value. genres has Comedy and 2 more.',
    'shelf:nowhere': 'No item has this value. shelf has s0, s1, s2, s3.',
  }


def test_what_no_item_has_is_refused(dataset, run, plain):
  for pair, said in _refusals(dataset.directory).items():
    with pytest.raises(ArgumentError) as refused:
      run.recommend(['u1'], only=item_categories.parsed([pair]))
    assert str(refused.value) == f'{said} Received: only={pair!r}'
  for wrong in ('genres:Comedy', ['genres:Comedy'], {'genres': 'Comedy'}):
    with pytest.raises(ArgumentError, match='must hold lists of values, by column'):
      run.recommend(['u1'], only=wrong)
  with pytest.raises(ArgumentError, match='has no features of items'):
    plain.recommend(['u1'], only=_COMEDY)
  assert item_categories.ItemCategories(plain.dataset).having({}).all()


@pytest.mark.slow
def test_the_command_refuses_in_one_line(dataset, made, plain):
  def said(run, only):
    flags = (f'--run_dir={run.directory}', '--users=u1', f'--only={only}')
    return prepared.error_line(commands.run('ncf_tfdata.recommend', *flags))

  pair, expected = next(iter(_refusals(dataset.directory).items()))
  expected = expected.replace('`only`', '--only')
  assert said(made, f'genres:Comedy,{pair}') == (
    f'error: received --only={pair}: {expected}'
  )
  assert 'no features of items' in said(plain, 'genres:Comedy')
  with pytest.raises(ArgumentError, match='`only` must name a category'):
    RecommendConfig(users=('u1',), only=())


def test_an_export_without_categories_has_the_input(plain):
  server = saved_model.Server(plain.model, plain.dataset)
  users, only = tf.constant(['u1', 'u1']), tf.constant([[''], ['genres:Comedy']])
  found = server.recommend_by_rules(users, tf.constant(3), only=only)
  assert found['count'].numpy().tolist() == [3, 0]
  assert found['ignored'].numpy().tolist() == [0, 1]
  (expected,) = plain.recommend(['u1'], k=3)
  assert [key.decode() for key in found['items'].numpy()[0]] == expected.items


def test_the_page_knows_values_and_how_many_have_them(explorer, monkeypatch):
  genres, shelf = explorer.about()['categories']
  expected = [
    {'value': value, 'count': count}
    for value, count in zip(toy_categories.GENRES, (20, 14, 10), strict=True)
  ]
  assert genres == {'name': 'genres', 'values': expected, 'more': 0}
  assert [one['count'] for one in shelf['values']] == [10] * 4
  monkeypatch.setattr(explorer_lib, '_VALUES', 1)
  (genres, _) = explorer.about()['categories']
  assert genres == {'name': 'genres', 'values': expected[:1], 'more': 2}


def test_the_page_shows_the_lists_of_the_library(explorer, run):
  only = {'genres': ['Drama, of old', 'sci:fi'], 'shelf': ['s0', 's1']}
  for expected in run.recommend(['u3', 'u8', 'stranger'], only=only):
    rows = explorer.answer(expected.user, only=only)['answers']
    assert [row['item'] for row in rows] == expected.items
    assert [row['rank'] for row in rows] == list(range(1, len(rows) + 1))
  # Both lists of a move are of the same items.
  (everything,) = run.recommend(['u3'], k=40)
  before = [
    item for item in everything.items if toy_categories.has(int(item[1:]), ['shelf:s1'])
  ]
  told = explorer.answer('u3', before[:1], only={'shelf': ['s1']})
  assert {row['item']: row['was'] for row in told['answers']} == {
    item: place for place, item in enumerate(before, 1) if place > 1
  }
  assert not told['left']


def test_the_server_takes_categories_and_refuses_others(address, explorer):
  def url(*pairs):
    query = urllib.parse.urlencode({'user': 'u3', 'only': pairs}, doseq=True)
    return f'{address}/api/answer?{query}'

  with urllib.request.urlopen(url('genres:sci:fi', 'shelf:s1')) as response:
    found = response.read().decode()
  rows = explorer.answer('u3', only={'genres': ['sci:fi'], 'shelf': ['s1']})['answers']
  assert [f'"item": "{row["item"]}"' in found for row in rows] == [True] * len(rows)
  for wrong in ('genres', 'genres:none', 'weight:1'):
    with pytest.raises(urllib.error.HTTPError, match='400') as refused:
      urllib.request.urlopen(url(wrong))
    assert b'only' in refused.value.read()


@pytest.mark.engine
def test_a_person_chooses_categories_by_keyboard_and_phone(address, explorer):
  with browser.page(f'{address}/#user=u3') as page:
    page.set_viewport_size({'width': 390, 'height': 844})

    def shown(number):
      page.wait_for_selector(f'body[data-ready="{number}"]')
      rows = page.locator('.lists section:first-child .answers li[data-item]').all()
      return [row.get_attribute('data-item') for row in rows]

    def expected(**only):
      rows = explorer.answer('u3', only=only)['answers']
      return [row['item'] for row in rows]

    assert shown(1) == expected()
    genres = page.get_by_label('genres')
    assert genres.locator('option').all_inner_texts() == [
      'any', 'Comedy (20)', 'Drama, of old (14)', 'sci:fi (10)',
    ]  # fmt: skip
    genres.focus()
    page.keyboard.press('ArrowDown')
    page.keyboard.press('ArrowDown')
    assert shown(3) == expected(genres=['Drama, of old'])
    assert genres.evaluate('box => box === document.activeElement')
    page.keyboard.press('Tab')
    page.keyboard.type('s2')
    page.wait_for_function('location.hash.includes("shelf%3As2")')
    both = {'genres': ['Drama, of old'], 'shelf': ['s2']}
    assert page.get_by_label('shelf').input_value() == 's2'
    # It comes before the list, which is as wide as the phone.
    assert page.evaluate('document.documentElement.scrollWidth') <= 390
    top = '["#only", "#lists"].map(id => document.querySelector(id).offsetTop)'
    box, lists = page.evaluate(top)
    assert box < lists
    # The address says it all; what it says of no category is passed over.
    page.goto(f'{page.url}&only=genres%3Anone&only=nothing&only=weight%3A1')
    page.reload()
    assert shown(1) == expected(shelf=['s2'])
    page.goto(f'{address}/#user=u3&only=genres:Drama, of old&only=shelf:s2')
    page.reload()
    assert shown(1) == expected(**both)
    page.select_option('#other', 'popularity')
    page.wait_for_selector('.two section:nth-child(2) li[data-item]')
    second = page.locator('.two section:nth-child(2) li[data-item]').all()
    rows = explorer.answer('u3', system='popularity', only=both)['answers']
    assert [row.get_attribute('data-item') for row in second] == [
      row['item'] for row in rows
    ]


@pytest.mark.engine
def test_an_empty_list_says_what_it_is_of(address, explorer):
  left = explorer.answer('u3', only={'shelf': ['s3']})['answers']
  taken = ''.join(f'&item={row["item"]}' for row in left)
  with browser.page(f'{address}/#user=u3{taken}&only=shelf:s3') as page:
    page.wait_for_selector('.answers .empty')
    said = page.locator('.answers .empty').inner_text()
    assert said == 'Nothing is left to recommend with shelf s3.'
