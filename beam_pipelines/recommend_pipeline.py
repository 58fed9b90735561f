"""The graph of `recommend`: people in, answers of an exported model out, in shards.

    files → ranges → lines by user group → batches → RunInference → shards → publish

A group of users is a shard, as in a dataset. Its users stand in one order and are cut
into batches by a rule that depends on them alone, so that every runner gives the model
the same batches, and gets the same floats. `exported_model` is what they are given to.
"""

import dataclasses
import functools
import itertools
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from apache_beam.io.filesystems import FileSystems
from apache_beam.metrics import Metrics
from apache_beam.ml.inference import base

from beam_pipelines import files, keys, outputs, progress, range_reader, staging
from beam_pipelines.exported_model import (
  NAMESPACE,
  ListOptions,
  People,
  SavedModelHandler,
)
from ncf_tfdata import vocabulary
from ncf_tfdata.errors import UserError
from ncf_tfdata.serving import list_files, recommendation_files

USERS = 'users'

# Of people in a batch, and of cells of their later items, padded to the longest:
# 2 ** 18 strings of 24 bytes are 6 MiB in TensorFlow.
_BATCH_USERS = 4096
_BATCH_CELLS = 1 << 18


@dataclasses.dataclass(frozen=True)
class Output:
  """Where answers go: FOLDER/STEM-00000-of-00008SUFFIX.

  Attributes:
    folder: Directory, local or of an object store.
    stem: What each name begins with.
    suffix: One of `list_files.FORMATS`.
    num_shards: How many files.
    staging: Directory where files are written until all are there.
    overwrite: Whether files of an earlier job are replaced.
  """

  folder: str
  stem: str
  suffix: str
  num_shards: int
  staging: str
  overwrite: bool = False

  def name(self, shard: int) -> str:
    return f'{self.stem}-{shard:05d}-of-{self.num_shards:05d}{self.suffix}'

  def existing(self) -> list[str]:
    """Lists the files of an earlier job, whatever their number.

    Raises:
      UserError: One of those names is that of a folder or a link, which none of our
        jobs has made; or the folder cannot be listed.
    """
    shape = re.compile(
      rf'{re.escape(self.stem)}-\d{{5}}-of-\d{{5}}{re.escape(self.suffix)}'
    )
    found = outputs.entries(self.folder)
    names = sorted(filter(shape.fullmatch, found))
    for name in names:
      if not found[name]:
        raise UserError(
          f'{FileSystems.join(self.folder, name)} is a folder or a link, which is '
          'never replaced. Name another --output.'
        )
    return names

  def refuse(self, existing: Collection[str]) -> None:
    """Makes sure that files may be replaced, if there are any.

    Raises:
      UserError: They may not.
    """
    if existing and not self.overwrite:
      raise UserError(
        f'{self.folder} holds {min(existing)}. Name another --output, or replace it '
        'with --overwrite.'
      )


@dataclasses.dataclass(frozen=True)
class Job:
  """Everything that decides what the job does; small, and sent to every worker.

  Attributes:
    saved_model: Directory that `ncf_tfdata.export` wrote.
    files: Who is asked for.
    mark: Delimiter of their lines; None where a line is an id.
    vocabulary: Whether they are a dataset's users.tsv, which has escapes.
    events: Whether each line has an item as well, taken since the dataset.
    lists: What each list is to be.
    item_names: Path of a file of names, or None.
    output: Where answers go.
  """

  saved_model: str
  files: tuple[files.File, ...]
  mark: bytes | None
  vocabulary: bool
  events: bool
  lists: ListOptions
  item_names: str | None
  output: Output


def build(root: beam.Pipeline, job: Job) -> None:
  """Adds the whole job to a pipeline."""
  lines = (
    root
    | 'Files' >> beam.Create(job.files)
    | 'Ranges' >> beam.FlatMap(_ranges)
    | 'Spread' >> beam.Reshuffle()
    | 'Read' >> beam.ParDo(_Read(job))
  )
  answered = (
    lines
    | 'ByUserGroup' >> beam.GroupByKey()
    | 'Batch' >> beam.ParDo(_Batch(job))
    | 'SpreadBatches' >> beam.Reshuffle()
    | 'RunInference' >> base.RunInference(SavedModelHandler(job.saved_model, job.lists))
  )
  # Every shard is there, also one that no user falls to.
  every_shard = root | 'Shards' >> beam.Create(
    [(shard, None) for shard in range(job.output.num_shards)]
  )
  _ = (
    (answered, every_shard)
    | 'AllShards' >> beam.Flatten()
    | 'ByShard' >> beam.GroupByKey()
    | 'WriteShards' >> beam.ParDo(_WriteShard(job))
    | 'ToLeaf' >> beam.WithKeys(0)
    | 'Together' >> beam.GroupByKey()
    | 'Publish' >> beam.ParDo(_publish, job.output)
  )


def _ranges(file: files.File) -> Iterator[files.RangeKey]:
  return files.ranges(files.File(*file))


class _Read(beam.DoFn):
  """Range → (shard, (place in the input, users, items or None))."""

  def __init__(self, job: Job):
    self._job = job

  def process(self, key: files.RangeKey) -> Iterator[Any]:
    reader = range_reader.RangeReader(key)
    path = reader.range.path
    for offset, content, *_ in reader.lines():
      columns = recommendation_files.parse_columns(
        content, self._job.mark, path, 1 + self._job.events
      )
      if self._job.vocabulary:
        columns = [
          pa.array(map(vocabulary.unescape_key, column.to_pylist()), pa.string())
          for column in columns
        ]
        # An empty key is of whom was forgotten.
        named = pc.not_equal(columns[0], '')
        columns = [column.filter(named) for column in columns]
      shard = keys.groups(columns[0], self._job.output.num_shards)
      order = np.argsort(shard, kind='stable')
      bounds = np.flatnonzero(np.diff(shard[order], prepend=-1, append=-1))
      for start, end in itertools.pairwise(bounds):
        taken = [column.take(order[start:end]) for column in columns]
        items = taken[1] if self._job.events else None
        place = reader.range.file_index, offset
        yield int(shard[order[start]]), (place, taken[0], items)


class _Batch(beam.DoFn):
  """(shard, lines) → `People`, each user once, in natural order."""

  def __init__(self, job: Job):
    self._job = job

  def process(self, element: tuple[int, Iterable[Any]]) -> Iterator[Any]:
    shard, parts = element
    _, users, items = zip(*sorted(parts, key=lambda part: part[0]), strict=True)
    coded = pa.concat_arrays(users).dictionary_encode()
    user = coded.dictionary.take(keys.natural_order(coded.dictionary)).to_pylist()
    later: list[tuple[str, ...]] | None = None
    if self._job.events:
      code = coded.indices.to_numpy()
      item = pa.concat_arrays(items).take(np.argsort(code, kind='stable')).to_pylist()
      end = np.cumsum(np.bincount(code, minlength=len(user)))
      of_code = [tuple(item[a:b]) for a, b in zip([0, *end[:-1]], end, strict=True)]
      later = [of_code[c] for c in keys.natural_order(coded.dictionary)]
    for number, part in enumerate(_cuts(len(user), later)):
      taken = None if later is None else tuple(later[part])
      yield People(shard, number, tuple(user[part]), taken)


def _cuts(count: int, later: Sequence[Sequence[str]] | None) -> Iterator[slice]:
  """Slices of at most `_BATCH_USERS` people and, padded, `_BATCH_CELLS` items."""
  start, widest = 0, 0
  for place in range(count):
    width = max(widest, len(later[place])) if later else 0
    people = place + 1 - start
    if people > 1 and (people > _BATCH_USERS or people * width > _BATCH_CELLS):
      yield slice(start, place)
      start, width = place, len(later[place]) if later else 0
    widest = width
  if count:
    yield slice(start, count)


class _WriteShard(beam.DoFn):
  """(shard, answers) → the file's name."""

  def __init__(self, job: Job):
    self._job = job

  def process(self, element: tuple[int, Iterable[Any]]) -> Iterator[Any]:
    shard, answered = element
    batches = sorted(filter(None, answered), key=lambda batch: batch[0])
    output, path = self._job.output, self._job.item_names
    names = read_names(path) if path else None
    parts = [lists if names is None else lists.named(names) for _, lists in batches]
    types = recommendation_files.types(names is not None, self._job.lists.explain)
    content = list_files.encode(output.suffix, types, parts)
    staging.write(output.staging, output.name(shard), content)
    users = sum(len(lists.user) for lists in parts)
    Metrics.counter(NAMESPACE, USERS).inc(users)
    progress.advance('answering', users)
    yield output.name(shard)


@functools.lru_cache(maxsize=1)
def read_names(path: str) -> dict[str, str]:
  """Names by item, read once a process, by Beam as all that a job reads.

  Raises:
    UserError: There is no such file, or a line is not like the first one.
  """
  try:
    with files.open_raw(path) as stream:
      content = stream.read()
  except UserError:
    raise
  except Exception as error:  # each store has its own
    raise UserError(f'cannot read {path}: {error}.') from error
  return dict(zip(*recommendation_files.first_columns(content, path), strict=True))


def _publish(keyed: tuple[int, Iterable[str]], output: Output) -> None:
  """Moves whole shards to their place, and then removes those of an earlier job.

  Raises:
    UserError: Another job has written there since this one began.
  """
  names = set(keyed[1])
  # A retry finds some in place already.
  waiting, found = names & outputs.names(output.staging), set(output.existing())
  output.refuse((found & waiting) | (found - names))
  if not outputs.is_local(output.folder):
    outputs.delete(output.folder, found & waiting)  # Else a rename replaces it.
  staging.move(output.staging, output.folder, waiting)
  outputs.delete(output.folder, found - names)
