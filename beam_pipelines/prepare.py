r"""Prepares a dataset directory from a ratings log.

    python -m beam_pipelines.prepare                                # the sample
    python -m beam_pipelines.prepare --input=ml-1m/ratings.dat --output=data/ml-1m
    python -m beam_pipelines.prepare --input=movielens/20m-ratings
    python -m beam_pipelines.prepare --input='gs://bucket/log-*.csv.gz' \
        --user_column=uid --item_column=sku --timestamp_column=ts \
        --output=gs://bucket/prepared --runner=DataflowRunner --project=…

All of Beam's own pipeline options are taken beside the flags below.
"""

import os
import posixpath
import re
import time
from collections.abc import Sequence

from absl import flags

from beam_pipelines import command
from ncf_tfdata import dataset
from ncf_tfdata.errors import UserError

_SAMPLE = 'sample'

_INPUT = flags.DEFINE_string(
  'input',
  _SAMPLE,
  "What to read: `sample` (built in), a path, glob or folder, or one of TFDS's "
  'movielens/{100k,1m,20m,25m}-ratings, which is downloaded.',
)
_OUTPUT = flags.DEFINE_string(
  'output', None, 'Dataset directory; data/NAME after the input by default.'
)
_OVERWRITE = flags.DEFINE_bool(
  'overwrite', False, 'Replace a finished dataset, once the new one is whole.'
)
_SAMPLE_RATINGS = flags.DEFINE_integer(
  'sample_ratings', 100_000, 'Ratings of the built-in sample.', lower_bound=1000
)
_CACHE_DIR = flags.DEFINE_string(
  'cache_dir', 'data/sources', "Where downloads and the sample's log are kept."
)

_FORMAT = flags.DEFINE_enum(
  'format',
  'auto',
  ['auto', 'movielens', 'tsv', 'csv', 'parquet'],
  'Format of the log: `::`, tab or comma separated, each also gzipped, or Parquet.',
)
_COLUMNS = flags.DEFINE_list(
  'columns',
  [],
  'Of a log without a header: what each column is, of user, item, rating, timestamp, '
  'and _ for one to ignore. Found out by default.',
)
_COLUMN_NAMES = {
  role: flags.DEFINE_string(
    f'{role}_column', None, f"Of a log with a header: the {role}'s column."
  )
  for role in ('user', 'item', 'rating', 'timestamp')
}
_MAX_REJECT_FRACTION = flags.DEFINE_float(
  'max_reject_fraction',
  0.001,
  'Largest fraction of lines that may not be ratings; more fail the job.',
  lower_bound=0,
  upper_bound=1,
)

# Bounds are comparisons, which no NaN fails.
flags.register_validator(
  'max_reject_fraction', lambda value: value == value, 'expected a number from 0 to 1'
)

_MIN_ITEM_COUNT = flags.DEFINE_integer(
  'min_item_count', 5, 'Items with fewer ratings are left out.', lower_bound=0
)
_MIN_RATING = flags.DEFINE_float(
  'min_rating', 1.0, 'Ratings below it are left out, after --min_item_count.'
)
_DUPLICATES = flags.DEFINE_enum(
  'duplicates',
  'first',
  ['first', 'last', 'keep'],
  "Which of a user's ratings of one item is kept, in time order.",
)
_MIN_USER_COUNT = flags.DEFINE_integer(
  'min_user_count',
  1,
  'Users with fewer ratings are left out, after all of the above.',
  lower_bound=1,
)
_MAX_USER_HISTORY = flags.DEFINE_integer(
  'max_user_history', 100_000, 'Latest ratings of a user that are kept.', lower_bound=1
)

_TIE_ORDER = flags.DEFINE_enum(
  'tie_order',
  'input',
  ['input', 'random'],
  "Order of a user's ratings with one timestamp: as in the input, or drawn.",
)
_HOLDOUT = flags.DEFINE_integer(
  'holdout',
  2,
  'Rows held out of train: 2 (validation, test), or 1 (test; the same rows).',
  lower_bound=1,
  upper_bound=2,
)
_HELD_OUT_USERS = flags.DEFINE_float(
  'held_out_users',
  0.0,
  'Share of users, drawn by seed and key, kept out of train and validation to test on '
  'users no model was trained on. The test split then holds only their last rows, with '
  "all their earlier ones as history; all other users' test rows are in no split, and "
  'users too short to split stay in train.',
)
_ALLOW_EMPTY_SPLITS = flags.DEFINE_bool(
  'allow_empty_splits',
  False,
  'Publish a dataset even where train, validation or test has no row.',
)
_TRAIN_NEGATIVES = flags.DEFINE_integer(
  'train_negatives', 4, 'Negatives written with a train row.', lower_bound=0
)
_EVAL_NEGATIVES = flags.DEFINE_integer(
  'eval_negatives', 100, 'Negatives to rank a held-out row among.', lower_bound=1
)
_SUCCESSORS = flags.DEFINE_integer(
  'successors',
  0,
  'Successors to write for each item: what came up to ten train rows after it most '
  'often, for models that use such counts. 0 writes none.',
  lower_bound=0,
)
_NUM_SHARDS = flags.DEFINE_integer(
  'num_shards',
  None,
  'Shards of each split, and groups of users that the work is spread over; one '
  'for each 8 MiB of input by default, from 64 on for each 24 MiB, and at least 8.',
  lower_bound=1,
  upper_bound=99_999,
)
_SEED = flags.DEFINE_integer(
  'seed', 0, 'Seed of all that is drawn.', lower_bound=0, upper_bound=2**63 - 1
)
_WORKERS = flags.DEFINE_integer(
  'workers',
  None,
  'Threads of the direct runner; by default one, and one a core from 100 MB of text '
  'on. Other runners have options of their own.',
  lower_bound=1,
)
flags.register_validator(
  _HELD_OUT_USERS,
  lambda share: 0 <= share < 1,
  'expected a share of users from 0, and less than 1.',
)

# What decides the content of a dataset, and so stands in its manifest.
_CONTENT_FLAGS = (
  'columns',
  'duplicates',
  'eval_negatives',
  'format',
  'holdout',
  'item_column',
  'max_reject_fraction',
  'max_user_history',
  'min_item_count',
  'min_rating',
  'min_user_count',
  'rating_column',
  'seed',
  'tie_order',
  'timestamp_column',
  'train_negatives',
  'user_column',
)
# Only where they are in use, so that a dataset without is the same as ever.
_OPTIONAL_FLAGS = ('held_out_users', 'successors')
_MAX_SHARDS = 99_999
# Text whose pairs, ten a rating and up to 16 bytes each, are about 16 MiB.
_SUCCESSORS_SHARD_BYTES = 2 << 20
_NAME_ENDINGS = r'(\.(dat|data|tsv|csv|txt|inter|parquet|gz))+$'


def main(argv: Sequence[str]) -> None:
  """Prepares the dataset that the flags describe."""
  from beam_pipelines import files, outputs, staging

  output = outputs.resolve(_output())
  outputs.refuse_unreplaceable(output, _OVERWRITE.value)
  sources = files.match(_source())
  paths = [source.path for source in sources]
  outputs.refuse_inputs(output, paths)
  staging.sweep(output, paths)
  _run(sources, output, staging.staging_directory(output), list(argv[1:]))


def _output() -> str:
  """The output as given, or named after the input."""
  if _OUTPUT.value is not None:
    return _OUTPUT.value
  path = _INPUT.value
  if '://' not in path:
    path = os.path.abspath(path)  # `..` has no name of its own
  name = re.sub(_NAME_ENDINGS, '', posixpath.basename(path.rstrip('/')))
  if name in ('ratings', 'u', 'interactions') or '*' in name:
    # Every folder has such a file; the folder tells which it is.
    name = posixpath.basename(posixpath.dirname(path.rstrip('/')))
  if not name or any(mark in name for mark in '*?['):
    raise UserError(
      f'no name for the dataset follows from --input={path}: add --output.'
    )
  return f'data/{name}'


def _source() -> str:
  """The path, glob or folder to read; makes or downloads it where need be."""
  if not _INPUT.value.strip():
    raise UserError('--input= is empty, expected a path. Is a shell variable unset?')
  if _INPUT.value == _SAMPLE:
    from beam_pipelines import sample

    spec = sample.Spec(ratings=_SAMPLE_RATINGS.value, seed=_SEED.value)
    path = os.path.join(
      _cache_directory(), f'sample-{spec.ratings}-{spec.seed}', 'ratings.dat'
    )
    if not os.path.exists(path):
      sample.write(path, spec)
    return path
  if _INPUT.value.startswith('movielens/') and not os.path.exists(_INPUT.value):
    from beam_pipelines import known_datasets

    return known_datasets.fetch(_INPUT.value, _cache_directory())
  return os.path.expanduser(_INPUT.value)


def _cache_directory() -> str:
  from beam_pipelines import outputs

  path = outputs.resolve(_CACHE_DIR.value, 'cache_dir')
  if not outputs.is_local(path):
    raise UserError(f'--cache_dir={path} is on an object store, expected a local path.')
  return path


def _run(
  sources: list, output: str, staging_directory: str, beam_arguments: list[str]
) -> None:
  from beam_pipelines import (
    beam_metrics,
    files,
    outputs,
    prepare_pipeline,
    runners,
    schema,
    staging,
    summary,
    terminal,
  )

  begin = time.monotonic()
  layout = schema.of_sources(
    sources,
    _FORMAT.value,
    tuple(_COLUMNS.value),
    {role: flag.value or '' for role, flag in _COLUMN_NAMES.items()},
  )
  size = files.text_bytes(sources)
  options = runners.options(beam_arguments, size, _WORKERS.value)
  job = _job(sources, layout, size, output, staging_directory)
  megabytes = sum(source.size for source in sources) / 1e6
  print(f'Reading {len(sources)} file(s), {megabytes:,.1f} MB: {layout}')
  print(f'Writing {job.num_shards} shards a split to {outputs.shown(output)}')
  _print_plan(sources, size, job)
  staging.create_directory(staging_directory)
  try:
    with terminal.pipeline(options) as root:
      prepare_pipeline.build(root, job)
  finally:
    staging.discard_directory(staging_directory)
  seconds = time.monotonic() - begin
  counted = beam_metrics.describe(beam_metrics.read(root.result))
  for line in summary.lines(_written(output), outputs.shown(output), seconds, counted):
    print(line)


def _written(output: str) -> dataset.Manifest:
  from beam_pipelines import outputs

  # By Beam, which was told where the store is; a reader may have to be told otherwise.
  text = outputs.read_manifest(output)
  if text is None:
    raise UserError(
      f'the job is done, and there is no dataset at {output}: its workers wrote to '
      'disks of their own, or it was removed. Name an --output that all of them see.'
    )
  return dataset.Manifest.from_json(text)


def _print_plan(sources, size: int, job) -> None:
  """How wide the work is: no stage uses more workers than it has groups."""
  from beam_pipelines import files

  # Gzip files are not cut; row groups of Parquet are only known to the workers.
  ranges = sum(
    1 if source.path.endswith('.gz') else -(-source.size // files.RANGE_BYTES)
    for source in sources
  )
  groups = [
    ('ranges to read', ranges),
    ('item groups', job.num_item_groups),
    ('user groups', job.num_shards),
  ]
  if job.successors.keep:
    groups.append(('successor groups', job.successors.num_shards))
  (name, count), *others = groups
  plan = [f'{count:,} {name} ({_bytes(size / count)} of text each)']
  plan += [f'{count:,} {name} ({_bytes(size / count)})' for name, count in others]
  print(f'Work: {", ".join(plan)}', flush=True)


def _bytes(count: float) -> str:
  return f'{count / 1e6:.1f} MB' if count >= 1e6 else f'{count / 1e3:.1f} kB'


def _job(sources, layout, size, output, staging_directory):
  from beam_pipelines import (
    histories,
    keys,
    prepare_pipeline,
    publish,
    splits,
    successors,
  )

  num_groups = keys.num_groups(size)
  num_shards = _NUM_SHARDS.value or min(num_groups, _MAX_SHARDS)
  num_ranges = max(keys.MIN_GROUPS, -(-size // _SUCCESSORS_SHARD_BYTES))
  recipe = splits.Recipe(
    _HOLDOUT.value,
    _TRAIN_NEGATIVES.value,
    _EVAL_NEGATIVES.value,
    _SEED.value,
    _HELD_OUT_USERS.value,
  )
  held_out = dict.fromkeys(recipe.splits, _EVAL_NEGATIVES.value)
  content_flags = {name: flags.FLAGS[name].value for name in _CONTENT_FLAGS}
  optional = {name: flags.FLAGS[name].value for name in _OPTIONAL_FLAGS}
  content_flags.update({name: value for name, value in optional.items() if value})
  return prepare_pipeline.Job(
    files=tuple(sources),
    schema=layout,
    staging=staging_directory,
    min_item_count=_MIN_ITEM_COUNT.value,
    min_rating=_MIN_RATING.value,
    rules=histories.Rules(
      duplicates=_DUPLICATES.value,
      tie_order=_TIE_ORDER.value,
      min_user_count=_MIN_USER_COUNT.value,
      max_user_history=_MAX_USER_HISTORY.value,
      seed=_SEED.value,
    ),
    recipe=recipe,
    num_item_groups=num_groups,
    num_shards=num_shards,
    successors=successors.Plan(
      _SUCCESSORS.value, min(num_ranges, _MAX_SHARDS), staging_directory
    ),
    plan=publish.Plan(
      staging=staging_directory,
      output=output,
      flags={**content_flags, 'num_shards': num_shards},
      negatives={**held_out, dataset.TRAIN: _TRAIN_NEGATIVES.value},
      max_reject_fraction=_MAX_REJECT_FRACTION.value,
      overwrite=_OVERWRITE.value,
      allow_empty_splits=_ALLOW_EMPTY_SPLITS.value,
    ),
  )


if __name__ == '__main__':
  command.run(main)
