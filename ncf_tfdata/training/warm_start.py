"""A training that starts from the weights of another run, by original keys."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Self

import keras
import numpy as np
import tensorflow as tf

from ncf_tfdata import _compat, times, vocabulary
from ncf_tfdata import config as config_lib
from ncf_tfdata import dataset as dataset_lib
from ncf_tfdata import run as run_lib
from ncf_tfdata.data.train_part import TrainPart
from ncf_tfdata.errors import UserError
from ncf_tfdata.models import featured_model, registry, saved, with_added
from ncf_tfdata.models.ranking_model import RankingModel
from ncf_tfdata.training import warm_rows
from ncf_tfdata.training.config import TrainConfig
from ncf_tfdata.training.recipe import Recipe

# By which the weights of two models differ in no shape.
_FREE = ('num_users', 'num_items', 'name', 'trainable', 'dtype')

# What a model tells only where it is otherwise.
_UNTOLD = {'gaps': False, 'attention_length': None}

# Where the steps of an optimizer begin that goes on with moments: so late that dividing
# by 1 - beta ** step changes nothing, of any beta up to .99999.
FIRST_STEP = 1 << 20


@dataclasses.dataclass(frozen=True)
class Base:
  """A finished run that a training starts from.

  Attributes:
    run: Its directory.
    dataset: What it was trained on.
    recipe: What it was made of.
    settings: Of its model; see `saved.settings`.
  """

  run: run_lib.Run
  dataset: dataset_lib.Dataset
  recipe: Recipe
  settings: Mapping[str, Any]

  @classmethod
  def open(cls, config: TrainConfig) -> Self:
    """Opens the run that a training's `warm_start` names; its weights come later.

    Raises:
      UserError: There is none, it has not finished, or its dataset is gone.
    """
    run = run_lib.Run(config.warm_start or '')
    recipe = Recipe.parse(run.flags())
    run.check_finished()
    dataset = _dataset(run, config.warm_start_data_dir)
    return cls(run, dataset, recipe, saved.settings(run.model(dataset)))

  def check(self, recipe: Recipe, model: keras.Model) -> None:
    """Refuses a base whose weights do not fit a model, or its optimizer's state.

    Raises:
      UserError: The model is another, or a setting differs, which is named.
    """
    names = [registry.of(each.model).name for each in (recipe, self.recipe)]
    if names[0] != names[1]:
      raise self._differs('--model', *names)
    flags = config_lib.flag_names(type(recipe.model))
    own, settings = (
      {**_UNTOLD, **each} for each in (model.get_config(), self.settings)
    )
    free = {*_FREE, *getattr(model, 'free_settings', ())}
    for name, value in settings.items():
      if name in own and name not in free and _plain(own[name]) != _plain(value):
        raise self._differs(f'--{flags.get(name, name)}', own[name], value)
    for role in featured_model.SETTINGS:
      here, there = (
        featured_model.columns_of(settings, role) for settings in (own, self.settings)
      )
      if here != there:
        raise self._differs(f'features of {role}s', here, there)
    warm_rows.of(model, None)
    if recipe.train.warm_start_moments:
      self._check_optimizer(recipe.train)

  def _differs(self, flag: str, here: Any, there: Any) -> UserError:
    here, there = (
      ','.join(map(str, each)) if isinstance(each, tuple | list) else each
      for each in (here, there)
    )
    return UserError(
      f'--warm_start={self.run.directory} was trained with {flag}={there}, and this '
      f'run has {flag}={here}. Give it the same, or train without --warm_start.'
    )

  def _check_optimizer(self, train: TrainConfig) -> None:
    here, there = train.optimizer.name, self.recipe.train.optimizer.name
    if here != there:
      raise self._differs('--optimizer', here, there)
    if here == 'sgd':
      raise UserError(
        '--warm_start_moments with --optimizer=sgd, which keeps none: leave '
        '--warm_start_moments out.'
      )
    if not self.run.has_state():
      raise UserError(
        f'--warm_start={self.run.directory} keeps no state of its optimizer (no '
        'checkpoint beside the best weights): leave --warm_start_moments out.'
      )
    _State(self)

  @property
  def _trained_to(self) -> int | None:
    """Interactions up to this time trained it; None where that is not known."""
    cuts = self.dataset.manifest.cuts
    if cuts is None:
      return None
    return cuts.test if cuts.validation is None else cuts.validation

  def check_days(self, dataset: dataset_lib.Dataset) -> None:
    """Refuses a base that was trained on what a dataset asks for; times must tell it.

    Raises:
      UserError: It was trained on later interactions than the dataset trains on.
    """
    end, cuts = self._trained_to, dataset.manifest.cuts
    if end is None or cuts is None or cuts.test is None or end <= cuts.test:
      return
    raise UserError(
      f'--warm_start={self.run.directory} was trained on interactions up to '
      f'{times.told(end, cuts.last)}, and {dataset.directory} tests on those after '
      f'{times.told(cuts.test, cuts.last)}: it has learnt what it is asked for. Start '
      'from an earlier run, or prepare with a later --time_at.'
    )

  def passed_over(self, dataset: dataset_lib.Dataset, part: TrainPart | None) -> str:
    """Between which times neither the base nor a training fits anything; '' if none.

    Args:
      dataset: Of the training.
      part: What it fits; None for all.
    """
    end, cuts = self._trained_to, dataset.manifest.cuts
    if end is None or cuts is None or part is None:
      return ''
    moment = cuts.first + part.since - 1  # as the flag has it
    if moment <= end:
      return ''
    return f'{times.told(end, cuts.last)} and {times.told(moment, cuts.last)}'

  def matches(self, dataset: dataset_lib.Dataset) -> warm_rows.RowMatches:
    """Rows of users, items and values that a dataset shares with the base's.

    Raises:
      UserError: It shares no item, and so is of another log. Users may all be new.
    """
    found = warm_rows.matches(dataset, self.dataset, self.settings)
    if not len(found[dataset_lib.ITEMS].here):
      raise UserError(
        f'no item of {dataset.directory} is among the {self.dataset.num_items:,} that '
        f'--warm_start={self.run.directory} was trained on: it is a run of another '
        'log, or items are named in another way. Train without --warm_start.'
      )
    return found

  def note(
    self, dataset: dataset_lib.Dataset, matches: warm_rows.RowMatches, moments: bool
  ) -> dict[str, Any]:
    """What a run keeps of where it started from.

    Raises:
      UserError: The base's weights are not what was written.
    """
    self.run.check_weights()
    sizes = {
      dataset_lib.USERS: (dataset.num_users, self.dataset.num_users),
      dataset_lib.ITEMS: (dataset.num_items, self.dataset.num_items),
    }
    found: dict[str, Any] = {
      'run': str(self.run.directory),
      'checkpoint_sha256': self.run.checkpoint_sha256(),
      'dataset_sha256': self.dataset.sha256,
      'moments': moments,
    }
    for name, (here, there) in sizes.items():
      kept = len(matches[name].here)
      counts = {'kept': kept, 'new': here - kept, 'dropped': there - kept}
      found[name.removesuffix('.tsv')] = counts
    return found

  def transfer(
    self,
    model: RankingModel,
    optimizer: keras.optimizers.Optimizer,
    matches: warm_rows.RowMatches,
    moments: bool,
  ) -> None:
    """Gives a model the base's weights, and its optimizer the state of them.

    A row of a user or item whose key the base has not is what the model's own
    initializers made of it; the optimizer's is as at the start of a training.

    Args:
      model: Built of settings that `check` has seen.
      optimizer: Built for it.
      matches: What `matches` returned.
      moments: Whether the optimizer's state is taken over.

    Raises:
      UserError: The base's weights cannot be read, or do not fit the model's.
    """
    rows = warm_rows.of(model, matches)
    base = with_added.trained(saved.load_detached(self.run, self.dataset))
    pairs = zip(model.trainable_variables, base.trainable_variables, strict=True)
    for variable, value in pairs:
      self._assign(variable, value.numpy(), rows.get(id(variable)))
    inner = getattr(optimizer, 'inner_optimizer', optimizer)  # of a loss scale's
    if moments:
      self._take_moments(model, inner, rows)

  def _assign(
    self,
    variable: keras.Variable,
    value: np.ndarray,
    rows: vocabulary.Matches | None,
  ) -> None:
    """Gives a variable a value, or some of its rows some of the value's."""
    first = 0 if rows is None else 1
    if tuple(variable.shape[first:]) != value.shape[first:]:
      raise UserError(
        f'--warm_start={self.run.directory} has {list(value.shape)} for '
        f'{variable.name}, and this model {list(variable.shape)}: its weights do not '
        'fit. Train without --warm_start.'
      )
    if rows is not None:
      old, value = value, variable.numpy()
      value[rows.here] = old[rows.there]
    variable.assign(value)

  def _take_moments(
    self,
    model: RankingModel,
    optimizer: keras.optimizers.Optimizer,
    rows: Mapping[int, vocabulary.Matches],
  ) -> None:
    """Takes over what the optimizer kept of each weight.

    The moments of the Adams are freed of their bias (Kingma and Ba, Adam, ICLR 2015,
    section 3), and the steps begin at a number where no bias is left: at step 0 they
    would be scaled up as if they were of that one step.
    """
    state, weights = _State(self), model.trainable_variables
    place = {id(each): index for index, each in enumerate(optimizer.variables)}
    shift = len(weights) * bool(self.recipe.train.optimizer.average_weights)
    shift -= len(weights) * bool(optimizer.use_ema)
    for name, slots in _compat.optimizer_slots(optimizer).items():
      for weight, slot in zip(weights, slots, strict=True):
        if name == 'average':
          slot.assign(weight)
          continue
        value = state.variable(place[id(slot)] + shift) / state.bias(name, optimizer)
        self._assign(slot, value, rows.get(id(weight)))
    optimizer.iterations.assign(FIRST_STEP)


class _State:
  """The optimizer's state in the last checkpoint of a run, a variable at a time."""

  def __init__(self, base: Base):
    """Opens it.

    Raises:
      UserError: There is none that can be read.
    """
    self._run, self._config = base.run, base.recipe.train
    scaled = self._config.mixed_precision == 'float16'
    self._root = f'optimizer/{"inner_optimizer/" * scaled}'
    path = tf.train.latest_checkpoint(str(base.run.checkpoints))
    try:
      self._reader = tf.train.load_checkpoint(path)
      self._steps = int(self._tensor('_iterations'))
    except (tf.errors.OpError, ValueError, RuntimeError) as error:
      raise self._damaged() from error

  def _damaged(self) -> UserError:
    return UserError(
      f"the optimizer's state of {self._run.directory} cannot be read: leave "
      '--warm_start_moments out.'
    )

  def _tensor(self, name: str) -> np.ndarray:
    return self._reader.get_tensor(f'{self._root}{name}/.ATTRIBUTES/VARIABLE_VALUE')

  def variable(self, place: int) -> np.ndarray:
    """The variable at a place among the optimizer's own.

    Raises:
      UserError: It is not there.
    """
    try:
      return self._tensor(f'_variables/{place}')
    except (tf.errors.OpError, ValueError, RuntimeError) as error:
      raise self._damaged() from error

  def bias(self, slot: str, optimizer: keras.optimizers.Optimizer) -> float:
    """What a moment of the Adams is too small by, having begun at zero; else 1."""
    if not isinstance(optimizer, keras.optimizers.Adam) or not self._steps:
      return 1.0
    beta_2 = self._config.optimizer.beta_2
    decay = {'momentum': optimizer.beta_1, 'velocity': beta_2}[slot]
    return 1.0 - decay**self._steps


def taken_up(run: run_lib.Run) -> bool:
  """Whether a run was started from another one, and has come as far as its weights."""
  return run.warm_start() is not None and run.has_state()


def in_words(note: Mapping[str, Any]) -> str:
  """What `Base.note` says, for a person."""
  parts = [
    f'{note[name]["kept"]:,} {name} kept, {note[name]["new"]:,} new, '
    f'{note[name]["dropped"]:,} gone'
    for name in ('users', 'items')
  ]
  moments = 'taken over' if note['moments'] else 'reset'
  return (
    f'{note["run"]} (weights {note["checkpoint_sha256"][:12]}): {"; ".join(parts)}; '
    f"the optimizer's moments are {moments}"
  )


def _dataset(run: run_lib.Run, data_dir: str | None) -> dataset_lib.Dataset:
  """The dataset of a run.

  Raises:
    UserError: It is gone, or another one has taken its place.
  """
  where = data_dir or run.data_dir()
  try:
    found = dataset_lib.Dataset(where)
  except UserError as error:
    raise UserError(
      f'--warm_start={run.directory} needs the keys of the dataset that it was trained '
      f'on. Name it by --warm_start_data_dir: {error}'
    ) from error
  known = run.trained_on()
  if known != found.sha256:
    raise UserError(
      f'--warm_start={run.directory} was trained on dataset {str(known)[:12]}, and '
      f'{where} is {found.sha256[:12]}. Keep each dataset in a directory of its own, '
      'and name the one it was trained on by --warm_start_data_dir.'
    )
  return found


def _plain(value: Any) -> Any:
  """A setting as JSON has it."""
  return list(value) if isinstance(value, tuple) else value


def opened(
  config: TrainConfig, run: run_lib.Run | None
) -> tuple[Base | None, Mapping[str, Any]]:
  """What a training starts from, and the settings of that model.

  Args:
    config: Of the training.
    run: That may be taken up, and then needs its base no more.

  Returns:
    The base, None where none is needed; and settings, none without `warm_start`.

  Raises:
    UserError: As `Base.open`.
  """
  if not config.warm_start:
    return None, {}
  if run is not None and taken_up(run):
    return None, saved.settings(run.serialized())
  base = Base.open(config)
  return base, base.settings
