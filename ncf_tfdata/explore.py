"""Serves a page on which a person plays with a trained model.

    python -m ncf_tfdata.explore --run_dir=RUN --item_names=movies.dat

Pick a user, or nobody; tick titles; watch the list move. The page is for whoever sits
at this machine: it listens on 127.0.0.1 only.
"""

from __future__ import annotations

from collections.abc import Sequence

from absl import flags

from ncf_tfdata import command
from ncf_tfdata.errors import UserError

_RUN_DIR = flags.DEFINE_string('run_dir', None, 'Run directory of a trained model.')
_DATA_DIR = flags.DEFINE_string(
  'data_dir', None, "Dataset directory. Default: the run's."
)
_ITEM_NAMES = flags.DEFINE_string(
  'item_names', None, 'A file whose first columns are item and name: movies.dat.'
)
_K = flags.DEFINE_integer('k', 10, 'Items in a list.', lower_bound=1, upper_bound=100)
_PORT = flags.DEFINE_integer(
  'port', 8000, 'Where the page is served; 0 takes a free port.', lower_bound=0
)


def main(argv: Sequence[str]) -> None:
  """The command."""
  if len(argv) > 1:
    raise UserError(f'unexpected argument {argv[1]!r}: flags begin with --.')
  from ncf_tfdata import run as run_lib
  from ncf_tfdata.serving import recommendation_files

  names = None
  if _ITEM_NAMES.value:
    names = recommendation_files.read_names(_ITEM_NAMES.value)
  run, dataset = run_lib.open_with_dataset(_RUN_DIR.value, _DATA_DIR.value)

  from ncf_tfdata.models import saved  # It imports TensorFlow.

  model = saved.load_finished(run, dataset)

  from ncf_tfdata.serving import explore_server
  from ncf_tfdata.serving.explorer import Explorer

  explorer = Explorer(model, dataset, names, _K.value)
  try:
    server = explore_server.serve(explorer, _PORT.value)
  except OSError as error:
    raise UserError(
      f'cannot listen on port {_PORT.value}: {error.strerror}. Give another --port.'
    ) from error
  print(
    f'http://{explore_server.HOST}:{server.server_port}  (Ctrl-C ends it)', flush=True
  )
  with server:
    try:
      server.serve_forever()
    except KeyboardInterrupt:
      print()


if __name__ == '__main__':
  command.run(main, takes_arguments=True)
