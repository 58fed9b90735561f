"""What models and objectives are made of: the configurations of `registry`'s models."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

from ncf_tfdata.config import Config, setting
from ncf_tfdata.manifest import Manifest

# Share of items, and of users, whose id is left out in training, where they have
# features.
ITEM_ID_DROPOUT, USER_DROPOUT = 0.1, 0.1

# A default that `history_defaults` makes.
_BY_DENSITY = "for --model=history by the log's interactions per user"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ObjectiveConfig(Config):
  """What is minimised: loss, negatives, weights of interactions, and regularisation."""

  loss: str | None = setting(
    None,
    'Binary cross-entropy, sampled softmax over a positive and its negatives, or '
    'Bayesian personalised ranking. Default: bce, softmax for --model=history.',
    choices=('bce', 'softmax', 'bpr'),
  )
  negatives: str = setting(
    'fresh',
    'Negatives drawn anew every epoch from what the user has not seen in train, or '
    "those of the dataset's records.",
    choices=('fresh', 'static'),
  )
  num_negatives: int = setting(4, 'Negatives per interaction.', minimum=1)
  shared_negatives: int = setting(
    0,
    'If not 0, draws so many negatives for a whole batch, instead of --num_negatives '
    "per interaction. Of these only an interaction's own positive is masked. "
    '--model=history shares always, and takes the whole catalogue for 0.',
    minimum=0,
  )
  batch_by_user: bool = setting(
    False,
    "Keeps a user's interactions together in a batch, so that --shared_negatives are "
    'scored once a user, and masks all items of these interactions.',
  )
  sampler: str = setting(
    'uniform',
    'What fresh and shared negatives are drawn from: all items alike, or in '
    'proportion to train interactions ** --popularity_exponent.',
    choices=('uniform', 'popularity'),
  )
  popularity_exponent: float = setting(0.5, 'Exponent of --sampler=popularity.')
  logq_correction: bool = setting(
    False,
    "Takes the log of its expected count off a negative's logit, with --loss=softmax; "
    '--model=history always does.',
  )
  l2: float | None = setting(
    None,
    'Strength of the mean over interactions of |user|^2 + |positive|^2 + mean '
    '|negative|^2; of the first two alone with --model=history. '
    f'Default: 0, {_BY_DENSITY}.',
    minimum=0,
  )
  l2_tables: float = setting(
    0.0, 'Strength of the sum of squares of whole embedding tables.', minimum=0
  )
  recency: float = setting(
    0.0,
    'An interaction that is d before the last of its user weighs (1 + d)^-recency.',
    minimum=0,
  )

  def check(self) -> None:
    if self.logq_correction and self.loss not in (None, 'softmax'):
      raise self.invalid(
        '`logq_correction` is a correction of the softmax, and not of another `loss`.',
        'logq_correction',
        'loss',
      )
    if self.shared_negatives and self.negatives == 'static':
      raise self.invalid(
        '`shared_negatives` are drawn, and cannot be those of the records.',
        'shared_negatives',
        'negatives',
      )
    if self.batch_by_user and not self.shared_negatives:
      raise self.invalid(
        '`batch_by_user` is for `shared_negatives`, which must be above 0.',
        'batch_by_user',
        'shared_negatives',
      )


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelConfig(Config):
  """What all models have; the base of a plug-in's configuration.

  Attributes:
    losses: Those that the model can be trained by, its default first.
    searched: The settings that `tune` searches by default, and where: a --search.
  """

  losses: ClassVar[tuple[str, ...]] = ('bce', 'softmax', 'bpr')
  searched: ClassVar[str] = 'learning_rate=0.0003..0.03:log'

  embedding_stddev: float = setting(
    0.05,
    'Standard deviation of the normal distribution that embeddings start from.',
    minimum=0,
    flag='embedding_initializer_stddev',
  )
  transition_logits: float | None = setting(
    None,
    "Weight of log(--successor_smoothing + the dataset's transition scores) in the "
    'logits of a trained model. '
    f'Default: 0, {_BY_DENSITY} and 0 without item transitions.',
    minimum=0,
    flag='successor_logits',
  )
  transition_smoothing: float = setting(
    0.01,
    'What is added to transition scores.',
    minimum=1e-9,
    flag='successor_smoothing',
  )
  transition_reverse: float | None = setting(
    None,
    f'Weight of item transitions counted backwards in time. Default: {_BY_DENSITY}.',
    minimum=0,
    flag='successor_reverse',
  )
  ease_logits: float | None = setting(
    None,
    'Weight of the scores of EASE, fitted on the train interactions, in the logits of '
    f'a trained model. Default: 0, {_BY_DENSITY} and 0 for large catalogues.',
    minimum=0,
  )
  ease_l2: float = setting(500.0, 'Ridge of that EASE.', minimum=1e-9)

  def resolved(self, objective: ObjectiveConfig) -> ObjectiveConfig:
    """The objective with the loss that this model is trained by.

    Raises:
      ArgumentError: It asks for a loss that the model does not take.
    """
    loss = objective.loss or self.losses[0]
    if loss not in self.losses:
      raise objective.invalid(
        f'`loss` must be {" or ".join(self.losses)} for {type(self).__name__}.', 'loss'
      )
    return objective.replace(loss=loss)


@dataclasses.dataclass(frozen=True, kw_only=True)
class FeatureConfig(ModelConfig):
  """Of a model that may know items and users by what they are: by their features.

  Attributes:
    id_dropouts: By item or user, the setting that leaves ids out, where nothing but
      features is left then.
  """

  id_dropouts: ClassVar[Mapping[str, str]] = {'item': 'item_id_dropout'}

  use_item_features: bool | None = setting(
    None,
    'Adds to the vector of an item a learned sum over its features, which the dataset '
    'must have (prepare --item_features); an item without train interactions is then '
    'ranked by them and by what is most like it. Default: where the dataset has '
    'features.',
  )
  item_id_dropout: float | None = setting(
    None,
    'Share of the items looked at in training, as history, positive and negative, '
    'whose id vector is left out, so that features alone can carry an item. '
    f'Default: {ITEM_ID_DROPOUT} with features.',
    minimum=0,
    maximum=1,
  )
  cold_item_logits: float = setting(
    0.0,
    'Added to the logits of items without train interactions, where items have '
    'features: above 0 shows more of them, at the price of others.',
  )
  text_buckets: int = setting(
    16384,
    'Rows of the table that the words of a column of texts, of items or users, are '
    'hashed to.',
    minimum=1,
    flag='item_text_buckets',
  )
  use_user_features: bool | None = setting(
    None,
    'Adds to the vector of a user a learned sum over their features, which the dataset '
    'must have (prepare --user_features); a user without train interactions is then '
    'known by them. Default: where the dataset has features of users.',
  )
  user_dropout: float | None = setting(
    None,
    'Share of train interactions whose user is taken for a new one, so that a model '
    'learns to do without their vector: by history with --model=history, and by '
    'features of users. Default: for --model=history the share of validation users '
    'without train interactions, at most a half, in a log cut by time or share; at '
    f'least {USER_DROPOUT} with features of users.',
    minimum=0,
    maximum=1,
  )

  def uses(
    self, role: str, manifest: Manifest, base: Mapping[str, Any] | None = None
  ) -> bool:
    """Whether a model has features of items, or of users, where that is left open too.

    One that starts from a model has them where that one has.

    Args:
      role: item or user.
      manifest: Of the dataset.
      base: Settings of the model that it is to start from; none of none.
    """
    wanted: bool | None = getattr(self, f'use_{role}_features')
    if wanted is None and base:
      return f'{role}_features' in base
    if wanted is None:
      there = getattr(manifest, f'{role}_features') is not None
      dropout = self.id_dropouts.get(role)
      return there or bool(dropout and getattr(self, dropout))
    return wanted

  def check(self) -> None:
    super().check()
    for role, dropout in self.id_dropouts.items():
      use = f'use_{role}_features'
      if getattr(self, dropout) and getattr(self, use) is False:
        raise self.invalid(
          f'Without ids and without features {role}s are nothing: `{dropout}` is for '
          f'`{use}`.',
          dropout,
          use,
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class _DropoutConfig(FeatureConfig):
  dropout: float | None = setting(
    None,
    "Dropout rate: on the MLP's output, or on encoded history, user and hidden layer. "
    f'Default: 0, {_BY_DENSITY}.',
    minimum=0,
    maximum=0.99,
  )


@dataclasses.dataclass(frozen=True, kw_only=True)
class _PairConfig(FeatureConfig):
  searched = f'{ModelConfig.searched},l2=0.001..1:log,recency=0..2'
  id_dropouts: ClassVar[Mapping[str, str]] = {
    **FeatureConfig.id_dropouts,
    'user': 'user_dropout',
  }
  item_bias: bool = setting(False, 'Learns a bias of each item.')


@dataclasses.dataclass(frozen=True, kw_only=True)
class GMFConfig(_PairConfig):
  """Generalised matrix factorisation, one half of NeuMF."""

  searched = f'{_PairConfig.searched},gmf_dim=32,64,128,192'
  gmf_dim: int = setting(32, "Width of GMF's vectors.", minimum=1)
  gmf_weights: bool = setting(
    True,
    "Learns the weights of GMF's product, from ones; without, it is a dot product.",
  )


@dataclasses.dataclass(frozen=True, kw_only=True)
class MLPConfig(_PairConfig, _DropoutConfig):
  """A multi-layer perceptron over user and item, the other half of NeuMF."""

  searched = f'{_PairConfig.searched},dropout=0..0.7,mlp_dim=16,32,64'
  mlp_dim: int = setting(
    32, "Width of the MLP's user vectors, and of its item vectors.", minimum=1
  )
  mlp_layers: tuple[int, ...] = setting(
    (256, 128, 64), "Units of the MLP's layers, comma-separated.", minimum=1
  )

  def check(self) -> None:
    super().check()
    if not self.mlp_layers:
      raise self.invalid(
        '`mlp_layers` must be numbers of units, such as 256,128,64.', 'mlp_layers'
      )


@dataclasses.dataclass(frozen=True, kw_only=True)
class NeuMFConfig(GMFConfig, MLPConfig):
  """NeuMF (He et al., Neural collaborative filtering, WWW 2017)."""

  searched = f'{GMFConfig.searched},dropout=0..0.7'
  pretrained_gmf: str | None = setting(
    None, 'Run of --model=gmf that a NeuMF starts from.'
  )
  pretrained_mlp: str | None = setting(
    None, 'Run of --model=mlp that a NeuMF starts from.'
  )
  pretrained_alpha: float = setting(
    0.5, 'Share of the pretrained GMF in the logit.', minimum=0, maximum=1
  )

  def check(self) -> None:
    super().check()
    if bool(self.pretrained_gmf) != bool(self.pretrained_mlp):
      raise self.invalid(
        'Give both `pretrained_gmf` and `pretrained_mlp`, or neither.',
        'pretrained_gmf',
        'pretrained_mlp',
      )


@dataclasses.dataclass(frozen=True, kw_only=True)
class HistoryConfig(_DropoutConfig):
  """The model that reads a user's last items; see `history`.

  What is None follows from the log's interactions per user: `history_defaults`.
  """

  losses = ('softmax',)
  # Widths and lengths cost time, and transitions need a dataset that has them: who has
  # either adds them.
  searched = (
    'learning_rate=0.001..0.01:log,dropout=0..0.7,l2=0.005..0.5:log,recency=0..1'
  )

  encoder: str = setting(
    'pool',
    'What --model=history makes of past items: sums weighed by lag, causal '
    'self-attention, both, or nothing (matrix factorisation).',
    choices=('pool', 'attention', 'both', 'none'),
    flag='history_encoder',
  )
  length: int | None = setting(
    None,
    f'Latest items that --model=history looks at. Default: {_BY_DENSITY}.',
    minimum=2,
    flag='history_length',
  )
  attention_length: int | None = setting(
    None,
    'Of them, the latest that attention looks at. Default: all.',
    minimum=1,
  )
  dim: int | None = setting(
    None,
    f"Width of --model=history's vectors. Default: {_BY_DENSITY}.",
    minimum=1,
    flag='history_dim',
  )
  heads: int = setting(8, 'Heads of the encoder.', minimum=1, flag='history_heads')
  hidden: int | None = setting(
    None,
    "Units of the query network's hidden layer. Default: twice --history_dim.",
    minimum=1,
    flag='history_hidden',
  )
  user_embedding: bool | None = setting(
    None, f'Learns a vector of each user for --model=history. Default: {_BY_DENSITY}.'
  )
  gaps: bool | None = setting(
    None,
    'Whether --model=history reads how long each item came after the one before. '
    'Default: where the dataset holds times.',
    flag='history_gaps',
  )
  members: int = setting(
    1,
    'Networks of --model=history that are trained side by side and whose logits are '
    'averaged.',
    minimum=1,
  )

  def check(self) -> None:
    super().check()
    if self.encoder == 'none':
      if self.user_embedding is False:
        raise self.invalid(
          'A model with `encoder` none needs `user_embedding`: else it would know '
          'nothing of a user.',
          'encoder',
          'user_embedding',
        )
      if self.gaps:
        raise self.invalid(
          'A model with `encoder` none reads no history, and no `gaps` in it.',
          'encoder',
          'gaps',
        )
    elif self.dim is not None and self.dim % self.heads:
      raise self.invalid('`heads` must divide `dim`.', 'heads', 'dim')
    if self.attention_length and self.encoder not in ('attention', 'both'):
      raise self.invalid(
        'An `attention_length` needs an `encoder` with attention.',
        'attention_length',
        'encoder',
      )
