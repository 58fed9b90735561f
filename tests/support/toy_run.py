"""Run directories as `train` leaves them, without the training."""

import pathlib

from ncf_tfdata import dataset as dataset_lib
from ncf_tfdata import run
from ncf_tfdata.models import neumf, saved


def write(
  directory: str | pathlib.Path, dataset: dataset_lib.Dataset, seed: int = 0
) -> run.Run:
  """A finished run of a small model whose weights are the initial ones."""
  made = run.Run(directory)
  lines = {'data_dir': f'--data_dir={dataset.directory}', 'seed': f'--seed={seed}'}
  model = neumf.NeuMF(
    dataset.num_users,
    dataset.num_items,
    gmf_dim=4,
    mlp_dim=4,
    mlp_layers=(8,),
    embedding_stddev=1.0,
    seed=seed,
    name='neumf',
  )
  made.start(
    lines | {'note': '--note=<b>&'}, dataset, saved.serialize(model), overwrite=False
  )
  saved.save_weights(made, model)
  made.epochs.write_text(
    'epoch,loss,hr@10,ndcg@10\n1,0.61,0.5,0.25\n2,0.42,0.75,0.5\n3,0.4,0.7,0.45\n'
  )
  made.write_metrics({'best_epoch': 2, 'test': {'sampled': {'hr@10': 0.5}}})
  return made
