"""Warm starts by model and optimizer: weights and moments go by key, or begin anew.

The runs that are started from were not trained: what they hold is drawn.
"""

import itertools

import numpy as np
import pytest
import toy_dataset

from ncf_tfdata import _compat
from ncf_tfdata import run as run_lib
from ncf_tfdata.errors import UserError
from ncf_tfdata.models import saved
from ncf_tfdata.models.configs import HistoryConfig, NeuMFConfig, ObjectiveConfig
from ncf_tfdata.training import warm_start
from ncf_tfdata.training.checkpoint import Checkpoint, Position
from ncf_tfdata.training.config import OptimizerConfig, TrainConfig
from ncf_tfdata.training.optimizers import OPTIMIZERS
from ncf_tfdata.training.trainer import Trainer

_MODELS = {
  'neumf': NeuMFConfig(gmf_dim=4, mlp_dim=4, mlp_layers=(8,), item_bias=True),
  'history': HistoryConfig(
    encoder='pool', length=4, dim=4, heads=2, members=1, user_embedding=True
  ),
}
_STEPS = 5


def _config(optimizer: str, **settings) -> TrainConfig:
  return TrainConfig(
    optimizer=OptimizerConfig(
      name=optimizer, average_weights=settings.pop('average', 0.0)
    ),
    objective=ObjectiveConfig(shared_negatives=8, loss='softmax'),
    epochs=1,
    batch_size=256,
    jit_compile=False,
    **settings,
  )


@pytest.fixture(scope='module')
def tomorrow(tmp_path_factory):
  """Without three users and five items of `dataset`, with others, ids dealt anew."""
  users = [f'u{user}' for user in range(63, 2, -1)]
  items = [f'i{item}' for item in range(43, 4, -1)]
  tastes = toy_dataset.tastes(len(users), len(items), seed=1)
  return toy_dataset.write(
    tmp_path_factory.mktemp('tomorrow'),
    tastes,
    num_items=len(items),
    user_keys=users,
    item_keys=items,
  )


def _slots(trainer: Trainer) -> dict[str, list]:
  """What the optimizer keeps, by kind; a variable for each weight."""
  return dict(_compat.optimizer_slots(trainer.optimizer))


@pytest.fixture(scope='module')
def bases(dataset, tmp_path_factory):
  """Makes finished runs, once each, with the trainings that their files came from."""
  made = {}

  def make(model: str, optimizer: str, average: float = 0.0):
    key = model, optimizer, average
    if key not in made:
      trainer = Trainer(dataset, _MODELS[model], _config(optimizer, average=average))
      run = run_lib.Run(tmp_path_factory.mktemp('base') / 'run')
      serialized = saved.serialize(trainer.task.scorer)
      run.start(trainer.lines(run), dataset, serialized, overwrite=False)
      draw = np.random.default_rng(0)
      weights = trainer.task.model.trainable_variables
      for each in itertools.chain(weights, *_slots(trainer).values()):
        each.assign(draw.random(each.shape))
      trainer.optimizer.iterations.assign(_STEPS)
      saved.save_weights(run, trainer.task.model)
      state = Checkpoint(trainer.task.model, trainer.optimizer, run, chief=True)
      state.save(Position(epoch=1))
      run.write_metrics({})
      made[key] = run, trainer
    return made[key]

  return make


def _by_key(values, model, dataset):
  """Values, one a weight: {key: row} where the weight has a row for each key."""
  names = {
    id(weight): name
    for name, weights in model.vocabulary_weights().items()
    for weight in weights
  }
  for weight, value in zip(model.trainable_variables, values, strict=True):
    name, value = names.get(id(weight)), value.numpy()
    if name is None:
      yield value
    else:
      yield dict(zip(dataset.vocabulary(name).keys, value, strict=False))


def _check(found, old, fresh, scale=1.0):
  """Rows of known keys are the old ones divided, others as without a base."""
  tables = 0
  for here, there, new in zip(found, old, fresh, strict=True):
    if isinstance(here, dict):
      tables += 1
      assert set(here) & set(there) and set(here) - set(there)
      expected = {key: there[key] / scale if key in there else new[key] for key in here}
      for key, row in here.items():
        np.testing.assert_allclose(row, expected[key], rtol=1e-6)
    else:
      np.testing.assert_allclose(here, there / scale, rtol=1e-6)
  assert tables >= 3


def _started(base, model, config, tomorrow, moments=False):
  """A training that took a base over, and one of the same without."""
  run, _ = base
  asked = config.replace(warm_start=str(run.directory), warm_start_moments=moments)
  made = Trainer(tomorrow, _MODELS[model], asked)
  opened = warm_start.Base.open(asked)
  matches = opened.matches(tomorrow)
  opened.transfer(made.task.model, made.optimizer, matches, moments)
  return made, Trainer(tomorrow, _MODELS[model], config)


@pytest.mark.parametrize('optimizer', OPTIMIZERS)
@pytest.mark.parametrize('model', _MODELS)
def test_without_moments_the_weights_go_by_key_and_the_optimizer_begins_anew(
  bases, dataset, tomorrow, model, optimizer
):
  base = bases(model, optimizer)
  made, fresh = _started(base, model, _config(optimizer), tomorrow)
  _check(
    _by_key(made.task.model.trainable_variables, made.task.model, tomorrow),
    _by_key(base[1].task.model.trainable_variables, base[1].task.model, dataset),
    _by_key(fresh.task.model.trainable_variables, fresh.task.model, tomorrow),
  )
  assert made.optimizer.iterations.numpy() == 0
  assert _slots(made).keys() == _slots(fresh).keys()
  for name, slots in _slots(made).items():
    for found, expected in zip(slots, _slots(fresh)[name], strict=True):
      np.testing.assert_array_equal(found, expected)


_KEPT = {
  'adam': {'momentum': 1 - 0.9**_STEPS, 'velocity': 1 - 0.999**_STEPS},
  'lazy_adam': {'momentum': 1 - 0.9**_STEPS, 'velocity': 1 - 0.999**_STEPS},
  'adagrad': {'accumulator': 1.0},
  'rmsprop': {'velocity': 1.0},
}


@pytest.mark.parametrize(
  ('model', 'optimizer', 'averages'),
  [
    *((model, optimizer, (0.0, 0.0)) for model in _MODELS for optimizer in _KEPT),
    # A moving average of the weights lies before the moments, in one run or both.
    ('neumf', 'adam', (0.5, 0.0)),
    ('history', 'rmsprop', (0.0, 0.5)),
    ('neumf', 'adagrad', (0.5, 0.5)),
  ],
)
def test_moments_go_by_key(bases, dataset, tomorrow, model, optimizer, averages):
  there, here = averages
  base = bases(model, optimizer, there)
  config = _config(optimizer, average=here)
  made, fresh = _started(base, model, config, tomorrow, moments=True)
  assert made.optimizer.iterations.numpy() == warm_start.FIRST_STEP
  slots = _slots(made)
  for average, weight in zip(
    slots.pop('average', ()), made.task.model.trainable_variables, strict=False
  ):
    np.testing.assert_array_equal(average, weight)
  assert bool(here) == ('average' in _slots(made))
  assert slots.keys() == _KEPT[optimizer].keys()
  for name, scale in _KEPT[optimizer].items():
    _check(
      _by_key(slots[name], made.task.model, tomorrow),
      _by_key(_slots(base[1])[name], base[1].task.model, dataset),
      _by_key(_slots(fresh)[name], fresh.task.model, tomorrow),
      scale,
    )


@pytest.mark.parametrize('model', _MODELS)
def test_an_optimizer_without_moments_has_none_to_take_over(bases, tomorrow, model):
  run, _ = bases(model, 'sgd')
  config = _config('sgd', warm_start=str(run.directory), warm_start_moments=True)
  with pytest.raises(UserError, match='--optimizer=sgd, which keeps none') as raised:
    Trainer(tomorrow, _MODELS[model], config)
  assert '\n' not in str(raised.value)
