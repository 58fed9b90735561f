"""What each random draw is for: every stream of random numbers, in one table.

A draw is a hash of coordinates: the seed, then a stream of these, then who and which.
Two kinds of draw on one stream would be the same numbers, so a number that is given
twice is an error at import. A number is never changed, nor used again: it decides the
bytes of a dataset, or the weights of a run.

`beam_pipelines.counter_rng` draws for `Prepare` and `Sample`, in numpy, and
`ncf_tfdata.data.sampling` for `Train`, in the graph. The two mix coordinates in ways of
their own, and agree as long as all of them are 0: so `Prepare` has no 0.

This module imports neither TensorFlow nor Beam.
"""

import enum


@enum.unique
class Prepare(enum.IntEnum):
  """Draws of `beam_pipelines`; the coordinate after the seed."""

  TRAIN_NEGATIVES = 1
  VALIDATION_NEGATIVES = 2
  TIE_ORDER = 3
  TEST_NEGATIVES = 4
  HELD_OUT_USERS = 5
  VALIDATION_TARGETS = 6
  TEST_TARGETS = 7
  INSPECTION_ORDER = 8
  HELD_OUT_ITEMS = 9
  SAMPLE = 0x5A3B1E  # the built-in log; a number of `Sample` comes after it


@enum.unique
class Sample(enum.IntEnum):
  """Draws of the built-in log; the coordinate after `Prepare.SAMPLE`."""

  ACTIVITY = 0
  USER = 1
  STEP = 2
  SUCCESSOR = 3
  QUALITY = 4
  RATING = 5
  TIME = 6
  REST = 7
  JOIN = 8
  SECOND_GENRE = 9


@enum.unique
class Train(enum.IntEnum):
  """Draws of `ncf_tfdata` while it trains; the coordinate after the seed."""

  BLOCKS = 0
  ROWS = 1
  NEGATIVES = 2
  SHARED_NEGATIVES = 3
  DROPOUT = 4
  WINDOW_OFFSET = 5
  WINDOWS = 6
  DROPPED_TARGETS = 7
  USER_DROPOUT = 8
  ITEM_ID_DROPOUT = 9
  GAP_DROPOUT = 10
