"""What an item or a user is, as a part of its vector: a learned sum over its features.

vector = id vector + features, where the id vector is left out in training of a share of
what is looked at, so that features alone can carry an item or a user. Source: Volkovs
et al., DropoutNet: addressing cold start in recommender systems (NeurIPS 2017), section
4.1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from ncf_tfdata import dataset as dataset_lib
from ncf_tfdata.data import content, sampling
from ncf_tfdata.data.feature_codes import NUMBERS, Coder, Codes, Shape
from ncf_tfdata.features.records import Features
from ncf_tfdata.models import dropout

# Features begin near zero, so that a value that no trained item has stays near it.
_STDDEV = 0.001

# Units between numbers and the vector.
_HIDDEN = 16

# Items whose vectors are made at once, where all are.
_BLOCK = 4096

Inputs = Mapping[str, tf.Tensor]


class Values:
  """Codes of n items, or users, in a graph, where the codes of some can be looked up.

  What comes back has a fixed width: XLA compiles for one shape.
  """

  def __init__(self, codes: Codes):
    self.size = codes.size
    self._shapes = {name: (bag.width, bag.size) for name, bag in codes.bags.items()}
    self._bags = {
      name: (
        # One more, so that there is one to gather where there is none at all.
        tf.constant(np.append(bag.values, bag.size), tf.int32),
        tf.constant(bag.start, tf.int64),
      )
      for name, bag in codes.bags.items()
    }
    self._dense = {name: tf.constant(each) for name, each in codes.dense.items()}

  def variables(self) -> list[tf.Variable]:
    """What is looked up, as variables from now on: all constants of a saved graph
    together may not exceed 2 GiB.
    """
    kept = tf.nest.map_structure(_kept, (self._bags, self._dense))
    self._bags, self._dense = kept
    return tf.nest.flatten(kept)

  def of(self, item: tf.Tensor) -> Inputs:
    """The codes of items.

    Args:
      item: int [m].

    Returns:
      By name of the column, int32 [m, width], the column's size where there is no
      value; or float32 [m, d].
    """
    found = {name: tf.gather(each, item) for name, each in self._dense.items()}
    for name, (values, start) in self._bags.items():
      width, size = self._shapes[name]
      first, end = tf.gather(start, item), tf.gather(start, item + 1)
      place = first[:, None] + tf.range(width, dtype=tf.int64)
      there = place < end[:, None]
      value = tf.gather(values, tf.where(there, place, 0))
      found[name] = tf.ensure_shape(tf.where(there, value, size), [None, width])
    return found


def _kept(value: tf.Tensor | tf.Variable) -> tf.Variable:
  """A value as a variable, which it may be already."""
  if isinstance(value, tf.Variable):
    return value
  return tf.Variable(value, trainable=False, name='features')


class FeatureVectors(keras.layers.Layer):  # type: ignore[misc]
  """A vector of what is known of an item or a user: a constant, and a part a column.

  Of a bag the mean of its values' vectors, of a dense column a product with a matrix,
  of all numbers a network with one hidden layer of ReLUs.

  Attributes:
    tables: By name of a bag's column, [size + 1, width]; the last row stands for no
      value, and is never used.
  """

  def __init__(
    self, shapes: Sequence[Shape], width: int, seed: int, **kwargs: Any
  ) -> None:
    """Makes and builds the layer.

    Args:
      shapes: Of the columns.
      width: Of the vectors.
      seed: Of the initial weights.
      **kwargs: Of `keras.layers.Layer`.
    """
    super().__init__(**kwargs)
    seeds = iter(np.random.SeedSequence(seed).generate_state(len(shapes) + 1).tolist())

    def weight(
      shape: tuple[int, ...], name: str, stddev: float = _STDDEV
    ) -> keras.Variable:
      initializer: Any = 'zeros'
      if stddev:
        initializer = keras.initializers.RandomNormal(stddev=stddev, seed=next(seeds))
      # Under mixed precision a table must be cast after the gather, not before it.
      return self.add_weight(
        shape=shape,
        initializer=initializer,
        name=f'feature_{name}',
        autocast=False,
      )

    self.constant = weight((width,), 'constant', 0)
    self.tables: dict[str, keras.Variable] = {}
    self.kernels: dict[str, keras.Variable] = {}
    self.numbers: tuple[keras.Variable, ...] = ()
    for shape in shapes:
      if shape.bag:
        self.tables[shape.name] = weight((shape.size + 1, width), shape.name)
      elif shape.name != NUMBERS:
        self.kernels[shape.name] = weight((shape.size, width), shape.name)
      else:
        self.numbers = (
          weight((shape.size, _HIDDEN), 'numbers', shape.size**-0.5),
          weight((_HIDDEN,), 'numbers_bias', 0),
          weight((_HIDDEN, width), 'numbers_output'),
        )
    self.built = True

  def call(self, inputs: Inputs) -> tf.Tensor:
    """Of m items or users, as `Values.of` gives them: float32 [m, width]."""
    total = self.constant.value[None]
    for name, table in self.tables.items():
      value = inputs[name]
      real = tf.cast(value < table.shape[0] - 1, tf.float32)[..., None]
      rows = tf.reduce_sum(tf.gather(table.value, value) * real, axis=1)
      total += rows / tf.maximum(tf.reduce_sum(real, axis=1), 1.0)
    for name, kernel in self.kernels.items():
      total += inputs[name] @ kernel.value
    if self.numbers:
      first, bias, last = (weight.value for weight in self.numbers)
      total += tf.nn.relu(inputs[NUMBERS] @ first + bias) @ last
    return total


class Rows(NamedTuple):
  """The rows of some items, to be looked at: those of their ids and of what they are.

  Attributes:
    own: [m, w], of their ids; of the whole where `features` is None.
    features: [m, w].
    id_dropout: Share of what is looked at whose own row is left out.
    seed: uint64 [], of that.
  """

  own: tf.Tensor
  features: tf.Tensor | None = None
  id_dropout: float = 0.0
  seed: tf.Tensor | None = None

  def at(self, place: tf.Tensor, site: int = 0) -> tf.Tensor:
    """The rows at places, int [...] -> [..., w].

    Args:
      place: Of the items.
      site: What they are looked at for; each has draws of its own.
    """
    rows = tf.gather(self.own, place)
    if self.features is None:
      return rows
    if self.id_dropout:
      seed = sampling.bits(self.seed, site)
      kept = dropout.keep(tf.shape(place), self.id_dropout, seed)
      rows *= tf.cast(kept, rows.dtype)[..., None]
    return rows + tf.gather(self.features, place)


class Step(NamedTuple):
  """The items that a step looks at: their ids, and what they are.

  Attributes:
    item: int32 [m], dense ids; one may stand there several times.
    inputs: Of `FeatureVectors`.
  """

  item: tf.Tensor
  inputs: Inputs


def step(
  values: Values, ids: Sequence[tf.Tensor], most: int
) -> tuple[Step, list[tf.Tensor]]:
  """The items that some ids are of, and the ids as places among them.

  A catalogue may be of millions; a step gathers the features of its own items.

  Args:
    values: Of the catalogue.
    ids: int32 of any shape. What is no item, being above all ids, gets a place behind
      the last.
    most: Ids that a step may have, which is how many items it gets: XLA compiles for
      one shape. Where the catalogue has no more, places are ids.
  """
  if values.size <= most:
    item = tf.range(values.size)
    return Step(item, values.of(item)), list(ids)
  flat = tf.concat([tf.reshape(each, [-1]) for each in ids], 0)
  # In place of no item stands one that is there: the step is to touch no other's row.
  least = tf.minimum(tf.reduce_min(flat), values.size - 1)
  item, place = tf.unique(tf.where(flat < values.size, flat, least))
  item = tf.concat([item, tf.fill([most - tf.size(item)], item[0])], 0)
  place = tf.where(flat < values.size, place, most)
  parts = tf.split(place, [tf.size(each) for each in ids])
  places = [
    tf.reshape(part, tf.shape(each)) for part, each in zip(parts, ids, strict=True)
  ]
  item = tf.ensure_shape(item, [most])
  return Step(item, values.of(item)), places


class Catalogue:
  """What a model with features of items knows of a dataset's, beside its weights.

  An item without train interactions has no row of its own. In its place stands the
  mean of the rows of those that are most like it, as in all that is counted of items:
  see `content.like`.

  Attributes:
    values: What items are.
    known: float32 [num_items], 0 for an item without train interactions.
  """

  def __init__(
    self,
    dataset: dataset_lib.Dataset,
    features: Features,
    coder: Coder,
    cold_logits: float = 0.0,
  ):
    """Reads what is known of a dataset's items.

    Args:
      dataset: Whose items they are.
      features: Of them.
      coder: Of a training on the dataset.
      cold_logits: Added to the last cell of the row of an item without train
        interactions, which is its bias.
    """
    self.values = Values(coder.codes(features))
    count = dataset.vocabulary(dataset_lib.ITEMS).counts
    self.known = tf.constant(count > 0, tf.float32)
    self._cold, self._cold_logits = np.flatnonzero(count == 0), cold_logits
    self._like = content.like(features, count)[self._cold]
    self._rows: list[tf.Variable] = []
    self._stale = True

  def weights_changed(self) -> None:
    """Hears that the rows of all items must be made anew before they are read."""
    self._stale = True

  @property
  def made(self) -> list[tf.Variable]:
    """The rows of all items as they were last made, of each network.

    A variable [num_items + 1, w]; its last row is zero, and stands for no item.

    Raises:
      ValueError: They were never made.
    """
    if not self._rows:
      raise ValueError('the rows of items are not made yet: call `make` first.')
    return self._rows

  def make(self, networks: Sequence[Callable[[Step], Rows]]) -> None:
    """Makes the rows of all items, where weights have changed, in blocks.

    Args:
      networks: Each gives its rows of some items; the same ones at each call.
    """
    if not self._rows:
      for network in networks:
        width = network(self._step(np.arange(1))).own.shape[1]
        zeros = tf.zeros([self.values.size + 1, width])
        self._rows.append(tf.Variable(zeros, trainable=False, name='items'))
    if not self._stale:
      return
    for start in range(0, self.values.size, _BLOCK):
      part = self._step(np.arange(start, min(start + _BLOCK, self.values.size)))
      for rows, network in zip(self._rows, networks, strict=True):
        rows.scatter_update(tf.IndexedSlices(self._sum(part, network), part.item))
    step = max(1, _BLOCK // content.NEIGHBOURS)
    for start in range(0, len(self._cold), step):
      self._fill(slice(start, start + step), networks)
    self._stale = False

  def _step(self, item: np.ndarray) -> Step:
    return Step(tf.constant(item, tf.int32), self.values.of(tf.constant(item)))

  def _sum(self, part: Step, network: Callable[[Step], Rows]) -> tf.Tensor:
    size, known = tf.size(part.item), tf.gather(self.known, part.item)
    rows = network(part)
    return rows.own[:size] * known[:, None] + tf.convert_to_tensor(rows.features)[:size]

  def _fill(self, part: slice, networks: Sequence[Callable[[Step], Rows]]) -> None:
    """Adds to the rows of cold items what stands in place of their own."""
    cold, like = self._cold[part], self._like[part].tocoo()
    item, place = np.unique(like.col, return_inverse=True)
    shares = np.zeros((len(cold), len(item)), np.float32)
    shares[like.row, place] = like.data
    for rows, network in zip(self._rows, networks, strict=True):
      added = np.zeros((len(cold), rows.shape[1]), np.float32)
      if len(item):
        own = network(self._step(item)).own[: len(item)]
        added += shares @ np.asarray(own)
      added[:, -1] += self._cold_logits
      rows.scatter_add(tf.IndexedSlices(added, cold))


class Told(NamedTuple):
  """What is known of n users.

  Attributes:
    inputs: Of `FeatureVectors`.
    there: float32 [n], 0 for a user of whom nothing is known.
  """

  inputs: Inputs
  there: tf.Tensor

  def vectors(self, layer: FeatureVectors) -> tf.Tensor:
    """Their vectors float32 [n, width], zero where nothing is known."""
    return tf.convert_to_tensor(layer(self.inputs)) * self.there[:, None]


class Users:
  """What a model with features of users knows of a dataset's, beside its weights.

  A question is of few users, so theirs are looked up in the graph. Vectors of all would
  be a second table of users, and made anew with the weights.

  Attributes:
    told: bool [num_users], of whom anything is known.
  """

  def __init__(self, codes: Codes):
    """Takes what the users of a dataset are."""
    self.told = codes.told()
    self._values = Values(codes)
    self._there: tf.Tensor | tf.Variable = tf.constant(self.told, tf.float32)

  def variables(self) -> list[tf.Variable]:
    """As `Values.variables`."""
    self._there = _kept(self._there)
    return [*self._values.variables(), self._there]

  def of(self, user: tf.Tensor, real: tf.Tensor) -> Told:
    """What is known of users.

    Args:
      user: int [n], in [0, num_users) where they are real.
      real: bool [n]; nothing is known of others.
    """
    # In place of no user stands one who is there: a step touches no other's values.
    user = tf.where(real, user, tf.reduce_max(tf.where(real, user, 0)))
    there = tf.gather(self._there, user) * tf.cast(real, tf.float32)
    return Told(self._values.of(user), there)
