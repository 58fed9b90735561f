"""What `import ncf_tfdata` offers, beside what the commands do."""

import csv
import json

import commands
import h5py
import numpy as np
import pytest

import ncf_tfdata as ncf
from ncf_tfdata import run as run_lib

pytestmark = pytest.mark.slow

_TRAINING = ncf.TrainConfig(
  objective=ncf.ObjectiveConfig(shared_negatives=16),
  optimizer=ncf.OptimizerConfig(learning_rate=0.01),
  batch_size=128,
  epochs=2,
  steps_per_call=4,
)
_MODEL = ncf.HistoryConfig(length=5, dim=8, heads=2, user_embedding=False)
_FLAGS = (
  '--model=history',
  '--history_length=5',
  '--history_dim=8',
  '--history_heads=2',
  '--nouser_embedding',
  '--shared_negatives=16',
  '--learning_rate=0.01',
  '--batch_size=128',
  '--epochs=2',
  '--steps_per_call=4',
)


@pytest.fixture(scope='module')
def run(dataset, tmp_path_factory):
  directory = tmp_path_factory.mktemp('api') / 'run'
  return ncf.train(dataset, _MODEL, _TRAINING, run_dir=directory, progress=False)


@pytest.fixture(scope='module')
def twin(dataset, tmp_path_factory):
  """The run of the command with the same configuration."""
  directory = tmp_path_factory.mktemp('api') / 'twin'
  paths = (f'--data_dir={dataset.directory}', f'--run_dir={directory}')
  done = commands.run('ncf_tfdata.train', *paths, *_FLAGS)
  assert done.returncode == 0, done.stderr
  return ncf.Run.load(directory)


def _weights(run: ncf.Run) -> dict[str, np.ndarray]:
  found = {}

  def keep(name, item):
    if isinstance(item, h5py.Dataset):
      found[name] = np.array(item)

  with h5py.File(run.files.best_weights) as file:
    file.visititems(keep)
  return found


def test_it_trains_what_the_command_trains(run, twin):
  assert run.recipe == twin.recipe
  one, other = _weights(run), _weights(twin)
  assert one.keys() == other.keys()
  for name, values in one.items():
    np.testing.assert_allclose(values, other[name], rtol=1e-4, atol=1e-5)
  assert run.metrics['test'].keys() == twin.metrics['test'].keys()
  lines = [set(each.files.flags()) for each in (run, twin)]
  assert {line.partition('=')[0] for line in lines[0] ^ lines[1]} <= {'--run_dir'}


def test_the_same_call_takes_the_run_up_and_another_is_refused(run, dataset):
  before = (run.directory / 'metrics.json').read_bytes()
  again = ncf.train(dataset, _MODEL, _TRAINING, run_dir=run.directory, progress=False)
  assert again.recipe == run.recipe
  other = _TRAINING.replace(epochs=3)
  with pytest.raises(ncf.UserError, match=r'--epochs=2, and .* --epochs=3'):
    ncf.train(dataset, _MODEL, other, run_dir=run.directory)
  assert (run.directory / 'metrics.json').read_bytes() == before


def test_a_run_is_loaded_by_its_directory_alone(run, dataset):
  loaded = ncf.Run.load(str(run.directory))
  assert loaded.dataset.sha256 == dataset.sha256
  assert loaded.recipe.train == run.recipe.train
  assert loaded.recipe.model == _MODEL
  assert loaded.metrics == run.metrics
  with pytest.raises(ncf.UserError, match='no run'):
    ncf.Run.load(run.directory / 'none')


def test_an_evaluation_is_a_value_and_what_the_run_keeps(run):
  found = run.evaluate(baselines=['ease:l2=10', 'transitions'], progress=False)
  assert list(found.systems) == ['history', 'ease:l2=10', 'transitions']
  kept = json.loads((run.directory / 'metrics.json').read_text())
  written = json.loads(json.dumps(found.systems))
  assert kept['test'] == written['history']
  assert kept['baselines']['transitions']['test'] == {
    'fit_on': 'train',
    **written['transitions'],
  }
  assert found.comparisons.keys() == {'ease:l2=10', 'transitions'}
  assert found.report.exists()
  table = found.table()
  assert repr(table) == str(table)  # A notebook shows the table, not its quotes.
  assert 'among 15 sampled negatives' in table
  assert 'history - transitions' in table


def test_baselines_alone_need_no_run(dataset):
  config = ncf.EvaluateConfig(baselines=('transitions', 'successors'), ks=(10, 3, 3))
  found = ncf.evaluate(dataset, config, full_ranking=False, progress=False)
  assert found.model is None and found.report is None
  assert found.config.ks == (3, 10)
  assert found.systems['transitions'] == found.systems['successors']
  assert 'catalogue' not in found.table()
  with pytest.raises(ValueError, match='nothing to judge'):
    ncf.evaluate(dataset, baselines=())
  with pytest.raises(ValueError, match='`compare_to` compares two runs'):
    ncf.evaluate(dataset, compare_to='other')


def test_another_system_is_judged_by_a_mapping_of_files(run, dataset, tmp_path):
  path = tmp_path / 'popular.tsv'
  users = dataset.vocabulary('users.tsv').keys
  items = dataset.vocabulary('items.tsv')
  path.write_text(
    ''.join(
      f'{user}\t{item}\t{count}\n'
      for user in users
      for item, count in zip(items.keys, items.counts.tolist(), strict=True)
    )
  )
  found = ncf.evaluate(
    dataset,
    baselines=['popularity'],
    predictions={'theirs': path},
    progress=False,
  )
  assert found.reference == 'theirs'
  for ranking in ('sampled', 'full'):
    expected = found.systems['popularity'][ranking]
    assert found.systems['theirs'][ranking] == pytest.approx(expected)
    assert found.comparisons['popularity'][ranking]['p_holm'] == 1
  assert found.systems['theirs']['counts']['short'] == 0
  assert 'theirs, popular.tsv' in found.table()
  alone = ncf.evaluate(
    dataset, predictions={'theirs': path}, full_ranking=False, progress=False
  )
  assert alone.systems['theirs']['sampled'] == found.systems['theirs']['sampled']
  assert 'full' not in alone.systems['theirs']
  beside = run.evaluate(baselines=(), predictions={'theirs': path}, progress=False)
  assert beside.reference == 'history'
  assert beside.systems['theirs'] == found.systems['theirs']
  with pytest.raises(ValueError, match='must be NAME=FILE'):
    ncf.EvaluateConfig(predictions={'theirs': path})


def test_recommendations_are_those_of_the_command(run, tmp_path):
  output = tmp_path / 'everyone.csv'
  done = commands.run(
    'ncf_tfdata.recommend',
    f'--run_dir={run.directory}',
    '--all',
    '--k=4',
    f'--output={output}',
  )
  assert done.returncode == 0, done.stderr
  with output.open(newline='') as stream:
    rows = list(csv.DictReader(stream))
  found = run.recommend(k=4)
  assert len(found) == run.dataset.num_users
  mine = [(each.user, item) for each in found for item in each.items]
  assert mine == [(row['user'], row['item']) for row in rows]
  assert {each.source for each in found} == {'model'}


def test_users_are_asked_about_by_their_own_ids(run):
  items = run.dataset.vocabulary('items.tsv').keys
  known = run.dataset.vocabulary('users.tsv').keys[3]
  one, stranger = run.recommend(users=[known, 'a stranger'], k=3)
  assert (one.user, one.source, len(one.items)) == (known, 'model', 3)
  assert stranger.source == 'popularity'
  assert sorted(one.scores, reverse=True) == one.scores
  (new,) = run.recommend(histories={'a stranger': list(items[:4])}, k=40)
  assert new.source == 'model'
  assert not set(new.items) & set(items[:4])
  named = run.recommend(users=[known], k=1, item_names={one.items[0]: 'The best'})
  assert 'The best' in named.table()
  with pytest.warns(UserWarning, match='1 events are of items'):
    run.recommend(histories={known: ['no such item']})


@pytest.mark.parametrize(
  ('arguments', 'told'),
  [
    ({'k': 0}, '`k` must be at least 1'),
    ({'users': 'abc'}, '`users` must be a list'),
    ({'users': ['1'], 'histories': {}}, 'not both'),
  ],
)
def test_what_cannot_be_recommended_is_an_error_of_values(run, arguments, told):
  with pytest.raises(ValueError, match=told):
    run.recommend(**arguments)


def test_an_export_is_a_saved_model_that_stays(run, tmp_path):
  import tensorflow as tf

  made = run.export(tmp_path / 'served' / '1')
  assert made.bytes > 0
  served = tf.saved_model.load(str(made.path))
  user = run.dataset.vocabulary('users.tsv').keys[0]
  found = served.recommend(tf.constant([user]), tf.constant(3))
  (mine,) = run.recommend(users=[user], k=3)
  assert [item.decode() for item in found['items'][0].numpy()] == mine.items
  with pytest.raises(ncf.UserError, match='holds a SavedModel'):
    run.export(made.path)
  assert run.export(made.path, overwrite=True).path == made.path


def test_nothing_is_printed_that_was_not_asked_for(run, dataset, tmp_path, capfd):
  config = _TRAINING.replace(epochs=1)
  made = ncf.train(dataset, _MODEL, config, run_dir=tmp_path / 'run', progress=False)
  made.evaluate(progress=False)
  made.recommend(k=2)
  assert capfd.readouterr().out == ''
  ncf.train(dataset, _MODEL, config, run_dir=tmp_path / 'seen')
  assert 'epoch 1/1' in capfd.readouterr().out


def test_configurations_that_do_not_suit_the_data_are_errors_of_values(
  dataset, tmp_path
):
  config = ncf.TrainConfig(objective=ncf.ObjectiveConfig(loss='bpr'))
  with pytest.raises(ValueError, match=r"`loss` must be softmax.*loss='bpr'"):
    ncf.train(dataset, ncf.HistoryConfig(), config, run_dir=tmp_path / 'run')
  with pytest.raises(ValueError, match=r'`heads` must divide `dim`.*heads=3'):
    ncf.train(dataset, ncf.HistoryConfig(heads=3), run_dir=tmp_path / 'run')
  assert not (tmp_path / 'run').exists()


def test_a_command_that_is_imported_is_still_the_function(dataset):
  import importlib

  from absl import flags

  before = set(flags.FLAGS)
  for name in ('train', 'evaluate'):
    module = importlib.import_module(f'ncf_tfdata.{name}')
    assert callable(getattr(ncf, name)) and callable(module)
  found = importlib.import_module('ncf_tfdata.evaluate')(
    dataset, baselines=['popularity'], progress=False
  )
  assert found.systems.keys() == {'popularity'}
  assert set(flags.FLAGS) == before


def test_names_are_all_there():
  for name in ncf.__all__:
    assert getattr(ncf, name) is not None
    assert name in dir(ncf)
  with pytest.raises(AttributeError, match='no_such_name'):
    _ = ncf.no_such_name
  assert run_lib.Run is not ncf.Run
