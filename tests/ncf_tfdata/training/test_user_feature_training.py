"""Trainings of models that know users by what they are: what they learn of new ones."""

import numpy as np
import pytest
import toy_dataset
import toy_features

from ncf_tfdata import run as run_lib
from ncf_tfdata.data import records
from ncf_tfdata.evaluation import ranking
from ncf_tfdata.features.records import Features
from ncf_tfdata.models.configs import HistoryConfig, NeuMFConfig, ObjectiveConfig
from ncf_tfdata.training.config import OptimizerConfig, TrainConfig
from ncf_tfdata.training.trainer import Trainer

_GROUPS, _ITEMS = 4, 40

_MODELS = {
  'history': HistoryConfig(length=8, dim=16, heads=2, user_embedding=True),
  'history without ids': HistoryConfig(length=8, dim=16, heads=2, user_embedding=False),
  'neumf': NeuMFConfig(gmf_dim=8, mlp_dim=8, mlp_layers=(16,)),
}


def _train(**options) -> TrainConfig:
  settings = {
    'epochs': 12,
    'steps_per_call': 32,
    'batch_size': 256,
    'jit_compile': False,
    'optimizer': OptimizerConfig(learning_rate=0.03),
    'objective': ObjectiveConfig(shared_negatives=32, loss='softmax', l2=0.01),
  }
  return TrainConfig(**settings | options)


@pytest.fixture(scope='module')
def dataset(tmp_path_factory):
  """Users want the items of their group alone, a quarter of all; half are new."""
  generator = np.random.default_rng(0)
  tastes = []
  for user in range(160):
    wanted = np.arange(user % _GROUPS, _ITEMS, _GROUPS)
    rows = 8 if user < 80 else 1 + user // _GROUPS % 2
    tastes.append(generator.choice(wanted, rows, replace=False))
  directory = tmp_path_factory.mktemp('groups') / 'data'
  made = toy_dataset.write(directory, tastes, num_items=_ITEMS, holdout=1)
  groups = [[f'group {user % _GROUPS}'] for user in range(len(tastes))]
  column = toy_features.categories('group', groups)
  return toy_features.add(made, Features(len(tastes), (column,)), 'user')


def _hit_rate(model, dataset) -> float:
  """HR@10 among all items, of users without train rows."""
  count = dataset.vocabulary('users.tsv').counts
  hits = []
  for batch in records.evaluation_batches(dataset, 'test', 100):
    scores = model.score_all(batch)
    ranking.mask_history(scores, batch)
    own = np.take_along_axis(scores, batch.positive[:, None], 1)
    hit = (scores > own).sum(axis=1) < 10
    hits.append(hit[count[batch.user] == 0])
  return float(np.concatenate(hits).mean())


@pytest.mark.slow
@pytest.mark.parametrize('model', ['history', 'neumf'])
def test_a_user_without_rows_gets_what_their_group_wants(dataset, tmp_path, model):
  config = _MODELS[model]
  # A history, or one row of train, tells a group as well.
  rates = []
  for wanted in (None, False):
    trainer = Trainer(dataset, config.replace(use_user_features=wanted), _train())
    trainer.fit(run_lib.Run(tmp_path / str(wanted)))
    rates.append(_hit_rate(trainer.task.scorer, dataset))
  assert rates[0] > 0.95
  assert rates[1] < 0.5


def test_what_a_training_says_of_users(dataset):
  for model, config in _MODELS.items():
    task = Trainer(dataset, config, _train()).task
    assert 'user features group' in task.chosen
    assert task.chosen.count('user_dropout 0.1') == 1
    trained = dataset.vocabulary('users.tsv').counts > 0
    np.testing.assert_array_equal(task.model.user_known, trained, err_msg=model)
    plain = Trainer(dataset, config.replace(use_user_features=False), _train()).task
    assert 'features' not in plain.chosen
