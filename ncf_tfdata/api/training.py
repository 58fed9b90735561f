"""Training as a call: `train`."""

from __future__ import annotations

import os

from ncf_tfdata import dataset as dataset_lib
from ncf_tfdata import run as run_lib
from ncf_tfdata.api.run import Run
from ncf_tfdata.models.configs import ModelConfig, NeuMFConfig
from ncf_tfdata.training.config import TrainConfig


def train(
  dataset: dataset_lib.Dataset,
  model: ModelConfig | None = None,
  config: TrainConfig | None = None,
  *,
  run_dir: str | os.PathLike[str],
  overwrite: bool = False,
  progress: bool = True,
) -> Run:
  """Trains a model and judges it once, on test.

      dataset = ncf.Dataset('data/mine')
      run = ncf.train(
        dataset,
        ncf.HistoryConfig(dim=64),
        ncf.TrainConfig(epochs=8),
        run_dir='runs/mine',
      )

  The same call again takes up a training that was interrupted, to the same end bit by
  bit, and returns at once where there is nothing left to do.

  Args:
    dataset: What to train on.
    model: Which model, and how it is made; a NeuMF by default.
    config: How to train.
    run_dir: Where the run is kept: new, empty, or one of the same configuration.
    overwrite: Whether to remove an earlier run first.
    progress: Whether to show it.

  Raises:
    ArgumentError: The configurations contradict each other, or the dataset.
    UserError: The directory holds something else, another training is at work in it,
      or the training failed for a reason that can be mended.
  """
  from ncf_tfdata.training import trainer  # It imports TensorFlow.

  files = run_lib.Run(run_dir)
  made = trainer.Trainer(
    dataset,
    model or NeuMFConfig(),
    config or TrainConfig(),
    None if overwrite else files,
  )
  made.train(files, overwrite=overwrite, progress=progress)
  return Run(files, dataset)
