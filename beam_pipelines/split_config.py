"""Which interactions of a log are held out, and what they are ranked among."""

from __future__ import annotations

import dataclasses

from ncf_tfdata import dataset
from ncf_tfdata.config import Config, setting


@dataclasses.dataclass(frozen=True, kw_only=True)
class SplitConfig(Config):
  """Which interactions are held out, and what they are ranked among."""

  split: str = setting(
    dataset.LEAVE_LAST_OUT,
    'What is held out: the last interactions of each user, all that is later than one '
    "moment (time), or each user's last share (ratio).",
    choices=dataset.RULES,
  )
  time_quantile: float = setting(
    0.9,
    'Of --split=time: share of all ratings up to the moment T after which they test. '
    'The same share of those trains, the rest validates.',
  )
  time_at: str | None = setting(
    None,
    'Of --split=time: T itself, as a date (its midnight, UTC), a time, or a number in '
    'the unit of the log.',
  )
  targets: str = setting(
    dataset.LAST,
    "Of --split=time and ratio: which of a user's held-out interactions are asked "
    "for, each from all the user's earlier ones.",
    choices=dataset.TARGETS,
  )
  test_share: float = setting(
    0.2,
    "Of --split=ratio: share of each user's interactions that tests; the same share "
    'of the rest validates.',
  )
  keep_times: bool = setting(
    False,
    'Of --split=leave-last-out: write the time of every interaction, also in '
    'histories, as the other splits do of a log with timestamps.',
  )
  tie_order: str = setting(
    'input',
    "Order of a user's ratings with one timestamp: as in the input, or drawn.",
    choices=('input', 'random'),
  )
  holdout: int = setting(
    2,
    'Interactions of each user held out of train: 2 (validation, test), or 1 (test; '
    'the same ones).',
    minimum=1,
    maximum=2,
  )
  held_out_users: float = setting(
    0.0,
    'Share of users, drawn by seed and key, kept out of train and validation to test '
    'on users no model was trained on. The test split then holds only their last '
    "interactions, with all earlier ones as history; all other users' test "
    'interactions are in no split, and users too short to split stay in train.',
  )
  held_out_items: float = setting(
    0.0,
    'Share of items, drawn by seed and key, kept out of all that a model learns from: '
    'they are in no train interaction, no transition and no train negative. '
    'Validation and test still ask for them, among all items, so that they tell how '
    'items are ranked that nobody had.',
  )
  allow_empty_splits: bool = setting(
    False, 'Publish a dataset even where train, validation or test is empty.'
  )
  train_negatives: int = setting(
    4, 'Negatives written with a train interaction.', minimum=0
  )
  eval_negatives: int = setting(
    100, 'Negatives to rank a held-out interaction among.', minimum=1
  )

  def check(self) -> None:
    for what in ('users', 'items'):
      if not 0 <= getattr(self, f'held_out_{what}') < 1:
        raise self.invalid(
          f'`held_out_{what}`: expected a share of {what} from 0, and less than 1.',
          f'held_out_{what}',
        )
    for name in ('time_quantile', 'test_share'):
      value = getattr(self, name)
      if not 0 < value < 1:
        raise self.invalid(f'`{name}`: expected a share between 0 and 1.', name)
    self._refuse_unused()

  def _refuse_unused(self) -> None:
    """A setting of another split than the one asked for would do nothing."""
    of = {
      'time_quantile': (dataset.BY_TIME,),
      'time_at': (dataset.BY_TIME,),
      'targets': (dataset.BY_TIME, dataset.BY_SHARE),
      'test_share': (dataset.BY_SHARE,),
      # The others hold times without it.
      'keep_times': (dataset.LEAVE_LAST_OUT,),
    }
    for field in dataclasses.fields(self):
      splits = of.get(field.name, (self.split,))
      if self.split not in splits and getattr(self, field.name) != field.default:
        raise self.invalid(
          f'`{field.name}` needs `split` to be {" or ".join(splits)}.',
          field.name,
          'split',
        )
