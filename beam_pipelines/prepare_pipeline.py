"""The graph of `prepare`: ratings files in, a published dataset out.

    CutFiles ─┬▶ CountItems ─▶ SelectItems ─▶ ReadRows ─▶ GatherUsers ─▶ WriteShards
              └▶ (the ranges once more) ─────────┘             │             │
    Publish ◀─ WriteItems, CountTransitions ◀─ FindVanishedItems ◀───────────┘

Blocks of columns move, never single ratings. The input is read twice, which is
cheaper than to shuffle it once more; between the two readings only the distinct
items of each range travel. A group of users is one shard, so nothing is shuffled
to be written, but for the pairs that transitions are counted in. Side inputs are a
number per group, and the items that lost all rows to a later rule.
"""

import apache_beam as beam

from beam_pipelines.item_stages import (
  CountItems,
  CutFiles,
  FindVanishedItems,
  SelectItems,
  WriteItems,
)
from beam_pipelines.prepare_job import Job
from beam_pipelines.publish import Publish
from beam_pipelines.transition_stages import CountTransitions
from beam_pipelines.user_stages import GatherUsers, ReadRows, WriteShards


def build(root: beam.Pipeline, job: Job) -> None:
  """Adds the whole job to a pipeline."""
  counted = root | CutFiles(job.files) | CountItems(job)
  items = counted.tallies | SelectItems(job.min_item_count)
  rows = items.ids | ReadRows(job, items.sizes)
  users = rows.chunks | GatherUsers(job, items.sizes)
  vanished = (items.sizes, users.seen) | FindVanishedItems()
  shards = users.users | WriteShards(job, users.sizes, items.sizes, vanished)
  written = (items.keys, shards.counts) | WriteItems(job.staging, items.sizes, vanished)
  notes = [counted.notes, rows.notes, users.notes, shards.notes, written.notes]
  if job.transitions.keep:
    count = CountTransitions(job.transitions, items.sizes, vanished)
    notes.append((shards.train, written.counts) | count)
  _ = tuple(notes) | Publish(job.plan)
