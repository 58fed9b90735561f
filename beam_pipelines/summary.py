"""What `prepare` says of a dataset once it is written."""

from typing import Any

from beam_pipelines import drift, gate
from ncf_tfdata import dataset, times
from ncf_tfdata.feature_columns import FeatureColumn, FeatureTable
from ncf_tfdata.manifest import Cuts, Manifest


def lines(manifest: Manifest, output: str, seconds: float, counted: str) -> list[str]:
  """Describes a dataset: what became of each rating, how fast, and what to run next.

  Args:
    manifest: Of the dataset.
    output: Its path, as a user would type it.
    seconds: What the job took.
    counted: What the runner counted, or nothing.
  """
  counts = manifest.counts
  result = [
    f'{label:<45}{counts.get(name, 0):>15,}'
    for label, name in _table(manifest.flags)
    if counts.get(name, 0) or not label.startswith(('  ', 'users', 'items'))
  ]
  if manifest.cuts is not None:
    result += _moments(manifest.cuts)
  result += [
    f'    {user.user!r}, {user.rows:,} interactions'
    for user in manifest.without_negatives
  ]
  if manifest.inspection is not None:
    result += gate.lines(manifest.inspection)
  if manifest.drift is not None:
    result += drift.lines(manifest.drift)
  for role, table in (
    ('item', manifest.item_features),
    ('user', manifest.user_features),
  ):
    if table is not None:
      result += _features(role, table)
  if counted:
    result.append(counted)
  rate = counts['read'] / seconds
  result.append(f'{seconds:.1f} s, {rate:,.0f} ratings/s. Written to {output}')
  empty = [s for s in dataset.SPLITS if s in manifest.negatives and not counts.get(s)]
  if empty:
    result.append(
      f'No {" and no ".join(empty)} interactions, which --allow_empty_splits let pass: '
      'what needs them cannot use this dataset.'
    )
  if counts.get(dataset.TRAIN):
    result.append(f'Next: python -m ncf_tfdata.train --data_dir={output}')
  return result


def _table(flags: dict[str, Any]) -> list[tuple[str, str]]:
  """What is said of each count: (label, its name in the manifest)."""
  unsplit, crowded = 'their interactions before the test one', 'in train only'
  if 'split' in flags:
    unsplit, crowded = 'kept interactions in no split', 'not asked for'
  return [
    ('ratings read', 'read'),
    ('  not understood, see rejects.tsv', 'rejected'),
    ('  of users or items to forget', 'forgotten'),
    (f'  of items with fewer than {flags["min_item_count"]}', 'filtered_items'),
    (f'  below {flags["min_rating"]:g}', 'filtered_ratings'),
    ('  repeated', 'duplicates'),
    ('  repeated at once', 'repeats'),
    (f'  of users with fewer than {flags["min_user_count"]}', 'filtered_users'),
    ('  beyond the longest history', 'dropped_history'),
    (f'  not in the {flags.get("core")}-core', 'filtered_core'),
    ('  rounds of --core', 'core_rounds'),
    ('ratings kept', 'kept'),
    ('  users', 'users'),
    ('  items', 'items'),
    ('users to forget', 'forget_users'),
    ('  not in the log', 'forget_users_unmatched'),
    ('items to forget', 'forget_items'),
    ('  not in the log', 'forget_items_unmatched'),
    ('train interactions', dataset.TRAIN),
    ('validation interactions', dataset.VALIDATION),
    ('test interactions', dataset.TEST),
    ('  item transitions', dataset.SUCCESSORS),
    ('users held out of train', 'users_held_out'),
    (f'  {unsplit}', 'history_only'),
    ("  all other users' test interactions, in no split", 'untested'),
    ('items held out of train', 'items_held_out'),
    ('  their earlier interactions, in no split', 'held_out_item_rows'),
    ('  validation interactions of theirs', 'validation_held_out_items'),
    ('  test interactions of theirs', 'test_held_out_items'),
    ('users new in validation', 'validation_new_users'),
    ('users new in test', 'test_new_users'),
    ('users in train only: too few interactions', 'users_too_short'),
    (f'users {crowded}: too few unseen items', 'users_too_crowded'),
    ('users in no split: they have every item', 'users_without_negatives'),
    ('  their interactions', 'rows_without_negatives'),
  ]


def _moments(cuts: Cuts) -> list[str]:
  """When the log begins, is cut, and ends."""
  named = [
    ('first interaction', cuts.first),
    ('train up to', cuts.test if cuts.validation is None else cuts.validation),
    ('validation up to', cuts.test if cuts.validation is not None else None),
    ('last interaction', cuts.last),
  ]
  return [
    f'{label:<30}{moment:>20}  {times.date(moment, cuts.last)}'.rstrip()
    for label, moment in named
    if moment is not None
  ]


def _features(role: str, table: FeatureTable) -> list[str]:
  """What became of a file of features, and what its columns are."""
  counts = [
    (f'rows of {role} features', table.read),
    ('  not understood, see rejects.tsv', table.rejected),
    (f'  of {role}s to forget', table.forgotten),
    (f'  of {role}s that an earlier row is of', table.repeated),
    (f'  of no {role} that is kept of the log', table.unmatched),
    (f'  of {role}s', table.matched),
    (f'{role}s without features', table.without_features),
  ]
  lines = [
    f'{label:<45}{count:>15,}'
    for label, count in counts
    if count or not label.startswith('  ')
  ]
  return lines + [f'  {_column(column)}' for column in table.columns]


def _column(column: FeatureColumn) -> str:
  text = f'{column.name}: {column.kind}'
  if column.values is not None:
    text += f', {column.values:,} values'
  if column.dim is not None:
    text += f' of {column.dim}'
  if column.mean is not None and column.stddev is not None:
    text += f', mean {column.mean:.4g}, standard deviation {column.stddev:.4g}'
  return text
