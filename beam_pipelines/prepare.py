r"""Prepares a dataset directory from a ratings log.

    python -m beam_pipelines.prepare                                # the sample
    python -m beam_pipelines.prepare --input=ml-1m/ratings.dat --output=data/ml-1m
    python -m beam_pipelines.prepare --input=movielens/20m-ratings
    python -m beam_pipelines.prepare --input='gs://bucket/log-*.csv.gz' \
        --user_column=uid --item_column=sku --timestamp_column=ts \
        --output=gs://bucket/prepared --runner=DataflowRunner --project=…

All of Beam's own pipeline options are taken beside the flags below.
"""

from collections.abc import Sequence

from beam_pipelines import command, heap
from beam_pipelines.config import PrepareConfig
from ncf_tfdata import command as command_lib
from ncf_tfdata import config

CONFIGS = (PrepareConfig,)


def main(argv: Sequence[str]) -> None:
  """Prepares the dataset that the flags describe."""
  heap.keep_freed()
  asked = config.read(PrepareConfig)

  from beam_pipelines import preparation

  made = preparation.Preparation(asked, argv[1:])
  print(made.describe(), flush=True)
  print(made.run().table())


if __name__ == '__main__':
  command.run(main, *CONFIGS)
else:
  command_lib.make_callable(__name__, 'beam_pipelines.preparation:prepare')
