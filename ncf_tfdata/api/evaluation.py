"""Judging systems on held-out rows: `evaluate`, and what it returns."""

from __future__ import annotations

import dataclasses
import math
import pathlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ncf_tfdata import dataset as dataset_lib
from ncf_tfdata import object_store
from ncf_tfdata import run as run_lib
from ncf_tfdata.api import predictions
from ncf_tfdata.api import systems as systems_lib
from ncf_tfdata.errors import UserError
from ncf_tfdata.evaluation import (
  candidates,
  protocol,
  ranking,
  requirements,
  summary,
)
from ncf_tfdata.evaluation.config import EvaluateConfig
from ncf_tfdata.evaluation.predictions import describe
from ncf_tfdata.evaluation.requirements import Check
from ncf_tfdata.reporting import table
from ncf_tfdata.tables import Table

if TYPE_CHECKING:
  from ncf_tfdata.models.ranking_model import Model


@dataclasses.dataclass(frozen=True)
class Evaluation:
  """What some systems reach on the held-out rows of a split.

  Attributes:
    config: What was asked for.
    model: Name of the trained model; None where none was judged.
    systems: Numbers by name of the system, the model's first: what metrics.json holds
      of it, such as `systems['ease']['full']['ndcg@10']`.
    reference: Whom the others are compared with: the model, or without one the first
      of `predictions`. None where baselines alone were judged.
    comparisons: Of it with each other system, by name and ranking; paired.
    candidates: What held-out items were ranked among, in words, by ranking.
    protocol: What stands behind the numbers; see `evaluation.protocol.card`.
    report: Path of the report; None where no model was judged.
    checks: What was required of the reference, and what it reached.
  """

  config: EvaluateConfig
  model: str | None
  systems: Mapping[str, Mapping[str, Any]]
  reference: str | None
  comparisons: Mapping[str, Any]
  candidates: Mapping[str, str]
  protocol: Mapping[str, Any]
  report: pathlib.Path | None = None
  checks: tuple[Check, ...] = ()

  @property
  def missed(self) -> list[str]:
    """What was required and not reached, a line each."""
    return [str(check) for check in self.checks if not check.met]

  def table(self) -> Table:
    """All numbers, aligned for the screen."""
    split, ks = self.config.split, self.config.ks
    parts = [
      f'{split}: among {candidates}, 95 % intervals\n\n'
      f'{table.metrics_table(self.systems, name, ks)}'
      for name, candidates in self.candidates.items()
      if any(name in numbers for numbers in self.systems.values())
    ]
    if self.config.full_ranking:
      lists = table.lists_table(self.systems, summary.headline(ks))
      parts.append(f'top lists\n\n{lists}')
    if self.comparisons:
      compared = table.comparison_table(str(self.reference), self.comparisons)
      parts.append(
        'paired randomisation test over users; p, Holm: adjusted for '
        f'{summary.family(self.comparisons)} comparisons\n\n{compared}'
      )
    parts += [
      '\n'.join([f'{name}, {numbers["file"]}', *describe(numbers['counts'])])
      for name, numbers in self.systems.items()
      if 'counts' in numbers
    ]
    if self.checks:
      lines = [f'{check}: {"met" if check.met else "missed"}' for check in self.checks]
      parts.append('\n'.join(lines))
    return Table('\n\n'.join(parts))


def evaluate(
  dataset: dataset_lib.Dataset,
  config: EvaluateConfig | None = None,
  *,
  progress: bool = True,
  **settings: Any,
) -> Evaluation:
  """Judges baselines and other systems; `Run.evaluate` also judges a trained model.

      evaluate(Dataset('data/mine'), baselines=['ease', 'transitions']).table()
      evaluate(Dataset('data/mine'), predictions={'sasrec': 'lists.csv'}).table()

  Args:
    dataset: Whose held-out rows are ranked.
    config: What to do.
    progress: Whether to show it.
    **settings: Settings of `EvaluateConfig`, in place of `config`. `predictions` may
      be a mapping, of files by name of the system.

  Raises:
    ArgumentError: There is no such setting, a value is not one that it takes, or two
      contradict each other.
    UserError: A baseline or a file does not suit the dataset or this machine.
  """
  return judge(dataset, configured(config, settings), None, None, progress)


def configured(
  config: EvaluateConfig | None, settings: Mapping[str, Any]
) -> EvaluateConfig:
  """A configuration with some of its settings replaced."""
  if 'predictions' in settings:
    named = predictions.as_flags(settings['predictions'])
    settings = {**settings, 'predictions': named}
  return (config or EvaluateConfig()).replace(**settings)


def judge(
  dataset: dataset_lib.Dataset,
  config: EvaluateConfig,
  run: run_lib.Run | None,
  load: Callable[[], Model] | None,
  progress: bool,
) -> Evaluation:
  """Judges systems, and the model of a run, which then keeps the numbers.

  Args:
    dataset: Whose held-out rows are ranked.
    config: What to do.
    run: Of the model, or None.
    load: Gives the run's model. What can be refused is refused before.
    progress: Whether to show it.
  """
  required = _Required(config, run, bool(load or config.predictions))
  fits = systems_lib.fits(dataset, config, run)
  files = predictions.read(dataset, config)
  compared = _ranks_of(config) if config.compare_to else None
  found, model = {}, None
  if load is not None:
    scorer = load()
    model = scorer.name
    if model in files:
      raise UserError(
        f'--predictions gives the name {model} of the model. Give another.'
      )
    count = dataset.vocabulary(dataset_lib.ITEMS).counts
    found[model] = systems_lib.rank(scorer, dataset, config, count, model, progress)
  found |= systems_lib.rank_files(files, dataset, config, progress)
  found |= systems_lib.rank_baselines(fits, dataset, config, progress)
  notes = {name: system.noted for name, system in files.items()}
  notes |= {name: {'fit_on': config.fit_on} for name in fits}
  systems = _summaries(found, dataset, config, notes)
  made = Evaluation(
    config,
    model,
    systems,
    model or next(iter(files), None),
    {},
    _in_words(dataset, config),
    protocol.card(dataset, config.split, systems, run, config.candidates),
  )
  if made.reference is not None:
    checks = required.of(made.reference, systems[made.reference])
    made = dataclasses.replace(made, checks=checks)
  new = _compare(made, found, compared)
  # Who asks again, for one baseline more, asks one more question of the same rows.
  everything = summary.with_holm(_kept_comparisons(run, config) | new)
  made = dataclasses.replace(made, comparisons={name: everything[name] for name in new})
  if run is None:
    return made
  return dataclasses.replace(made, report=_keep(run, dataset, made, found, everything))


class _Required:
  """What is required, checked before there is anything to compare it with."""

  def __init__(
    self, config: EvaluateConfig, run: run_lib.Run | None, someone: bool
  ) -> None:
    """Looks up what other splits hold.

    Raises:
      UserError: There is no one of whom it is required, or another split was not
        judged.
    """
    self._split, self._asked = config.split, config.requirements
    self._others = (run.metrics() if run else None) or {}
    if self._asked and not someone:
      raise UserError(
        '--require is of a trained model or of --predictions: give --run_dir or '
        '--predictions.'
      )
    for each in self._asked:
      if math.isnan(self._value(each, None)):
        raise UserError(
          f'--require={each.split}/{each.ranking}/{each.metric}: the run has no such '
          f'number. Evaluate it with --split={each.split} first.'
        )

  def _value(
    self, asked: requirements.Requirement, judged: Mapping[str, Any] | None
  ) -> float:
    """What is reached; 0 on the split that is yet to be judged."""
    if asked.split not in (None, self._split):
      return requirements.value(self._others.get(asked.split, {}), asked)
    return 0.0 if judged is None else requirements.value(judged, asked)

  def of(self, system: str, judged: Mapping[str, Any]) -> tuple[Check, ...]:
    """What the system reaches, by its numbers on the split that was judged."""
    return tuple(
      Check(each, each.split or self._split, system, self._value(each, judged))
      for each in self._asked
    )


def _summaries(
  found: Mapping[str, ranking.Ranks],
  dataset: dataset_lib.Dataset,
  config: EvaluateConfig,
  notes: Mapping[str, Mapping[str, Any]],
) -> dict[str, dict[str, Any]]:
  """Numbers of each system, and what is noted of it."""
  count = dataset.vocabulary(dataset_lib.ITEMS).counts
  unused = dataset.unused_items()
  # Numbers among other candidates are other numbers.
  among = (
    {} if config.candidates == candidates.ALL else {'candidates': config.candidates}
  )
  return {
    name: {
      **notes.get(name, {}),
      **among,
      **summary.summarize(
        ranks,
        config.ks,
        count,
        dataset.active_users,
        config.seed,
        config.bootstrap_samples,
        unused,
      ),
    }
    for name, ranks in found.items()
  }


def _compare(
  made: Evaluation,
  found: Mapping[str, ranking.Ranks],
  compared: ranking.Ranks | None,
) -> dict[str, Any]:
  """Comparisons of the reference with the others, and with another run's model."""
  if made.reference is None:
    return {}
  others = {name: ranks for name, ranks in found.items() if name != made.reference}
  if compared is not None:
    others[str(made.config.compare_to)] = compared
  k, seed = summary.headline(made.config.ks), made.config.seed
  compared_with = {
    name: summary.compare(found[made.reference], ranks, k, seed)
    for name, ranks in others.items()
  }
  # Those that share no ranking have nothing to compare.
  return {name: by_ranking for name, by_ranking in compared_with.items() if by_ranking}


def _kept_comparisons(
  run: run_lib.Run | None, config: EvaluateConfig
) -> dict[str, Any]:
  """What the run was compared with before, among the same candidates."""
  metrics = (run.metrics() if run else None) or {}
  among = metrics.get(config.split, {}).get('candidates', candidates.ALL)
  if among != config.candidates:
    return {}
  return metrics.get('comparisons', {}).get(config.split, {})


def _ranks_of(config: EvaluateConfig) -> ranking.Ranks:
  """Ranks of the run that is compared with."""
  object_store.refuse(config.compare_to or '')
  directory = pathlib.Path(config.compare_to or '')
  return summary.load_ranks(summary.ranks_path(directory, config.split, summary.MODEL))


def _in_words(dataset: dataset_lib.Dataset, config: EvaluateConfig) -> dict[str, str]:
  """What held-out items are ranked among, by ranking."""
  words = {
    summary.SAMPLED: f'{dataset.negatives(config.split)} sampled negatives',
    summary.FULL: f'the whole catalogue of {dataset.catalogue_size:,} items',
  }
  known = ' seen before' if config.candidates == candidates.SEEN_BEFORE else ''
  shown = summary.RANKINGS if config.full_ranking else (summary.SAMPLED,)
  return {name: f'{words[name]}{known}' for name in shown}


def _keep(
  run: run_lib.Run,
  dataset: dataset_lib.Dataset,
  made: Evaluation,
  found: Mapping[str, ranking.Ranks],
  comparisons: Mapping[str, Any],
) -> pathlib.Path:
  """Puts ranks and numbers into the run, beside those of other splits and systems.

  Args:
    run: Where to.
    dataset: Whose held-out rows were ranked.
    made: The evaluation.
    found: Ranks by name of the system.
    comparisons: All of the split, kept ones included.

  Returns:
    The report that was written of them.
  """
  split = made.config.split
  for name, ranks in found.items():
    system = summary.MODEL if name == made.model else name
    summary.save_ranks(summary.ranks_path(run.directory, split, system), ranks)
  metrics = run.metrics() or {}
  metrics['model'] = made.model
  for name, numbers in made.systems.items():
    if name == made.model:
      metrics[split] = numbers
    else:
      kind = 'predictions' if name in made.config.prediction_files else 'baselines'
      metrics.setdefault(kind, {}).setdefault(name, {})[split] = numbers
  metrics.setdefault('comparisons', {})[split] = comparisons
  metrics.setdefault('protocol', {})[split] = made.protocol
  metrics['dataset_sha256'] = dataset.sha256
  metrics['checkpoint_sha256'] = run.checkpoint_sha256()
  run.write_metrics(metrics)
  from ncf_tfdata.reporting import report  # Matplotlib takes a second to import.

  return pathlib.Path(report.write(run, dataset, split))
