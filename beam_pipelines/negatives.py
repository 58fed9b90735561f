"""Negatives drawn by counter, and checked against what a user has seen."""

import numpy as np

from beam_pipelines import counter_rng
from beam_pipelines.seen_items import SeenItems
from ncf_tfdata.dataset import TEST, VALIDATION
from ncf_tfdata.rng_streams import Prepare

# A draw refused so often is made among the items left: a user with all but a few of
# them would else need as many tries as there are items.
_TRIES = 64

_EVALUATION_STREAM = {
  VALIDATION: Prepare.VALIDATION_NEGATIVES,
  TEST: Prepare.TEST_NEGATIVES,
}


def training(
  seen: SeenItems, user: np.ndarray, user_id: np.ndarray, count: int, seed: int
) -> tuple[np.ndarray, int]:
  """Draws negatives for train rows, with replacement.

  Row r of a user (counted in time order) takes draws r * count + j, j < count; a
  draw that names an item of the user's train rows is made again, with the number
  of tries as one more coordinate, until it does not, or for the 64th time, when it
  is made among the items that the user has not seen.

  Args:
    seen: What the users have seen in train.
    user: int64 [n], each row's user in the shard; a user's rows are contiguous.
    user_id: int64 [num_users], dense ids.
    count: Negatives a row.
    seed: Of the dataset.

  Returns:
    int64 [n, count] of dense item ids, and how often a draw was made again.

  Raises:
    ValueError: A user has seen every item, so that nothing is left to draw.
  """
  if count and (seen.count[user] >= seen.num_items).any():
    raise ValueError(
      f'`seen` must leave each `user` an item. Received: a user of all '
      f'{seen.num_items:,} items.'
    )
  owner = np.repeat(user, count)
  draw = (_rank_in_user(user)[:, None] * count + np.arange(count)).ravel()

  def below(limit: int, rows: np.ndarray | slice, tries: int) -> np.ndarray:
    who = user_id[owner[rows]]
    return counter_rng.below(
      limit, seed, Prepare.TRAIN_NEGATIVES, who, draw[rows], tries
    )

  items = below(seen.num_items, slice(None), 0)
  refused = np.flatnonzero(seen.contain(owner, items))
  tries, redrawn = 1, len(refused)
  while len(refused) and tries < _TRIES:
    items[refused] = below(seen.num_items, refused, tries)
    refused = refused[seen.contain(owner[refused], items[refused])]
    tries, redrawn = tries + 1, redrawn + len(refused)
  for one in np.unique(owner[refused]):
    mine = refused[owner[refused] == one]
    unseen = seen.unseen(one)
    items[mine] = unseen[below(len(unseen), mine, tries)]
  return items.reshape(len(user), count), redrawn


def _rank_in_user(user: np.ndarray) -> np.ndarray:
  """How many rows of its user stand before each row: int64 [n], users contiguous."""
  first = np.flatnonzero(np.diff(user, prepend=-1))
  return np.arange(len(user)) - np.repeat(first, np.diff(first, append=len(user)))


def evaluation(
  seen: SeenItems,
  user: np.ndarray,
  user_id: np.ndarray,
  count: int,
  seed: int,
  split: str,
) -> np.ndarray:
  """Draws negatives to rank a held-out row among, without replacement.

  Uniform over the items that the user has seen in no split. A user who has seen few
  gets the first `count` distinct unseen items of a sequence of draws; one who has
  seen more than half of the catalogue gets the `count` unseen items with the smallest
  random keys, since most draws would miss.

  Args:
    seen: What the users have seen in any split.
    user: int64 [n], the users to draw for, by their row in the shard.
    user_id: int64 [num_users], dense ids.
    count: Negatives a user; each has at least as many unseen items.
    seed: Of the dataset.
    split: What the rows are held out for: validation or test.

  Returns:
    int64 [n, count] of dense item ids.
  """
  result = np.empty((len(user), count), np.int64)
  if not count:
    return result
  stream, num_unseen = _EVALUATION_STREAM[split], seen.num_items - seen.count[user]
  sorting = (num_unseen * 2 < seen.num_items) | (num_unseen < 2 * count)
  for row in np.flatnonzero(sorting):
    items = seen.unseen(user[row])
    keys = counter_rng.bits(seed, stream, user_id[user[row]], items)
    result[row] = items[np.argsort(keys, kind='stable')[:count]]
  rows = np.flatnonzero(~sorting)
  # Few draws miss in most logs; who has not enough of them draws on.
  width = count + count // 8 + 8
  while len(rows):
    who = user_id[user[rows], None]
    draws = counter_rng.below(seen.num_items, seed, stream, who, np.arange(width))
    good = ~seen.contain(user[rows, None], draws) & ~_repeats(draws)
    place = np.cumsum(good, axis=1) - 1
    done = place[:, -1] >= count - 1
    chosen = good & (place < count) & done[:, None]
    result[rows[done]] = draws[chosen].reshape(-1, count)
    rows = rows[~done]
    width *= 2
  return result


def _repeats(draws: np.ndarray) -> np.ndarray:
  """Whether a value stands further left in its row already: bool [n, width]."""
  # The place in the low bits: a plain sort is vectorised, and a stable one is not.
  bits = draws.shape[1].bit_length()
  ordered = np.sort((draws << bits) | np.arange(draws.shape[1]), axis=1)
  row, column = np.nonzero(ordered[:, 1:] >> bits == ordered[:, :-1] >> bits)
  repeats = np.zeros(draws.shape, bool)
  repeats[row, ordered[row, column + 1] & ((1 << bits) - 1)] = True
  return repeats
