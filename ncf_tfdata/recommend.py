"""Answers what users should see next.

    python -m ncf_tfdata.recommend --run_dir=RUN --users=1,7 --item_names=movies.dat
    python -m ncf_tfdata.recommend --run_dir=RUN --all --output=everyone.parquet
    python -m ncf_tfdata.recommend --run_dir=RUN --history_file=new.csv

Ids are those of the log. What a person already has is left out. Whom the model knows
nothing of is answered by what is popular, and marked `popularity`.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from absl import flags

from ncf_tfdata import command
from ncf_tfdata.errors import UserError

if TYPE_CHECKING:
  import numpy as np

  from ncf_tfdata import dataset as dataset_lib
  from ncf_tfdata.serving import recommendation_files, recommender

_RUN_DIR = flags.DEFINE_string('run_dir', None, 'Run directory of a trained model.')
_DATA_DIR = flags.DEFINE_string(
  'data_dir', None, "Dataset directory. Default: the run's."
)
_USERS = flags.DEFINE_list('users', None, 'Whom to answer: original ids.')
_ALL = flags.DEFINE_bool('all', False, 'Answers all users of the dataset.')
_HISTORY_FILE = flags.DEFINE_string(
  'history_file',
  None,
  'Answers the users of this file, who may be new: a line `user,item` (or with a tab '
  'or ::), in order of time, no header. Of users who are not new it holds what came '
  'after the dataset.',
)
_K = flags.DEFINE_integer('k', 10, 'Items in an answer.', lower_bound=1)
_OUTPUT = flags.DEFINE_string(
  'output', None, 'A file .jsonl, .csv or .parquet. Default: the screen.'
)
_ITEM_NAMES = flags.DEFINE_string(
  'item_names', None, 'A file whose first columns are item and name: movies.dat.'
)


class People(NamedTuple):
  """Who is answered: n people.

  Attributes:
    key: Original ids, n of them.
    user: int64 [n], dense ids, or `recommender.UNKNOWN`.
    later: int64 [sum of lengths], items since the dataset, person after person.
    later_length: int64 [n].
  """

  key: Sequence[str]
  user: np.ndarray
  later: np.ndarray
  later_length: np.ndarray


def main(argv: Sequence[str]) -> None:
  """The command."""
  if len(argv) > 1:
    raise UserError(f'unexpected argument {argv[1]!r}: flags begin with --.')
  if bool(_USERS.value) + _ALL.value + bool(_HISTORY_FILE.value) != 1:
    raise UserError('say whom to answer: one of --users=…, --all, --history_file=….')

  from ncf_tfdata import run as run_lib
  from ncf_tfdata.serving import recommendation_files

  if _OUTPUT.value:
    recommendation_files.check_output(_OUTPUT.value)
  names, events = None, None
  if _ITEM_NAMES.value:
    names = recommendation_files.read_names(_ITEM_NAMES.value)
  if _HISTORY_FILE.value:
    events = recommendation_files.read_columns(_HISTORY_FILE.value)
  run, dataset = run_lib.open_with_dataset(_RUN_DIR.value, _DATA_DIR.value)

  from ncf_tfdata.models import saved  # It imports TensorFlow.

  model = saved.load_finished(run, dataset)

  from ncf_tfdata import dataset as dataset_lib
  from ncf_tfdata.serving import recommender

  items = dataset.vocabulary(dataset_lib.ITEMS).keys
  people = _people(dataset, items, events)
  labels = recommendation_files.Labels(items, names)
  made = recommender.Recommender(model, dataset)
  if events and not model.reads_history:
    print(
      'the model knows users by id alone: events are left out of answers, and change '
      'nothing else.',
      file=sys.stderr,
    )
  histories = recommender.read_histories(dataset)
  start = time.perf_counter()
  with _destination(names is not None) as write:
    for part in _batches(len(people.key), dataset.num_items):
      found = _recommend(made, histories, people, part)
      write(labels.lists(people.key[part], found))
  if _OUTPUT.value:
    seconds = time.perf_counter() - start
    print(
      f'{_OUTPUT.value}: top {_K.value} of {len(people.key):,} users in '
      f'{seconds:.1f} s ({len(people.key) / seconds:,.0f} users/s)'
    )


def _people(
  dataset: dataset_lib.Dataset,
  items: Sequence[str],
  events: tuple[list[str], list[str]] | None,
) -> People:
  import numpy as np

  from ncf_tfdata import dataset as dataset_lib
  from ncf_tfdata.serving import recommender

  known = dataset.vocabulary(dataset_lib.USERS).keys
  nothing = np.zeros(0, np.int64)
  if _ALL.value:
    user = np.arange(len(known))
    return People(known, user, nothing, np.zeros_like(user))
  owners, taken = events or ([], [])
  # In order of first appearance.
  keys = list(dict.fromkeys(owners if events else _USERS.value or []))
  dense = {key: index for index, key in enumerate(known)}
  user = np.array([dense.get(key, recommender.UNKNOWN) for key in keys], np.int64)
  place = {key: index for index, key in enumerate(keys)}
  owner = np.array([place[key] for key in owners], np.int64)
  dense = {key: index for index, key in enumerate(items)}
  item = np.array([dense.get(key, -1) for key in taken], np.int64)
  if unknown := np.count_nonzero(item < 0):
    print(
      f'{unknown:,} of {len(item):,} events are of items that the dataset does not '
      'know, and ignored.',
      file=sys.stderr,
    )
  owner, item = owner[item >= 0], item[item >= 0]
  item = item[np.argsort(owner, kind='stable')]
  return People(keys, user, item, np.bincount(owner, minlength=len(keys)))


def _batches(people: int, num_items: int) -> Iterator[slice]:
  """Slices of people whose scores fit into memory, with a bar."""
  import tqdm

  from ncf_tfdata.evaluation import ranking

  rows = ranking.batch_rows(num_items)
  # The screen is for the answers where there is no file.
  hidden = None if _OUTPUT.value else True
  with tqdm.tqdm(total=people, unit=' users', disable=hidden) as bar:
    for start in range(0, people, rows):
      part = slice(start, min(start + rows, people))
      yield part
      bar.update(part.stop - part.start)


def _recommend(
  made: recommender.Recommender,
  histories: recommender.Histories,
  people: People,
  part: slice,
) -> recommender.Recommendations:
  from ncf_tfdata.serving import recommender

  begin = people.later_length[: part.start].sum()
  length = people.later_length[part]
  later = people.later[begin : begin + length.sum()]
  user = people.user[part]
  history = recommender.extended(histories.of(user), (later, length))
  return made.recommend(user, *history, _K.value)


@contextlib.contextmanager
def _destination(named: bool) -> Iterator[recommendation_files.Write]:
  from ncf_tfdata.serving import recommendation_files

  if not _OUTPUT.value:
    yield lambda lists: print(_text(lists))
    return
  with recommendation_files.create(_OUTPUT.value, named) as write:
    yield write


def _text(lists: recommendation_files.Lists) -> str:
  """Top lists to be read by people."""
  import numpy as np

  lines = []
  names = np.full_like(lists.item, '') if lists.name is None else lists.name
  for row, (user, source) in enumerate(zip(lists.user, lists.source, strict=True)):
    width = max(map(len, lists.item[row]), default=0)
    lines.append(f'user {user}, by {source}')
    columns = zip(lists.item[row], lists.score[row], names[row], strict=True)
    for rank, (item, score, name) in enumerate(columns, 1):
      if item:
        lines.append(f'{rank:4}  {item:<{width}}  {score:10.4f}  {name}'.rstrip())
  return '\n'.join(lines)


if __name__ == '__main__':
  command.run(main, takes_arguments=True)
