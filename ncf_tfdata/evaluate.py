"""Judges a trained model, baselines and other systems on held-out interactions.

    python -m ncf_tfdata.evaluate --run_dir=RUN --baselines=popularity,ease
    python -m ncf_tfdata.evaluate --run_dir=RUN --compare_to=OTHER_RUN
    python -m ncf_tfdata.evaluate --data_dir=DATASET --baselines=ease:l2=200
    python -m ncf_tfdata.evaluate --data_dir=DATASET --predictions=sasrec=lists.csv

    python -m ncf_tfdata.evaluate --run_dir=RUN --require='ndcg@10>=.2'

Prints tables, and with a run updates its metrics.json, ranks and report.html. Exit code
4 says that something is not as good as --require wants it.
"""

import dataclasses

from ncf_tfdata import command, config
from ncf_tfdata.config import Config, setting
from ncf_tfdata.errors import RequirementError, UserError
from ncf_tfdata.evaluation.config import EvaluateConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluateCommand(Config):
  """What the command judges."""

  run_dir: str | None = setting(
    None,
    'Run directory of a trained model; without it, baselines and predictions only.',
  )
  data_dir: str | None = setting(None, "Dataset directory. Default: the run's.")


CONFIGS = (EvaluateCommand, EvaluateConfig)


def main() -> None:
  """The command."""
  options, asked = config.read(EvaluateCommand), config.read(EvaluateConfig)

  from ncf_tfdata import api, dataset

  if options.run_dir:
    found = api.Run.load(options.run_dir, options.data_dir).evaluate(asked)
  elif options.data_dir:
    found = api.evaluate(dataset.Dataset(options.data_dir), asked)
  else:
    raise UserError(
      'give --run_dir, or --data_dir to judge others than a trained model.'
    )
  print(f'\n{found.table()}')
  if found.report:
    print(f'\nreport: {found.report}')
  if found.missed:
    raise RequirementError(found.missed)


if __name__ == '__main__':
  command.run(main, *CONFIGS)
else:
  command.make_callable(__name__, 'ncf_tfdata.api:evaluate')
