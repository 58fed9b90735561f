"""What the numbers of a dataset's held-out rows mean, in words."""

from ncf_tfdata import dataset as dataset_lib


def describe(dataset: dataset_lib.Dataset, split: str) -> str:
  """The protocol of a split, to stand beside its numbers."""
  made = dataset.manifest.flags
  last = 'second last' if split == dataset_lib.VALIDATION else 'last'
  ties = {'input': 'by position in the input', 'random': 'by a seeded draw'}
  apart = ' No row of theirs was trained on.' if made.get('held_out_users') else ''
  return (
    f'The {last} row of each of {dataset.rows(split):,} users is held out; rows are in '
    f'order of time, ties {ties.get(made["tie_order"], "in the given order")}. A '
    f'system sees only what the user did before.{apart} Sampled: among '
    f'{dataset.negatives(split)} items drawn uniformly from those that the user never '
    f'touched. Full: among all {dataset.num_items:,} items but those of the history. '
    'Rank = items that score higher + half of those that score equal. Sampled metrics '
    'can invert the order of two systems (Krichene and Rendle, KDD 2020).'
  )
