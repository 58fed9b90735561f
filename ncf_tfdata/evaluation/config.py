"""What is judged, on which rows, and by which cut-offs."""

from __future__ import annotations

import dataclasses

from ncf_tfdata.config import Config, setting
from ncf_tfdata.evaluation import metrics


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluateConfig(Config):
  """An evaluation of a trained model, of baselines, or of both.

  `ks` are kept in ascending order, each once.
  """

  split: str = setting(
    'test', 'Which held-out interactions.', choices=('validation', 'test')
  )
  baselines: tuple[str, ...] = setting(
    ('popularity',),
    'Of popularity, item-knn, ease, transitions (also called successors), als, bpr; '
    'the last two need the library implicit. Parameters follow a colon: ease:l2=200, '
    'item-knn:neighbours=50, transitions:reverse=0.5:last=20.',
  )
  fit_on: str = setting(
    'train',
    'What baselines are fitted on.',
    choices=('train', 'train+validation'),
  )
  compare_to: str | None = setting(
    None, 'Another run, evaluated before on the same split.'
  )
  ks: tuple[int, ...] = setting(metrics.KS, 'Cut-offs of the metrics.', minimum=1)
  full_ranking: bool = setting(
    True, 'Also rank the whole catalogue without the history.'
  )
  bootstrap_samples: int = setting(
    1000, 'Resamples of the 95 % intervals.', minimum=100
  )
  seed: int = setting(0, 'Of resampling.', minimum=0)

  def check(self) -> None:
    if not self.ks:
      raise self.invalid('`ks` must be whole numbers, such as 1,10.', 'ks')
    object.__setattr__(self, 'ks', tuple(sorted(set(self.ks))))
    if self.split in self.fit_splits:
      raise self.invalid(
        'Baselines of this `fit_on` have seen the interactions of this `split`.',
        'fit_on',
        'split',
      )

  @property
  def fit_splits(self) -> list[str]:
    """The splits that baselines are fitted on."""
    return self.fit_on.split('+')
