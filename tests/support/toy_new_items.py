"""Cats and dogs: a log of who wants which, runs that tell them apart, and new ones."""

import pathlib
from collections.abc import Iterable, Mapping

import numpy as np
import prepared
import toy_answers

from ncf_tfdata import dataset as dataset_lib
from ncf_tfdata import run as run_lib
from ncf_tfdata.data import content
from ncf_tfdata.data.feature_codes import Coder
from ncf_tfdata.models import history, neumf
from ncf_tfdata.models.ranking_model import RankingModel
from ncf_tfdata.models.with_ease import WithEase
from ncf_tfdata.models.with_transitions import WithTransitions

_BUCKETS = 64
_HEADER = 'item,kind,weight,coat'


def animal(number: int) -> str:
  """What the file of features says of an animal: even ones are cats."""
  coats = ('black', 'white', 'red', 'grey', 'white|grey', 'black|red')
  return f'{("cat", "dog")[number % 2]},{number % 9},{coats[number % 6]}'


def write(path: pathlib.Path, rows: Mapping[str, str]) -> pathlib.Path:
  """Writes a file of animals by key, with the columns of the dataset's."""
  lines = (f'{key},{row}\n' for key, row in rows.items())
  path.write_text(''.join([f'{_HEADER}\n', *lines]))
  return path


def dataset(directory: pathlib.Path, users: int = 60, items: int = 40):
  """A prepared dataset of users who want cats alone or dogs alone; some are cold."""
  generator = np.random.default_rng(0)
  lines = []
  for user in range(users):
    wanted = np.arange(user % 2, items, 2)
    chosen = generator.choice(wanted, 10, replace=False)
    lines += [(f'u{user}', f'i{item}', 5, time) for time, item in enumerate(chosen)]
  features = write(directory / 'items.csv', {f'i{n}': animal(n) for n in range(items)})
  return prepared.prepare_here(
    prepared.write_log(directory / 'log', lines),
    directory / 'data',
    '--min_item_count=1',
    '--eval_negatives=10',
    '--held_out_items=.2',
    '--successors=20',
    f'--item_features={features}',
    '--item_feature_columns=kind:category,weight:number,coat:category',
  )


def cold(dataset: dataset_lib.Dataset) -> list[str]:
  """Keys of the items that no train row is of."""
  items = dataset.vocabulary(dataset_lib.ITEMS)
  return [items.keys[item] for item in np.flatnonzero(items.counts == 0)]


def twins(dataset: dataset_lib.Dataset) -> dict[str, str]:
  """What a file of new animals says, each the like of a cold one: `new-i3` of `i3`."""
  return {f'new-{key}': animal(int(key[1:])) for key in cold(dataset)}


def options(dataset: dataset_lib.Dataset) -> dict:
  """Those that give a model features of items."""
  shapes = Coder(dataset.item_features(), _BUCKETS).shapes
  return {
    'item_features': [shape.to_config() for shape in shapes],
    'text_buckets': _BUCKETS,
    'cold_item_logits': 0.25,
  }


def history_model(dataset: dataset_lib.Dataset, **more) -> history.History:
  """A small one, with weights as far from zero as a training takes them."""
  size = dataset.num_users, dataset.num_items
  shape = {'history_length': 6, 'dim': 8, 'heads': 2, 'hidden': 6}
  return shaken(history.History(*size, **shape, name='history', **more))


def neumf_model(dataset: dataset_lib.Dataset, **more) -> neumf.NeuMF:
  """A small one, likewise."""
  size = dataset.num_users, dataset.num_items
  shape = {'gmf_dim': 4, 'mlp_dim': 4, 'mlp_layers': (8,), 'item_bias': True}
  return shaken(neumf.NeuMF(*size, **shape, name='neumf', **more))


def shaken(model: RankingModel) -> RankingModel:
  """The model with random weights."""
  generator = np.random.default_rng(0)
  for weight in model.trainable_variables:
    weight.assign(weight + generator.normal(0, 0.2, weight.shape))
  return model


def run(
  directory: pathlib.Path,
  dataset: dataset_lib.Dataset,
  model: RankingModel,
  transitions: float = 0.5,
  ease: float = 20.0,
) -> run_lib.Run:
  """A finished run of a model with what is counted of the dataset added to it.

  EASE weighs so much that who wants cats gets cats.
  """
  neighbours = content.NEIGHBOURS if model.shapes else 0
  scorer = model
  if transitions:
    scorer = WithTransitions(scorer, transitions, 0.01, 0.5, neighbours)
  if ease:
    scorer = WithEase(scorer, ease, l2=10.0, neighbours=neighbours)
  return toy_answers.finished(directory, dataset, scorer, model)


def places(dataset: dataset_lib.Dataset, keys: Iterable[str]) -> list[int]:
  """Dense ids of items."""
  ids = dataset.vocabulary(dataset_lib.ITEMS).ids()
  return [ids[key] for key in keys]
