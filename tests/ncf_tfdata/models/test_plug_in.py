"""A model from outside goes all the way: trained, judged, asked and exported."""

import json
import pathlib

import commands
import numpy as np
import pytest
import tensorflow as tf
import toy_dataset
import toy_model

from ncf_tfdata import run
from ncf_tfdata.models import registry, saved
from ncf_tfdata.serving import recommender, saved_model
from ncf_tfdata.training.config import OptimizerConfig, TrainConfig
from ncf_tfdata.training.trainer import Trainer

_USERS, _ITEMS, _SEEN = 60, 20, 12


@pytest.fixture(scope='module')
def dataset(tmp_path_factory):
  """After an item always comes the next one, round and round."""
  items = [np.roll(np.arange(_ITEMS), -user)[:_SEEN] for user in range(_USERS)]
  directory = tmp_path_factory.mktemp('toy') / 'data'
  return toy_dataset.write(directory, items, num_items=_ITEMS, eval_negatives=7)


def _next(user: int) -> str:
  return f'i{(user + _SEEN) % _ITEMS}'


@pytest.fixture
def registered(monkeypatch):
  """The toy in the registry, for one test."""
  monkeypatch.setattr(registry, '_ENTRIES', dict(registry._ENTRIES))
  registry.register(toy_model.ENTRY)


@pytest.mark.slow
def test_from_python_a_model_is_trained_and_recommends(dataset, tmp_path, registered):
  optimizer = OptimizerConfig(learning_rate=0.3)
  config = TrainConfig(epochs=20, optimizer=optimizer, batch_size=256)
  made = run.Run(tmp_path / 'run')
  Trainer(dataset, toy_model.ToyConfig(), config).train(made, progress=False)
  assert made.metrics()['model'] == 'toy'
  assert made.metrics()['test']['full']['hr@1'] > 0.95
  model = saved.load(made, dataset)
  users = np.arange(_USERS)
  histories = recommender.read_histories(dataset).of(users)
  found = recommender.Recommender(model, dataset).recommend(users, *histories, 1)
  assert [f'i{item}' for (item,) in found.item] == [_next(user) for user in users]
  served = saved_model.Server(model, dataset)
  history = tf.constant([['i3', 'i4'], ['', 'i19']])
  lists = served.recommend_history(history, tf.constant(1))
  assert lists['items'].numpy().tolist() == [[b'i5'], [b'i0']]


@pytest.fixture
def installed(tmp_path) -> list[str]:
  """What makes an installed package with the toy for an entry point."""
  package = tmp_path / 'toy-1.0.dist-info'
  package.mkdir()
  (package / 'METADATA').write_text('Metadata-Version: 2.1\nName: toy\nVersion: 1.0\n')
  point = f'[{registry.GROUP}]\ntoy = toy_model:ENTRY\n'
  (package / 'entry_points.txt').write_text(point)
  return [str(tmp_path), str(pathlib.Path(toy_model.__file__).parent)]


@pytest.mark.slow
def test_commands_take_an_installed_model(dataset, tmp_path, installed):
  def command(name: str, *arguments: object) -> str:
    # A process of its own, which looks for what is installed.
    done = commands.run_code(
      'import runpy, sys\n'
      f'sys.path[:0] = {installed}\n'
      f'runpy.run_module("ncf_tfdata.{name}", run_name="__main__", alter_sys=True)',
      f'--run_dir={tmp_path}/run',
      *arguments,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout

  recipe = ('--epochs=20', '--learning_rate=0.3', '--batch_size=256')
  trained = command(
    'train',
    '--model=toy',
    '--toy_decay=0.0001',
    f'--data_dir={dataset.directory}',
    *recipe,
  )
  assert 'toy' in trained
  assert '--toy_decay=0.0001' in (tmp_path / 'run/flags.cfg').read_text()
  assert 'toy' in command('evaluate', '--baselines=popularity')
  command('recommend', '--all', '--k=1', f'--output={tmp_path}/lists.jsonl')
  lines = (tmp_path / 'lists.jsonl').read_text().splitlines()
  lists = {line['user']: line['items'] for line in map(json.loads, lines)}
  assert lists == {f'u{user}': [_next(user)] for user in range(_USERS)}
  command('export', f'--output={tmp_path}/served/1')
  served = tf.saved_model.load(f'{tmp_path}/served/1')
  users = tf.constant(list(lists))
  found = served.signatures['recommend'](user=users, k=tf.constant(1))
  assert found['items'].numpy().tolist() == [[i[0].encode()] for i in lists.values()]
