"""A ratings log becomes a dataset directory: from a configuration to the Beam job.

Beam is imported when a job is set up.
"""

from __future__ import annotations

import dataclasses
import os
import posixpath
import re
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from beam_pipelines.config import PrepareConfig
from ncf_tfdata.errors import UserError
from ncf_tfdata.manifest import Manifest
from ncf_tfdata.tables import Table

if TYPE_CHECKING:
  from beam_pipelines import sample

_SAMPLE = 'sample'
_NAME_ENDINGS = r'(\.(dat|data|tsv|csv|txt|inter|parquet|gz))+$'


@dataclasses.dataclass(frozen=True)
class Prepared:
  """A dataset that was just written.

  Attributes:
    path: Its directory.
    manifest: What it holds, and what it was made from.
    seconds: What the job took.
    counted: What the runner counted, in words; '' where it counts nothing.
  """

  path: str
  manifest: Manifest
  seconds: float
  counted: str

  @property
  def counts(self) -> dict[str, int]:
    """Rows at each step, by name; see `Manifest.counts`."""
    return self.manifest.counts

  def table(self) -> Table:
    """What became of each rating, how fast, and what to run next."""
    from beam_pipelines import outputs, summary

    shown = outputs.shown(self.path)
    return Table(
      '\n'.join(summary.lines(self.manifest, shown, self.seconds, self.counted))
    )


def prepare(
  config: PrepareConfig | None = None,
  *,
  beam_options: Sequence[str] = (),
  progress: bool = True,
) -> Prepared:
  """Prepares a dataset directory from a ratings log.

      made = prepare(PrepareConfig(input='ml-1m/ratings.dat', output='data/ml-1m'))
      made.counts['train']

  While the direct runner works it keeps rows on a disk, in a directory beside the
  output.

  Args:
    config: Which log becomes which dataset; the built-in sample by default.
    beam_options: Beam's own, as on a command line: ['--runner=DataflowRunner', …].
    progress: Whether to show it.

  Raises:
    UserError: Something about input, output or options can be mended.
  """
  from beam_pipelines import runners

  try:
    return Preparation(config or PrepareConfig(), beam_options).run(progress)
  except UserError:
    raise
  except Exception as error:
    mendable = runners.user_error(error)
    if mendable is None:
      raise
    raise mendable from error


class Preparation:
  """A job that has been set up, and has written nothing yet."""

  def __init__(self, config: PrepareConfig, beam_options: Sequence[str] = ()):
    """Finds the input, its format and how wide the work is.

    Raises:
      UserError: Something about input, output or options can be mended.
    """
    from beam_pipelines import (
      command,
      files,
      outputs,
      prepare_job,
      runners,
      schema,
      staging,
    )

    self._begin = time.monotonic()
    command.configure_file_systems(beam_options)
    self._output = outputs.resolve(output_path(config))
    outputs.refuse_unreplaceable(self._output, config.overwrite)
    config = _with_sample_items(config)
    self._sources = files.match(_source(config))
    sources = [source.path for source in self._sources]
    outputs.refuse_inputs(self._output, sources)
    layout = schema.of_sources(
      self._sources, config.log.format, config.log.columns, config.log.column_names()
    )
    self._bytes = files.text_bytes(self._sources)
    self._options = runners.options(list(beam_options), self._bytes, config.workers)
    self._staging = staging.staging_directory(self._output)
    scratch = None
    if runners.share_a_disk(self._options):
      scratch = staging.scratch_directory(self._staging)
    self._job = prepare_job.of_config(
      config, self._sources, layout, self._bytes, self._output, self._staging, scratch
    )
    outputs.refuse_inputs(self._output, self._paths)

  @property
  def _paths(self) -> list[str]:
    """All that is read."""
    return [*(f.path for f in self._sources), *(f.path for f in self._job.features)]

  def describe(self) -> str:
    """What will be read and written, and how wide the work is.

    No stage uses more workers than it has groups.
    """
    from beam_pipelines import files, outputs, runners

    made, size = self._job, self._bytes
    megabytes = sum(source.size for source in self._sources) / 1e6
    # Gzip files are not cut; row groups of Parquet are only known to the workers.
    ranges = sum(
      1 if source.path.endswith('.gz') else -(-source.size // files.RANGE_BYTES)
      for source in self._sources
    )
    groups = [
      ('ranges to read', ranges),
      ('item groups', made.num_item_groups),
      ('user groups', made.num_shards),
    ]
    if made.transitions.keep:
      groups.append(('successor groups', made.transitions.num_shards))
    (name, count), *others = groups
    plan = [f'{count:,} {name} ({_shown_bytes(size / count)} of text each)']
    plan += [
      f'{count:,} {name} ({_shown_bytes(size / count)})' for name, count in others
    ]
    written = (
      f'Writing {made.num_shards} shards a split to {outputs.shown(self._output)}'
    )
    if made.export is not None:
      written += f', and plain files to {outputs.shown(made.export.directory)}'
    kept = []
    if made.kept is not None:
      base = made.kept.base
      kept = [f'Keeping the ids of {base.users:,} users and {base.items:,} items']
    return '\n'.join(
      [
        runners.describe(self._options),
        f'Reading {len(self._sources)} file(s), {megabytes:,.1f} MB: {made.schema}',
        *(f'{one.role.title()} features of {one}' for one in made.features),
        *kept,
        written,
        f'Work: {", ".join(plan)}',
      ]
    )

  def run(self, progress: bool = True) -> Prepared:
    """Runs the job, at whose end the dataset is there as a whole."""
    from beam_pipelines import beam_metrics, prepare_pipeline, staging, terminal

    staging.sweep(self._output, self._paths)
    directories = [self._staging]
    if self._job.export is not None:
      directories.append(self._job.export.staging)
    scratch = [] if self._job.scratch is None else [self._job.scratch]
    for directory in directories + scratch:
      staging.create_directory(directory)
    try:
      with terminal.pipeline(self._options, shown=progress) as root:
        prepare_pipeline.build(root, self._job)
    finally:
      for directory in directories:
        staging.discard_directory(directory)
    return Prepared(
      self._output,
      _written(self._output),
      time.monotonic() - self._begin,
      beam_metrics.describe(beam_metrics.read(root.result)),
    )


def output_path(config: PrepareConfig) -> str:
  """The output as given, or named after the input."""
  if config.output is not None:
    return config.output
  path = config.input
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


def _source(config: PrepareConfig) -> str:
  """The path, glob or folder to read; makes or downloads it where need be."""
  path = config.input
  if not path.strip():
    raise UserError('--input= is empty, expected a path. Is a shell variable unset?')
  if path == _SAMPLE:
    from beam_pipelines import sample

    spec = sample.Spec(ratings=config.sample_ratings, seed=config.seed)
    path = os.path.join(_sample_directory(config, spec), 'ratings.dat')
    if not os.path.exists(path):
      sample.write(path, spec)
    return path
  if path.startswith('movielens/') and not os.path.exists(path):
    from beam_pipelines import known_datasets

    return known_datasets.fetch(path, _cache_directory(config))
  return os.path.expanduser(path)


def _with_sample_items(config: PrepareConfig) -> PrepareConfig:
  """The configuration with a path in place of `--item_features=sample`."""
  if config.features.item_features != _SAMPLE:
    return config
  if config.input != _SAMPLE:
    raise UserError(
      f'--item_features={_SAMPLE} is of the built-in sample, and --input='
      f'{config.input} is not. Name a file of its items.'
    )
  from beam_pipelines import sample, sample_items

  spec = sample.Spec(ratings=config.sample_ratings, seed=config.seed)
  path = os.path.join(_sample_directory(config, spec), 'movies.dat')
  if not os.path.exists(path):
    sample_items.write(path, spec)
  features = dataclasses.replace(config.features, item_features=path)
  return dataclasses.replace(config, features=features)


def _sample_directory(config: PrepareConfig, spec: sample.Spec) -> str:
  return os.path.join(_cache_directory(config), f'sample-{spec.ratings}-{spec.seed}')


def _cache_directory(config: PrepareConfig) -> str:
  from beam_pipelines import outputs

  path = outputs.resolve(config.cache_dir, 'cache_dir')
  if not outputs.is_local(path):
    raise UserError(f'--cache_dir={path} is on an object store, expected a local path.')
  return path


def _written(output: str) -> Manifest:
  from beam_pipelines import outputs

  # By Beam, which was told where the store is; a reader may have to be told otherwise.
  text = outputs.read_manifest(output)
  if text is None:
    raise UserError(
      f'the job is done, and there is no dataset at {output}: its workers wrote to '
      'disks of their own, or it was removed. Name an --output that all of them see.'
    )
  return Manifest.from_json(text)


def _shown_bytes(count: float) -> str:
  return f'{count / 1e6:.1f} MB' if count >= 1e6 else f'{count / 1e3:.1f} kB'
