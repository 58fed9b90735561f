"""A recipe as flags.cfg keeps it, and what two recipes differ in."""

import pytest

from ncf_tfdata.errors import ArgumentError, UserError
from ncf_tfdata.models.configs import (
  GMFConfig,
  HistoryConfig,
  NeuMFConfig,
  ObjectiveConfig,
)
from ncf_tfdata.training.config import OptimizerConfig, TrainConfig
from ncf_tfdata.training.recipe import Recipe

_NEUMF = Recipe.resolved(NeuMFConfig(), TrainConfig())


def _recipe(*lines: str) -> Recipe:
  return Recipe.parse(lines)


def test_no_flags_are_the_default_recipe():
  assert _recipe() == _NEUMF
  assert _NEUMF.train.objective.loss == 'bce'
  assert _recipe('--model=history').train.objective.loss == 'softmax'


@pytest.mark.parametrize(
  'recipe',
  [
    _NEUMF,
    Recipe.resolved(
      HistoryConfig(dim=64, user_embedding=False, transition_logits=1.5),
      TrainConfig(
        objective=ObjectiveConfig(shared_negatives=64, sampler='popularity'),
        optimizer=OptimizerConfig(name='lazy_adam', cosine_decay=True),
        epochs=3,
        profile_steps=(5, 7),
      ),
    ),
    Recipe.resolved(GMFConfig(gmf_weights=False), TrainConfig(jit_compile=False)),
  ],
  ids=lambda recipe: type(recipe.model).__name__,
)
def test_its_lines_are_read_back(recipe):
  lines = recipe.lines('data', 'run')
  assert Recipe.parse(list(lines.values())) == recipe
  assert lines['data_dir'] == '--data_dir=data'
  assert lines['run_dir'] == '--run_dir=run'


@pytest.mark.parametrize(
  ('now', 'before', 'only_now', 'only_before'),
  [
    (('--seed=5',), (), ['--seed=5'], ['--seed=0']),
    ((), ('--dropout=0.5', '--l2=0.1'), [], ['--dropout=0.5', '--l2=0.1']),
    (('--dropout=0.5',), (), ['--dropout=0.5'], []),
    (('--item_bias',), (), ['--item_bias'], ['--noitem_bias']),
    (('--model=gmf',), ('--epochs=3',), ['--model=gmf'], ['--model=neumf']),
    # A value that is the default is none, and so is what the model does not read.
    (('--loss=bce', '--gmf_dim=32', '--history_dim=8'), (), [], []),
    (('--steps_per_call=7', '--run_dir=a', '--data_dir=b'), ('--run_dir=c',), [], []),
  ],
)
def test_differences_are_seen_from_both_sides(now, before, only_now, only_before):
  assert _recipe(*now).differences(_recipe(*before)) == (only_now, only_before)
  assert _recipe(*before).differences(_recipe(*now)) == (only_before, only_now)


def test_lines_that_are_no_recipe_are_told_in_one_line():
  for line in ('--nothing=1', '--epochs=many', '--model=lstm', '--dropout=2'):
    with pytest.raises(UserError) as raised:
      _recipe(line)
    assert '\n' not in str(raised.value)


@pytest.mark.parametrize(
  ('flags', 'told'),
  [
    (('--model=history', '--loss=bpr'), 'received --loss=bpr: --loss must be softmax'),
    (
      ('--loss=bpr', '--logq_correction'),
      'received --logq_correction --loss=bpr: --logq_correction is a correction of',
    ),
    (
      ('--logq_correction',),
      'received --logq_correction --loss=bce: --logq_correction is a correction of',
    ),
    (('--negatives=static', '--shared_negatives=8'), '--negatives=static: --shared'),
    (('--batch_by_user',), 'received --batch_by_user --shared_negatives=0'),
    (('--optimizer=lazy_adam', '--l2_tables=0.1'), 'received --l2_tables=0.1'),
    (
      ('--model=history', '--history_heads=3', '--history_dim=8'),
      'received --history_heads=3 --history_dim=8: --history_heads must divide',
    ),
    (
      ('--model=history', '--history_encoder=none', '--nouser_embedding'),
      'received --history_encoder=none --nouser_embedding',
    ),
    (('--mlp_layers=8,x',), 'received --mlp_layers=8,x: --mlp_layers must be a list'),
    (('--mlp_layers=',), 'received --mlp_layers=: --mlp_layers must be numbers'),
    (('--monitor=auc',), 'received --monitor=auc: --monitor must be a name that'),
    (('--monitor=full_hr@10',), '--nofull_validation: This --monitor is logged with'),
    (('--profile_steps=7,5',), 'received --profile_steps=7,5: --profile_steps must'),
    (('--pretrained_gmf=a',), 'received --pretrained_gmf=a: Give both'),
  ],
)
def test_flags_that_contradict_each_other_are_named(flags, told):
  with pytest.raises(ArgumentError) as raised:
    _recipe(*flags)
  assert told in raised.value.as_flags()
