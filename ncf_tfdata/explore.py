"""Serves a page on which a person plays with a trained model.

    python -m ncf_tfdata.explore --run_dir=RUN --item_names=movies.dat
    python -m ncf_tfdata.explore --run_dir=RUN --compare_to=OTHER_RUN,popularity,ease

Pick a user, step through those of a segment, or be nobody; tick titles; watch the list
move, and read what it is due to. The page is for whoever sits at this machine: it
listens on 127.0.0.1 only. The built-in sample has titles without --item_names.
"""

from ncf_tfdata import command, config
from ncf_tfdata.errors import UserError
from ncf_tfdata.serving.config import ExploreConfig

CONFIGS = (ExploreConfig,)


def main() -> None:
  """The command."""
  asked = config.read(ExploreConfig)

  from ncf_tfdata import api, sample_titles
  from ncf_tfdata.serving import explore_server, recommendation_files
  from ncf_tfdata.serving.explorer import Explorer

  names = None
  if asked.item_names:
    names = recommendation_files.read_names(asked.item_names)
  run = api.open_run(asked.run_dir, asked.data_dir, asked.new_items)
  others = run.beside(asked.compare_to)
  names = sample_titles.of(run.dataset) if names is None else names
  explorer = Explorer(run.model, run.dataset, names, asked.k, others)
  try:
    server = explore_server.serve(explorer, asked.port)
  except OSError as error:
    raise UserError(
      f'cannot listen on port {asked.port}: {error.strerror}. Give another --port.'
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
  command.run(main, *CONFIGS)
