"""A dataset with new items behind its own: what it says, and what it refuses."""

import dataclasses

import numpy as np
import pytest
import toy_dataset
import toy_features

from ncf_tfdata import dataset as dataset_lib
from ncf_tfdata import sample_titles
from ncf_tfdata.data import new_items
from ncf_tfdata.errors import UserError
from ncf_tfdata.features.records import Features
from ncf_tfdata.manifest import Source
from ncf_tfdata.vocabulary import Vocabulary

_ITEMS = 40


@pytest.fixture(scope='module')
def dataset(tmp_path_factory):
  directory = tmp_path_factory.mktemp('new_items') / 'data'
  tastes = toy_dataset.tastes(20, _ITEMS, 10)
  made = toy_dataset.write(directory, tastes, num_items=_ITEMS)
  kinds = toy_features.categories('kind', [[('cat', 'dog')[n % 2]] for n in range(40)])
  return toy_features.add(made, Features(_ITEMS, (kinds,)))


def _file(tmp_path, *rows: str) -> str:
  path = tmp_path / 'new.csv'
  path.write_text('\n'.join(['item,kind', *rows, '']))
  return str(path)


def test_new_items_stand_behind_those_of_the_dataset(dataset, tmp_path):
  grown = new_items.read(dataset, _file(tmp_path, 'n1,dog', 'n0,cat|emu', 'n2,'))
  assert (grown.own_items, grown.num_items, grown.catalogue_size) == (40, 43, 43)
  own, items = (each.vocabulary(dataset_lib.ITEMS) for each in (dataset, grown))
  assert items.keys == (*own.keys, 'n1', 'n0', 'n2')
  assert items.counts.tolist() == [*own.counts, 0, 0, 0]
  assert items.ids()['n0'] == 41
  kind, own_kind = grown.item_features().columns[0], dataset.item_features().columns[0]
  assert kind.vocabulary == own_kind.vocabulary
  assert kind.counts.tolist() == own_kind.counts.tolist()
  assert kind.lengths.tolist() == [1] * 42 + [0]
  assert [kind.vocabulary[value] for value in kind.values[-2:]] == ['dog', 'cat']
  assert grown.item_features().fitted().size == dataset.own_items == 40
  assert grown.sha256 == dataset.sha256
  users = dataset.vocabulary(dataset_lib.USERS)
  assert grown.vocabulary(dataset_lib.USERS).keys == users.keys
  assert grown.warning().endswith('which are ignored: kind 1.')
  assert not new_items.read(dataset, _file(tmp_path, 'n1,dog')).warning()


def test_new_items_are_never_unused(dataset, tmp_path, monkeypatch):
  unused = np.arange(_ITEMS) % 5 == 0
  monkeypatch.setattr(dataset_lib.Dataset, 'unused_items', lambda self: unused)
  known = Vocabulary.of(
    dataset.vocabulary(dataset_lib.ITEMS).keys,
    np.ones(_ITEMS, np.int64),
    np.arange(_ITEMS),
    np.where(unused, 0, 2),
  )
  monkeypatch.setattr(dataset_lib.Dataset, 'vocabulary', lambda self, name: known)
  grown = new_items.read(dataset, _file(tmp_path, 'n0,dog', 'n1,dog'))
  assert grown.unused_items().tolist() == [*unused, False, False]
  items = grown.vocabulary(dataset_lib.ITEMS)
  assert items.rows[-2:].tolist() == [0, 0]
  # Nobody has seen them before anything.
  assert items.first_times[-2:].min() > _ITEMS


def test_items_that_are_there_already_are_refused(dataset, tmp_path):
  path = _file(tmp_path, 'n0,dog', 'i7,dog', 'i3,cat')
  with pytest.raises(UserError) as caught:
    new_items.read(dataset, path)
  said = str(caught.value)
  assert f'{path} has 2 of 3 items' in said
  assert "holds already, 'i7' first: expected items that came after it" in said
  assert '\n' not in said


def test_a_dataset_without_features_is_refused(tmp_path):
  bare = toy_dataset.write(tmp_path / 'bare', toy_dataset.tastes(8), num_items=_ITEMS)
  with pytest.raises(UserError, match=r'no features of items.*--item_features=FILE'):
    new_items.read(bare, _file(tmp_path, 'n0,dog'))


def test_a_file_that_is_no_good_is_refused(dataset, tmp_path):
  with pytest.raises(UserError, match='does not exist: expected a file of new items'):
    new_items.read(dataset, str(tmp_path / 'none.csv'))


def test_new_items_have_no_titles_of_the_sample(dataset, tmp_path):
  """Its ids are numbers, which their keys need not be."""
  grown = new_items.read(dataset, _file(tmp_path, 'n0,dog'))
  source = Source('sample', 0, sample_titles.SHA256)
  grown.manifest = dataclasses.replace(grown.manifest, sources=(source,))
  own = dataset.vocabulary(dataset_lib.ITEMS)
  numbers = Vocabulary.of(tuple(map(str, range(1, 41))), own.counts)
  grown.vocabulary = lambda name: Vocabulary.of((*numbers.keys, 'n0'), own.counts)
  assert list(sample_titles.of(grown)) == list(numbers.keys)
