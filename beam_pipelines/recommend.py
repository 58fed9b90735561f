r"""Answers what users should see next, as many as there are, with an exported model.

    python -m beam_pipelines.recommend --saved_model=served/ncf/1 \
        --data_dir=data/ml-1m --output=answers/everyone.parquet
    python -m beam_pipelines.recommend --saved_model=gs://bucket/served/ncf/1 \
        --history_file='gs://bucket/events-*.csv.gz' \
        --output=gs://bucket/answers/people.jsonl --runner=DataflowRunner --project=…

`ncf_tfdata.export` writes the model. The answers are those of `ncf_tfdata.recommend`,
in files such as everyone-00000-of-00008.parquet. Workers need TensorFlow.

All of Beam's own pipeline options are taken beside the flags below.
"""

import posixpath
import time
from collections.abc import Sequence

from absl import flags

from beam_pipelines import command
from ncf_tfdata import dataset
from ncf_tfdata.errors import UserError

_SAVED_MODEL = flags.DEFINE_string(
  'saved_model', None, 'Directory that `python -m ncf_tfdata.export` wrote.'
)
_DATA_DIR = flags.DEFINE_string(
  'data_dir', None, 'Answers all users of this dataset directory.'
)
_USERS_FILE = flags.DEFINE_string(
  'users_file',
  None,
  'Answers the users of these files: a path, glob or folder; the first column of each '
  'line is an original id.',
)
_HISTORY_FILE = flags.DEFINE_string(
  'history_file',
  None,
  'Answers the users of these files, who may be new: a line `user,item` (or with a tab '
  'or ::), in order of time, no header. Of users who are not new they hold what came '
  'after the dataset.',
)
_K = flags.DEFINE_integer('k', 10, 'Items in an answer.', lower_bound=1)
_OUTPUT = flags.DEFINE_string(
  'output', None, 'A name .jsonl, .csv or .parquet, which the shards are named after.'
)
_OVERWRITE = flags.DEFINE_bool(
  'overwrite', False, 'Replaces earlier shards, once the new ones are whole.'
)
_ITEM_NAMES = flags.DEFINE_string(
  'item_names', None, 'A file whose first columns are item and name: movies.dat.'
)
_NUM_SHARDS = flags.DEFINE_integer(
  'num_shards',
  None,
  'Files, and groups of users that the work is spread over; one for each MiB of input '
  'by default.',
  lower_bound=1,
  upper_bound=99_999,
)

# About 100,000 users, whose answers of ten items are some 25 MB, in memory at once.
_SHARD_BYTES = 1 << 20
_MAX_SHARDS = 99_999
# By this file a directory is known as a SavedModel.
_MODEL_FILE = 'saved_model.pb'


def main(argv: Sequence[str]) -> None:
  """The command."""
  given = [_DATA_DIR.value, _USERS_FILE.value, _HISTORY_FILE.value]
  if sum(map(bool, given)) != 1:
    raise UserError(
      'say whom to answer: one of --data_dir=…, --users_file=…, --history_file=….'
    )
  _run(list(argv[1:]))


def _run(beam_arguments: list[str]) -> None:
  from apache_beam.io.filesystems import FileSystems

  from beam_pipelines import (
    files,
    outputs,
    recommend_pipeline,
    runners,
    staging,
    terminal,
  )

  begin = time.monotonic()
  if not _SAVED_MODEL.value or not _OUTPUT.value:
    raise UserError(
      'give --saved_model, which `python -m ncf_tfdata.export` wrote, and --output.'
    )
  saved_model = _SAVED_MODEL.value.rstrip('/')
  if FileSystems.get_scheme(saved_model) == 's3':
    raise UserError(
      f'--saved_model={saved_model}: TensorFlow opens no s3://. Copy it with `aws s3 '
      'cp --recursive` to a disk that all workers see.'
    )
  if not FileSystems.exists(FileSystems.join(saved_model, _MODEL_FILE)):
    raise UserError(
      f'no SavedModel at {saved_model} (no {_MODEL_FILE}). '
      f'Run `python -m ncf_tfdata.export --output={saved_model}` first.'
    )
  sources = _sources()
  size = files.text_bytes(sources)
  path = outputs.resolve(_OUTPUT.value)
  job = _job(saved_model, sources, size, path)
  output = job.output
  existing = output.existing()
  output.refuse(existing)
  read = [source.path for source in sources] + [_ITEM_NAMES.value or '']
  for name in existing:
    outputs.refuse_inputs(FileSystems.join(output.folder, name), filter(None, read))
  staging.sweep(path, filter(None, read))
  options = runners.options(beam_arguments, size)
  staging.create_directory(output.staging)
  try:
    with terminal.pipeline(options, 'users') as root:
      recommend_pipeline.build(root, job)
  finally:
    staging.discard_directory(output.staging)
  users, seconds = _users(root.result), time.monotonic() - begin
  first, more = FileSystems.join(output.folder, output.name(0)), output.num_shards - 1
  print(
    f'{first}{f" and {more:,} more" if more else ""}: '
    f'top {job.k} of {users:,} users in {seconds:.1f} s '
    f'({users / seconds:,.0f} users/s)'
  )


def _sources() -> list:
  from beam_pipelines import files

  if _DATA_DIR.value:
    # It refuses what is no finished dataset.
    path = str(dataset.Dataset(_DATA_DIR.value).directory / dataset.USERS)
  else:
    path = _USERS_FILE.value or _HISTORY_FILE.value or ''
  try:
    found = files.match(path)
  except UserError as error:
    raise UserError(
      f'nothing to read at {path}: expected text, plain or gzip.'
    ) from error
  if files.kind(found[0].path) == files.PARQUET:
    raise UserError(f'{found[0].path} is Parquet, expected text, plain or gzip.')
  return found


def _job(saved_model: str, sources: list, size: int, path: str):
  from beam_pipelines import files, recommend_pipeline, staging
  from ncf_tfdata.serving import recommendation_files

  recommendation_files.check_output(path)
  # Here, so that a mistake is told before the work.
  if _ITEM_NAMES.value:
    recommend_pipeline.read_names(_ITEM_NAMES.value)
  first = next(iter(files.first_lines(sources[0].path, 1)), b'')
  mark = recommendation_files.delimiter(first)
  if _HISTORY_FILE.value:
    mark = recommendation_files.check_columns(first, sources[0].path)
  elif _DATA_DIR.value:
    mark = b'\t'
  folder, name = posixpath.split(path)
  stem, suffix = posixpath.splitext(name)
  return recommend_pipeline.Job(
    saved_model=saved_model,
    files=tuple(sources),
    mark=mark,
    vocabulary=bool(_DATA_DIR.value),
    events=bool(_HISTORY_FILE.value),
    k=_K.value,
    item_names=_ITEM_NAMES.value,
    output=recommend_pipeline.Output(
      folder=folder,
      stem=stem,
      suffix=suffix,
      num_shards=_NUM_SHARDS.value or min(-(-size // _SHARD_BYTES), _MAX_SHARDS),
      staging=staging.staging_directory(path),
      overwrite=_OVERWRITE.value,
    ),
  )


def _users(result) -> int:
  """How many were answered, as far as the runner says."""
  from beam_pipelines import beam_metrics, recommend_pipeline

  found = beam_metrics.read(result, recommend_pipeline.NAMESPACE)
  return found.counters.get(recommend_pipeline.USERS, 0) if found else 0


if __name__ == '__main__':
  command.run(main)
