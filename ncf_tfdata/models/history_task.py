"""The history model as a task of a training."""

from __future__ import annotations

from ncf_tfdata.data import row_batches, window_batches
from ncf_tfdata.errors import UserError
from ncf_tfdata.models import (
  counted,
  feature_settings,
  history,
  history_defaults,
  history_objective,
)
from ncf_tfdata.models.configs import HistoryConfig
from ncf_tfdata.models.task import Context, Task


def create(config: HistoryConfig, context: Context) -> Task:
  """Makes a history model and its objective.

  Raises:
    ArgumentError: What is given does not go with what follows from the dataset.
    UserError: Transitions are asked for, and the dataset has none.
  """
  dataset, objective, seed = context.dataset, context.objective, context.seed
  features = feature_settings.of(config, context)
  chosen = history_defaults.of_dataset(dataset, features.of_users)
  chosen = chosen.as_wide_as(context.base).under(config, objective.l2)
  hidden = config.hidden or context.base.get('hidden')
  config = config.replace(**chosen.model(), hidden=hidden)
  length = 0 if config.encoder == 'none' else chosen.length
  config = config.replace(gaps=bool(config.gaps and length))
  if config.gaps and not dataset.manifest.has_times:
    raise UserError(
      f'{dataset.directory} holds no times, and the model reads the gaps between them '
      '(--history_gaps). Prepare the dataset with times, or add --nohistory_gaps; a '
      'warm start then needs a base without them.'
    )
  model = _model(config, length, context, features)
  steps = window_batches.steps_per_epoch(
    dataset, context.batch_size, length, part=context.part
  )
  rows = row_batches.rows_of(dataset, context.part)
  return Task(
    model,
    history_objective.HistoryObjective(
      model,
      rows_per_step=rows / steps,
      seed=seed,
      sampler=context.sampler(features.no_negatives),
      shared_negatives=objective.shared_negatives,
      l2=chosen.l2,
      user_dropout=config.user_dropout or 0.0,
      item_id_dropout=features.id_dropout,
    ),
    batches=lambda epoch, step: window_batches.window_batches(
      dataset,
      batch_size=context.batch_size,
      history_length=length,
      seed=seed,
      recency=objective.recency,
      replicas=context.replicas,
      part=context.part,
      gaps=model.reads_gaps,
      first_epoch=epoch,
      first_step=step,
    ),
    steps=steps,
    rows=rows,
    scorer=counted.added(model, config, dataset),
    chosen=', '.join(filter(None, (str(chosen), str(features)))),
    part=context.part,
  )


def _attention_length(config: HistoryConfig, length: int) -> int | None:
  """None where it is all that is read, as without the setting."""
  asked = config.attention_length
  return asked if asked and asked < length else None


def _model(
  config: HistoryConfig,
  length: int,
  context: Context,
  features: feature_settings.FeatureSettings,
) -> history.History:
  dataset, dim = context.dataset, config.dim or 0
  model = history.History(
    dataset.num_users,
    dataset.num_items,
    history_length=length,
    encoder=config.encoder,
    dim=dim,
    heads=config.heads,
    hidden=config.hidden or 2 * dim,
    user_embedding=bool(config.user_embedding),
    members=config.members,
    dropout=config.dropout or 0.0,
    embedding_stddev=config.embedding_stddev,
    seed=context.seed,
    gaps=bool(config.gaps),
    attention_length=_attention_length(config, length),
    name=context.name,
    **features.model,
  )
  model.user_known.assign(context.trained_users().astype('float32'))
  return model
