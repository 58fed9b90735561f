"""Texts of a search space: what they mean, and what is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ncf_tfdata.errors import ArgumentError, UserError
from ncf_tfdata.models.configs import (
  GMFConfig,
  HistoryConfig,
  MLPConfig,
  NeuMFConfig,
)
from ncf_tfdata.training.config import TrainConfig
from ncf_tfdata.training.recipe import Recipe
from ncf_tfdata.tuning import space
from ncf_tfdata.tuning.config import TuneConfig
from ncf_tfdata.tuning.space import Choice, Range


def lines(model=None) -> list[str]:
  recipe = Recipe.resolved(model or HistoryConfig(), TrainConfig())
  return [*recipe.lines('data', 'run').values()]


def parsed(text, model=None):
  return dict(space.parse(text, lines(model)))


def refused(text, model=None) -> str:
  with pytest.raises(ArgumentError) as error:
    parsed(text, model)
  assert error.value.as_flags().startswith('received --search=')
  return error.value.as_flags()


def test_ranges_and_values():
  text = 'learning_rate=0.0005..0.01:log, dropout=0..0.5,members=1,2,epochs=4..12'
  assert parsed(text) == {
    'learning_rate': Range(0.0005, 0.01, log=True),
    'dropout': Range(0.0, 0.5),
    'members': Choice(('1', '2')),
    'epochs': Range(4, 12, whole=True),
  }


def test_lists_switches_and_names():
  text = 'mlp_layers=64+32,16,cosine_decay=true,false,optimizer=adam,lazy_adam'
  assert parsed(text, NeuMFConfig()) == {
    'mlp_layers': Choice(('64,32', '16')),
    'cosine_decay': Choice(('true', 'false')),
    'optimizer': Choice(('adam', 'lazy_adam')),
  }
  recipe = Recipe.parse(
    space.lines(lines(NeuMFConfig()), {'mlp_layers': '64,32', 'cosine_decay': 'true'})
  )
  assert recipe.model.mlp_layers == (64, 32)
  assert recipe.train.optimizer.cosine_decay is True


def test_a_file_and_a_mapping_say_the_same(tmp_path):
  path = tmp_path / 'space.txt'
  path.write_text('# wide\nlearning_rate=0.001..0.01:log  # as ever\n\nmembers=1, 2\n')
  mapping = {'learning_rate': '0.001..0.01:log', 'members': [1, 2]}
  assert parsed(str(path)) == parsed(space.of_mapping(mapping))
  lists = space.of_mapping(
    {'mlp_layers': [(64, 32), (16,)], 'item_bias': [True, False]}
  )
  assert lists == 'mlp_layers=64+32,16,item_bias=true,false'


@pytest.mark.parametrize(
  'model', [HistoryConfig(), NeuMFConfig(), GMFConfig(), MLPConfig()]
)
def test_every_model_has_a_space_that_its_recipe_takes(model):
  found = space.parse(None, lines(model))
  assert 'learning_rate' in found
  for place in (0, -1):
    values = {name: each.ends()[place] for name, each in found.items()}
    Recipe.parse(space.lines(lines(model), values))


@pytest.mark.parametrize(
  ('text', 'expected'),
  [
    ('droput=0..0.5', 'dropout?'),
    ('gmf_dim=8,16', 'average_weights, '),  # of another model
    ('seed=0,1', 'do not compare'),
    ('monitor=hr@10,ndcg@10', 'do not compare'),
    ('dropout=0..2', '--dropout=2: '),
    ('dropout=0.5..1', '--dropout=1: '),
    ('members=0,1', '0 is not a positive integer'),
    ('optimizer=adam,adamw', 'adamw'),
    ('members=1,x', 'x'),
    ('dropout=0.5..0.1', 'lower end first'),
    ('learning_rate=0..0.1:log', 'above 0'),
    ('learning_rate=.0005..01:log', 'digit before each point'),
    ('members=1..2.5', 'whole numbers'),
    ('optimizer=adam..sgd', 'no number'),
    ('members=1,1', 'each once'),
    ('members=', 'each once'),
    ('members=1,members=2', 'members once'),
    ('1,members=2', 'begin with NAME=VALUES'),
  ],
)
def test_what_cannot_be_is_told(text, expected):
  assert expected in refused(text)


def test_a_file_that_is_not_there_and_an_empty_one_are_told(tmp_path):
  with pytest.raises(UserError, match=r'--search=none\.txt is neither'):
    parsed('none.txt')
  (tmp_path / 'empty').write_text('# nothing\n')
  with pytest.raises(ArgumentError):
    parsed(str(tmp_path / 'empty'))


@given(st.floats(1e-6, 10), st.floats(1e-6, 10), st.floats(0, 1))
def test_a_suggestion_stays_in_its_range(one, other, share):
  low, high = sorted((one, other))
  found = Range(low, high)
  value = found.value(low + share * (high - low))
  assert found.holds(value)
  assert found.parse(space.as_text(value)) == value


def test_time_budgets():
  seconds = {'90s': 90, '30m': 1800, '1h30m': 5400, '0.5h': 1800}
  found = {text: TuneConfig(time_budget=text).seconds() for text in seconds}
  assert found == seconds
  for text in ('30', 'm', '1d', '0s', '', '5m later'):
    with pytest.raises(ArgumentError, match='time_budget'):
      TuneConfig(time_budget=text)
  assert TuneConfig().most() == 20
  assert TuneConfig(time_budget='1h').most() is None
  assert TuneConfig(time_budget='1h', trials=3).most() == 3
