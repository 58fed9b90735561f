"""Systems of other libraries on one split of ours, judged by file beside our model.

    python benchmarks/foreign_systems.py --input=ml-1m/ratings.dat \
        --rectools_python=PYTHON --implicit_python=PYTHON --lenskit_python=PYTHON

Prepares the log by time (5-core, each user's last row after T) and writes the split as
files. Each system learns from train.tsv. What its settings list holds is chosen on the
validation rows, and the lists of the chosen model are judged on test, as it is. Our
recipe is chosen and judged the same way; --run_dir names a run of it that exists.
Checks that a runner's own validation metrics are those that `evaluate` finds in its
file. What has ended is not done again. Writes results/foreign_systems.json.
"""

import dataclasses
import json
import os
import pathlib
import shutil
from typing import Any

import numpy as np
import printed
import side_by_side
from absl import app, flags
from foreign_split import CHOSEN

_INPUT = flags.DEFINE_string('input', None, 'A log with timestamps.', required=True)
_RUN = flags.DEFINE_string('run_dir', None, 'A run of ours on this split, to copy.')
_RECIPE = flags.DEFINE_string('recipe', 'configs/history.cfg', 'Else: to train.')
_WORK = flags.DEFINE_string('work_dir', 'runs/foreign', 'Where all of it goes.')
_THREADS = flags.DEFINE_integer('threads', os.cpu_count(), 'Of a system.')
_SECONDS = flags.DEFINE_float(
  'seconds', 3600.0, 'Training of one setting of SASRec begins no epoch later.'
)
_PATIENCE = flags.DEFINE_integer('patience', 5, 'Epochs without a new best, of SASRec.')
_BASELINES = flags.DEFINE_string(
  'baselines', 'popularity,ease,successors', 'Of ours, beside them.'
)
_PYTHONS = {
  library: flags.DEFINE_string(
    f'{library}_python', None, f'A Python with {library}; left out without it.'
  )
  for library in ('rectools', 'implicit', 'lenskit')
}


@dataclasses.dataclass(frozen=True)
class System:
  """A system of another library.

  Attributes:
    library: foreign_LIBRARY.py runs it.
    settings: Of which one is chosen.
    model: Which one, where the library's runner has several.
  """

  library: str
  settings: list[dict[str, Any]]
  model: str = ''


def _sasrec(factors: int, heads: int, dropout: float, length: int) -> dict[str, Any]:
  """Settings of RecTools; with small batches, which need fewer epochs."""
  return {
    'n_blocks': 2,
    'n_factors': factors,
    'n_heads': heads,
    'dropout_rate': dropout,
    'session_max_len': length,
    'batch_size': 64,
  }


_SYSTEMS = {
  'SASRec (RecTools)': System(
    'rectools', [_sasrec(64, 1, 0.1, 100), _sasrec(128, 2, 0.2, 100)]
  ),
  'ALS (implicit)': System(
    'implicit',
    [
      {'factors': factors, 'regularization': regularization, 'alpha': alpha}
      for factors, regularization, alpha in (
        *((64, 0.01, 1.0), (64, 1.0, 10.0), (128, 0.01, 1.0)),
        *((128, 10.0, 1.0), (256, 0.01, 1.0), (256, 10.0, 1.0)),
      )
    ],
  ),
  'ItemKNN (LensKit)': System(
    'lenskit',
    [
      {'feedback': 'implicit', 'max_nbrs': 100, 'save_nbrs': saved}
      for saved in (None, 20, 100)
    ],
    'ItemKNN',
  ),
  'EASE (LensKit)': System(
    'lenskit', [{'regularization': value} for value in (50, 200, 500, 2000)], 'EASE'
  ),
}


def _prepare(work: pathlib.Path) -> str:
  """Prepares the log unless it is; returns the dataset's sha256."""
  if not (work / 'split').exists():
    side_by_side.module(
      'beam_pipelines.prepare', f'--input={_INPUT.value}', f'--output={work}/data',
      '--overwrite', '--core=5', '--split=time', '--targets=last', '--successors=500',
      f'--export_split={work}/split',
    )  # fmt: skip
  return json.loads((work / 'split' / 'split.json').read_text())['dataset']


def _lists(work: pathlib.Path, name: str, system: System) -> pathlib.Path:
  """Lets a system write its lists unless it has; returns their directory."""
  output = work / name.replace(' ', '-')
  chosen = output / CHOSEN
  if chosen.exists() and json.loads(chosen.read_text())['ended']:
    return output
  task = {
    'split': str((work / 'split').resolve()),
    'output': str(output.resolve()),
    'model': system.model,
    'settings': system.settings,
    'threads': _THREADS.value,
    'seconds': _SECONDS.value,
    'patience': _PATIENCE.value,
  }
  runner = pathlib.Path(__file__).with_name(f'foreign_{system.library}.py').resolve()
  python = _PYTHONS[system.library].value
  threads = {'OMP_NUM_THREADS': str(_THREADS.value), 'OMP_WAIT_POLICY': 'PASSIVE'}
  for line in printed.lines([python, str(runner), json.dumps(task)], **threads):
    print(name, line.text, end='', flush=True)
  return output


def _check(work: pathlib.Path, directories: dict[str, pathlib.Path]) -> None:
  """That our evaluator finds in the validation lists what their runner has chosen.

  Raises:
    RuntimeError: It does not.
  """
  import ncf_tfdata as ncf

  files = {name: str(path / 'validation.csv') for name, path in directories.items()}
  found = ncf.evaluate(
    ncf.Dataset(f'{work}/data'), predictions=files, baselines=(), split='validation',
    progress=False,
  )  # fmt: skip
  for name, path in directories.items():
    chosen = json.loads((path / CHOSEN).read_text())['chosen']
    for metric in ('hr@10', 'ndcg@10'):
      judged = found.systems[name]['full'][metric]
      if not np.isclose(judged, chosen[metric], rtol=1e-5):
        raise RuntimeError(
          f'{name}: {metric} is {judged} by evaluate, {chosen[metric]} by its runner.'
        )


def _ours(work: pathlib.Path, sha256: str) -> pathlib.Path:
  """A run of ours on the same dataset.

  Raises:
    RuntimeError: --run_dir is of another dataset.
  """
  run = work / 'run'
  if run.exists():
    return run
  if _RUN.value is None:
    side_by_side.module(
      'ncf_tfdata.train', f'--flagfile={_RECIPE.value}', f'--data_dir={work}/data',
      f'--run_dir={run}',
    )  # fmt: skip
    return run
  trained_on = json.loads((pathlib.Path(_RUN.value) / 'model.json').read_text())
  if trained_on['dataset_sha256'] != sha256:
    raise RuntimeError(f'{_RUN.value} was trained on another dataset than {work}/data.')
  shutil.copytree(_RUN.value, run)
  return run


def _judged(
  work: pathlib.Path, run: pathlib.Path, files: list[str], candidates: str
) -> dict[str, Any]:
  """Full ranking of all systems on test, with what the run was compared with."""
  metrics_file = run / 'metrics.json'
  side_by_side.module(
    'ncf_tfdata.evaluate', f'--run_dir={run}', f'--data_dir={work}/data',
    f'--candidates={candidates}', f'--baselines={_BASELINES.value}', *files,
  )  # fmt: skip
  metrics = json.loads(metrics_file.read_text())
  systems = {metrics['model']: metrics['test']}
  for kind in ('predictions', 'baselines'):
    systems |= {name: each['test'] for name, each in metrics.get(kind, {}).items()}
  return {
    name: _numbers(numbers, metrics['comparisons']['test'].get(name))
    for name, numbers in systems.items()
    if numbers.get('candidates', 'all') == candidates
  }


def _of_validation(run: pathlib.Path) -> dict[str, float]:
  full = json.loads((run / 'metrics.json').read_text())['validation']['full']
  return {metric: full[metric] for metric in ('hr@10', 'ndcg@10')}


def _numbers(numbers: dict[str, Any], compared: dict[str, Any] | None) -> dict:
  full, bounds = numbers['full'], numbers['intervals']['full']
  kept = {
    metric: {'value': full[metric], 'interval': bounds[metric]}
    for metric in ('hr@10', 'ndcg@10')
  }
  counts = {'counts': numbers['counts']} if 'counts' in numbers else {}
  return {
    **kept,
    'coverage@10': full['coverage@10'],
    **counts,
    **({'ours_minus_it': compared['full']} if compared else {}),
  }


def _table(systems: dict[str, Any]) -> str:
  from ncf_tfdata.reporting import table

  rows = [['system', 'HR@10', 'NDCG@10', 'p, Holm']]
  for name, found in systems.items():
    cells = [name]
    for metric in ('hr@10', 'ndcg@10'):
      lower, upper = found[metric]['interval']
      value = table.number(found[metric]['value'])
      cells.append(f'{value} ±{table.number((upper - lower) / 2)}')
    compared = found.get('ours_minus_it')
    rows.append([*cells, table.p_value(compared['p_holm']) if compared else ''])
  return table.align(rows)


def main(_):
  os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
  work = pathlib.Path(_WORK.value)
  sha256 = _prepare(work)
  directories = {
    name: _lists(work, name, system)
    for name, system in _SYSTEMS.items()
    if _PYTHONS[system.library].value
  }
  _check(work, directories)
  run = _ours(work, sha256)
  files = [
    f'--predictions={name}={path}/test.csv' for name, path in directories.items()
  ]
  # A run keeps what it was last judged among.
  judged = {
    candidates: _judged(work, run, files, candidates)
    for candidates in ('seen_before', 'all')
  }
  side_by_side.save(
    'foreign_systems',
    {
      'what': 'full ranking of test; chosen on validation, not trained again',
      'dataset_sha256': sha256,
      'chosen': {
        name: json.loads((path / CHOSEN).read_text())
        for name, path in directories.items()
      },
      'ours_on_validation': _of_validation(run),
      'test': judged,
    },
  )
  for candidates, systems in judged.items():
    print(f'\ncandidates: {candidates}\n\n{_table(systems)}')


if __name__ == '__main__':
  app.run(main)
