"""The graph of `prepare`: ratings files in, a published dataset out.

    CutFiles ─┬▶ CountItems ─▶ SelectItems ─▶ ReadRows ─▶ GatherUsers ─▶ (PeelCore)
              └▶ (the ranges once more) ─────────┘             │             │
                                                               ▼             │
    FindVanishedItems, (FindCuts) ◀─ MeasureUsers ◀──────── users ◀──────────┘
              │                                                │
              └────────────────▶ WriteShards ◀─────────────────┤
                                      │                        ▼
    Publish ◀─ WriteItems, (CountTransitions) ◀─┴─▶ (InspectUsers) ─▶ Publish

What stands in brackets is there where a flag asks for it. With `--ids_from`, ReadKept
deals the keys of the earlier dataset to SelectItems and GatherUsers, WriteKeptUsers
writes their lines, and MeasureDrift compares what WriteItems and WriteShards have. With
features, NumberItems and NumberUsers tell WriteFeatures the dense ids of keys; with
`--held_out_items`, HoldItemsOut tells WriteShards which items may not train.

Blocks of columns move, never single ratings. The input is read twice, which is
cheaper than to shuffle it once more; between the two readings only the distinct
items of each range travel. A group of users is one shard, so nothing is shuffled
to be written, but for the pairs that transitions and rules are counted in. Side
inputs are a number per group, the items that lost all rows to a later rule, and the
moments of a split by time.
"""

from typing import Any, NamedTuple

import apache_beam as beam

from beam_pipelines import forgotten, kept_ids
from beam_pipelines.catalogue import GroupSize
from beam_pipelines.core_stages import PeelCore
from beam_pipelines.cut_stages import FindCuts
from beam_pipelines.feature_stages import WriteFeatures
from beam_pipelines.id_stages import HoldItemsOut, NumberItems, NumberUsers
from beam_pipelines.inspection_stages import InspectUsers
from beam_pipelines.item_stages import (
  CountItems,
  CutFiles,
  FindVanishedItems,
  SelectItems,
  WriteItems,
)
from beam_pipelines.kept_stages import (
  MeasureDrift,
  ReadKept,
  ReadKeptOutput,
  WriteKeptUsers,
)
from beam_pipelines.prepare_job import Job
from beam_pipelines.publish import Note, Publish
from beam_pipelines.shard_stages import WriteShards
from beam_pipelines.transition_stages import CountTransitions
from beam_pipelines.user_stages import GatherUsers, MeasureUsers, ReadRows
from ncf_tfdata import dataset
from ncf_tfdata.manifest import Cuts


def build(root: beam.Pipeline, job: Job) -> None:
  """Adds the whole job to a pipeline."""
  counted = root | CutFiles(job.files) | CountItems(job)
  kept = None if job.kept is None else _read_kept(root, job, job.kept)
  num_kept = 0 if job.kept is None else job.kept.base.items
  select = SelectItems(job.min_item_count, kept and kept.items.keys, num_kept)
  items = counted.tallies | select
  item_sizes = _after(kept and kept.item_sizes, items.sizes, 'ItemSizes')
  rows = (items.ids, counted.parsed) | ReadRows(job, item_sizes)
  gathered = rows.chunks | GatherUsers(job, kept and kept.users.keys)
  users, notes = gathered.users, [counted.notes, rows.notes, gathered.notes]
  if job.core:
    peeled = users | PeelCore(job, item_sizes)
    users, notes = peeled.users, [*notes, peeled.notes]
  measured = users | MeasureUsers(job, item_sizes)
  user_sizes = _after(kept and kept.user_sizes, measured.sizes, 'UserSizes')
  vanished = (item_sizes, measured.seen) | FindVanishedItems()
  cuts = None
  if job.cut is not None:
    cuts = measured.times | FindCuts(job.cut)
    notes.append(cuts | 'CutsNote' >> beam.Map(_note).with_output_types(Note))
  all_items = items.keys
  if job.features or job.recipe.held_out_items:
    all_items = _after(kept and kept.items.keys, items.keys, 'AllItems')
  held_out = None
  if job.recipe.held_out_items:
    drawn = all_items | HoldItemsOut(job.recipe, item_sizes, vanished)
    held_out, notes = drawn.ids, [*notes, drawn.notes]
  write = WriteShards(job, user_sizes, item_sizes, vanished, cuts, held_out)
  shards = users | write
  keys = _after(kept and kept.items.lines, items.keys, 'ItemKeys')
  written = (keys, shards.counts, measured.first_seen) | WriteItems(
    job.staging, item_sizes, vanished, cuts, keep_ids=kept is not None
  )
  notes += [measured.notes, shards.notes, written.notes]
  if kept is not None and job.kept is not None:
    notes.append((kept.users.lines, shards.kept_users) | WriteKeptUsers(job))
    notes.append((shards.changes, written.changes) | MeasureDrift(job.kept.base))
    notes += [kept.users.notes, kept.items.notes]
  if job.transitions.keep:
    count = CountTransitions(job.transitions, item_sizes, vanished)
    notes.append((shards.train, written.counts) | count)
  for made in job.features:
    if made.role == dataset.ITEM:
      numbered = all_items | NumberItems(item_sizes, vanished)
    else:
      numbered = users | NumberUsers(user_sizes)
    label = f'Write{made.role.title()}Features'
    notes.append(numbered | label >> WriteFeatures(job, made))
  if job.inspect:
    inspect = InspectUsers(job, item_sizes, cuts)
    notes.append((users, shards.held_out, measured.first_seen) | inspect)
  _ = tuple(notes) | Publish(job.plan)


class _Kept(NamedTuple):
  """What is known of the ids that are kept, and how many each part has."""

  users: ReadKeptOutput
  items: ReadKeptOutput
  user_sizes: beam.PCollection[GroupSize]
  item_sizes: beam.PCollection[GroupSize]


def _read_kept(root: beam.Pipeline, job: Job, plan: kept_ids.Plan) -> _Kept:
  users = ReadKept(plan.users, forgotten.USERS, job.num_shards, job.forget)
  items = ReadKept(plan.items, forgotten.ITEMS, job.num_item_groups, job.forget)
  sizes = (kept_ids.sizes(parts) for parts in (plan.users, plan.items))
  user_sizes, item_sizes = (
    root | f'Kept{name}Sizes' >> beam.Create(found, reshuffle=False)
    for name, found in zip(('User', 'Item'), sizes, strict=True)
  )
  return _Kept(
    root | 'ReadKeptUsers' >> users,
    root | 'ReadKeptItems' >> items,
    user_sizes,
    item_sizes,
  )


def _after(
  kept: beam.PCollection[Any] | None, new: beam.PCollection[Any], label: str
) -> beam.PCollection[Any]:
  """What is of ids that are kept, where any are, and what is of new ones."""
  return new if kept is None else (kept, new) | label >> beam.Flatten()


def _note(cuts: Cuts | None) -> Note:
  return Note(cuts=cuts)
