"""Trainings of models that know items and users by what they are: resumed, warm, end to
end.
"""

import json

import numpy as np
import prepared
import pytest
import toy_dataset
import toy_features
import trained

from ncf_tfdata import dataset as dataset_lib
from ncf_tfdata import run as run_lib
from ncf_tfdata.data import records
from ncf_tfdata.errors import ArgumentError, UserError
from ncf_tfdata.evaluation import summary
from ncf_tfdata.features.records import Features, Texts
from ncf_tfdata.models import saved
from ncf_tfdata.models.configs import HistoryConfig, NeuMFConfig, ObjectiveConfig
from ncf_tfdata.training.config import OptimizerConfig, TrainConfig
from ncf_tfdata.training.preemption import Sigterm, Terminated
from ncf_tfdata.training.trainer import Trainer

_MODELS = {
  'neumf': NeuMFConfig(gmf_dim=4, mlp_dim=4, mlp_layers=(8,), item_id_dropout=0.3),
  'history': HistoryConfig(
    length=8, dim=8, heads=2, members=2, user_embedding=True, item_id_dropout=0.3
  ),
}


def _config(**options) -> TrainConfig:
  settings = {
    'epochs': 2,
    'batch_size': 128,
    'steps_per_call': 1,
    'jit_compile': False,
    'optimizer': OptimizerConfig(name='lazy_adam'),
    'objective': ObjectiveConfig(shared_negatives=8, loss='softmax'),
  }
  return TrainConfig(**settings | options)


def _features(keys, kinds) -> Features:
  """Kinds and titles that follow from the keys i0, i1, …"""
  numbers = [int(key[1:]) for key in keys]
  kind = toy_features.categories('kind', [[kinds[n % len(kinds)]] for n in numbers])
  titles = Texts('title', [f'odd{n % 2} third{n % 3}'.encode() for n in numbers])
  return Features(len(keys), (kind, titles))


def _pets(users, kinds) -> Features:
  """What pets users have, and how many."""
  owned = toy_features.categories(
    'pet', [[kinds[n % len(kinds)]] for n in range(users)]
  )
  count = toy_features.numbers('count', [float(n % 4) for n in range(users)])
  return Features(users, (owned, count))


def _dataset(directory, keys, kinds, seed=0) -> dataset_lib.Dataset:
  tastes = toy_dataset.tastes(30, len(keys), 12, seed)
  made = toy_dataset.write(directory, tastes, num_items=len(keys), item_keys=keys)
  made = toy_features.add(made, _features(keys, kinds))
  return toy_features.add(made, _pets(len(tastes), kinds), 'user')


@pytest.fixture(scope='module')
def featured(tmp_path_factory):
  """A dataset of 40 items with features, and of users with some."""
  keys = [f'i{number}' for number in range(40)]
  return _dataset(tmp_path_factory.mktemp('featured'), keys, ['cat', 'dog', 'cow'])


class _Later(Sigterm):
  """Asks to stop before the third call of steps."""

  calls = 0

  @property
  def asked(self):
    return self.calls > 3

  @asked.setter
  def asked(self, value):
    pass

  def at_once(self, work):
    return work()


class _Stop(_Later):
  def __getattribute__(self, name):
    if name == 'asked':
      _Later.calls += 1
    return super().__getattribute__(name)


@pytest.mark.slow
@pytest.mark.parametrize('model', sorted(_MODELS))
def test_a_training_that_was_stopped_ends_bit_by_bit_where_it_would(
  featured, tmp_path, model
):
  ends = []
  for name in ('whole', 'stopped'):
    run = run_lib.Run(tmp_path / name)
    if name == 'stopped':
      _Later.calls = 0
      with pytest.raises(Terminated):
        Trainer(featured, _MODELS[model], _config()).train(
          run, progress=False, sigterm=_Stop()
        )
      assert run.metrics() is None
    Trainer(featured, _MODELS[model], _config()).train(run, progress=False)
    ends.append((saved.load(run, featured).get_weights(), run.metrics()['test']))
  for one, other in zip(ends[0][0], ends[1][0], strict=True):
    np.testing.assert_array_equal(one, other)
  assert ends[0][1] == ends[1][1]


@pytest.mark.slow
@pytest.mark.parametrize('model', sorted(_MODELS))
def test_a_warm_start_moves_rows_of_values_by_value(featured, tmp_path, model):
  base = run_lib.Run(tmp_path / 'base')
  Trainer(featured, _MODELS[model], _config(epochs=1)).train(base, progress=False)
  keys = [f'i{number}' for number in range(59, 20, -1)]
  later = _dataset(tmp_path / 'later', keys, ['dog', 'emu', 'cat', 'fox'], seed=1)
  config = _config(epochs=0, warm_start=str(base.directory))
  warm = run_lib.Run(tmp_path / 'warm')
  Trainer(later, _MODELS[model], config).train(warm, progress=False)
  fresh = Trainer(later, _MODELS[model], _config()).task.model

  def tables(model, dataset):
    columns = (
      each.columns[0] for each in (dataset.item_features(), dataset.user_features())
    )
    layers = model._feature_layers(), model._user_feature_layers()
    return [
      dict(zip(column.vocabulary, layer.tables[column.name].numpy(), strict=False))
      for column, of_column in zip(columns, layers, strict=True)
      for layer in of_column
    ]

  found = tables(saved.load(warm, later), later)
  old, new = tables(saved.load(base, featured), featured), tables(fresh, later)
  for here, there, own in zip(found, old, new, strict=True):
    assert sorted(here) == ['cat', 'dog', 'emu', 'fox']
    for kind, row in here.items():
      np.testing.assert_array_equal(row, there.get(kind, own[kind]))


@pytest.mark.slow
def test_a_warm_start_from_other_features_is_refused(featured, tmp_path):
  model = _MODELS['history']
  base = run_lib.Run(tmp_path / 'base')
  plain = model.replace(use_item_features=False, item_id_dropout=None)
  Trainer(featured, plain, _config(epochs=1)).train(base, progress=False)
  config = _config(warm_start=str(base.directory))
  with pytest.raises(UserError, match=r'features of items=none.*=kind, title'):
    Trainer(featured, model.replace(use_item_features=True), config)
  with pytest.raises(UserError, match=r'features of users=pet, numbers 2.*=none'):
    Trainer(featured, plain.replace(use_user_features=False), config)
  # What is left open follows the base.
  open_model = model.replace(item_id_dropout=None)
  followed = Trainer(featured, open_model, config).task.model
  assert not followed.shapes
  assert followed.user_shapes


def test_a_neumf_of_two_halves_has_no_features(featured, tmp_path):
  halves = {'pretrained_gmf': str(tmp_path), 'pretrained_mlp': str(tmp_path)}
  for without in ({}, {'use_item_features': False}):
    with pytest.raises(UserError, match=r'--pretrained_gmf.*--nouse_user_features'):
      Trainer(featured, NeuMFConfig(**halves, **without), _config())


def test_features_that_are_not_there_are_asked_for_in_vain(dataset):
  with pytest.raises(UserError, match=r'no features of items.*--item_features=FILE'):
    Trainer(dataset, NeuMFConfig(use_item_features=True), _config())
  with pytest.raises(UserError, match=r'no features of users.*--user_features=FILE'):
    Trainer(dataset, NeuMFConfig(user_dropout=0.2), _config())
  with pytest.raises(ArgumentError, match='`user_dropout` is for `use_user_features`'):
    NeuMFConfig(user_dropout=0.2, use_user_features=False)
  assert HistoryConfig(user_dropout=0.2, use_user_features=False)


def _animals(directory, users=80, items=60, rows=14):
  """A log of users who want cats alone or dogs alone, and a file of what is which."""
  generator = np.random.default_rng(0)
  lines = []
  for user in range(users):
    wanted = np.arange(user % 2, items, 2)
    chosen = generator.choice(wanted, rows, replace=False)
    lines += [(f'u{user}', f'i{item}', 5, time) for time, item in enumerate(chosen)]
  features = directory / 'animals.csv'
  kinds = [f'i{item},{("cat", "dog")[item % 2]}' for item in range(items)]
  features.write_text('\n'.join(['item,kind', *kinds]) + '\n')
  return prepared.write_log(directory / 'log', lines), features


@pytest.mark.slow
def test_a_cold_item_is_ranked_by_its_category(tmp_path):
  log, features = _animals(tmp_path)
  flags = ('--min_item_count=1', '--eval_negatives=10', '--held_out_items=.2')
  dataset = prepared.prepare(
    log, tmp_path / 'data', *flags, f'--item_features={features}', '--successors=20'
  )
  options = (
    '--model=history',
    '--history_length=8',
    '--history_dim=16',
    '--history_heads=2',
    '--loss=softmax',
    '--shared_negatives=32',
    '--learning_rate=0.02',
    '--epochs=6',
    '--successor_logits=0.5',
    '--ease_logits=1',
  )
  items = dataset.vocabulary(dataset_lib.ITEMS)
  cold = items.counts == 0
  assert cold.sum() >= 8
  is_dog = np.array([int(key[1:]) % 2 for key in items.keys])
  shares = {}
  for name, more in (('with', ()), ('without', ('--nouse_item_features',))):
    run = trained.train(dataset.directory, tmp_path / name, *options, *more)
    model = saved.load(run_lib.Run(run), dataset)
    ordered = []
    for batch in records.evaluation_batches(dataset, 'test', 100):
      wanted = is_dog[batch.history[np.cumsum(batch.history_length) - 1]]
      for scores, dogs in zip(model.score_all(batch), wanted, strict=True):
        right, wrong = (scores[cold & (is_dog == each)] for each in (dogs, 1 - dogs))
        ordered.append((right[:, None] > wrong).mean())
    shares[name] = np.mean(ordered)
  # Of cold cats and dogs, who wants cats gets all cats first.
  assert shares['with'] > 0.999
  assert shares['without'] < 0.8
  found = json.loads((tmp_path / 'with' / 'metrics.json').read_text())
  by_rows = found['test']['segments']['train_rows'][summary.FULL]
  assert by_rows[0]['segment'] == '0 train rows'
  ranks = summary.load_ranks(
    summary.ranks_path(tmp_path / 'with', 'test', summary.MODEL)
  )
  assert by_rows[0]['rows'] == cold[ranks.positive].sum()
