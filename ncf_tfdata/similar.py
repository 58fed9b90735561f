"""Finds the items that are most similar to items.

    python -m ncf_tfdata.similar --run_dir=RUN --items=1,7 --item_names=movies.dat
    python -m ncf_tfdata.similar --run_dir=RUN --items=1 --by=transitions
    python -m ncf_tfdata.similar --run_dir=RUN --all --by=item-knn --output=all.parquet

Ids are those of the log. By `vectors`, the default, similar items have vectors in one
direction: the score is the mean of their cosines in the model's tables. By
`transitions` or `ease` it is what these say of the other item after this one alone. A
baseline, such as `item-knn` or `ease:l2=100`, does so from the train interactions,
whatever the model. Only scores above 0 are listed, so that a list may be short.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from ncf_tfdata import command, config
from ncf_tfdata.serving.config import SimilarConfig

if TYPE_CHECKING:
  from ncf_tfdata.serving import similar

CONFIGS = (SimilarConfig,)


def main() -> None:
  """The command."""
  asked = config.read(SimilarConfig)

  from ncf_tfdata import api
  from ncf_tfdata.serving import list_files, recommendation_files

  if asked.output:
    list_files.check_output(asked.output)
  names = None
  if asked.item_names:
    names = recommendation_files.read_names(asked.item_names)
  run = api.open_run(asked.run_dir, asked.data_dir, asked.new_items)
  found, ignored = run.similar_lists(asked.items, asked.k, asked.by, names)
  if ignored:
    print(
      f'{ignored:,} of {len(asked.items or ()):,} ids are of no item that the dataset '
      'knows, and ignored.',
      file=sys.stderr,
    )
  count = 0
  with _destination(asked.output, names is not None) as write:
    for lists in found:
      write(lists)
      count += len(lists.item)
  if asked.output:
    print(f'{asked.output}: top {asked.k} of {count:,} items by {asked.by}')


@contextlib.contextmanager
def _destination(
  output: str | None, named: bool
) -> Iterator[Callable[[similar.Lists], None]]:
  from ncf_tfdata.api import similar as shown
  from ncf_tfdata.serving import list_files, similar

  if not output:
    yield lambda lists: print(shown.text(lists))
    return
  with list_files.create(output, similar.types(named)) as write:
    yield write


if __name__ == '__main__':
  command.run(main, *CONFIGS)
