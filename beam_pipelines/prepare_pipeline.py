"""The graph of `prepare`: ratings files in, a published dataset out.

    CutFiles ─┬▶ CountItems ─▶ SelectItems ─▶ ReadRows ─▶ GatherUsers ─▶ (PeelCore)
              └▶ (the ranges once more) ─────────┘             │             │
                                                               ▼             │
    FindVanishedItems, (FindCuts) ◀─ MeasureUsers ◀──────── users ◀──────────┘
              │                                                │
              └────────────────▶ WriteShards ◀─────────────────┤
                                      │                        ▼
    Publish ◀─ WriteItems, (CountTransitions) ◀─┴─▶ (InspectUsers) ─▶ Publish

What stands in brackets is there where a flag asks for it.

Blocks of columns move, never single ratings. The input is read twice, which is
cheaper than to shuffle it once more; between the two readings only the distinct
items of each range travel. A group of users is one shard, so nothing is shuffled
to be written, but for the pairs that transitions and rules are counted in. Side
inputs are a number per group, the items that lost all rows to a later rule, and the
moments of a split by time.
"""

import apache_beam as beam

from beam_pipelines.core_stages import PeelCore
from beam_pipelines.cut_stages import FindCuts
from beam_pipelines.inspection_stages import InspectUsers
from beam_pipelines.item_stages import (
  CountItems,
  CutFiles,
  FindVanishedItems,
  SelectItems,
  WriteItems,
)
from beam_pipelines.prepare_job import Job
from beam_pipelines.publish import Note, Publish
from beam_pipelines.shard_stages import WriteShards
from beam_pipelines.transition_stages import CountTransitions
from beam_pipelines.user_stages import GatherUsers, MeasureUsers, ReadRows
from ncf_tfdata.dataset import Cuts


def build(root: beam.Pipeline, job: Job) -> None:
  """Adds the whole job to a pipeline."""
  counted = root | CutFiles(job.files) | CountItems(job)
  items = counted.tallies | SelectItems(job.min_item_count)
  rows = items.ids | ReadRows(job, items.sizes)
  gathered = rows.chunks | GatherUsers(job)
  users, notes = gathered.users, [counted.notes, rows.notes, gathered.notes]
  if job.core:
    peeled = users | PeelCore(job.core, job.core_rounds, items.sizes)
    users, notes = peeled.users, [*notes, peeled.notes]
  measured = users | MeasureUsers(job, items.sizes)
  vanished = (items.sizes, measured.seen) | FindVanishedItems()
  cuts = None
  if job.cut is not None:
    cuts = measured.times | FindCuts(job.cut)
    notes.append(cuts | 'CutsNote' >> beam.Map(_note).with_output_types(Note))
  shards = users | WriteShards(job, measured.sizes, items.sizes, vanished, cuts)
  written = (items.keys, shards.counts, measured.first_seen) | WriteItems(
    job.staging, items.sizes, vanished, cuts
  )
  notes += [measured.notes, shards.notes, written.notes]
  if job.transitions.keep:
    count = CountTransitions(job.transitions, items.sizes, vanished)
    notes.append((shards.train, written.counts) | count)
  if job.inspect:
    inspect = InspectUsers(job, items.sizes, cuts)
    notes.append((users, shards.held_out, measured.first_seen) | inspect)
  _ = tuple(notes) | Publish(job.plan)


def _note(cuts: Cuts | None) -> Note:
  return Note(cuts=cuts)
