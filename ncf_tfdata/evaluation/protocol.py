"""What stands behind the numbers of held-out rows: in words, and as a card."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

from ncf_tfdata import dataset as dataset_lib
from ncf_tfdata import run as run_lib
from ncf_tfdata import times
from ncf_tfdata.evaluation import candidates as candidates_lib
from ncf_tfdata.manifest import File, Manifest, Source


def describe(
  dataset: dataset_lib.Dataset, split: str, candidates: str = candidates_lib.ALL
) -> str:
  """The protocol of a split, to stand beside its numbers.

  Args:
    dataset: Whose held-out rows are ranked.
    split: Which of them.
    candidates: What they are ranked among: one of `candidates.CHOICES`.
  """
  known = ''
  if candidates == candidates_lib.SEEN_BEFORE:
    known = ' In both, items that nobody had before the held-out row are left out.'
  made = dataset.manifest.flags
  ties = {'input': 'by position in the input', 'random': 'by a seeded draw'}
  apart = ' No row of theirs was trained on.' if made.get('held_out_users') else ''
  return (
    f'{_held_out(dataset, split)}; rows are in order of time, ties '
    f'{ties.get(made["tie_order"], "in the given order")}. A '
    f'system sees only what the user did before.{apart} Sampled: among '
    f'{dataset.negatives(split)} items drawn uniformly from those that the user never '
    f'touched. Full: among all {dataset.catalogue_size:,} items but those of the '
    f'history.{known} Rank = items that score higher + half of those that score equal. '
    'Sampled metrics can invert the order of two systems (Krichene and Rendle, KDD '
    '2020).'
  )


_ASKED = {
  dataset_lib.LAST: 'The last row of each user',
  dataset_lib.FIRST: 'The first row of each user',
  dataset_lib.RANDOM: 'A row of each user, by a seeded draw,',
  dataset_lib.SUCCESSIVE: 'Every row of each user',
}


def _held_out(dataset: dataset_lib.Dataset, split: str) -> str:
  """What is held out, in words."""
  made, cuts = dataset.manifest.flags, dataset.manifest.cuts
  count = dataset.rows(split)
  if not dataset.manifest.is_cut:
    last = 'second last' if split == dataset_lib.VALIDATION else 'last'
    return f'The {last} row of each of {count:,} users is held out'
  asked = _ASKED[made['targets']]
  cold = 'an item that nothing was learnt of counts as a miss'
  if made['split'] == dataset_lib.BY_SHARE:
    share = f'the {"second " if split == dataset_lib.VALIDATION else ""}last share'
    return f'{asked} in {share} of their rows is held out, {count:,} rows; {cold}'
  if split == dataset_lib.VALIDATION and cuts is not None:
    when = f'after the time {cuts.validation} and up to {cuts.test}'
  else:
    when = f'after the time {cuts.test if cuts else "of the cut"}'
  return f'{asked} {when} is held out, {count:,} rows; {cold}'


def card(
  dataset: dataset_lib.Dataset,
  split: str,
  systems: Mapping[str, Mapping[str, Any]],
  run: run_lib.Run | None = None,
  candidates: str = candidates_lib.ALL,
) -> dict[str, Any]:
  """All that must be equal for the numbers of two evaluations to be comparable.

  Args:
    dataset: Whose held-out rows were ranked.
    split: Which of them.
    systems: What metrics.json holds of each system.
    run: Of the trained model, where one was judged.
    candidates: What they were ranked among: one of `candidates.CHOICES`.

  Returns:
    Texts, numbers and lists by name, in groups by name, as metrics.json holds them.
    Every flag that the dataset was made with is there, whatever flags there are.
  """
  made, counts = dataset.manifest.flags, dataset.manifest.counts
  flags = {name: value for name, value in made.items() if value not in (None, [], '')}
  return {
    'split': {
      'rule': flags.get('split', 'leave-last-out'),
      'judged': f'{split}, {dataset.rows(split):,} interactions',
    },
    'prepared_with': flags,
    'dataset': dict(counts),
    'ranking': {
      'candidates': candidates,
      'cold_items': _cold_items(dataset.manifest),
      'ties': 'items that score equal count half; what a file does not list is a miss',
      'seen_items': "left out of the full ranking: the user's earlier interactions",
      'sampled_candidates': f'the held-out item and {dataset.negatives(split)} sampled '
      'negatives, the same for every system',
      'full_candidates': f'{dataset.catalogue_size:,} items',
    },
    'chosen': _chosen(systems, run),
    **_started(run),
    **_log(dataset.manifest),
    'sha256': _hashes(dataset, split, systems, run),
  }


def _cold_items(manifest: Manifest) -> str:
  """How a held-out item is ranked that a system has not learnt from."""
  rule = 'ranked by chance'
  if manifest.is_cut:
    rule = 'a held-out item that a system has not learnt from is a miss'
  if manifest.item_features is None:
    return rule
  return f'{rule}; one that knows items by their features ranks it by them'


def _log(manifest: Manifest) -> dict[str, Any]:
  """What was measured of the log, and when it is cut, as far as that is known."""
  found: dict[str, Any] = {}
  if manifest.cuts is not None:
    moments = dataclasses.asdict(manifest.cuts)
    found['cuts'] = {
      name: f'{time} {times.date(time, manifest.cuts.last)}'.rstrip()
      for name, time in moments.items()
      if time is not None
    }
  if manifest.inspection is not None:
    found['inspection'] = dict(manifest.inspection.counts)
  if manifest.base is not None and manifest.drift is not None:
    found['drift'] = {'since': manifest.base.sha256[:12], **manifest.drift.counts}
    if (shift := manifest.drift.popularity_shift) is not None:
      found['drift']['popularity_shift'] = f'{shift:.4f}'
  return found


def _chosen(
  systems: Mapping[str, Mapping[str, Any]], run: run_lib.Run | None
) -> dict[str, Any]:
  """What was chosen on which rows, as far as it is known."""
  found = {}
  if run is not None:
    found['epoch'] = _epoch(run)
  fitted = {numbers['fit_on'] for numbers in systems.values() if 'fit_on' in numbers}
  if fitted:
    found['baselines'] = (
      f'fitted on {" or ".join(sorted(fitted))} rows, with the parameters that their '
      'names hold'
    )
  files = [name for name, numbers in systems.items() if 'counts' in numbers]
  if files:
    found['predictions'] = (
      f'{", ".join(files)}: judged by file; what is behind it is not known'
    )
  return found


def _started(run: run_lib.Run | None) -> dict[str, Any]:
  """What a run learnt from that its dataset does not tell; nothing of most."""
  if run is None:
    return {}
  found: dict[str, Any] = {}
  note = run.warm_start()
  if note is not None:
    found['warm_start'] = note['run']
    found |= {name: note[name] for name in ('checkpoint_sha256', 'dataset_sha256')}
    for name in ('users', 'items'):
      found[name] = ', '.join(f'{count:,} {what}' for what, count in note[name].items())
    found['moments'] = 'taken over' if note['moments'] else 'reset'
  since = _flags(run).get('train_since')
  if since is not None:
    found['train_since'] = since
  return {'started_from': found} if found else {}


def _flags(run: run_lib.Run) -> dict[str, str]:
  """What flags.cfg gives, by name of the flag."""
  lines = (line.partition('=') for line in run.flags())
  return {name.lstrip('-'): value for name, _, value in lines}


def _epoch(run: run_lib.Run) -> str:
  """Which epoch of a run was kept, and by what."""
  history, best = run.history(), (run.metrics() or {}).get('best_epoch')
  if best == 0:
    return 'none: the weights that it was started from'
  if not history:
    return 'not known: the run has no epochs.csv'
  monitor = _flags(run).get('monitor', 'ndcg@10')
  if monitor not in history[0]:
    return f'the last of {len(history)}: the dataset has no validation rows'
  rows = 'train' if monitor == 'loss' else 'validation'
  return f'{best} of {len(history)}, by {monitor} of {rows} rows'


def _hashes(
  dataset: dataset_lib.Dataset,
  split: str,
  systems: Mapping[str, Mapping[str, Any]],
  run: run_lib.Run | None,
) -> dict[str, str]:
  manifest = dataset.manifest
  shards = [file for file in manifest.files if file.split == split]
  found = {
    'dataset': dataset.sha256,
    'sources': _digest(manifest.sources),
    f'{split}_shards': _digest(shards),
  }
  if run is not None:
    found['weights'] = run.checkpoint_sha256()
  return found | {
    f'predictions_of_{name}': numbers['sha256']
    for name, numbers in systems.items()
    if 'counts' in numbers
  }


def _digest(files: Iterable[File | Source]) -> str:
  """One for all: of the lines that `sha256sum` prints of them."""
  lines = ''.join(f'{file.sha256}  {file.name}\n' for file in files)
  return hashlib.sha256(lines.encode()).hexdigest()
