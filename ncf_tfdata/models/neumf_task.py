"""NeuMF, GMF and MLP as tasks of a training."""

from __future__ import annotations

import math
from typing import Any

from ncf_tfdata.data import row_batches
from ncf_tfdata.errors import UserError
from ncf_tfdata.models import counted, feature_settings, losses, neumf, pretraining
from ncf_tfdata.models.configs import GMFConfig, MLPConfig, NeuMFConfig
from ncf_tfdata.models.task import Context, Task


def create(config: GMFConfig | MLPConfig, context: Context) -> Task:
  """Makes a NeuMF or one of its halves, and its objective.

  Raises:
    UserError: Users of the dataset are held out of train and have no features, or the
      model would start from two others.
  """
  dataset, objective = context.dataset, context.objective
  features = feature_settings.of(config, context)
  if not features.of_users and dataset.manifest.flags.get('held_out_users'):
    raise UserError(
      f'{context.name} knows users by their ids alone, and the dataset was prepared '
      'with --held_out_users: its test users are not in train. Use --model=history, '
      'or prepare the dataset without, or with --user_features.'
    )
  model = _model(config, context, features)
  sampler = context.sampler(features.no_negatives)
  return Task(
    model,
    losses.Objective(
      model,
      objective.loss or 'bce',
      batch_size=context.batch_size,
      seed=context.seed,
      sampler=sampler,
      num_negatives=objective.num_negatives,
      shared_negatives=objective.shared_negatives,
      by_user=objective.batch_by_user,
      users_per_batch=_users_per_batch(context),
      logq=objective.logq_correction,
      l2=objective.l2 or 0.0,
      l2_tables=objective.l2_tables,
      item_id_dropout=features.id_dropout,
      user_dropout=features.user_dropout,
      replicas=context.replicas,
    ),
    batches=lambda epoch, step: row_batches.train_batches(
      dataset,
      batch_size=context.batch_size,
      seed=context.seed,
      negatives='none' if objective.shared_negatives else objective.negatives,
      num_negatives=objective.num_negatives,
      sampler=sampler,
      recency=objective.recency,
      by_user=objective.batch_by_user,
      part=context.part,
      first_epoch=epoch,
      first_step=step,
    ),
    steps=row_batches.steps_per_epoch(dataset, context.batch_size, context.part),
    rows=row_batches.rows_of(dataset, context.part),
    scorer=counted.added(model, config, dataset),
    chosen=_chosen(features),
    part=context.part,
  )


def _chosen(features: feature_settings.FeatureSettings) -> str:
  dropout = f'user_dropout {features.user_dropout}' if features.of_users else ''
  return ', '.join(filter(None, (str(features), dropout)))


def _users_per_batch(context: Context) -> int:
  """How many users a batch of whole users has: the mean and a quarter more."""
  rows = row_batches.rows_of(context.dataset, context.part)
  users = max(context.dataset.active_users, 1)
  return math.ceil(1.25 * context.batch_size / context.replicas * users / max(rows, 1))


def _model(
  config: GMFConfig | MLPConfig,
  context: Context,
  features: feature_settings.FeatureSettings,
) -> neumf.NeuMF:
  parts: dict[str, Any] = {'gmf_dim': 0, 'mlp_dim': 0}
  if isinstance(config, GMFConfig):
    parts |= {'gmf_dim': config.gmf_dim, 'gmf_weights': config.gmf_weights}
  if isinstance(config, MLPConfig):
    parts |= {
      'mlp_dim': config.mlp_dim,
      'mlp_layers': config.mlp_layers,
      'dropout': config.dropout or 0.0,
    }
  model = neumf.NeuMF(
    context.dataset.num_users,
    context.dataset.num_items,
    **parts,
    item_bias=config.item_bias,
    embedding_stddev=config.embedding_stddev,
    seed=context.seed,
    name=context.name,
    **features.model,
  )
  if features.of_users:
    model.user_known.assign(context.trained_users().astype('float32'))
  if isinstance(config, NeuMFConfig) and config.pretrained_gmf:
    if features.model:
      raise UserError(
        'received --pretrained_gmf on a dataset with features of items or users, whose '
        'weights are not put together of two halves. Give --nouse_item_features '
        '--nouse_user_features, or train the NeuMF from the start.'
      )
    if context.base:
      raise UserError(
        'received both --warm_start and --pretrained_gmf: a model starts from one of '
        'them. Leave one out.'
      )
    pretraining.fuse(
      model,
      context.load(config.pretrained_gmf),
      context.load(config.pretrained_mlp or ''),
      config.pretrained_alpha,
    )
  return model
