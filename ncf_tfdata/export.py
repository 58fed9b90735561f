"""Writes a trained model as a TensorFlow SavedModel that is asked in original ids.

    python -m ncf_tfdata.export --run_dir=RUN --output=served/ncf/1

It needs nothing but TensorFlow: vocabularies, and what each user already has, are
inside. Its signatures are the methods of `saved_model.Server`:

    score              user [n], item [n]      ->  score, known
    recommend          user [n], k             ->  items, scores, known
    recommend_history  history [n, L], k       ->  ″, of a model that reads histories
    recommend_after    user [n], later [n, L], k   ->  ″

    explain            user [n], items [n, c], count   ->  because, effects, parts
    explain_history, explain_after                  ->  ″
    similar            item [n], k             ->  items, scores, count, known
    similar_by_…       ″, of transitions and EASE, where the model has them

Each that recommends has a sister whose name ends with `_by_rules`. It also takes
`exclude` [n, m], `allow` [n, m], `min_score` and `only` [n, m], and returns `count` and
`ignored` [n].
"""

from ncf_tfdata import command, config
from ncf_tfdata.errors import UserError
from ncf_tfdata.serving.config import ExportConfig

CONFIGS = (ExportConfig,)


def main() -> None:
  """The command."""
  asked = config.read(ExportConfig)
  if not asked.output:
    raise UserError('give --output, a directory for the SavedModel.')

  from ncf_tfdata import api
  from ncf_tfdata.serving import export

  # Before the run is looked for, as what the user has to mend first.
  export.check_output(asked.output, asked.overwrite)
  run = api.open_run(asked.run_dir, asked.data_dir, asked.new_items)
  made = run.export(asked.output, overwrite=asked.overwrite)
  print(
    f'{made.path}: {made.bytes / 1e6:,.1f} MB, signatures '
    f'{", ".join(made.signatures)}; {run.dataset.num_users:,} users, '
    f'{run.dataset.num_items:,} items'
  )


if __name__ == '__main__':
  command.run(main, *CONFIGS)
