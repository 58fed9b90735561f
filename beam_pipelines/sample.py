"""A built-in ratings log in the shape of MovieLens, from nothing but a seed.

It holds what a recommender can learn: long-tailed popularity and activity (counting
works), latent taste (favourite genres: matrix factorisation works better), succession
(what a user takes next often follows what came just before: memory works better still).

Lines are `user::item::rating::timestamp`, grouped by user, as in MovieLens's
ratings.dat, with its traps: a user's lines are not in time order (the latest session
stands first), three quarters share their timestamp with another line of the user,
timestamps have 9 or 10 digits, and some item ids never occur. Lines of one timestamp
stand in the order in which they happened.

Users come in blocks, and a block is a pure function of (ratings, seed, block): draws go
by counter. They become rows by integers and by float operations that IEEE 754 rounds
exactly, so that a size and a seed mean the same bytes on every machine and under every
version of numpy.

Usage: python -m beam_pipelines.sample --ratings=100000 --seed=0 --output=PATH

`sample_job` writes the same lines by a Beam job; `sample_items` what the items are.
"""

import collections
import dataclasses
import math
import os
import time
import uuid
from collections.abc import Iterator, Sequence
from concurrent import futures
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from absl import flags

from beam_pipelines import counter_rng, progress
from ncf_tfdata import command
from ncf_tfdata.errors import UserError
from ncf_tfdata.rng_streams import Prepare, Sample

RATINGS = 100_000
MIN_RATINGS = 1_000
MAX_RATINGS = 1_000_000_000
MIN_USER_RATINGS = 20

# (ratings, users, items), interpolated on logarithmic axes. The third and the fourth
# are MovieLens-1M and -25M; the last continues their trend.
_SIZES = (
  (1_000, 40, 200),
  (100_000, 1_500, 1_700),
  (1_000_209, 6_040, 3_706),
  (25_000_095, 162_541, 59_047),
  (1_000_000_000, 7_000_000, 1_400_000),
)
_USERS_PER_BLOCK = 1024
_GENRES = 10
_SUCCESSORS = 6

# Chances in 1/65,536, set by measurement so that a taste model clearly beats popularity
# and a model with memory clearly beats both.
_FOLLOW = 38_000  # A row follows from the one before.
_SAME_GENRE = 40_000  # A successor is of its predecessor's genre.
_FAVOURITES = (52_000, 60_000)  # Taste picks the first, or one of both favourites.
_TIE = 34_000  # A row has the timestamp of the one before.
_SESSION = 2_000  # A row opens a session.

_EPOCH = 962_409_600  # 2000-07-01; 999,999,999 is in September 2001.
_JOIN_SECONDS = 2 * 365 * 86_400
_DAY_SECONDS = 86_400


@dataclasses.dataclass(frozen=True)
class Spec:
  """Size and seed of a sample; everything else follows from them.

  Attributes:
    ratings: Number of rows, exactly; 1,000 to 1,000,000,000.
    seed: Any integer, taken modulo 2**64.

  Raises:
    UserError: `ratings` is out of range.
  """

  ratings: int = RATINGS
  seed: int = 0

  def __post_init__(self) -> None:
    if not MIN_RATINGS <= self.ratings <= MAX_RATINGS:
      raise UserError(
        f'received a sample size of {self.ratings:,} ratings, expected '
        f'{MIN_RATINGS:,} to {MAX_RATINGS:,}. Choose a size in that range.'
      )

  @property
  def num_users(self) -> int:
    """Number of users; their ids are 1 to `num_users`."""
    return self._interpolate(1)

  @property
  def num_items(self) -> int:
    """Number of items that may occur; their ids have gaps."""
    return self._interpolate(2) // _GENRES * _GENRES

  def _interpolate(self, column: int) -> int:
    sizes = np.log(np.array(_SIZES))
    at = math.log(self.ratings)
    return round(math.exp(np.interp(at, sizes[:, 0], sizes[:, column])))


def num_blocks(spec: Spec) -> int:
  """Number of blocks of users that make up the sample."""
  return -(-spec.num_users // _USERS_PER_BLOCK)


def block(spec: Spec, index: int) -> bytes:
  """The lines of one block. All blocks in order, end to end, are the file.

  Args:
    spec: Size and seed.
    index: 0 to `num_blocks(spec)` - 1.

  Returns:
    Whole lines, at most 5 MB. No (user, item) pair occurs twice; every user has at
    least `MIN_USER_RATINGS` rows.
  """
  first, end = _share(spec.num_users, spec, index)
  rows = np.diff(_share(spec.ratings, spec, index)).item()
  users = _users(spec, np.arange(first, end), rows)
  user, step = _runs(users.counts)
  item = _histories(spec, users)
  rating = _ratings(spec, users, user, item)
  timestamp, latest = _timestamps(spec, users, user, step)
  order = np.arange(rows) - step + (step + latest[user]) % users.counts[user]
  item_id = item_ids(spec, item[order])
  columns = first + 1 + user, item_id, rating[order], timestamp[order]
  return text_lines(*(pa.array(column).cast(pa.string()) for column in columns))


def write(path: str, spec: Spec) -> None:
  """Writes the sample to a local file, which appears whole or not at all.

  Args:
    path: The file. One that exists is replaced; a missing folder is made.
    spec: Size and seed.
  """
  os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
  temporary = f'{path}.{uuid.uuid4().hex}.tmp'
  try:
    with open(temporary, 'wb') as stream, progress.shown():
      for index, lines in enumerate(_blocks(spec)):
        stream.write(lines)
        first, end = _share(spec.ratings, spec, index)
        progress.advance('sample', end - first)
    os.replace(temporary, path)
  finally:
    if os.path.exists(temporary):
      os.remove(temporary)


def _blocks(spec: Spec) -> Iterator[bytes]:
  """All blocks in order, made on all cores; a few wait to be written, never all."""
  workers = os.cpu_count() or 1
  waiting: collections.deque[futures.Future[bytes]] = collections.deque()
  with futures.ThreadPoolExecutor(workers) as pool:
    for index in range(num_blocks(spec)):
      if len(waiting) > workers:
        yield waiting.popleft().result()
      waiting.append(pool.submit(block, spec, index))
    while waiting:
      yield waiting.popleft().result()


class _Users(NamedTuple):
  """The users of a block: ids [n], rows [n] and two favourite genres [n, 2]; int64."""

  ids: np.ndarray
  counts: np.ndarray
  favourites: np.ndarray


def _share(total: int, spec: Spec, index: int) -> tuple[int, int]:
  """Where a block begins and ends when `total` things are dealt out evenly."""
  parts = num_blocks(spec)
  return total * index // parts, total * (index + 1) // parts


def draw(spec: Spec, stream: int, *coordinates: int | np.ndarray) -> np.ndarray:
  """64 random bits for each point of the coordinates, uint64."""
  return counter_rng.bits(spec.seed % 2**64, Prepare.SAMPLE, stream, *coordinates)


def digits(bits: np.ndarray, index: int) -> np.ndarray:
  """Field 0, 1, 2 or 3 of each draw, int64 in [0, 65,536)."""
  return ((bits >> np.uint64(16 * index)) & np.uint64(0xFFFF)).astype(np.int64)


def _unit(bits: np.ndarray) -> np.ndarray:
  """Fields 2 and 3 of each draw together, float64 in [0, 1)."""
  return (bits >> np.uint64(32)).astype(np.float64) * 2.0**-32


def _runs(lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Runs laid end to end: (owner, place within the run), int64 [sum of lengths]."""
  owner = np.repeat(np.arange(len(lengths)), lengths)
  return owner, np.arange(len(owner)) - (np.cumsum(lengths) - lengths)[owner]


def _activity(spec: Spec, ids: np.ndarray, rows: int) -> np.ndarray:
  """Deals the rows of a block out to its users: int64 [users], `rows` in all.

  What a user has above the minimum grows with p / sqrt(1 - p), where p is his place
  among the users of the block: the quantiles are close to MovieLens-1M's, and
  nobody has more than about 11 times the mean, which is within the catalogue.
  """
  bits = draw(spec, Sample.ACTIVITY, ids)
  place = np.argsort(np.argsort(bits, kind='stable'), kind='stable')
  p = (place + _unit(counter_rng.mix(bits))) / len(ids)
  # Integers: a float sum depends on the order in which numpy adds.
  total = np.cumsum((p / np.sqrt(1.005 - p) * 2**20).astype(np.int64))
  bounds = total * (rows - MIN_USER_RATINGS * len(ids)) // total[-1]
  return np.diff(bounds, prepend=0) + MIN_USER_RATINGS


def _users(spec: Spec, ids: np.ndarray, rows: int) -> _Users:
  """The users of a block of `rows` rows."""
  bits = draw(spec, Sample.USER, ids)
  favourites = np.stack([_genre(digits(bits, 0)), _genre(digits(bits, 1))], axis=1)
  return _Users(ids, _activity(spec, ids, rows), favourites)


def _genre(field: np.ndarray) -> np.ndarray:
  """A genre from a 16-bit field; the lower are the likelier."""
  return field * (field + 32_768) * _GENRES // (65_536 * (65_536 + 32_768))


def _item(spec: Spec, genre: np.ndarray, unit: np.ndarray) -> np.ndarray:
  """An item of a genre, by a long-tailed popularity.

  Items are numbered by popularity: item = rank within the genre * genres + genre. The
  first of a genre is 14 times as likely as the mean, the last an eighth of it.
  """
  place = unit * (unit + 1.0) / (2.0 + 12.0 * (1.0 - unit))
  rank = (place * (spec.num_items // _GENRES)).astype(np.int64)
  return rank * _GENRES + genre


def successor(spec: Spec, item: np.ndarray, choice: np.ndarray) -> np.ndarray:
  """Successor number `choice` of each item: popular, and often of the same genre."""
  bits = draw(spec, Sample.SUCCESSOR, item, choice)
  same = digits(bits, 0) < _SAME_GENRE
  genre = np.where(same, item % _GENRES, _genre(digits(bits, 1)))
  return _item(spec, genre, _unit(bits))


def _steps(spec: Spec, users: _Users, user: np.ndarray, step: np.ndarray) -> np.ndarray:
  """What each step takes, by taste or after the step before; repeats occur.

  Returns:
    Items, int64 [steps]. `user` and `step` are runs, one a user.
  """
  bits = draw(spec, Sample.STEP, users.ids[user], step)
  follows = (digits(bits, 0) < _FOLLOW) & (step > 0)
  pick = digits(bits, 1)
  more_bits = counter_rng.mix(bits)
  any_genre = _genre(digits(more_bits, 0))
  first, second = users.favourites.T
  genre = np.where(pick < _FAVOURITES[1], second[user], any_genre)
  genre = np.where(pick < _FAVOURITES[0], first[user], genre)
  item = _item(spec, genre, _unit(bits))
  # The more a user takes, the more of it is anything at all.
  curiosity = 65_536 * users.counts // spec.num_items
  explores = digits(more_bits, 1) < curiosity[user]
  item = np.where(explores, (_unit(more_bits) * spec.num_items).astype(np.int64), item)
  choice = pick * pick * _SUCCESSORS >> 32
  # All chains at once, link by link: as many rounds as the longest chain has links.
  at = np.flatnonzero(~follows)
  while len(at):
    at = at[at + 1 < len(item)] + 1
    at = at[follows[at]]
    item[at] = successor(spec, item[at - 1], choice[at])
  return item


def _histories(spec: Spec, users: _Users) -> np.ndarray:
  """What each user takes, in order, each item once: int64 [rows], user after user."""
  counts = users.counts
  # More steps than rows, for repeats are dropped.
  steps = counts * 5 // 4 + 12 * counts * counts // spec.num_items + 24
  user, step = _runs(steps)
  item = _steps(spec, users, user, step)
  keep = _first_occurrences(spec, user, item)
  short = np.bincount(user[keep], minlength=len(counts)) < counts
  if short.any():
    # Then on through the catalogue in strides: as many items as the user has rows are
    # enough, whichever of them he has had.
    more, place = _runs(np.where(short, counts, 0))
    bits = draw(spec, Sample.REST, users.ids)
    strides = np.flatnonzero(np.gcd(np.arange(spec.num_items), spec.num_items) == 1)
    stride = strides[digits(bits, 0) % len(strides)]
    rest = (digits(bits, 1)[more] + place * stride[more]) % spec.num_items
    user, item = np.concatenate([user, more]), np.concatenate([item, rest])
    order = np.argsort(user, kind='stable')
    user, item = user[order], item[order]
    keep = _first_occurrences(spec, user, item)
  user, item = user[keep], item[keep]
  _, place = _runs(np.bincount(user))
  return item[place < counts[user]]


def _first_occurrences(spec: Spec, user: np.ndarray, item: np.ndarray) -> np.ndarray:
  """Indices, rising, of the rows whose (user, item) did not occur before."""
  # The place in the low bits of the key: one plain sort, far faster than np.unique.
  bits = len(user).bit_length()
  key = np.sort(((user * spec.num_items + item) << bits) | np.arange(len(user)))
  first = np.diff(key >> bits, prepend=-1) != 0
  return np.sort(key[first] & ((1 << bits) - 1))


def _ratings(
  spec: Spec, users: _Users, user: np.ndarray, item: np.ndarray
) -> np.ndarray:
  """Stars, 1 to 5: more from a kind user, for a favourite genre, for a good item."""
  kindness = _unit(counter_rng.mix(draw(spec, Sample.USER, users.ids)))[user]
  quality = _unit(draw(spec, Sample.QUALITY, item))
  fame = 1.0 - item / spec.num_items
  likes = (users.favourites[user] == (item % _GENRES)[:, None]).any(axis=1)
  bits = draw(spec, Sample.RATING, users.ids[user], item)
  noise = (digits(bits, 0) + digits(bits, 1)) / 65_536 - 1.0
  stars = 1.6 + kindness + 1.5 * quality + 0.4 * fame + 0.9 * likes + 2.2 * noise
  return np.clip(stars.astype(np.int64), 1, 5)


def _timestamps(
  spec: Spec, users: _Users, user: np.ndarray, step: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  """Times in sessions.

  Returns:
    Seconds since 1970, int64 [rows], never falling within a user; and the step at
    which each user's latest session begins, int64 [users].
  """
  bits = draw(spec, Sample.TIME, users.ids[user], step)
  session = (digits(bits, 0) < _SESSION) & (step > 0)
  pause = digits(bits, 2)
  seconds = np.where(digits(bits, 1) < _TIE, 0, 1 + pause % 60)
  seconds = np.where(session, _DAY_SECONDS + pause * pause // 400, seconds)
  begin = np.cumsum(users.counts) - users.counts
  elapsed = np.cumsum(seconds)
  joined = (_unit(draw(spec, Sample.JOIN, users.ids)) * _JOIN_SECONDS).astype(np.int64)
  timestamp = _EPOCH + (joined - elapsed[begin])[user] + elapsed
  return timestamp, np.maximum.reduceat(np.where(session, step, 0), begin)


def item_ids(spec: Spec, item: np.ndarray) -> np.ndarray:
  """Distinct ids from 1, in no order of popularity, about 6 % of them left out."""
  bound = spec.num_items * 16 // 15 + 1
  factor = bound * 5 // 8
  while math.gcd(factor, bound) != 1:
    factor += 1
  return item * factor % bound + 1


def text_lines(*texts: pa.Array) -> bytes:
  """Joins columns of text [rows] to lines."""
  lines = pc.binary_join_element_wise(*texts, '::')
  # An Arrow array of strings holds them end to end: that is the file's text.
  ended = pc.binary_join_element_wise(lines, '', '\n')
  _, offsets, text = ended.buffers()
  return text[: np.frombuffer(offsets, np.int32)[len(ended)]].to_pybytes()


def main(argv: Sequence[str]) -> None:
  """Writes a sample and says what it is."""
  if len(argv) > 1:
    raise UserError(f'received {argv[1]!r}, expected only flags. See --help.')
  spec = Spec(_RATINGS.value, _SEED.value)
  start = time.monotonic()
  write(_OUTPUT.value, spec)
  if _ITEMS.value is not None:
    from beam_pipelines import sample_items

    sample_items.write(_ITEMS.value, spec)
  seconds = time.monotonic() - start
  print(
    f'{spec.ratings:,} ratings, {spec.num_users:,} users, {seconds:.1f} s, '
    f'{spec.ratings / seconds:,.0f} ratings/s: {_OUTPUT.value}'
  )


if __name__ == '__main__':
  # Here, because commands that import this module have flags of the same names.
  _RATINGS = flags.DEFINE_integer(
    'ratings', RATINGS, 'Number of ratings.', MIN_RATINGS, MAX_RATINGS
  )
  _SEED = flags.DEFINE_integer('seed', 0, 'Seed; another seed is another sample.')
  _OUTPUT = flags.DEFINE_string('output', None, 'The file to write.', required=True)
  _ITEMS = flags.DEFINE_string('items', None, 'A file for item::title::genres.')
  command.run(main, takes_arguments=True)
