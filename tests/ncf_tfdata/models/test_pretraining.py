"""A NeuMF that starts from trained halves, from the function up to the command."""

import numpy as np
import pytest
import tensorflow as tf
import toy_dataset
import trained

from ncf_tfdata import dataset as dataset_lib
from ncf_tfdata import run as run_lib
from ncf_tfdata.errors import UserError
from ncf_tfdata.models import neumf, pretraining, saved

pytestmark = pytest.mark.slow

_USERS, _ITEMS = 7, 11


def _model(seed: int, **options) -> neumf.NeuMF:
  options = {'gmf_dim': 3, 'mlp_dim': 4, 'mlp_layers': (6, 5), **options}
  model = neumf.NeuMF(_USERS, _ITEMS, embedding_stddev=1.0, seed=seed, **options)
  generator = np.random.default_rng(seed)
  for weight in model.weights:
    weight.assign(generator.normal(size=weight.shape))
  return model


@pytest.mark.parametrize('alpha', [0.0, 0.3, 1.0])
@pytest.mark.parametrize(
  'options', [{}, {'item_bias': True}, {'gmf_weights': False, 'item_bias': True}]
)
def test_the_logit_is_the_weighted_sum_of_the_halves(alpha, options):
  model = _model(0, **options)
  gmf, mlp = _model(1, mlp_dim=0, **options), _model(2, gmf_dim=0, **options)
  pretraining.fuse(model, gmf, mlp, alpha)
  user = tf.range(_USERS)
  items = tf.tile(tf.range(_ITEMS)[None], [_USERS, 1])
  expected = alpha * gmf((user, items)) + (1 - alpha) * mlp((user, items))
  np.testing.assert_allclose(model((user, items)), expected, rtol=1e-4, atol=1e-4)


def test_halves_of_other_shapes_are_refused():
  model = _model(0)
  gmf, mlp = _model(1, mlp_dim=0), _model(2, gmf_dim=0)
  with pytest.raises(UserError, match='--model=gmf and one of --model=mlp'):
    pretraining.fuse(model, mlp, gmf, 0.5)
  with pytest.raises(UserError, match='--gmf_dim=2; expected 3'):
    pretraining.fuse(model, _model(1, mlp_dim=0, gmf_dim=2), mlp, 0.5)
  with pytest.raises(UserError, match='--mlp_layers'):
    pretraining.fuse(model, gmf, _model(1, gmf_dim=0, mlp_layers=(6, 4)), 0.5)
  with pytest.raises(UserError, match='--item_bias'):
    pretraining.fuse(model, gmf, _model(1, gmf_dim=0, item_bias=True), 0.5)


def test_a_command_takes_up_both_halves(tmp_path):
  dataset = toy_dataset.write(tmp_path / 'data', toy_dataset.tastes(), num_items=40)
  data = dataset.directory
  gmf = trained.train(data, tmp_path / 'gmf', '--model=gmf')
  mlp = trained.train(data, tmp_path / 'mlp', '--model=mlp')
  halves = (f'--pretrained_gmf={gmf}', f'--pretrained_mlp={mlp}')
  # With no step worth mentioning, what is judged is what was fused.
  still = ('--learning_rate=1e-12', '--epochs=1', '--pretrained_alpha=1')
  fused = trained.train(data, tmp_path / 'fused', *halves, *still)
  opened = dataset_lib.Dataset(str(data))
  scores = []
  for directory in (gmf, fused):
    model = saved.load(run_lib.Run(directory), opened)
    user = tf.range(opened.num_users)
    scores.append(model((user, tf.tile(tf.range(40)[None], [opened.num_users, 1]))))
  np.testing.assert_allclose(scores[0], scores[1], atol=1e-4)
  line = trained.refused(data, tmp_path / 'one', halves[0])
  assert 'both --pretrained_gmf and --pretrained_mlp' in line
