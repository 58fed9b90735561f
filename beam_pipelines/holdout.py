"""Where a user's rows are cut into train, validation and test, and what is asked.

A cut gives each row a zone. Zones never go down along a user's rows, which are in time
order. A zone's targets are the rows that a model has to find, each from all the user's
rows before it, whatever their zone.

- leave-last-out: the last row tests, the one before it validates.
- time: rows after T test, those after the T of validation and up to T validate
  (Ji et al., "A critical study on data leakage in recommender system offline
  evaluation", TOIS 2023; Gusak et al., "Time to Split", RecSys 2025).
- ratio: the last share of each user's rows tests, the same share of the rest validates.
"""

import fractions

import numpy as np

from beam_pipelines import counter_rng, keys
from beam_pipelines.histories import Users
from ncf_tfdata.dataset import FIRST, LAST, SUCCESSIVE, TEST, VALIDATION
from ncf_tfdata.manifest import Cuts
from ncf_tfdata.rng_streams import Prepare

# What a row is for.
TRAIN_ZONE, VALIDATION_ZONE, TEST_ZONE = 0, 1, 2
ZONES = {VALIDATION: VALIDATION_ZONE, TEST: TEST_ZONE}

_STREAMS = {
  VALIDATION: Prepare.VALIDATION_TARGETS,
  TEST: Prepare.TEST_TARGETS,
}


def zones_by_time(users: Users, cuts: Cuts, holdout: int) -> np.ndarray:
  """The zone of each row, int8 [rows], by its time.

  Raises:
    ValueError: The users' rows have no times, or the log was not cut.
  """
  if not len(users.item):
    return np.zeros(0, np.int8)
  if users.time is None:
    raise ValueError('`users.time` must hold the times of rows. Received: None.')
  if cuts.test is None or (holdout == 2 and cuts.validation is None):
    raise ValueError(f'`cuts` must hold the moments to cut at. Received: {cuts}.')
  time, epoch = users.time, users.epoch
  zone = np.full(len(time), TRAIN_ZONE, np.int8)
  if holdout == 2 and cuts.validation is not None:
    zone[later(time, cuts.validation - epoch)] = VALIDATION_ZONE
  zone[later(time, cuts.test - epoch)] = TEST_ZONE
  return zone


def later(time: np.ndarray, moment: int) -> np.ndarray:
  """Which of some unsigned times are later than a moment: bool, of their shape."""
  # A whole number of Python may be beyond what the times' type can hold.
  if moment < 0:
    return np.ones(len(time), bool)
  if moment > np.iinfo(time.dtype).max:
    return np.zeros(len(time), bool)
  return time > moment


def zones_by_share(users: Users, share: float, holdout: int) -> np.ndarray:
  """The zone of each row, int8 [rows]: a user's last share of rows is held out.

  Of n rows floor(share n) test; of the m before them floor(share m) validate. The share
  is meant as its decimal digits say.
  """
  exact = fractions.Fraction(str(share))

  def floor(count: np.ndarray) -> np.ndarray:
    # As whole numbers of Python: those of a third are beyond int64.
    whole = count.astype(object) * exact.numerator // exact.denominator
    return whole.astype(np.int64)

  test = floor(users.length)
  validation = floor(users.length - test) if holdout == 2 else np.zeros_like(test)
  owner, row = users.owner(), np.arange(len(users.item))
  ends = users.starts() + users.length
  zone = np.full(len(row), TRAIN_ZONE, np.int8)
  zone[row >= (ends - test - validation)[owner]] = VALIDATION_ZONE
  zone[row >= (ends - test)[owner]] = TEST_ZONE
  return zone


def targets(
  users: Users,
  owner: np.ndarray,
  zone: np.ndarray,
  split: str,
  which: str,
  seed: int,
) -> np.ndarray:
  """The rows of a zone that a model has to find: int64, ascending.

  A user's very first row is none: nothing is known before it.

  Args:
    users: Whose rows.
    owner: int64 [rows], the place of each row's user.
    zone: int8 [rows].
    split: Validation or test.
    which: One of `dataset.TARGETS`; a random one is drawn by seed and key.
    seed: Of the dataset.
  """
  asked = zone == ZONES[split]
  asked[users.starts()] = False
  row = np.flatnonzero(asked)
  if which == SUCCESSIVE or not len(row):
    return row
  owner = owner[row]
  first = np.flatnonzero(np.diff(owner, prepend=-1))
  count = np.diff(first, append=len(row))
  if which == FIRST:
    return row[first]
  if which == LAST:
    return row[first + count - 1]
  hashes = keys.hashes(users.keys)[owner[first]]
  draw = counter_rng.bits(seed, _STREAMS[split], hashes) >> np.uint64(32)
  return row[first + ((draw * count.astype(np.uint64)) >> np.uint64(32)).astype(int)]
