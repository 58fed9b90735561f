"""Judges a trained model and baselines on a dataset's held-out rows.

    python -m ncf_tfdata.evaluate --run_dir=RUN --baselines=popularity,ease
    python -m ncf_tfdata.evaluate --run_dir=RUN --compare_to=OTHER_RUN
    python -m ncf_tfdata.evaluate --data_dir=DATASET --baselines=ease:l2=200

Prints tables, and with a run updates its metrics.json, ranks and report.html.
"""

from __future__ import annotations

import pathlib
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from absl import flags

from ncf_tfdata import command, object_store
from ncf_tfdata.errors import UserError

if TYPE_CHECKING:
  from ncf_tfdata import dataset as dataset_lib
  from ncf_tfdata import run as run_lib
  from ncf_tfdata.data import records
  from ncf_tfdata.evaluation import ranking

_RUN_DIR = flags.DEFINE_string(
  'run_dir', None, 'Run directory of a trained model; without it, baselines only.'
)
_DATA_DIR = flags.DEFINE_string(
  'data_dir', None, "Dataset directory. Default: the run's."
)
_SPLIT = flags.DEFINE_enum(
  'split', 'test', ['validation', 'test'], 'Which held-out rows.'
)
_BASELINES = flags.DEFINE_list(
  'baselines',
  ['popularity'],
  'Of popularity, item-knn, ease, successors, als, bpr; the last two need the library '
  'implicit. Parameters follow a colon: ease:l2=200, item-knn:neighbours=50, '
  'successors:reverse=0.5:last=20.',
)
_FIT_ON = flags.DEFINE_enum(
  'fit_on', 'train', ['train', 'train+validation'], 'What baselines are fitted on.'
)
_COMPARE_TO = flags.DEFINE_string(
  'compare_to', None, 'Another run, evaluated before on the same split.'
)
_KS = flags.DEFINE_list('ks', ['1', '5', '10', '20'], 'Cut-offs of the metrics.')
_FULL = flags.DEFINE_bool(
  'full_ranking', True, 'Also rank the whole catalogue without the history.'
)
_SAMPLES = flags.DEFINE_integer(
  'bootstrap_samples', 1000, 'Resamples of the 95 % intervals.', lower_bound=100
)
_SEED = flags.DEFINE_integer('seed', 0, 'Of resampling.', lower_bound=0)


def main(argv: Sequence[str]) -> None:
  """The command."""
  if len(argv) > 1:
    raise UserError(f'unexpected argument {argv[1]!r}: flags begin with --.')
  ks = _cut_offs(_KS.value)
  for path in (_RUN_DIR.value, _COMPARE_TO.value):
    object_store.refuse(path or '')
  run_dir = pathlib.Path(_RUN_DIR.value) if _RUN_DIR.value else None
  if run_dir is None and _COMPARE_TO.value:
    raise UserError('--compare_to compares two runs: give the first as --run_dir.')

  from ncf_tfdata import dataset as dataset_lib
  from ncf_tfdata.evaluation import baselines, summary
  from ncf_tfdata.reporting import table

  fits = {spec: baselines.create(spec) for spec in _BASELINES.value}
  if not fits and run_dir is None:
    raise UserError('nothing to judge: give --run_dir, or name --baselines.')
  splits = _FIT_ON.value.split('+')
  if _SPLIT.value in splits:
    raise UserError('--fit_on=train+validation has seen what --split=validation asks.')
  dataset = dataset_lib.Dataset(_data_dir(run_dir))
  if dataset.manifest.flags.get('held_out_users'):
    for spec in fits:
      if spec.partition(':')[0] in baselines.OF_USERS:
        raise UserError(
          f'baseline {spec} knows nothing of users who are not in train, and the '
          'dataset was prepared with --held_out_users. Leave it out of --baselines.'
        )
  for fit in fits.values():
    fit.check_memory(dataset.num_items)
  other = _other_ranks(_COMPARE_TO.value) if _COMPARE_TO.value else None

  # From here on TensorFlow is needed; what can be refused has been.
  from ncf_tfdata.data import records

  found = {}
  if run_dir:
    from ncf_tfdata import run as run_lib
    from ncf_tfdata.models import saved

    run = run_lib.Run(run_dir)
    trained = saved.load_finished(run, dataset)
    model = trained.name
    found[model] = _rank(model, trained, dataset, ks)
  user, item = records.rows(dataset, *splits)
  for name, fit in fits.items():
    start = time.perf_counter()
    scorer = fit(user, item, dataset.num_users, dataset.num_items)
    found[name] = _rank(name, scorer, dataset, ks, time.perf_counter() - start)
    del scorer  # EASE is the square of the catalogue.

  count = dataset.vocabulary(dataset_lib.ITEMS).counts
  systems = {
    name: summary.summarize(
      ranks, ks, count, dataset.num_users, _SEED.value, _SAMPLES.value
    )
    for name, ranks in found.items()
  }
  _print_systems(systems, dataset, ks)
  if not run_dir:
    return
  others = {name: ranks for name, ranks in found.items() if name in fits}
  if other:
    others[str(_COMPARE_TO.value)] = other
  comparisons = {
    name: summary.compare(found[model], ranks, summary.headline(ks), _SEED.value)
    for name, ranks in others.items()
  }
  if comparisons:
    print('\npaired randomisation test over users\n')
    print(table.comparison_table(model, comparisons))
  for name, ranks in found.items():
    system = summary.MODEL if name == model else name
    summary.save_ranks(summary.ranks_path(run_dir, _SPLIT.value, system), ranks)
  _update_metrics(run, dataset, model, systems, comparisons)
  from ncf_tfdata.reporting import report

  print(f'\nreport: {report.write(run, dataset, _SPLIT.value)}')


def _cut_offs(values: list[str]) -> tuple[int, ...]:
  try:
    ks = tuple(sorted({int(value) for value in values}))
  except ValueError:
    ks = ()
  if not ks or ks[0] < 1:
    raise UserError(
      f'received --ks={",".join(values)}, expected whole numbers from 1, such as 1,10.'
    )
  return ks


def _data_dir(run_dir: pathlib.Path | None) -> str:
  """The dataset that was asked for, or that the run was trained on."""
  if _DATA_DIR.value:
    return _DATA_DIR.value
  if run_dir is None:
    raise UserError('give --run_dir, or --data_dir to judge baselines alone.')
  from ncf_tfdata import run as run_lib

  return run_lib.Run(run_dir).data_dir()


def _other_ranks(directory: str) -> ranking.Ranks:
  from ncf_tfdata.evaluation import summary

  return summary.load_ranks(
    summary.ranks_path(pathlib.Path(directory), _SPLIT.value, summary.MODEL)
  )


def _progress(
  batches: Iterable[records.EvaluationBatch], total: int, name: str
) -> Iterator[records.EvaluationBatch]:
  import tqdm

  bar = tqdm.tqdm(total=total, desc=name, unit=' users', leave=False, disable=None)
  with bar:
    for batch in batches:
      yield batch
      bar.update(len(batch.user))


def _rank(
  name: str,
  scorer: ranking.Scorer,
  dataset: dataset_lib.Dataset,
  ks: tuple[int, ...],
  fit_seconds: float | None = None,
) -> ranking.Ranks:
  from ncf_tfdata.data import records
  from ncf_tfdata.evaluation import ranking

  start = time.perf_counter()
  batches = _progress(
    records.evaluation_batches(
      dataset, _SPLIT.value, ranking.batch_rows(dataset.num_items)
    ),
    dataset.rows(_SPLIT.value),
    name,
  )
  if _FULL.value:
    ranks = ranking.rank_full(scorer, batches, dataset.num_items, ks)
  else:
    ranks = ranking.rank_sampled(scorer, batches)
  seconds = time.perf_counter() - start
  fitted = '' if fit_seconds is None else f'fitted in {fit_seconds:.1f} s, '
  print(
    f'{name}: {fitted}ranked {len(ranks.user):,} users in {seconds:.1f} s '
    f'({len(ranks.user) / seconds:,.0f} users/s)',
    flush=True,
  )
  return ranks


def _print_systems(
  systems: dict[str, Any],
  dataset: dataset_lib.Dataset,
  ks: tuple[int, ...],
) -> None:
  from ncf_tfdata.evaluation import summary
  from ncf_tfdata.reporting import table

  candidates = {
    summary.SAMPLED: f'{dataset.negatives(_SPLIT.value)} sampled negatives',
    summary.FULL: f'the whole catalogue of {dataset.num_items:,} items',
  }
  shown = summary.RANKINGS if _FULL.value else (summary.SAMPLED,)
  for ranking in shown:
    print(f'\n{_SPLIT.value}: among {candidates[ranking]}, 95 % intervals\n')
    print(table.metrics_table(systems, ranking, ks))
  if _FULL.value:
    print('\ntop lists\n')
    print(table.lists_table(systems, summary.headline(ks)))


def _update_metrics(
  run: run_lib.Run,
  dataset: dataset_lib.Dataset,
  model: str,
  systems: dict[str, Any],
  comparisons: dict[str, Any],
) -> None:
  """Puts the numbers into metrics.json, beside those of other splits and systems."""
  metrics = run.metrics() or {}
  metrics['model'] = model
  baselines = metrics.setdefault('baselines', {})
  for name, summary in systems.items():
    if name == model:
      metrics[_SPLIT.value] = summary
    else:
      summary = {'fit_on': _FIT_ON.value, **summary}
      baselines.setdefault(name, {})[_SPLIT.value] = summary
  metrics.setdefault('comparisons', {}).setdefault(_SPLIT.value, {}).update(comparisons)
  metrics['dataset_sha256'] = dataset.sha256
  metrics['checkpoint_sha256'] = run.checkpoint_sha256()
  run.write_metrics(metrics)


if __name__ == '__main__':
  command.run(main, takes_arguments=True)
