r"""Recommends to users, as many as there are, with an exported model.

    python -m beam_pipelines.recommend --saved_model=served/ncf/1 \
        --data_dir=data/ml-1m --output=lists/everyone.parquet
    python -m beam_pipelines.recommend --saved_model=gs://bucket/served/ncf/1 \
        --history_file='gs://bucket/events-*.csv.gz' \
        --output=gs://bucket/lists/people.jsonl --runner=DataflowRunner --project=…
    python -m beam_pipelines.recommend --saved_model=served/ncf/1 \
        --data_dir=data/ml-1m --output=lists/comedies.jsonl \
        --exclude=7,8 --only=genres:Comedy --min_score=0 --explain

`ncf_tfdata.export` writes the model. The recommendations are those of
`ncf_tfdata.recommend`, also with its rules and reasons, in files such as
everyone-00000-of-00008.parquet. Rules are for all users. Workers need TensorFlow.

All of Beam's own pipeline options are taken beside the flags below.
"""

from __future__ import annotations

import posixpath
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from beam_pipelines import command
from beam_pipelines.config import MAX_SHARDS, RecommendConfig
from ncf_tfdata import config, dataset
from ncf_tfdata.errors import UserError

if TYPE_CHECKING:
  from apache_beam.runners.runner import PipelineResult

  from beam_pipelines import exported_model, files, recommend_pipeline

CONFIGS = (RecommendConfig,)

# About 100,000 users, whose answers of ten items are some 25 MB, in memory at once.
_SHARD_BYTES = 1 << 20
# By this file a directory is known as a SavedModel.
_MODEL_FILE = 'saved_model.pb'


def main(argv: Sequence[str]) -> None:
  """The command."""
  _run(config.read(RecommendConfig), list(argv[1:]))


def _run(asked: RecommendConfig, beam_arguments: list[str]) -> None:
  from apache_beam.io.filesystems import FileSystems

  from beam_pipelines import (
    files,
    outputs,
    recommend_pipeline,
    runners,
    staging,
    terminal,
  )
  from ncf_tfdata.serving import rules

  begin = time.monotonic()
  if not asked.saved_model or not asked.output:
    raise UserError(
      'give --saved_model, which `python -m ncf_tfdata.export` wrote, and --output.'
    )
  saved_model = asked.saved_model.rstrip('/')
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
  sources = _sources(asked)
  size = files.text_bytes(sources)
  path = outputs.resolve(asked.output)
  job = _job(asked, saved_model, sources, size, path)
  output = job.output
  existing = output.existing()
  output.refuse(existing)
  read = [source.path for source in sources] + [asked.item_names or '']
  for name in existing:
    outputs.refuse_inputs(FileSystems.join(output.folder, name), filter(None, read))
  staging.sweep(path, filter(None, read))
  options = runners.options(beam_arguments, size)
  print(runners.describe(options), flush=True)
  staging.create_directory(output.staging)
  try:
    with terminal.pipeline(options, 'users') as root:
      recommend_pipeline.build(root, job)
  finally:
    staging.discard_directory(output.staging)
  seconds = time.monotonic() - begin
  users, ignored = _counted(root.result)
  if ignored:
    print(rules.warning(ignored), file=sys.stderr)
  first, more = FileSystems.join(output.folder, output.name(0)), output.num_shards - 1
  print(
    f'{first}{f" and {more:,} more" if more else ""}: '
    f'top {job.lists.k} of {users:,} users in {seconds:.1f} s '
    f'({users / seconds:,.0f} users/s)'
  )


def _sources(asked: RecommendConfig) -> list[files.File]:
  from beam_pipelines import files

  if asked.data_dir:
    # It refuses what is no finished dataset.
    path = str(dataset.Dataset(asked.data_dir).directory / dataset.USERS)
  else:
    path = asked.users_file or asked.history_file or ''
  try:
    found = files.match(path)
  except UserError as error:
    raise UserError(
      f'nothing to read at {path}: expected text, plain or gzip.'
    ) from error
  if files.kind(found[0].path) == files.PARQUET:
    raise UserError(f'{found[0].path} is Parquet, expected text, plain or gzip.')
  return found


def _job(
  asked: RecommendConfig,
  saved_model: str,
  sources: list[files.File],
  size: int,
  path: str,
) -> recommend_pipeline.Job:
  from beam_pipelines import files, recommend_pipeline, staging
  from ncf_tfdata.serving import list_files, recommendation_files

  list_files.check_output(path)
  # Here, so that a mistake is told before the work.
  if asked.item_names:
    recommend_pipeline.read_names(asked.item_names)
  first = next(iter(files.first_lines(sources[0].path, 1)), b'')
  mark = recommendation_files.delimiter(first)
  if asked.history_file:
    mark = recommendation_files.check_columns(first, sources[0].path)
  elif asked.data_dir:
    mark = b'\t'
  folder, name = posixpath.split(path)
  stem, suffix = posixpath.splitext(name)
  return recommend_pipeline.Job(
    saved_model=saved_model,
    files=tuple(sources),
    mark=mark,
    vocabulary=bool(asked.data_dir),
    events=bool(asked.history_file),
    lists=_list_options(asked),
    item_names=asked.item_names,
    output=recommend_pipeline.Output(
      folder=folder,
      stem=stem,
      suffix=suffix,
      num_shards=asked.num_shards or min(-(-size // _SHARD_BYTES), MAX_SHARDS),
      staging=staging.staging_directory(path),
      overwrite=asked.overwrite,
    ),
  )


def _list_options(asked: RecommendConfig) -> exported_model.ListOptions:
  from beam_pipelines import exported_model
  from ncf_tfdata.serving import item_categories

  only = asked.only or ()
  item_categories.parsed(only)  # It refuses what is no column with a value.
  return exported_model.ListOptions(
    k=asked.k,
    exclude=asked.exclude or (),
    allow=asked.allow or (),
    only=only,
    min_score=asked.min_score,
    explain=asked.explain,
  )


def _counted(result: PipelineResult) -> tuple[int, int]:
  """How many users were answered, and how many ids of rules are of no item.

  As far as the runner says.
  """
  from beam_pipelines import beam_metrics, exported_model, recommend_pipeline

  found = beam_metrics.read(result, exported_model.NAMESPACE)
  if found is None:
    return 0, 0
  ignored = found.distributions.get(exported_model.IGNORED)
  return (
    found.counters.get(recommend_pipeline.USERS, 0),
    ignored.max if ignored else 0,
  )


if __name__ == '__main__':
  command.run(main, *CONFIGS)
