"""Shards of block records: rows to TFRecord bytes, without TensorFlow.

A record is a serialised `tf.train.Example` whose features are packed int64 lists,
encoded in numpy for a whole shard at once.
"""

import dataclasses
import itertools
import struct

import google_crc32c
import numpy as np

from beam_pipelines import negatives, splits
from beam_pipelines.negatives import TakenItems
from ncf_tfdata import dataset
from ncf_tfdata.dataset import TEST, TRAIN, VALIDATION

_LENGTH_DELIMITED = 2  # protobuf wire type


@dataclasses.dataclass(frozen=True)
class Rows:
  """The rows of one split in one shard.

  Attributes:
    user: int64 [n] dense ids, contiguous by user.
    positive: int64 [n].
    negatives: int64 [n, k].
    history: int64 [sum of lengths] and history_length int64 [n]; None in train.
    gap: Unsigned [n], time since the user's row before; None without times.
  """

  user: np.ndarray
  positive: np.ndarray
  negatives: np.ndarray
  history: np.ndarray | None = None
  history_length: np.ndarray | None = None
  gap: np.ndarray | None = None

  def __len__(self) -> int:
    return len(self.user)


@dataclasses.dataclass(frozen=True)
class Recipe:
  """How rows are held out and negatives drawn; see prepare's flags."""

  holdout: int
  train_negatives: int
  eval_negatives: int
  seed: int
  held_out_users: float = 0.0

  @property
  def splits(self) -> tuple[str, ...]:
    return (TRAIN, VALIDATION, TEST) if self.holdout == 2 else (TRAIN, TEST)


@dataclasses.dataclass(frozen=True)
class Shard:
  """One shard of every split.

  Attributes:
    rows: By split.
    train: bool [rows], which of the users' rows are train rows.
    train_count: int64 [users], train rows of each user.
    counts: By the manifest's names: users that stay in train whole, for each reason;
      where users are held out, how many, and kept rows that no split holds.
    redrawn: Draws of train negatives that were made again.
  """

  rows: dict[str, Rows]
  train: np.ndarray
  train_count: np.ndarray
  counts: dict[str, int]
  redrawn: int


def split(
  users: splits.Users, first_user: int, item: np.ndarray, num_items: int, recipe: Recipe
) -> Shard:
  """Splits a group of users, and draws the negatives.

  Args:
    users: Whose rows to split.
    first_user: Dense id of the first of them.
    item: int64 [rows], dense ids in place of the provisional `users.item`.
    num_items: Size of the catalogue.
    recipe: How to.

  Raises:
    UserError: No train negative exists for some user.
  """
  length, num_users = users.length, len(users.length)
  user_id = first_user + np.arange(num_users)
  owner = np.repeat(np.arange(num_users), length)
  end = np.cumsum(length)
  taken = TakenItems(owner, item, num_users, num_items)
  held = splits.rows_held_out(length, recipe.holdout)
  short = int((held == 0).sum())
  # Without enough unseen items there is nothing fair to rank against.
  crowded = (held > 0) & (num_items - taken.count < recipe.eval_negatives)
  held = np.where(crowded, 0, held)
  judged = held > 0
  counts = {'users_too_short': short, 'users_too_crowded': int(crowded.sum())}
  # Whose last row but one is a validation row, and whose last a test row.
  known, tested = judged, judged
  to_end = np.repeat(end, length) - np.arange(len(item))
  train = to_end > held[owner]
  if recipe.held_out_users:
    tested = judged & splits.users_held_out(
      users.keys, recipe.held_out_users, recipe.seed
    )
    known = judged & ~tested
    train &= ~tested[owner]
    counts['users_held_out'] = int(tested.sum())
    counts['history_only'] = int(length[tested].sum() - tested.sum())
    counts['untested'] = int(known.sum())

  taken_in_train = TakenItems(owner[train], item[train], num_users, num_items)
  drawn, redrawn = negatives.training(
    taken_in_train, owner[train], user_id, recipe.train_negatives, recipe.seed
  )
  rows = {TRAIN: Rows(user_id[owner[train]], item[train], drawn)}
  for name, from_end, who in ((VALIDATION, 2, known), (TEST, 1, tested)):
    if name not in recipe.splits:
      continue
    row = np.flatnonzero(who)
    rows[name] = Rows(
      user_id[row],
      item[end[row] - from_end],
      negatives.evaluation(
        taken, row, user_id, recipe.eval_negatives, recipe.seed, name
      ),
      item[(to_end > from_end) & who[owner]],
      length[row] - from_end,
      None if users.gap is None else users.gap[row, from_end - 1],
    )
  return Shard(
    rows,
    train,
    np.bincount(owner[train], minlength=num_users),
    counts,
    redrawn,
  )


def encode(rows: Rows) -> tuple[bytes, int]:
  """Encodes rows as the bytes of a TFRecord file.

  Returns:
    The bytes, and the number of records.
  """
  bounds = np.append(np.flatnonzero(np.diff(rows.user, prepend=-1)), len(rows))
  length = rows.history_length
  length = np.zeros(len(rows), np.int64) if length is None else length
  entries = np.concatenate([[0], np.cumsum(length)])
  cuts = bounds[block_cuts(bounds, entries[bounds])]
  k = rows.negatives.shape[1]
  columns: dict[str, tuple[np.ndarray, np.ndarray]] = {
    dataset.USER: (rows.user, cuts),
    dataset.POSITIVE: (rows.positive, cuts),
    dataset.NEGATIVES: (rows.negatives.ravel(), cuts * k),
  }
  if rows.history is not None and rows.history_length is not None:
    columns[dataset.HISTORY] = (rows.history, entries[cuts])
    columns[dataset.HISTORY_LENGTH] = (rows.history_length, cuts)
    gap = np.zeros(0, np.int64) if rows.gap is None else rows.gap
    columns[dataset.GAP] = (gap, cuts if len(gap) else np.zeros_like(cuts))
  return encode_columns(columns)


def encode_columns(
  columns: dict[str, tuple[np.ndarray, np.ndarray]],
) -> tuple[bytes, int]:
  """Encodes columns, cut into blocks, as the bytes of a TFRecord file.

  Args:
    columns: By name, whole numbers [n] in [0, 2**63), and at which of them each block
      begins, and the end: int64 [blocks + 1].

  Returns:
    The bytes, and the number of records.
  """
  # A map's entries in name order, so that equal rows give equal bytes.
  features = [_features(name, *columns[name]) for name in sorted(columns)]
  records = [_record(b''.join(block)) for block in zip(*features, strict=True)]
  return b''.join(records), len(records)


def block_cuts(rows: np.ndarray, entries: np.ndarray) -> np.ndarray:
  """Cuts a sequence of m things that must stay whole into blocks: as many as fit.

  Args:
    rows: int64 [m + 1], the rows before each thing (all of one user), and of all.
    entries: int64 [m + 1], the same for the entries of the rows' lists.

  Returns:
    int64 [blocks + 1]: the first thing of each block, and m.
  """
  cuts, last = [0], len(rows) - 1
  while cuts[-1] < last:
    start = cuts[-1]
    fit = min(
      np.searchsorted(rows, rows[start] + dataset.BLOCK_ROWS, side='right'),
      np.searchsorted(entries, entries[start] + dataset.BLOCK_HISTORY, side='right'),
    )
    cuts.append(max(int(fit) - 1, start + 1))
  return np.array(cuts, np.int64)


def _varints(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Base-128 varints (protobuf encoding) of values in [0, 2**63).

  Returns:
    The bytes, uint8, and where each value ends: int64 [n].
  """
  values = values.astype(np.uint64)
  size = np.ones(len(values), np.int64)
  for bits in range(7, int(values.max(initial=0)).bit_length(), 7):
    size += values >= np.uint64(1 << bits)
  ends = np.cumsum(size)
  starts = ends - size
  content = np.empty(int(ends[-1]) if len(ends) else 0, np.uint8)
  for byte in range(int(size.max(initial=0))):
    here = np.flatnonzero(size > byte) if byte else slice(None)
    more = (size[here] > byte + 1).astype(np.uint8) << 7
    low = (values[here] >> np.uint64(7 * byte)).astype(np.uint8) & 0x7F
    content[starts[here] + byte] = low | more
  return content, ends


def _field(number: int, content: bytes) -> bytes:
  """A length-delimited protobuf field."""
  return bytes([number << 3 | _LENGTH_DELIMITED]) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
  pieces = bytearray()
  while value > 0x7F:
    pieces.append(value & 0x7F | 0x80)
    value >>= 7
  pieces.append(value)
  return bytes(pieces)


def _features(name: str, values: np.ndarray, cuts: np.ndarray) -> list[bytes]:
  """One entry of `Features.feature` for each block: an int64 list by its name."""
  varints, ends = _varints(values)
  bounds = np.concatenate([[0], ends])[cuts]
  content = varints.tobytes()
  key = _field(1, name.encode())
  # Example.features > Features.feature > {key, Feature.int64_list > value}.
  return [
    _field(1, key + _field(2, _field(3, _field(1, content[start:end]))))
    for start, end in itertools.pairwise(bounds)
  ]


def _record(features: bytes) -> bytes:
  """An Example, framed as TFRecord: length, its CRC, content, its CRC."""
  example = _field(1, features)
  length = struct.pack('<Q', len(example))
  return b''.join([length, _masked_crc(length), example, _masked_crc(example)])


def _masked_crc(content: bytes) -> bytes:
  crc = google_crc32c.value(content)
  return struct.pack('<I', ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)
