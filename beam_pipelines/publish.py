"""The one leaf of the job: puts the dataset together and publishes its manifest."""

import collections
import dataclasses
import hashlib
import json
from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam

from beam_pipelines import drift as drift_lib
from beam_pipelines import (
  exchange,
  forgotten,
  gate,
  kept_ids,
  split_files,
  staging,
)
from beam_pipelines.config import GrowthConfig, InspectionConfig
from beam_pipelines.forgotten import Found
from beam_pipelines.reject_limit import too_many
from beam_pipelines.stage import Stage
from ncf_tfdata import dataset
from ncf_tfdata.drift import Drift
from ncf_tfdata.errors import UserError
from ncf_tfdata.features.columns import FeatureTable
from ncf_tfdata.inspection import Inspection
from ncf_tfdata.manifest import (
  CUT_SCHEMA,
  LEAVE_LAST_OUT_SCHEMA,
  Cuts,
  File,
  Manifest,
  Source,
  UserRows,
)

# Counts of ratings that a rule left out, in the order of the rules.
LEFT_OUT = (
  'forgotten',
  'filtered_items',
  'filtered_ratings',
  'duplicates',
  'repeats',
  'filtered_users',
  'dropped_history',
  'filtered_core',
)
# Users that a manifest names, of those that it counts for having no negatives.
NAMED_USERS = 5
# Counts of rows that are kept, and in no split.
IN_NO_SPLIT = (
  'history_only',
  'untested',
  'rows_without_negatives',
  'held_out_item_rows',
)
_THINGS = ('users', 'items')
_TFDS_FEATURES = 'tensorflow_datasets.core.features'
_TEMPLATE = '{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}'


@dataclasses.dataclass(frozen=True)
class SourcePart:
  """A range of a source that was read: `name` without folder, `bytes` of the file."""

  file_index: int
  start: int
  name: str
  bytes: int
  sha256: str


@dataclasses.dataclass(frozen=True)
class Piece:
  """A part of the file `target`; pieces are put together in `order`."""

  target: str
  order: tuple[int, ...]
  name: str


@dataclasses.dataclass(frozen=True)
class Note:
  """What a step of the job reports to the leaf."""

  counts: dict[str, int] = dataclasses.field(default_factory=dict)
  sources: tuple[SourcePart, ...] = ()
  files: tuple[File, ...] = ()
  pieces: tuple[Piece, ...] = ()
  first_reject: tuple[tuple[int, int], str] | None = None
  without_negatives: tuple[tuple[int, UserRows], ...] = ()  # by dense id
  cuts: Cuts | None = None
  inspection: Inspection | None = None
  drift: Drift | None = None
  forgotten: Found | None = None
  new_users: tuple[str, ...] = ()  # keys of some of them
  features: tuple[tuple[str, FeatureTable], ...] = ()  # by item or user


@dataclasses.dataclass(frozen=True)
class Plan:
  """What the leaf must know beside the notes.

  Attributes:
    staging: Where the files are.
    output: Where the dataset is to be.
    flags: Those that decide the content.
    negatives: A row's number of them, by split.
    max_reject_fraction: Of the lines read.
    overwrite: Whether a finished dataset at the output may be replaced.
    allow_empty_splits: Whether a dataset may lack train or held-out rows.
    gate: What is asked of the log, where it is inspected.
    export: Where the split is written as plain files; None for nowhere.
    kept: Whose dense ids are kept; None for nobody's.
    growth: What is asked of how the log has changed.
    forget: Whom nothing is written of.
  """

  staging: str
  output: str
  flags: dict[str, Any]
  negatives: dict[str, int]
  max_reject_fraction: float
  overwrite: bool = False
  allow_empty_splits: bool = False
  gate: InspectionConfig = dataclasses.field(default_factory=InspectionConfig)
  export: split_files.Plan | None = None
  kept: kept_ids.Plan | None = None
  growth: GrowthConfig = dataclasses.field(default_factory=GrowthConfig)
  forget: forgotten.Plan = dataclasses.field(default_factory=forgotten.Plan)

  @property
  def is_cut(self) -> bool:
    """Whether rows are held out by time or share, and not as each user's last."""
    return 'split' in self.flags


def publish(plan: Plan, notes: list[Note]) -> Manifest:
  """Checks what came of the job, and publishes the dataset.

  Raises:
    UserError: Too many lines were not understood, no rating is left, a split is empty
      that may not be, the log is not what is asked of it, or the dataset cannot take
      its place.
  """
  counts: collections.Counter[str] = collections.Counter()
  for note in notes:
    counts.update(note.counts)
  found = [note.forgotten for note in notes if note.forgotten is not None]
  counts.update(forgotten.unmatched(plan.forget, found))
  pieces = [piece for note in notes for piece in note.pieces]
  files = [
    staging.join_pieces(
      plan.staging,
      target,
      _names_of(pieces, target),
    )
    for target in (dataset.REJECTS, dataset.USERS, dataset.ITEMS)
  ]
  _check(plan, counts, notes)
  inspection, drift = _inspection(plan, notes), _drift(plan, notes)
  files += [file for note in notes for file in note.files]
  manifest = Manifest(
    flags=plan.flags,
    sources=_sources(part for note in notes for part in note.sources),
    counts=dict(sorted(counts.items())),
    negatives=plan.negatives,
    files=tuple(sorted(files, key=lambda file: file.name)),
    without_negatives=_first_without_negatives(notes),
    cuts=next((note.cuts for note in notes if note.cuts is not None), None),
    schema_version=CUT_SCHEMA if plan.is_cut else LEAVE_LAST_OUT_SCHEMA,
    inspection=inspection,
    base=None if plan.kept is None else plan.kept.base,
    drift=drift,
    **{f'{role}_features': table for note in notes for role, table in note.features},
  )
  infos = {
    dataset.FEATURES_INFO: _features_info(manifest),
    dataset.DATASET_INFO: _dataset_info(manifest),
  }
  for name, content in infos.items():
    text = json.dumps(content, indent=2, sort_keys=True) + '\n'
    staging.write(plan.staging, name, text.encode())
  names = {file.name for file in files} | set(infos)
  if plan.export is not None:
    # Before the dataset, so that there is none whose split was asked for and is not.
    split_pieces = _names_of(pieces, split_files.INDEX)
    split_files.publish(plan.export, plan.staging, split_pieces, manifest.to_json())
  exchange.publish(plan.staging, plan.output, names, manifest.to_json(), plan.overwrite)
  return manifest


def _names_of(pieces: list[Piece], target: str) -> list[str]:
  """The names of a target's pieces, in order."""
  mine = (piece for piece in pieces if piece.target == target)
  return [piece.name for piece in sorted(mine, key=lambda piece: piece.order)]


class Publish(Stage):
  """Puts the dataset together once every note is there, and publishes it."""

  def __init__(self, plan: Plan):
    """Takes what the leaf must know beside the notes."""
    super().__init__()
    self._plan = plan

  def expand(self, notes: tuple[beam.PCollection[Note], ...]) -> beam.PCollection[None]:
    return (
      notes
      | 'Notes' >> beam.Flatten()
      | 'ToLeaf' >> beam.WithKeys(0)
      | 'Together' >> beam.GroupByKey()
      | 'Publish' >> beam.ParDo(_Publish(self._plan))
    )


class _Publish(beam.DoFn):
  def __init__(self, plan: Plan):
    self._plan = plan

  def process(self, element: tuple[int, Iterable[Note]]) -> Iterator[None]:
    publish(self._plan, list(element[1]))
    yield from ()


def _check(plan: Plan, counts: collections.Counter[str], notes: list[Note]) -> None:
  read, rejected = counts['read'], counts['rejected']
  if rejected > plan.max_reject_fraction * read:
    first = min(note.first_reject for note in notes if note.first_reject)[1]
    raise too_many(rejected, read, plan.max_reject_fraction, first, is_all=True)
  if not counts['kept']:
    raise UserError(
      f'nothing is left of {read:,} ratings. Lower --min_item_count, '
      '--min_user_count, --min_rating or --core.'
    )
  users = counts['users'] - counts['unused_users']
  items = counts['items'] - counts['unused_items']
  held_out = counts.get('items_held_out')
  if held_out is not None and held_out in (0, items):
    raise UserError(
      f'--held_out_items={plan.flags["held_out_items"]:g} holds {held_out:,} of '
      f'{items:,} items out. Pass another share.'
    )
  if counts['users_without_negatives'] == users:
    raise UserError(
      f'every user has the whole catalogue, {items:,} '
      f'item{"s" * (items > 1)}, so that there is nothing to rank it '
      'against. Lower --min_item_count, or read a log of more items.'
    )
  if not plan.allow_empty_splits:
    _refuse_empty_splits(plan, counts)
  lost = counts['read'] - sum(counts[name] for name in ('rejected', *LEFT_OUT, 'kept'))
  if lost:
    raise RuntimeError(f'{lost} ratings are unaccounted for: {dict(counts)}')
  lost = counts['kept'] - sum(counts[name] for name in (*dataset.SPLITS, *IN_NO_SPLIT))
  if lost:
    raise RuntimeError(f'{lost} rows are in no split: {dict(counts)}')


def _refuse_empty_splits(plan: Plan, counts: collections.Counter[str]) -> None:
  judged = counts[dataset.TEST] + counts['untested']
  if not judged and counts['users_too_crowded']:
    raise UserError(
      f'no user leaves {plan.negatives[dataset.TEST]} of the {counts["items"]:,} items '
      'unseen to be ranked against. Lower --eval_negatives.'
    )
  train, test = counts[dataset.TRAIN], counts[dataset.TEST]
  if 'users_held_out' in counts and not (train and test):
    raise UserError(
      f'--held_out_users={plan.flags["held_out_users"]:g} of {counts["users"]:,} users '
      f'leaves {train:,} train interactions and {test:,} test ones. Pass another share.'
    )
  empty = [s for s in dataset.SPLITS if s in plan.negatives and not counts[s]]
  if empty and plan.is_cut:
    raise UserError(
      f'--split={plan.flags["split"]} leaves no {" and no ".join(empty)} '
      f'interactions of {counts["kept"]:,}: {counts["users_too_crowded"]:,} of '
      f'{counts["users"]:,} users have too few unseen items, and the first interaction '
      'of a user is never asked for. '
      'Cut elsewhere, or pass --allow_empty_splits.'
    )
  if empty:
    raise UserError(
      f'the dataset would have no {" and no ".join(empty)} interactions: of '
      f'{counts["users"]:,} users {counts["users_too_short"]:,} have too few ratings '
      'for all splits. Give longer histories, or pass --allow_empty_splits.'
    )


def _inspection(plan: Plan, notes: list[Note]) -> Inspection | None:
  """What was measured, once it has passed the gate; None where nothing was asked."""
  if not plan.gate.asked:
    return None
  # Without a note nothing was measured, which no gate may take for a pass.
  (found,) = (note.inspection for note in notes if note.inspection is not None)
  gate.check(plan.gate, gate.questions(found))
  return found


def _drift(plan: Plan, notes: list[Note]) -> Drift | None:
  """How the log has changed, once that has passed the gate; None without a base."""
  if plan.kept is None:
    return None
  (found,) = (note.drift for note in notes if note.drift is not None)
  users = [user for note in notes for user in note.new_users]
  old = {what: found.counts[what] - found.counts[f'new_{what}'] for what in _THINGS}
  kept_ids.check_overlap(plan.kept, **old, example_user=min(users, default=''))
  gate.check(plan.growth, drift_lib.questions(found))
  return found


def _first_without_negatives(notes: list[Note]) -> tuple[UserRows, ...]:
  users = sorted(
    (user for note in notes for user in note.without_negatives),
    key=lambda user: user[0],
  )
  return tuple(user for _, user in users[:NAMED_USERS])


def _sources(parts: Iterable[SourcePart]) -> tuple[Source, ...]:
  """A file's digest is that of its ranges' digests, in order."""
  by_file = collections.defaultdict(list)
  for part in sorted(parts, key=lambda part: (part.file_index, part.start)):
    by_file[part.file_index].append(part)
  return tuple(
    Source(
      ranges[0].name,
      ranges[0].bytes,
      hashlib.sha256(''.join(part.sha256 for part in ranges).encode()).hexdigest(),
    )
    for ranges in by_file.values()
  )


def _features_info(manifest: Manifest) -> dict[str, Any]:
  """What TFDS keeps of `FeaturesDict({column: Tensor(shape=(None,), dtype=int64)})`."""
  column = {
    'pythonClassName': f'{_TFDS_FEATURES}.tensor_feature.Tensor',
    'tensor': {'dtype': 'int64', 'encoding': 'none', 'shape': {'dimensions': ['-1']}},
  }
  columns = dict.fromkeys(dataset.features(dataset.TEST, manifest.has_times), column)
  return {
    'pythonClassName': f'{_TFDS_FEATURES}.features_dict.FeaturesDict',
    'featuresDict': {'features': columns},
  }


def _dataset_info(manifest: Manifest) -> dict[str, Any]:
  """What TFDS keeps of a dataset; its shard lengths count records."""
  infos = []
  for split in dataset.SPLITS:
    shards = [file for file in manifest.files if file.split == split]
    if shards:
      infos.append(
        {
          'name': split,
          'filepathTemplate': _TEMPLATE,
          'shardLengths': [str(shard.records) for shard in shards],
          'numBytes': str(sum(shard.bytes for shard in shards)),
        }
      )
  return {
    'name': dataset.NAME,
    'version': f'{manifest.schema_version}.0.0',
    'fileFormat': 'tfrecord',
    'splits': infos,
  }
