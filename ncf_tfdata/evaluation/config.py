"""What is judged, on which rows, and by which cut-offs."""

from __future__ import annotations

import dataclasses
import re

from ncf_tfdata.config import Config, setting
from ncf_tfdata.evaluation import candidates, metrics, requirements, summary

# What a run keeps of its own model goes by this name.
_RESERVED = ('model',)


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluateConfig(Config):
  """An evaluation of a trained model, of baselines, and of files of other systems.

  `ks` are kept in ascending order, each once.
  """

  split: str = setting(
    'test', 'Which held-out interactions.', choices=('validation', 'test')
  )
  baselines: tuple[str, ...] = setting(
    ('popularity',),
    'Of popularity, recent-popularity, item-knn, item-knn-decay, ease, transitions '
    '(also called successors), sequence-knn, content-knn, category-popularity, als, '
    'bpr. The second and the fourth need a dataset with times, content-knn and '
    'category-popularity one with features of items, the last two the library '
    'implicit. Parameters follow a colon: ease:l2=200, item-knn:neighbours=50, '
    'transitions:reverse=0.5:last=20.',
  )
  predictions: tuple[str, ...] = setting(
    (),
    'NAME=FILE: what another system recommends, to be judged beside the others. FILE '
    'holds ranked lists or scores in original ids: columns user, item, and where there '
    'are such score and rank, as CSV, TSV, JSON lines or Parquet, or what recommend '
    'has written. Repeat the flag for another file.',
    repeated=True,
  )
  fit_on: str = setting(
    'train',
    'What baselines are fitted on.',
    choices=('train', 'train+validation'),
  )
  compare_to: str | None = setting(
    None, 'Another run, evaluated before on the same split.'
  )
  require: tuple[str, ...] = setting(
    (),
    'What the model must reach, such as ndcg@10>=.2 or validation/sampled/hr@10>.7: '
    'SPLIT/RANKING/METRIC@K, one of >= > <= <, a number. SPLIT may be left out, for '
    '--split, and RANKING, for full. What it misses is a line each, and exit code 4. '
    'Several stand between commas, or repeat the flag. Without a model they are of the '
    'first of --predictions.',
    repeated=True,
  )
  ks: tuple[int, ...] = setting(metrics.KS, 'Cut-offs of the metrics.', minimum=1)
  candidates: str = setting(
    candidates.ALL,
    'What is ranked among: all items, or those that anyone had before the held-out '
    "interaction's time. The second needs a dataset of --split=time or ratio.",
    choices=candidates.CHOICES,
  )
  full_ranking: bool = setting(
    True, 'Also rank the whole catalogue without the history.'
  )
  score_mib: int = setting(
    32,
    'MiB of memory for the scores of as many users as are ranked at once; the least '
    'is one user.',
    minimum=1,
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
    self._check_predictions()
    self._check_requirements()

  def _check_predictions(self) -> None:
    names = [each.partition('=')[0] for each in self.predictions]
    for each, name in zip(self.predictions, names, strict=True):
      if not re.fullmatch(r'[\w.+() -]+=.+', each) or name in _RESERVED:
        raise self.invalid(
          '`predictions` must be NAME=FILE, with a NAME of letters, digits, spaces and '
          f'._+-() that is not {" or ".join(_RESERVED)}.',
          'predictions',
        )
    if len(set(names)) < len(names) or self.compare_to in names:
      raise self.invalid(
        'Systems of `predictions` must have names of their own.', 'predictions'
      )

  def _check_requirements(self) -> None:
    try:
      asked = self.requirements
    except ValueError as error:
      raise self.invalid(f'In `require`, {error}.', 'require') from error
    own = [each for each in asked if each.split in (None, self.split)]
    for each in own:
      if each.k not in self.ks:
        raise self.invalid(
          f'`require` asks for {each.metric}, and {each.k} is none of `ks`.',
          'require',
          'ks',
        )
    if not self.full_ranking and any(each.ranking == summary.FULL for each in own):
      raise self.invalid(
        '`require` asks for the full ranking, which needs `full_ranking`; write '
        'sampled/METRIC for the other one.',
        'require',
        'full_ranking',
      )

  @property
  def requirements(self) -> list[requirements.Requirement]:
    """What `require` says.

    Raises:
      ValueError: An expression is none.
    """
    texts = [text for each in self.require for text in each.split(',')]
    return [requirements.Requirement.parse(text) for text in texts]

  @property
  def prediction_files(self) -> dict[str, str]:
    """Files of `predictions` by name of the system."""
    return dict(each.split('=', 1) for each in self.predictions)

  @property
  def fit_splits(self) -> list[str]:
    """The splits that baselines are fitted on."""
    return self.fit_on.split('+')
