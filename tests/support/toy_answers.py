"""Runs of models with random weights, and what they must answer, worked out anew."""

import itertools
import pathlib

import numpy as np
import prepared

from ncf_tfdata import dataset as dataset_lib
from ncf_tfdata import run
from ncf_tfdata.data import records
from ncf_tfdata.evaluation import ranking, top_lists
from ncf_tfdata.models import history, saved
from ncf_tfdata.models.with_ease import WithEase
from ncf_tfdata.models.with_transitions import WithTransitions


def history_run(directory: pathlib.Path, dataset, weight=1.5, ease=0.0, **transitions):
  """A finished run of a history model that was not trained, with what is added.

  It reads gaps where the dataset holds times.
  """
  model = history.History(
    dataset.num_users,
    dataset.num_items,
    history_length=8,
    encoder='both',
    dim=8,
    heads=2,
    hidden=16,
    members=2,
    embedding_stddev=1.0,
    gaps=dataset.manifest.has_times,
    name='history',
  )
  trained_on = dataset.vocabulary(dataset_lib.USERS).counts > 0
  model.user_known.assign(trained_on.astype(np.float32))
  for member in model.networks:
    # As far from the initial zeros as a training takes it.
    bias = np.random.default_rng(0).normal(size=dataset.num_items)
    member.item_bias.assign(bias)
    member.user_table.assign(member.user_table * 50)
    if member.gap_table is not None:
      drawn = np.random.default_rng(1).normal(size=member.gap_table.shape)
      member.gap_table.assign(drawn)
  scorer = WithTransitions(model, weight, **transitions) if weight else model
  if ease:
    scorer = WithEase(scorer, ease, l2=10.0)
  return finished(directory, dataset, scorer, model)


def finished(directory: pathlib.Path, dataset, scorer, model) -> run.Run:
  """A run of a scorer around a model, as a training of it leaves it."""
  made = run.Run(directory)
  lines = {'data_dir': f'--data_dir={dataset.directory}'}
  made.start(lines, dataset, saved.serialize(scorer), overwrite=False)
  saved.save_weights(made, model)
  made.write_metrics({'best_epoch': 1})
  return made


def histories(dataset) -> dict[str, list[str]]:
  """All that the dataset holds of each user, in order, by his records one by one."""
  found = {key: [] for key in dataset.vocabulary(dataset_lib.USERS).keys}
  for split in ('train', 'validation'):
    if dataset.rows(split):
      for row in prepared.rows(dataset, split):
        found[row.user].append(row.item)
  for row in prepared.rows(dataset, 'test'):
    found[row.user] = [*row.history, row.item]
  return found


def times(dataset) -> dict[str, list[int]]:
  """When each user had what `histories` has; nothing of a dataset without times."""
  found = {}
  if not dataset.manifest.has_times:
    return found
  users = dataset.vocabulary(dataset_lib.USERS).keys
  for split in ('train', 'validation', 'test'):
    for path in dataset.shards(split) if dataset.rows(split) else []:
      for block in prepared.blocks(path):
        stored = 0
        for row, (user, time) in enumerate(
          zip(block['user'], block['time'], strict=True)
        ):
          past = found.setdefault(users[user], [])
          if split == 'test':
            # Leave-last-out has one test row a user.
            past[:] = block['history_time'][
              stored : stored + block['history_length'][row]
            ]
            stored += len(past)
          past.append(time)
  return found


def _entries(taken: list[int], past: list[int]) -> list[int]:
  """Items with what is known of when the user had them: 1 + log2(1 + gap) above."""
  gaps = [0, *(later - time for time, later in itertools.pairwise(past))]
  codes = [(1 + gap).bit_length() if place else 0 for place, gap in enumerate(gaps)]
  codes += [0] * len(taken)
  return [item + (code << 40) for item, code in zip(taken, codes, strict=False)]


def model_lists(made, dataset, people: list[tuple[str, list[str]]], k=10):
  """The evaluator's scores, mask and order: (items, scores) of each person."""
  users = dataset.vocabulary(dataset_lib.USERS).keys
  items = dataset.vocabulary(dataset_lib.ITEMS).keys
  taken = [[items.index(item) for item in history] for _, history in people]
  user = np.array([users.index(u) if u in users else -1 for u, _ in people])
  known = times(dataset)
  entries = [
    _entries(items, known.get(key, []))
    for (key, _), items in zip(people, taken, strict=True)
  ]
  batch = records.EvaluationBatch(
    user,
    np.full(len(people), -1),
    np.zeros((len(people), 0), np.int64),
    np.array([item for history in taken for item in history], np.int64),
    np.array([len(history) for history in taken]),
    entries=np.array([entry for row in entries for entry in row], np.int64),
  )
  scores = np.array(saved.load(made, dataset).score_all(batch))
  ranking.mask_history(scores, batch)
  top = top_lists.top_items(scores, k)
  return [
    ([items[i] for i in row], line[row].tolist())
    for row, line in zip(top, scores, strict=True)
  ]


def popular(dataset, without=(), k=10) -> list[str]:
  """Items by their count of train rows, of equal ones the lower id first."""
  vocabulary = dataset.vocabulary(dataset_lib.ITEMS)
  order = sorted(range(len(vocabulary)), key=lambda i: (-vocabulary.counts[i], i))
  return [vocabulary.keys[i] for i in order if vocabulary.keys[i] not in without][:k]
