"""A training that starts from another run: which row goes where, what is refused."""

import pathlib
import shutil

import commands
import numpy as np
import pytest
import tensorflow as tf
import toy_dataset
import toy_model

from ncf_tfdata import dataset as dataset_lib
from ncf_tfdata import run as run_lib
from ncf_tfdata.data import records
from ncf_tfdata.errors import ArgumentError, UserError
from ncf_tfdata.models import history_defaults, neumf, ranking_model, registry, saved
from ncf_tfdata.models.configs import (
  GMFConfig,
  HistoryConfig,
  NeuMFConfig,
  ObjectiveConfig,
)
from ncf_tfdata.models.with_ease import WithEase
from ncf_tfdata.models.with_transitions import WithTransitions
from ncf_tfdata.training.config import OptimizerConfig, TrainConfig
from ncf_tfdata.training.preemption import Sigterm, Terminated
from ncf_tfdata.training.trainer import Trainer

pytestmark = pytest.mark.slow

_OLD = commands.ROOT / 'tests' / 'support' / 'old_run'
_MODELS = {
  'neumf': NeuMFConfig(gmf_dim=4, mlp_dim=4, mlp_layers=(8,), item_bias=True),
  'history': HistoryConfig(
    encoder='pool', length=8, dim=8, heads=2, members=2, user_embedding=True
  ),
}
_OPTIMIZERS = {
  'neumf': OptimizerConfig(name='lazy_adam', average_weights=0.5),
  'history': OptimizerConfig(beta_2=0.99),
}


def _config(model: str, **options) -> TrainConfig:
  settings = {
    'epochs': 1,
    'batch_size': 256,
    'jit_compile': False,
    'optimizer': _OPTIMIZERS[model],
    'objective': ObjectiveConfig(shared_negatives=8, loss='softmax'),
  }
  return TrainConfig(**settings | options)


@pytest.fixture(scope='module')
def tomorrow(tmp_path_factory):
  """Without three users and five items of `dataset`, with others, ids dealt anew."""
  users = [f'u{user}' for user in range(63, 2, -1)]
  items = [f'i{item}' for item in range(43, 4, -1)]
  tastes = toy_dataset.tastes(len(users), len(items), seed=1)
  directory = tmp_path_factory.mktemp('tomorrow')
  return toy_dataset.write(
    directory, tastes, num_items=len(items), user_keys=users, item_keys=items
  )


def _trained(model: str, dataset, directory: pathlib.Path) -> run_lib.Run:
  made = run_lib.Run(directory / model)
  Trainer(dataset, _MODELS[model], _config(model)).train(made, progress=False)
  return made


@pytest.fixture(scope='module')
def neumf_base(dataset, tmp_path_factory):
  """A trained run."""
  return _trained('neumf', dataset, tmp_path_factory.mktemp('base'))


@pytest.fixture(scope='module')
def history_base(dataset, tmp_path_factory):
  """A trained run."""
  return _trained('history', dataset, tmp_path_factory.mktemp('base'))


@pytest.fixture(scope='module', params=['neumf', 'history'])
def base(request):
  """A trained run, behind the name of its model."""
  return request.param, request.getfixturevalue(f'{request.param}_base')


@pytest.fixture(scope='module')
def warm(base, tomorrow, tmp_path_factory):
  """The run that starts from a base and its moments, and is not trained."""
  model, files = base
  made = run_lib.Run(tmp_path_factory.mktemp('warm') / 'run')
  options = {'warm_start': str(files.directory), 'warm_start_moments': True}
  Trainer(tomorrow, _MODELS[model], _config(model, epochs=0, **options)).train(
    made, progress=False
  )
  return made


def _by_key(model, dataset):
  """Weights of a model by place; tables as {key: row} of what has a key."""
  axes = {
    id(weight): name
    for name, weights in model.vocabulary_weights().items()
    for weight in weights
  }
  for weight in model.trainable_variables:
    name = axes.get(id(weight))
    if name is None:
      yield weight.numpy()
    else:
      keys = dataset.vocabulary(name).keys
      yield dict(zip(keys, weight.numpy(), strict=False))


def _check_rows(found, old, fresh):
  """Rows of known keys are the old ones, others what they would be without a base."""
  assert set(found) == set(fresh)
  assert set(found) & set(old)
  assert set(found) - set(old)
  assert set(old) - set(found)
  for key, row in found.items():
    np.testing.assert_array_equal(row, old.get(key, fresh[key]))


def test_rows_go_where_their_key_is(base, warm, dataset, tomorrow):
  (name, files), made = base, warm
  fresh = Trainer(tomorrow, _MODELS[name], _config(name)).task.model
  found, old = saved.load(made, tomorrow), saved.load(files, dataset)
  triples = zip(
    _by_key(found, tomorrow),
    _by_key(old, dataset),
    _by_key(fresh, tomorrow),
    strict=True,
  )
  tables = 0
  for here, there, new in triples:
    if isinstance(here, dict):
      tables += 1
      _check_rows(here, there, new)
    else:
      np.testing.assert_array_equal(here, there)
  assert tables == {'neumf': 3, 'history': 6}[name]
  if name == 'history':
    np.testing.assert_array_equal(found.user_known, np.ones(tomorrow.num_users))
  note = made.metrics()['warm_start']
  assert note == made.warm_start()
  assert note['checkpoint_sha256'] == files.checkpoint_sha256()
  assert note['dataset_sha256'] == dataset.sha256
  assert note['users'] == {'kept': 57, 'new': 4, 'dropped': 3}
  assert note['items'] == {'kept': 35, 'new': 4, 'dropped': 5}
  assert made.metrics()['best_epoch'] == 0


def test_what_is_added_to_a_base_is_no_weight_of_it(
  history_base, dataset, monkeypatch, tmp_path
):
  """As `configs/history.cfg` has it: transitions, and EASE around both."""
  load = saved.load_detached

  def wrapped(run, dataset):
    return WithEase(WithTransitions(load(run, dataset), weight=1.5), weight=2.0)

  monkeypatch.setattr(saved, 'load_detached', wrapped)
  config = _config('history', epochs=0, warm_start=str(history_base.directory))
  made = run_lib.Run(tmp_path / 'run')
  Trainer(dataset, _MODELS['history'], config).train(made, progress=False)
  monkeypatch.undo()
  pairs = zip(
    saved.load(made, dataset).trainable_variables,
    saved.load(history_base, dataset).trainable_variables,
    strict=True,
  )
  for found, expected in pairs:
    np.testing.assert_array_equal(found.numpy(), expected.numpy())


def _state(run: run_lib.Run):
  """What the optimizer keeps, by its place, and its steps."""
  reader = tf.train.load_checkpoint(tf.train.latest_checkpoint(str(run.checkpoints)))
  form = 'optimizer/{}/.ATTRIBUTES/VARIABLE_VALUE'
  steps = int(reader.get_tensor(form.format('_iterations')))
  return lambda place: reader.get_tensor(form.format(f'_variables/{place}')), steps


def test_moments_go_with_their_rows_freed_of_bias(base, warm, dataset, tomorrow):
  (name, files), made = base, warm
  model = saved.load(made, tomorrow)
  optimizer = _OPTIMIZERS[name]
  (old, steps), (new, begun) = _state(files), _state(made)
  assert steps < 50
  assert begun == 1 << 20
  weights = model.trainable_variables
  rows = {
    id(weight): dataset_lib.USERS if name == dataset_lib.USERS else dataset_lib.ITEMS
    for name, found in model.vocabulary_weights().items()
    for weight in found
  }
  shift = 1
  if optimizer.average_weights:
    for place, weight in enumerate(weights, 1):
      np.testing.assert_array_equal(new(place), weight)
    shift += len(weights)
  for index, weight in enumerate(weights):
    for slot, decay in enumerate((0.9, optimizer.beta_2)):
      place = shift + 2 * index + slot
      here, there = new(place), old(place) / (1 - decay**steps)
      if id(weight) in rows:
        keys, known = (
          each.vocabulary(rows[id(weight)]).keys for each in (tomorrow, dataset)
        )
        moved = dict(zip(known, there, strict=False))
        empty = np.zeros_like(here[0])
        there = np.stack([moved.get(key, empty) for key in keys])
        assert not here[len(keys) :].any()
        here = here[: len(keys)]
      np.testing.assert_allclose(here, there, rtol=1e-6)


def test_stopped_it_goes_on_without_its_base(neumf_base, tomorrow, tmp_path):
  away = tmp_path / 'base'
  shutil.copytree(neumf_base.directory, away)
  config = _config('neumf', warm_start=str(away))

  def train(run, sigterm=None):
    made = Trainer(tomorrow, _MODELS['neumf'], config, run)
    made.train(run, sigterm=sigterm, progress=False)

  whole, stopped = (run_lib.Run(tmp_path / each) for each in ('whole', 'stopped'))
  train(whole)
  asked = Sigterm()
  asked.asked = True
  with pytest.raises(Terminated):
    train(stopped, asked)
  # Without their moments all steps begin anew.
  moments, steps = _state(stopped)
  assert steps == 0
  assert not moments(1).any()
  shutil.rmtree(away)
  train(stopped)
  assert stopped.history()[0]['loss'] == pytest.approx(whole.history()[0]['loss'])
  found, expected = (
    saved.load(each, tomorrow).get_weights() for each in (stopped, whole)
  )
  for one, other in zip(found, expected, strict=True):
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)
  assert stopped.warm_start()['run'] == str(away)


def test_an_old_run_with_item_transitions_scores_as_before(tmp_path):
  dataset = dataset_lib.Dataset(str(_OLD / 'dataset'))
  model = HistoryConfig(heads=2, members=2)
  options = {'warm_start_data_dir': str(_OLD / 'dataset'), 'epochs': 0}
  config = TrainConfig(warm_start=str(_OLD / 'history'), **options)
  made = run_lib.Run(tmp_path / 'run')
  # Its own transitions: scores can only be equal where they weigh as much.
  weight = {'transition_logits': 1.813, 'transition_reverse': 0.5}
  Trainer(dataset, model.replace(**weight), config).train(made, progress=False)
  batch = next(records.evaluation_batches(dataset, 'test', 1000))
  old = saved.load(run_lib.Run(_OLD / 'history'), dataset)
  np.testing.assert_array_equal(
    saved.load(made, dataset).score_all(batch), old.score_all(batch)
  )
  moments = config.replace(warm_start_moments=True)
  with pytest.raises(UserError, match='keeps no state of its optimizer'):
    Trainer(dataset, model, moments)


@pytest.mark.parametrize(
  ('model', 'options', 'told'),
  [
    (GMFConfig(gmf_dim=4), {}, '--model=neumf, and this run has --model=gmf'),
    ({'gmf_dim': 8}, {}, '--gmf_dim=4, and this run has --gmf_dim=8'),
    ({'mlp_layers': (8, 4)}, {}, '--mlp_layers=8, and this run has --mlp_layers=8,4'),
    ({'item_bias': False}, {}, '--item_bias=True, and this run has --item_bias=False'),
    (
      {},
      {'warm_start_moments': True, 'optimizer': OptimizerConfig(name='adagrad')},
      '--optimizer=lazy_adam, and this run has --optimizer=adagrad',
    ),
    ({}, {'warm_start': 'nowhere'}, 'no run at nowhere'),
    (
      {},
      {'warm_start_data_dir': 'nowhere'},
      'Name it by --warm_start_data_dir: no fin',
    ),
    (
      {'pretrained_gmf': 'a', 'pretrained_mlp': 'b'},
      {},
      'both --warm_start and --pretrained_gmf',
    ),
  ],
)
def test_what_does_not_fit_is_named_in_one_line(
  neumf_base, tomorrow, model, options, told
):
  if isinstance(model, dict):
    model = _MODELS['neumf'].replace(**model)
  config = _config('neumf', **{'warm_start': str(neumf_base.directory), **options})
  with pytest.raises(UserError, match=told) as raised:
    Trainer(tomorrow, model, config)
  assert '\n' not in str(raised.value)


@pytest.mark.parametrize(
  ('setting', 'told'),
  [
    ({'members': 3}, '--members=2, and this run has --members=3'),
    ({'length': 9}, '--history_length=8, and this run has --history_length=9'),
    ({'encoder': 'attention'}, '--history_encoder=pool, and this run has --hist'),
  ],
)
def test_history_models_of_other_shapes_are_refused(
  history_base, tomorrow, setting, told
):
  config = _config('history', warm_start=str(history_base.directory))
  with pytest.raises(UserError, match=told):
    Trainer(tomorrow, _MODELS['history'].replace(**setting), config)


def test_what_is_left_open_is_as_wide_as_the_base(history_base, tomorrow):
  config = _config('history', warm_start=str(history_base.directory))
  model = HistoryConfig(heads=2, members=2)
  made = Trainer(tomorrow, model, config).task.model.get_config()
  assert (made['history_length'], made['dim'], made['hidden']) == (8, 8, 16)
  assert made['user_embedding'] is True


def test_gaps_are_read_where_the_base_reads_them(history_base, cut, tomorrow):
  based = {'warm_start': str(history_base.directory)}
  open_model = HistoryConfig(heads=2, members=2)
  for model, reads in ((open_model, True), (open_model.replace(gaps=False), False)):
    made = Trainer(cut, model, _config('history'))
    assert made.task.model.reads_gaps is reads
  with pytest.raises(UserError, match='holds no times'):
    Trainer(tomorrow, open_model.replace(gaps=True), _config('history'))
  with pytest.raises(UserError, match='history_gaps=False, and this run has'):
    Trainer(cut, open_model.replace(gaps=True), _config('history', **based))
  chosen = history_defaults.of_dataset(cut)
  assert chosen.as_wide_as({}).gaps and not chosen.as_wide_as({'dim': 8}).gaps


def test_a_base_that_reads_gaps_needs_times(cut, tomorrow, tmp_path):
  model = HistoryConfig(dim=8, heads=2, length=4)
  base = run_lib.Run(tmp_path / 'base')
  Trainer(cut, model, _config('history', epochs=1)).train(base, progress=False)
  config = _config('history', warm_start=str(base.directory))
  made = Trainer(cut, HistoryConfig(heads=2), config)
  assert made.task.model.reads_gaps
  with pytest.raises(UserError, match='holds no times, and the model reads'):
    Trainer(tomorrow, HistoryConfig(heads=2), config)


def test_a_run_is_not_its_own_base(neumf_base, dataset):
  before = neumf_base.metrics()
  config = _config('neumf', warm_start=str(neumf_base.directory))
  made = Trainer(dataset, _MODELS['neumf'], config)
  with pytest.raises(UserError, match='is the --run_dir itself'):
    made.train(neumf_base, overwrite=True, progress=False)
  assert neumf_base.metrics() == before


def test_a_dataset_in_the_place_of_the_neumf_base_is_refused(neumf_base, tomorrow):
  config = _config('neumf', warm_start=str(neumf_base.directory))
  config = config.replace(warm_start_data_dir=str(tomorrow.directory))
  with pytest.raises(UserError, match='was trained on dataset'):
    Trainer(tomorrow, _MODELS['neumf'], config)


def test_a_base_of_another_log_is_refused_and_leaves_nothing(neumf_base, tmp_path):
  """Users may be those of the base all the same."""
  other = toy_dataset.write(
    tmp_path / 'other',
    toy_dataset.tastes(),
    num_items=40,
    item_keys=[f'film {item}' for item in range(40)],
  )
  config = _config('neumf', warm_start=str(neumf_base.directory))
  made = Trainer(other, _MODELS['neumf'], config)
  with pytest.raises(UserError, match='is among the 40 that --warm_start=') as raised:
    made.train(run_lib.Run(tmp_path / 'run'), progress=False)
  assert 'Train without --warm_start.' in str(raised.value)
  assert '\n' not in str(raised.value)
  assert not pathlib.Path(tmp_path / 'run').exists()


def test_corrupt_weights_leave_nothing_behind(neumf_base, tomorrow, tmp_path):
  away = run_lib.Run(shutil.copytree(neumf_base.directory, tmp_path / 'base'))
  away.best_weights.write_bytes(b'no weights')
  config = _config('neumf', warm_start=str(away.directory))
  made = Trainer(tomorrow, _MODELS['neumf'], config)
  with pytest.raises(UserError, match='is corrupt'):
    made.train(run_lib.Run(tmp_path / 'run'), progress=False)
  assert not pathlib.Path(tmp_path / 'run').exists()


def test_an_unfinished_base_is_refused(neumf_base, tomorrow, tmp_path):
  away = run_lib.Run(shutil.copytree(neumf_base.directory, tmp_path / 'base'))
  (away.directory / run_lib.METRICS).unlink()
  with pytest.raises(UserError, match='has not finished'):
    Trainer(
      tomorrow, _MODELS['neumf'], _config('neumf', warm_start=str(away.directory))
    )


@pytest.mark.parametrize(
  ('settings', 'told'),
  [
    ({'epochs': 0}, '--epochs must be at least 1 without --warm_start'),
    ({'warm_start_moments': True}, '--warm_start_moments is for --warm_start'),
    ({'warm_start_data_dir': 'a'}, '--warm_start_data_dir is for --warm_start'),
  ],
)
def test_settings_of_a_start_that_is_none_are_refused(settings, told):
  with pytest.raises(ArgumentError) as raised:
    TrainConfig(**settings)
  assert told in raised.value.as_flags()


def test_a_model_that_does_not_say_where_its_rows_are_is_refused(
  neumf_base, tomorrow, monkeypatch
):
  unsaid = ranking_model.RankingModel.vocabulary_weights
  monkeypatch.setattr(neumf.NeuMF, 'vocabulary_weights', unsaid)
  config = _config('neumf', warm_start=str(neumf_base.directory))
  with pytest.raises(UserError, match='starts from no other run'):
    Trainer(tomorrow, _MODELS['neumf'], config)


def test_a_model_that_takes_no_part_of_the_interactions_is_refused(cut, monkeypatch):
  monkeypatch.setattr(registry, '_ENTRIES', dict(registry._ENTRIES))
  registry.register(toy_model.ENTRY)
  config = TrainConfig(train_since=str(cut.manifest.cuts.first))
  with pytest.raises(UserError, match='--model=toy, which does not take a part'):
    Trainer(cut, toy_model.ToyConfig(), config)


def test_users_of_no_fitted_interaction_are_unknown_but_to_a_base(cut):
  moment = (cut.manifest.cuts.first + cut.manifest.cuts.validation) // 2
  config = _config('history', train_since=str(moment))
  task = Trainer(cut, _MODELS['history'], config).task
  trained = cut.vocabulary(dataset_lib.USERS).counts > 0
  assert task.rows == task.part.rows < cut.rows('train')
  known = task.model.user_known.numpy() > 0
  np.testing.assert_array_equal(known, trained & (task.part.user_rows > 0))
  assert known.sum() < trained.sum()
