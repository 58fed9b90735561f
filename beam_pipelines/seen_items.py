"""What each user of a shard has seen."""

import numpy as np

# Cells of the filter for each pair: what is no pair passes it once in so many times.
_FILTER_CELLS = 16
_HASH = np.uint64(0x9E3779B97F4A7C15)  # 2**64 over the golden ratio


class SeenItems:
  """The items that each user of a shard has seen, for look-up in blocks.

  Attributes:
    num_items: Size of the catalogue.
    count: int64 [num_users], distinct items that each user has seen.
  """

  def __init__(
    self, user: np.ndarray, item: np.ndarray, num_users: int, num_items: int
  ):
    """Sorts what was seen.

    Args:
      user: int [n], row of the user in the shard, in [0, num_users).
      item: int [n], dense id, in [0, num_items); a pair may occur again.
      num_users: Users in the shard.
      num_items: Items in the catalogue.
    """
    self.num_items = num_items
    # Stable, which is quick where users are in order.
    pairs = np.sort(user.astype(np.int64) * num_items + item, kind='stable')
    self._pairs = pairs[np.diff(pairs, prepend=-1) > 0]
    self.count = np.bincount(self._pairs // num_items, minlength=num_users)
    self._start = np.cumsum(self.count) - self.count
    # A search is twenty reads all over the memory; most draws end at this one.
    bits = (_FILTER_CELLS * len(self._pairs)).bit_length()
    self._shift = np.uint64(64 - bits)
    self._filter = np.zeros(1 << bits, bool)
    self._filter[self._cell(self._pairs)] = True

  def _cell(self, pairs: np.ndarray) -> np.ndarray:
    # Signed, since numpy converts unsigned indices first.
    return ((pairs.view(np.uint64) * _HASH) >> self._shift).view(np.int64)

  def contain(self, user: np.ndarray, item: np.ndarray) -> np.ndarray:
    """Whether each user has seen each item: bool, of the broadcast shape."""
    pairs = user.astype(np.int64) * self.num_items + item
    found = self._filter[self._cell(pairs)]
    if found.any():
      pairs = pairs[found]
      place = np.searchsorted(self._pairs, pairs)
      place = np.minimum(place, len(self._pairs) - 1)
      found[found] = self._pairs[place] == pairs
    return found

  def unseen(self, user: int) -> np.ndarray:
    """The items that one user has not seen, ascending: int64."""
    start = self._start[user]
    items = self._pairs[start : start + self.count[user]] - user * self.num_items
    return np.setdiff1d(np.arange(self.num_items), items, assume_unique=True)
