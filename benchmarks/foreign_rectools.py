"""SASRec of RecTools on our split; run by a Python with `rectools[torch]`.

    PYTHON foreign_rectools.py '{"settings": [{"n_factors": 64, …}, …], …}'

See foreign_split.py. Each setting trains until validation has not risen for `patience`
epochs, or `seconds` of the setting are over. An epoch is a candidate of its own.
"""

import logging
import time
import warnings
from typing import Any

import foreign_split
import numpy as np
import pandas as pd
import torch
from rectools.dataset import Dataset
from rectools.models import SASRecModel
from rectools.models.nn.transformers.lightning import TransformerLightningModule

_USERS = 256  # Scored at once.


class _Packed(TransformerLightningModule):
  """RecTools' softmax loss, without logits of padding, which its mean leaves out.

  It is the same mean over the same positions, and takes a third of the time on a CPU.
  """

  def training_step(self, batch: dict[str, torch.Tensor], batch_idx: int):
    items = self.torch_model.item_model.get_all_embeddings()
    sessions = self.torch_model.encode_sessions(batch, items)
    real = batch['y'] != 0
    logits = self.torch_model.similarity_module(sessions[real], items)
    loss = torch.nn.functional.cross_entropy(logits, batch['y'][real])
    self.log(self.train_loss_name, loss, on_step=False, on_epoch=True)
    return loss


def _frame(rows: foreign_split.Rows) -> pd.DataFrame:
  """Interactions for RecTools, whose order is the position's."""
  return pd.DataFrame(
    {
      'user_id': rows.user,
      'item_id': rows.item,
      'weight': 1.0,
      'datetime': pd.to_datetime(rows.position, unit='s'),
    }
  )


def _lists(model: SASRecModel, asked: foreign_split.Asked) -> foreign_split.Lists:
  """RecTools' own recommendations, as arrays."""
  users = asked.targets.user
  found = model.recommend(
    np.intersect1d(users, asked.known.user),
    Dataset.construct(_frame(asked.known)),
    k=foreign_split.LENGTH,
    filter_viewed=True,
    on_unsupported_targets='ignore',
  )
  row = np.searchsorted(users, found['user_id'].to_numpy())
  place = found['rank'].to_numpy() - 1
  item = np.full((len(users), foreign_split.LENGTH), -1)
  score = np.full(item.shape, -np.inf)
  item[row, place], score[row, place] = found['item_id'], found['score']
  return foreign_split.Lists(item, score)


def _train(choice: foreign_split.Choice, data: Dataset, settings: dict[str, Any]):
  torch.manual_seed(0)
  np.random.seed(0)
  model = SASRecModel(
    lightning_module_type=_Packed, recommend_batch_size=_USERS, **settings
  )
  begin, bests = time.perf_counter(), [-1.0]
  while len(bests) - 1 - int(np.argmax(bests)) < choice.task['patience']:
    if time.perf_counter() - begin > choice.task['seconds']:
      return
    model.fit_partial(data, min_epochs=1, max_epochs=1)
    named = {**settings, 'epochs': len(bests)}
    bests.append(choice.judge(named, lambda asked: _lists(model, asked)))


def main() -> None:
  warnings.filterwarnings('ignore')
  logging.getLogger('pytorch_lightning').setLevel(logging.ERROR)
  choice = foreign_split.Choice()
  torch.set_num_threads(choice.task['threads'])
  data = Dataset.construct(_frame(choice.split.train))
  for settings in choice.task['settings']:
    _train(choice, data, settings)
  choice.end()


if __name__ == '__main__':
  main()
