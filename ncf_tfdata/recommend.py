"""Recommends what users should see next.

    python -m ncf_tfdata.recommend --run_dir=RUN --users=1,7 --item_names=movies.dat
    python -m ncf_tfdata.recommend --run_dir=RUN --all --output=everyone.parquet
    python -m ncf_tfdata.recommend --run_dir=RUN --history_file=new.csv
    python -m ncf_tfdata.recommend --run_dir=RUN --users=1 --exclude=7,8 --min_score=0
    python -m ncf_tfdata.recommend --run_dir=RUN --users=1 --only=genres:Comedy
    python -m ncf_tfdata.recommend --run_dir=RUN --users=1 --explain
    python -m ncf_tfdata.recommend --run_dir=RUN --all --new_items=new.csv

Ids are those of the log. What a person already has is left out. Whom the model knows
nothing of is answered by what is popular, and marked `popularity`.

Reasons are numbers of two kinds. What transitions and EASE add to a score comes apart
by item of the history, exactly. Of the network an item's part is what its score loses
when that item is left out of the history; of the 50 latest items only, and these parts
add up to nothing in particular.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from ncf_tfdata import command, config
from ncf_tfdata.serving.config import RecommendConfig

if TYPE_CHECKING:
  from ncf_tfdata import dataset as dataset_lib
  from ncf_tfdata.serving import recommendation_files, requests

CONFIGS = (RecommendConfig,)


def main() -> None:
  """The command."""
  asked = config.read(RecommendConfig)

  import tqdm

  from ncf_tfdata import api
  from ncf_tfdata.api import recommendations
  from ncf_tfdata.serving import (
    item_categories,
    list_files,
    recommendation_files,
    rules,
  )

  if asked.output:
    list_files.check_output(asked.output)
  names, events = None, None
  if asked.item_names:
    names = recommendation_files.read_names(asked.item_names)
  if asked.history_file:
    events = recommendation_files.read_columns(asked.history_file)
  only = None if asked.only is None else item_categories.parsed(asked.only)
  run = api.open_run(asked.run_dir, asked.data_dir, asked.new_items)
  request = _request(asked, run.dataset, events)
  if events and not run.model.reads_history:
    _warn(
      'the model reads no history: events are left out of recommendations, and change '
      'nothing else.'
    )
  made = rules.Rules.of_keys(
    run.dataset, asked.exclude or (), asked.allow, asked.min_score, only
  )
  if made.ignored:
    _warn(made.warning())
  start, users = time.perf_counter(), len(request.key)
  # The screen is for the answers where there is no file.
  hidden = None if asked.output else True
  with (
    tqdm.tqdm(total=users, unit=' users', disable=hidden) as bar,
    _destination(asked.output, names is not None, asked.explain) as write,
  ):
    for lists in run.lists(request, asked.k, names, made, asked.explain):
      write(lists)
      bar.update(len(lists.user))
  if asked.explain and users and not asked.output:
    print(recommendations.meaning(lists))
  if asked.output:
    seconds = time.perf_counter() - start
    print(
      f'{asked.output}: top {asked.k} of {users:,} users in {seconds:.1f} s '
      f'({users / seconds:,.0f} users/s)'
    )


def _warn(message: str) -> None:
  print(message, file=sys.stderr)


def _request(
  asked: RecommendConfig,
  dataset: dataset_lib.Dataset,
  events: tuple[list[str], list[str]] | None,
) -> requests.Request:
  from ncf_tfdata.serving import requests

  if asked.all:
    return requests.Request.of_everyone(dataset)
  if events is None:
    return requests.Request.of_users(dataset, asked.users or ())
  request = requests.Request.of_events(dataset, *events)
  if request.ignored:
    _warn(
      f'{request.ignored:,} of {len(events[0]):,} events are of items that the dataset '
      'does not know, and ignored.'
    )
  return request


@contextlib.contextmanager
def _destination(
  output: str | None, named: bool, explained: bool
) -> Iterator[Callable[[recommendation_files.Lists], None]]:
  from ncf_tfdata.api import recommendations
  from ncf_tfdata.serving import list_files, recommendation_files

  if not output:
    yield lambda lists: print(recommendations.text(lists))
    return
  types = recommendation_files.types(named, explained)
  with list_files.create(output, types) as write:
    yield write


if __name__ == '__main__':
  command.run(main, *CONFIGS)
