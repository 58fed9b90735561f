"""Item kNN or EASE of LensKit on our split; run by a Python with `lenskit`.

    PYTHON foreign_lenskit.py '{"model": "ItemKNN", "settings": [{}, …], …}'

See foreign_split.py.
"""

import functools

import foreign_split
import numpy as np
import pandas as pd
from lenskit.data import ItemList, RecQuery, from_interactions_df
from lenskit.knn import EASEScorer, ItemKNNScorer

_MODELS = {'ItemKNN': ItemKNNScorer, 'EASE': EASEScorer}


def _lists(model, num_items: int, asked: foreign_split.Asked) -> foreign_split.Lists:
  catalogue = ItemList(item_ids=np.arange(num_items))
  # LensKit 2026.4 panics at an item that it has not learnt from.
  histories = (history[history < num_items] for history in asked.histories())
  scores = np.stack(
    [
      model(RecQuery(history_items=ItemList(item_ids=history)), catalogue).scores()
      for history in histories
    ]
  )
  return foreign_split.best(scores, asked.seen(num_items))


def main() -> None:
  choice = foreign_split.Choice()
  train, num_items = choice.split.train, choice.split.num_trained
  frame = pd.DataFrame({'user_id': train.user, 'item_id': train.item})
  data = from_interactions_df(frame)
  for settings in choice.task['settings']:
    model = _MODELS[choice.task['model']](**settings)
    model.train(data)
    choice.judge(settings, functools.partial(_lists, model, num_items))
  choice.end()


if __name__ == '__main__':
  main()
