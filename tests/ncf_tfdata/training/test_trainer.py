"""A training from end to end, in this process."""

import pytest
import toy_dataset

from ncf_tfdata import dataset as dataset_lib
from ncf_tfdata import run as run_lib
from ncf_tfdata.errors import UserError
from ncf_tfdata.models.configs import NeuMFConfig
from ncf_tfdata.run_lock import RunLock
from ncf_tfdata.training import judgement, loop
from ncf_tfdata.training.config import TrainConfig
from ncf_tfdata.training.trainer import Trainer


@pytest.mark.slow
@pytest.mark.parametrize('holdout', [1, 2])
@pytest.mark.parametrize('when', ['before validation', 'before the judgement'])
def test_a_dataset_replaced_in_the_last_epoch_is_not_judged(
  tmp_path, monkeypatch, when, holdout
):
  path, tastes = tmp_path / 'data', toy_dataset.tastes()
  options = {'num_items': 40, 'holdout': holdout}
  toy_dataset.write(path, tastes, **options)
  # As many rows: every file has its name and size.
  place = judgement if when == 'before validation' else loop
  name = 'validation_metrics' if when == 'before validation' else 'fit'
  whole = getattr(place, name)

  def replace(*arguments, **keywords):
    if when == 'before validation':
      toy_dataset.write(path, tastes[::-1], **options)
      return whole(*arguments, **keywords)
    found = whole(*arguments, **keywords)
    toy_dataset.write(path, tastes[::-1], **options)
    return found

  monkeypatch.setattr(place, name, replace)
  run = run_lib.Run(tmp_path / 'run')
  trainer = Trainer(
    dataset_lib.Dataset(str(path)),
    NeuMFConfig(gmf_dim=4, mlp_dim=4, mlp_layers=(8,)),
    TrainConfig(epochs=1, batch_size=128, jit_compile=False),
  )
  with pytest.raises(UserError, match='was replaced while') as caught:
    trainer.train(run, progress=False)
  assert '\n' not in str(caught.value)
  assert run.metrics() is None
  assert not (run.directory / run_lib.RANKS).exists()


def test_a_run_directory_in_which_another_training_is_at_work_is_refused(tmp_path):
  toy_dataset.write(tmp_path / 'data', toy_dataset.tastes(), num_items=40)
  trainer = Trainer(
    dataset_lib.Dataset(str(tmp_path / 'data')),
    NeuMFConfig(gmf_dim=4, mlp_dim=4, mlp_layers=(8,)),
    TrainConfig(epochs=1, batch_size=128, jit_compile=False),
  )
  other = RunLock()
  other.take(tmp_path / 'run')
  run = run_lib.Run(tmp_path / 'run')
  for overwrite in (False, True):
    with pytest.raises(UserError, match='another training is at work in'):
      trainer.train(run, overwrite=overwrite, progress=False)
  assert not list(run.directory.iterdir())
  other.release()
