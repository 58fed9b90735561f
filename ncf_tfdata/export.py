"""Writes a trained model as a TensorFlow SavedModel that is asked in original ids.

    python -m ncf_tfdata.export --run_dir=RUN --output=served/ncf/1

It needs nothing but TensorFlow: vocabularies, and what each user already has, are
inside. Its signatures are the methods of `saved_model.Server`:

    score              user [n], item [n]      ->  score, known
    recommend          user [n], k             ->  items, scores, known
    recommend_history  history [n, L], k       ->  ″, of a model that reads histories
    recommend_after    user [n], later [n, L], k   ->  ″
"""

import os
import pathlib
import shutil
from collections.abc import Sequence

from absl import flags

from ncf_tfdata import command, object_store
from ncf_tfdata.errors import UserError

_RUN_DIR = flags.DEFINE_string('run_dir', None, 'Run directory of a trained model.')
_DATA_DIR = flags.DEFINE_string(
  'data_dir', None, "Dataset directory. Default: the run's."
)
_OUTPUT = flags.DEFINE_string(
  'output',
  None,
  'Directory of the SavedModel. TensorFlow Serving wants a number for its last part.',
)
_OVERWRITE = flags.DEFINE_bool('overwrite', False, 'Replaces an earlier SavedModel.')

# By this file a directory is known as a SavedModel.
_SAVED_MODEL = 'saved_model.pb'


def main(argv: Sequence[str]) -> None:
  """The command."""
  if len(argv) > 1:
    raise UserError(f'unexpected argument {argv[1]!r}: flags begin with --.')
  if not _OUTPUT.value:
    raise UserError('give --output, a directory for the SavedModel.')
  object_store.refuse(_OUTPUT.value)
  output = pathlib.Path(_OUTPUT.value)
  _check(output)

  from ncf_tfdata import run as run_lib

  run, dataset = run_lib.open_with_dataset(_RUN_DIR.value, _DATA_DIR.value)

  from ncf_tfdata.models import saved  # It imports TensorFlow.

  model = saved.load_finished(run, dataset)

  import tensorflow as tf

  from ncf_tfdata.serving import saved_model

  server = saved_model.Server(model, dataset)
  temporary = output.with_name(f'.{output.name}.tmp')
  shutil.rmtree(temporary, ignore_errors=True)
  try:
    tf.saved_model.save(server, str(temporary), signatures=server.signatures)
    if output.exists():
      shutil.rmtree(output)
    os.rename(temporary, output)
  finally:
    shutil.rmtree(temporary, ignore_errors=True)
  size = sum(file.stat().st_size for file in output.rglob('*') if file.is_file())
  print(
    f'{output}: {size / 1e6:,.1f} MB, signatures {", ".join(server.signatures)}; '
    f'{dataset.num_users:,} users, {dataset.num_items:,} items'
  )


def _check(output: pathlib.Path) -> None:
  """Refuses what must not be replaced.

  Raises:
    UserError: There is something.
  """
  if not output.exists():
    return
  replaceable = output.is_dir() and (
    (output / _SAVED_MODEL).exists() or not any(output.iterdir())
  )
  if not replaceable:
    raise UserError(f'{output} is there and is no SavedModel. Name another --output.')
  if (output / _SAVED_MODEL).exists() and not _OVERWRITE.value:
    raise UserError(
      f'{output} holds a SavedModel. Name another --output, or replace it with '
      '--overwrite.'
    )


if __name__ == '__main__':
  command.run(main, takes_arguments=True)
