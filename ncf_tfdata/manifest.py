"""The manifest of a dataset: what it holds, and what it was made from.

`dataset` says what the files are that it lists. This module imports neither TensorFlow
nor Beam.
"""

import dataclasses
import json
from typing import Any

from ncf_tfdata.drift import Drift
from ncf_tfdata.features.columns import FeatureTable
from ncf_tfdata.inspection import Inspection

_FEATURES = ('item_features', 'user_features')

# Of a dataset that leaves last rows out, and of one that is cut by time or share.
LEAVE_LAST_OUT_SCHEMA, CUT_SCHEMA = SCHEMAS = (1, 2)


@dataclasses.dataclass(frozen=True)
class File:
  """A file of the dataset: size in bytes, sha256, and for a shard what it holds.

  A shard of successors has `SUCCESSORS` for its split, and pairs for its rows; one of
  features has `ITEM_FEATURES` or `USER_FEATURES`, and items or users for its rows.
  """

  name: str
  bytes: int
  sha256: str
  split: str | None = None
  rows: int | None = None
  records: int | None = None


@dataclasses.dataclass(frozen=True)
class Source:
  """A file that was read: name without folder, bytes, digest of its ranges."""

  name: str
  bytes: int
  sha256: str


@dataclasses.dataclass(frozen=True)
class UserRows:
  """A user by original key, and how many rows they have."""

  user: str
  rows: int


@dataclasses.dataclass(frozen=True)
class Cuts:
  """How far a log reaches, and where it is cut: timestamps in its own unit.

  Attributes:
    first: The earliest of the kept rows; `TIME` counts from it.
    last: The latest.
    test: Rows up to it train or validate, later ones test; None where the log is not
      cut by time.
    validation: Rows up to it train, those up to `test` validate; None where there are
      no validation rows, too.
  """

  first: int
  last: int
  test: int | None = None
  validation: int | None = None


@dataclasses.dataclass(frozen=True)
class Base:
  """The earlier dataset whose dense ids are kept: its hash, and how many ids it has."""

  sha256: str
  users: int
  items: int


@dataclasses.dataclass(frozen=True)
class Manifest:
  """What a dataset holds and what it was made from. Nothing here varies by run.

  Attributes:
    flags: Every flag that decides the content, by name; `successors`, `keep_times` and
      the like only where they are in use.
    sources: The files read, in reading order.
    counts: Rows at each step (`read`, `rejected`, …, `kept`, and one count per
      split), `users` and `items` of the vocabularies, and pairs of `successors`.
    negatives: Number of negatives a row holds, by split.
    files: Every file but the manifest and TFDS's two, in name order.
    without_negatives: The first few `users_without_negatives`, by dense id.
    cuts: The moments of a log whose times are held; see `has_times`.
    schema_version: One of `SCHEMAS`.
    inspection: What was measured of the log, where it was asked for.
    base: The dataset whose ids are kept, where they are.
    drift: How the log differs from that of the base.
    item_features: What is known of items beside the log, where it was given.
    user_features: The same of users.
  """

  flags: dict[str, Any]
  sources: tuple[Source, ...]
  counts: dict[str, int]
  negatives: dict[str, int]
  files: tuple[File, ...]
  without_negatives: tuple[UserRows, ...] = ()
  cuts: Cuts | None = None
  schema_version: int = LEAVE_LAST_OUT_SCHEMA
  inspection: Inspection | None = None
  base: Base | None = None
  drift: Drift | None = None
  item_features: FeatureTable | None = None
  user_features: FeatureTable | None = None

  @property
  def is_cut(self) -> bool:
    """Whether rows are held out by time or share, and not as each user's last."""
    return self.schema_version == CUT_SCHEMA

  @property
  def has_times(self) -> bool:
    """Whether records hold times, and items.tsv when each item was first seen."""
    return self.cuts is not None

  def to_json(self) -> str:
    content = dataclasses.asdict(self)
    content['files'] = [
      {key: value for key, value in file.items() if value is not None}
      for file in content['files']
    ]
    if not self.without_negatives:
      # So that an ordinary manifest is the same as ever.
      del content['without_negatives']
    for name, table in self._features().items():
      content[name] = None if table is None else table.to_content()
    for name in ('cuts', 'inspection', 'base', 'drift', *self._features()):
      if content[name] is None:
        del content[name]
    return json.dumps(content, indent=2, sort_keys=True) + '\n'

  def _features(self) -> dict[str, FeatureTable | None]:
    return {name: getattr(self, name) for name in _FEATURES}

  @classmethod
  def from_json(cls, text: str) -> 'Manifest':
    """Reads what `to_json` wrote.

    Raises:
      ValueError: The text is not such a manifest, or of another schema version.
    """
    content = json.loads(text)
    version = content.get('schema_version')
    if version not in SCHEMAS:
      known = ' or '.join(map(str, SCHEMAS))
      raise ValueError(f'schema version {version}, expected {known}')
    content['sources'] = tuple(Source(**entry) for entry in content['sources'])
    content['files'] = tuple(File(**entry) for entry in content['files'])
    users = content.get('without_negatives', ())
    content['without_negatives'] = tuple(UserRows(**entry) for entry in users)
    if 'cuts' in content:
      content['cuts'] = Cuts(**content['cuts'])
    if 'inspection' in content:
      content['inspection'] = Inspection.from_content(content['inspection'])
    for name, kind in (('base', Base), ('drift', Drift)):
      if name in content:
        content[name] = kind(**content[name])
    for name in _FEATURES:
      if name in content:
        content[name] = FeatureTable.from_content(content[name])
    return cls(**content)
