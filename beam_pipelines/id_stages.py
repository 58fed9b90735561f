"""Stages that know the dense id of each key; see catalogue.py for the numbering."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import apache_beam as beam
import numpy as np
import pyarrow as pa
from apache_beam.pvalue import AsList, TaggedOutput
from apache_beam.typehints import with_output_types

from beam_pipelines import splits
from beam_pipelines.catalogue import Catalogue, GroupSize, Numbering
from beam_pipelines.features import KeyIds
from beam_pipelines.kept_ids import KeptKeys
from beam_pipelines.publish import Note
from beam_pipelines.spill import Stored
from beam_pipelines.stage import Stage


class Numbered(NamedTuple):
  """Who has which dense id.

  Attributes:
    ids: (group, those of its keys that have rows).
    size: Number of dense ids; one element.
  """

  ids: beam.PCollection[tuple[int, KeyIds]]
  size: beam.PCollection[int]


class NumberItems(Stage):
  """Gives items their dense ids: takes (item group, keys, new or kept)."""

  def __init__(
    self,
    item_sizes: beam.PCollection[GroupSize],
    vanished: beam.PCollection[np.ndarray],
  ):
    """Takes the items' numbering, and its gaps."""
    super().__init__()
    self._sides = AsList(item_sizes), AsList(vanished)

  def expand(self, keys: beam.PCollection[tuple[int, pa.Array | KeptKeys]]) -> Numbered:
    one = keys.pipeline | 'One' >> beam.Create([None], reshuffle=False)
    return Numbered(
      keys | 'Number' >> beam.Map(_numbered_items, *self._sides),
      one | 'Size' >> beam.Map(_num_items, *self._sides),
    )


def _numbered_items(
  element: tuple[int, pa.Array | KeptKeys],
  item_sizes: list[GroupSize],
  vanished: list[np.ndarray],
) -> tuple[int, KeyIds]:
  items = Catalogue(Numbering(item_sizes), vanished)
  names, provisional = _used_items(element, items)
  return element[0], KeyIds(names, items.final(provisional))


def _num_items(_: None, item_sizes: list[GroupSize], vanished: list[np.ndarray]) -> int:
  return Catalogue(Numbering(item_sizes), vanished).num_ids


class NumberUsers(Stage):
  """Gives users their dense ids."""

  def __init__(self, user_sizes: beam.PCollection[GroupSize]):
    """Takes the users' numbering."""
    super().__init__()
    self._sizes = AsList(user_sizes)

  def expand(self, users: beam.PCollection[tuple[int, Stored]]) -> Numbered:
    one = users.pipeline | 'One' >> beam.Create([None], reshuffle=False)
    return Numbered(
      users | 'Number' >> beam.Map(_numbered_users, self._sizes),
      one | 'Size' >> beam.Map(_num_users, self._sizes),
    )


def _numbered_users(
  element: tuple[int, Stored], user_sizes: list[GroupSize]
) -> tuple[int, KeyIds]:
  group, users = element[0], element[1].get()
  first = Numbering(user_sizes).start(group)
  return group, KeyIds(users.keys, users.dense_ids(first))


def _num_users(_: None, user_sizes: list[GroupSize]) -> int:
  return Numbering(user_sizes).size


class HeldOut(NamedTuple):
  """What `HoldItemsOut` makes.

  Attributes:
    ids: Provisional ids of items that no training may see, group by group.
    notes: How many there are.
  """

  ids: beam.PCollection[np.ndarray]
  notes: beam.PCollection[Note]


class HoldItemsOut(Stage):
  """Draws the items that no training may see: takes (item group, keys, new or kept)."""

  def __init__(
    self,
    recipe: splits.Recipe,
    item_sizes: beam.PCollection[GroupSize],
    vanished: beam.PCollection[np.ndarray],
  ):
    """Takes which share to draw, the items' numbering, and its gaps."""
    super().__init__()
    self._recipe, self._sides = recipe, (AsList(item_sizes), AsList(vanished))

  def expand(self, keys: beam.PCollection[tuple[int, pa.Array | KeptKeys]]) -> HeldOut:
    draw = beam.ParDo(_HoldItemsOut(self._recipe), *self._sides)
    drawn = keys | 'Draw' >> draw.with_outputs('notes', main='ids')
    return HeldOut(drawn.ids, drawn.notes)


@with_output_types(np.ndarray, notes=Note)
class _HoldItemsOut(beam.DoFn):
  def __init__(self, recipe: splits.Recipe):
    self._share, self._seed = recipe.held_out_items, recipe.seed

  def process(
    self,
    element: tuple[int, pa.Array | KeptKeys],
    item_sizes: list[GroupSize],
    vanished: list[np.ndarray],
  ) -> Iterator[Any]:
    items = Catalogue(Numbering(item_sizes), vanished)
    names, provisional = _used_items(element, items)
    drawn = splits.items_held_out(names, self._share, self._seed)
    yield TaggedOutput('notes', Note(counts={'items_held_out': int(drawn.sum())}))
    yield provisional[drawn]


def _used_items(
  element: tuple[int, pa.Array | KeptKeys], items: Catalogue
) -> tuple[pa.Array, np.ndarray]:
  """Keys that have rows of the log, and the provisional id of each: int64."""
  group, keys = element
  if isinstance(keys, KeptKeys):
    keys, provisional = keys.keys, keys.ids
  else:
    provisional = items.numbering.start(group) + np.arange(len(keys))
  used = items.used(provisional)
  return keys.filter(pa.array(used)), provisional[used]
