"""Negatives drawn by counter and verified against what a user took."""

import numpy as np

from beam_pipelines import counter_rng
from ncf_tfdata.dataset import TEST, VALIDATION
from ncf_tfdata.errors import UserError
from ncf_tfdata.rng_streams import Prepare

# Cells of the filter for each pair: what is no pair passes it once in so many times.
_FILTER_CELLS = 16
_HASH = np.uint64(0x9E3779B97F4A7C15)  # 2**64 over the golden ratio

# A draw refused so often is made among the items left: a user with all but a few of
# them would else need as many tries as there are items.
_TRIES = 64

_STREAM = {
  VALIDATION: Prepare.VALIDATION_NEGATIVES,
  TEST: Prepare.TEST_NEGATIVES,
}


class TakenItems:
  """The items that each user of a shard took, for look-up in blocks."""

  def __init__(
    self, user: np.ndarray, item: np.ndarray, num_users: int, num_items: int
  ):
    """Sorts what was taken.

    Args:
      user: int [n], row of the user in the shard, in [0, num_users).
      item: int [n], dense id, in [0, num_items); a pair may occur again.
      num_users: Users in the shard.
      num_items: Items in the catalogue.
    """
    self.num_items = num_items
    pairs = np.sort(user.astype(np.int64) * num_items + item)
    self._pairs = pairs[np.diff(pairs, prepend=-1) > 0]
    self.count = np.bincount(self._pairs // num_items, minlength=num_users)
    self._start = np.cumsum(self.count) - self.count
    # A search is twenty reads all over the memory; most draws end at this one.
    bits = (_FILTER_CELLS * len(self._pairs)).bit_length()
    self._shift = np.uint64(64 - bits)
    self._filter = np.zeros(1 << bits, bool)
    self._filter[self._cell(self._pairs)] = True

  def _cell(self, pairs: np.ndarray) -> np.ndarray:
    return (pairs.astype(np.uint64) * _HASH) >> self._shift

  def contain(self, user: np.ndarray, item: np.ndarray) -> np.ndarray:
    """Whether each user took each item: bool, of the broadcast shape."""
    pairs = user.astype(np.int64) * self.num_items + item
    found = self._filter[self._cell(pairs)]
    if found.any():
      pairs = pairs[found]
      place = np.searchsorted(self._pairs, pairs)
      place = np.minimum(place, len(self._pairs) - 1)
      found[found] = self._pairs[place] == pairs
    return found

  def untaken(self, user: int) -> np.ndarray:
    """The items that one user did not take, ascending: int64."""
    start = self._start[user]
    items = self._pairs[start : start + self.count[user]] - user * self.num_items
    return np.setdiff1d(np.arange(self.num_items), items, assume_unique=True)


def training(
  taken: TakenItems, user: np.ndarray, user_id: np.ndarray, count: int, seed: int
) -> tuple[np.ndarray, int]:
  """Draws negatives for train rows, with replacement.

  Row r of a user (counted in time order) takes draws r * count + j, j < count; a
  draw that names an item of the user's train rows is made again, with the number
  of tries as one more coordinate, until it does not, or for the 64th time, when it
  is made among the items that the user has not.

  Args:
    taken: What the users took in train.
    user: int64 [n], each row's user in the shard; a user's rows are contiguous.
    user_id: int64 [num_users], dense ids.
    count: Negatives a row.
    seed: Of the dataset.

  Returns:
    int64 [n, count] of dense item ids, and how often a draw was made again.

  Raises:
    UserError: A user took the whole catalogue, so that nothing is left to draw.
  """
  full = np.flatnonzero(taken.count >= taken.num_items)
  if count and len(full) and np.isin(full, user).any():
    raise UserError(
      f'{len(full):,} users have all {taken.num_items:,} items of the catalogue in '
      'train, so that no negative can be drawn for them. Shorten their histories '
      f'with --max_user_history={taken.num_items - 1}, or pass --train_negatives=0.'
    )
  change = np.flatnonzero(np.diff(user, prepend=-1))
  lengths = np.diff(change, append=len(user))
  row = np.arange(len(user)) - np.repeat(change, lengths)
  owner = np.repeat(user, count)
  draw = (row[:, None] * count + np.arange(count)).ravel()
  items = counter_rng.below(
    taken.num_items, seed, Prepare.TRAIN_NEGATIVES, user_id[owner], draw, 0
  )
  again = np.flatnonzero(taken.contain(owner, items))
  tries, redrawn = 1, 0
  while len(again) and tries < _TRIES:
    redrawn += len(again)
    who = owner[again]
    items[again] = counter_rng.below(
      taken.num_items,
      seed,
      Prepare.TRAIN_NEGATIVES,
      user_id[who],
      draw[again],
      tries,
    )
    again = again[taken.contain(who, items[again])]
    tries += 1
  for one in np.unique(owner[again]):
    mine = again[owner[again] == one]
    left = taken.untaken(one)
    place = counter_rng.below(
      len(left),
      seed,
      Prepare.TRAIN_NEGATIVES,
      user_id[one],
      draw[mine],
      tries,
    )
    items[mine] = left[place]
  return items.reshape(len(user), count), redrawn + len(again)


def evaluation(
  taken: TakenItems,
  user: np.ndarray,
  user_id: np.ndarray,
  count: int,
  seed: int,
  split: str,
) -> np.ndarray:
  """Draws negatives to rank a held-out row among, without replacement.

  Uniform over the items that the user took in no split. A user with few takings
  gets the first `count` distinct untaken items of a sequence of draws; one who
  took more than half of the catalogue gets the `count` untaken items with the
  smallest random keys, since most draws would miss.

  Args:
    taken: What the users took in any split.
    user: int64 [n], the users to draw for, by their row in the shard.
    user_id: int64 [num_users], dense ids.
    count: Negatives a user; each has at least as many untaken items.
    seed: Of the dataset.
    split: What the rows are held out for: validation or test.

  Returns:
    int64 [n, count] of dense item ids.
  """
  result = np.empty((len(user), count), np.int64)
  if not count:
    return result
  room = taken.num_items - taken.count[user]
  crowded = (taken.count[user] * 2 > taken.num_items) | (room < 2 * count)
  for row in np.flatnonzero(crowded):
    items = taken.untaken(user[row])
    keys = counter_rng.bits(seed, _STREAM[split], user_id[user[row]], items)
    result[row] = items[np.argsort(keys, kind='stable')[:count]]
  rows = np.flatnonzero(~crowded)
  # Half of the draws hit at worst, and at most half of the hits repeat one.
  width = 3 * count
  while len(rows):
    draws = counter_rng.below(
      taken.num_items,
      seed,
      _STREAM[split],
      user_id[user[rows], None],
      np.arange(width),
    )
    good = ~taken.contain(user[rows, None], draws) & ~_repeats(draws)
    place = np.cumsum(good, axis=1) - 1
    done = place[:, -1] >= count - 1
    chosen = good & (place < count) & done[:, None]
    result[rows[done]] = draws[chosen].reshape(-1, count)
    rows = rows[~done]
    width *= 2
  return result


def _repeats(draws: np.ndarray) -> np.ndarray:
  """Whether a value stands further left in its row already: bool [n, width]."""
  order = np.argsort(draws, axis=1, kind='stable')
  ordered = np.take_along_axis(draws, order, axis=1)
  same = np.zeros(draws.shape, bool)
  same[:, 1:] = ordered[:, 1:] == ordered[:, :-1]
  repeats = np.empty_like(same)
  np.put_along_axis(repeats, order, same, axis=1)
  return repeats
