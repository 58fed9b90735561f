"""The stage that splits users, and writes a shard of each split."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import apache_beam as beam
import numpy as np
import pyarrow as pa
from apache_beam.pvalue import AsList, AsSingleton, TaggedOutput
from apache_beam.typehints import with_output_types

from beam_pipelines import (
  beam_metrics,
  catalogue,
  drift,
  inspection,
  progress,
  publish,
  shards,
  split_files,
  staging,
  tsv,
)
from beam_pipelines.catalogue import Catalogue, GroupSize, ItemCounts, Numbering
from beam_pipelines.drift import Changes
from beam_pipelines.histories import Users
from beam_pipelines.inspection import HeldOut
from beam_pipelines.kept_ids import UserCounts
from beam_pipelines.narrow import narrow
from beam_pipelines.prepare_job import Job
from beam_pipelines.publish import Note, Piece
from beam_pipelines.spill import Stored, StoringDoFn
from beam_pipelines.stage import Stage
from beam_pipelines.transitions import TrainRows
from ncf_tfdata import dataset
from ncf_tfdata.manifest import Cuts, File, UserRows


class WrittenShards(NamedTuple):
  """What `WriteShards` makes.

  Attributes:
    counts: (item group, `ItemCounts` of it).
    train: (user group, its train rows), where transitions are counted.
    held_out: The held-out rows of every user group, where the log is inspected.
    kept_users: (part of the kept users, counts of some of them), and
    changes: of every user group; both where ids are kept.
    notes: Of every user group.
  """

  counts: beam.PCollection[tuple[int, Stored]]
  train: beam.PCollection[tuple[int, Stored]]
  held_out: beam.PCollection[HeldOut]
  kept_users: beam.PCollection[tuple[int, UserCounts]]
  changes: beam.PCollection[Changes]
  notes: beam.PCollection[Note]


class WriteShards(Stage):
  """Splits each group of users, draws negatives, and writes a shard of each split."""

  def __init__(
    self,
    job: Job,
    user_sizes: beam.PCollection[GroupSize],
    item_sizes: beam.PCollection[GroupSize],
    vanished: beam.PCollection[np.ndarray],
    cuts: beam.PCollection[Cuts | None] | None = None,
    held_out: beam.PCollection[np.ndarray] | None = None,
  ):
    """Takes the job, both numberings, the items' gaps, and what is held out.

    Args:
      job: Of all.
      user_sizes: Users of each group.
      item_sizes: Items of each group.
      vanished: Provisional ids of items without rows.
      cuts: Where the log is cut and its times begin; None where none are written.
      held_out: Provisional ids of items that no training may see, if there are any.
    """
    super().__init__()
    self._job = job
    moments = None if cuts is None else AsSingleton(cuts)
    items = () if held_out is None else (AsList(held_out),)
    self._sides = (
      AsList(user_sizes),
      AsList(item_sizes),
      AsList(vanished),
      moments,
      *items,
    )

  def expand(self, users: beam.PCollection[tuple[int, Stored]]) -> WrittenShards:
    write = beam.ParDo(_WriteShards(self._job), *self._sides)
    written = users | 'Write' >> write.with_outputs(
      'train', 'held_out', 'kept_users', 'changes', 'notes', main='counts'
    )
    return WrittenShards(
      written.counts,
      written.train,
      written.held_out,
      written.kept_users,
      written.changes,
      written.notes,
    )


@with_output_types(
  tuple[int, Stored],
  train=tuple[int, Stored],
  held_out=HeldOut,
  kept_users=tuple[int, UserCounts],
  changes=Changes,
  notes=Note,
)
class _WriteShards(StoringDoFn):
  def __init__(self, job: Job):
    super().__init__(job.scratch)
    self._job = job

  def process(
    self,
    element: tuple[int, Stored],
    user_sizes: list[GroupSize],
    item_sizes: list[GroupSize],
    vanished: list[np.ndarray],
    cuts: Cuts | None = None,
    held_out: list[np.ndarray] | None = None,
  ) -> Iterator[Any]:
    number, users = element[0], element[1].get()
    items = Catalogue(Numbering(item_sizes), vanished)
    place, item = items.place(users.item), items.final(users.item)
    user_numbering = Numbering(user_sizes)
    first_user = user_numbering.start(number)
    # Negatives are drawn among the items that have rows.
    no_training = None
    if held_out is not None:
      no_training = np.zeros(items.size, bool)
      no_training[items.place(np.concatenate([np.zeros(0, int), *held_out]))] = True
    shard = shards.make(
      users, first_user, place, items.size, self._job.recipe, cuts, no_training
    )
    shard = shard.with_items(items.at)
    yield TaggedOutput('notes', self._write(number, users, first_user, shard))
    if self._job.kept is not None:
      yield TaggedOutput('changes', drift.of_users(users))
      old, user_id = np.flatnonzero(~users.new()), users.dense_ids(first_user)
      columns = user_id[old], shard.train_count[old], users.length[old]
      for part, mine in user_numbering.deal(user_id[old]):
        yield TaggedOutput('kept_users', (part, tuple(one[mine] for one in columns)))
    if self._job.export is not None:
      split_piece = f'split-{number:06d}.arrow'
      content = split_files.piece(users, item, shard.split, self._job.export)
      staging.write_piece(self._job.staging, split_piece, content)
      pieces = (Piece(split_files.INDEX, (number,), split_piece),)
      yield TaggedOutput('notes', Note(pieces=pieces))
    train_rows = shard.split.train_rows
    for group, counts in self._item_counts(users.item, train_rows, items.numbering):
      yield group, self.store.put(counts)
    if self._job.transitions.keep:
      user = np.repeat(np.arange(len(users.length)), shard.train_count)
      rows = self.store.put(TrainRows(user, item[train_rows]))
      yield TaggedOutput('train', (number, rows))
    if self._job.inspect:
      asked_for = inspection.held_out(users, train_rows, shard.split.targets)
      yield TaggedOutput('held_out', asked_for)

  def _item_counts(
    self, item: np.ndarray, train_rows: np.ndarray, numbering: Numbering
  ) -> Iterator[tuple[int, ItemCounts]]:
    """Counts items int [rows], of which bool [rows] train, by group."""
    if self._job.kept is None:
      ids, train = catalogue.occurring(item[train_rows], numbering.size)
      for group, mine in numbering.deal(ids):
        yield group, (narrow(ids[mine]), narrow(train[mine]), None)
      return
    ids, place, count = np.unique(item, return_inverse=True, return_counts=True)
    train = np.bincount(place[train_rows], minlength=len(ids))
    for group, mine in numbering.deal(ids):
      yield group, (narrow(ids[mine]), narrow(train[mine]), narrow(count[mine]))

  def _write(
    self, number: int, users: Users, first_user: int, shard: shards.Shard
  ) -> Note:
    """Writes the group's shards, and its piece of the vocabulary of users."""
    written = tuple(
      self._write_shard(split, number, rows) for split, rows in shard.rows.items()
    )
    piece = staging.piece_name('users', number)
    new = users.new()
    columns = [shard.train_count[new]]
    if self._job.kept is not None:
      columns.append(users.length[new])
    names = users.keys.filter(pa.array(new))
    content = tsv.lines(tsv.escaped(names), *map(tsv.numbers, columns))
    staging.write_piece(self._job.staging, piece, content)
    counts = dict(shard.split.counts)
    counts.update({split: len(rows) for split, rows in shard.rows.items()})
    beam_metrics.count(**counts, **{beam_metrics.NEGATIVES_REDRAWN: shard.redrawn})
    progress.advance('writing', len(users.item))
    crowded = shard.split.users_without_negatives
    return Note(
      counts=counts,
      new_users=tuple(names[:1].to_pylist()),
      files=written,
      pieces=(Piece(dataset.USERS, (number,), piece),),
      without_negatives=_first_few(users, first_user, crowded),
    )

  def _write_shard(self, split: str, number: int, rows: shards.Rows) -> File:
    content, records = shards.encode(rows)
    name = dataset.shard_name(split, number, self._job.num_shards)
    sha256 = staging.write(self._job.staging, name, content)
    return File(name, len(content), sha256, split, len(rows), records)


def _first_few(
  users: Users, first_user: int, chosen: np.ndarray
) -> tuple[tuple[int, UserRows], ...]:
  """The first few of the users under a mask: dense id, key, and number of rows."""
  found, user_id = np.flatnonzero(chosen), users.dense_ids(first_user)
  found = found[np.argsort(user_id[found], kind='stable')]
  return tuple(
    (
      int(user_id[user]),
      UserRows(users.keys[user].as_py(), int(users.length[user])),
    )
    for user in found[: publish.NAMED_USERS].tolist()
  )
