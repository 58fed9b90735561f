"""From a log to lists, of 1 M to 100 M ratings: time and peak memory of each part.

    python benchmarks/log_size.py --sizes=1000000,3000000 --work_dir=/tmp/log_size

The built-in sample of each size is made and prepared by whole commands. Then the
default recipe's history model, of one network and without what is counted beside it,
takes some hundred steps of its own input, by the recipe's Adam and by the row-wise one;
ranks some hundred users of the test split, sampled and in the whole catalogue; and
makes lists of ten for some hundred users, in a process for each. What is timed comes
after a warm-up of the same kind. `recommend` for one user is run as a whole command.

Resident memory of the training is told after its imports, its set-up, its first step
and its last. An exponent is the slope in logarithms of the last decade: 1 grows as the
log does.

Writes results/log_size.json, and a plot to docs/images; --redraw draws from the JSON.
A size takes about 120 bytes a rating of disk in --work_dir, and is removed.
"""

import functools
import json
import os
import pathlib
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator

import curves
import sample_logs
import side_by_side
from absl import app, flags

_SIZES = flags.DEFINE_list(
  'sizes', ['1000000', '3000000', '10000000', '30000000', '100000000'], 'Ratings.'
)
_STEPS = flags.DEFINE_integer('steps', 300, 'Counted train steps.', 10)
_USERS = flags.DEFINE_integer('users', 500, 'Users ranked, and lists, about.', 1)
_WORK_DIR = flags.DEFINE_string(
  'work_dir', None, 'Folder for logs and datasets; a temporary one by default.'
)
_REDRAW = flags.DEFINE_bool('redraw', False, 'Only draw the result that is there.')
_MEASURE = flags.DEFINE_list(
  'measure', None, 'Part, dataset and run: prints one measurement only.'
)

_RECIPE = pathlib.Path(__file__).parents[1] / 'configs' / 'history.cfg'
# EASE is added below 5,000 items only, so the smallest log would have another model.
# Item transitions are left out: the curves are of the network, and of prepare without.
_FLAGS = ('--members=1', '--ease_logits=0')
_CALLS, _CALLS_SECONDS, _LIST = 10, 60.0, 10
_LABELS = {
  'prepare': 'prepare, the whole log',
  'recommend_one': '`recommend` for one user',
  'train_adam': 'a train step, Adam',
  'train_lazy_adam': 'a train step, row-wise Adam',
  'evaluate': 'a ranked user',
  'recommend': 'a list of 10',
}


def _resident_mib() -> float:
  pages = int(pathlib.Path('/proc/self/statm').read_text().split()[1])
  return pages * os.sysconf('SC_PAGE_SIZE') / 2**20


def _mib(variables) -> float:
  """Of what variables hold, at four bytes a number."""
  return sum(float(variable.shape.num_elements()) for variable in variables) * 4 / 2**20


def _trainer(data_dir: str, optimizer: str):
  from ncf_tfdata import dataset as dataset_lib
  from ncf_tfdata.training import recipe, trainer

  lines = [line for line in _RECIPE.read_text().splitlines() if line[:2] == '--']
  made = recipe.Recipe.parse([*lines, *_FLAGS, f'--optimizer={optimizer}'])
  dataset = dataset_lib.Dataset(data_dir)
  return trainer.Trainer(dataset, *made), dataset


def _train(data_dir: str, run_dir: str, optimizer: str) -> dict:
  """A step, in calls of some each; leaves a run that can be asked for lists."""
  import tensorflow as tf

  from ncf_tfdata import run as run_lib
  from ncf_tfdata.models import saved

  resident = {'imports': _resident_mib()}
  begin = time.perf_counter()
  trainer, dataset = _trainer(data_dir, optimizer)
  task, steps = trainer.task, trainer.steps()
  set_up = time.perf_counter() - begin
  resident['set_up'] = _resident_mib()
  iterator, count = iter(task.batches(0, 0)), _STEPS.value // _CALLS

  def call(first: int, number: int) -> tuple[float, float]:
    begin = time.perf_counter(), time.process_time()
    numbers = (tf.constant(n, tf.int64) for n in (0, first, number))
    float(steps.run(iterator, *numbers, tf.constant(0.0, tf.float64)))
    return time.perf_counter() - begin[0], time.process_time() - begin[1]

  first, _ = call(0, 1)
  resident['first_step'] = _resident_mib()
  call(1, count)
  times: list[tuple[float, float]] = []
  while len(times) < _CALLS and sum(wall for wall, _ in times) < _CALLS_SECONDS:
    times.append(call(1 + count * (1 + len(times)), count))
  resident['last_step'] = _resident_mib()
  run = run_lib.Run(run_dir)
  run.start(trainer.lines(run), dataset, saved.serialize(task.scorer), overwrite=True)
  saved.save_weights(run, task.model)
  run.write_metrics({'model': task.model.name, 'dataset_sha256': dataset.sha256})
  wall, processor = (
    1000 * statistics.median(t) / count for t in zip(*times, strict=True)
  )
  return {
    'ms': wall,
    'cpu_ms': processor,
    'steps': count * len(times),
    'examples_a_second': task.rows / task.steps * 1000 / wall,
    'set_up_seconds': set_up,
    'first_step_seconds': first,
    'weights_mib': _mib(task.model.weights),
    'optimizer_mib': _mib(trainer.optimizer.variables),
    'resident_mib': resident,
    'users': dataset.num_users,
    'items': dataset.num_items,
  }


def _ms_each(parts: Iterator[int]) -> dict:
  """Of what parts of so many make, the first of which is a warm-up."""
  next(parts)
  begin = time.perf_counter(), time.process_time()
  number = sum(parts)
  wall, processor = time.perf_counter() - begin[0], time.process_time() - begin[1]
  if not number:
    raise ValueError('All users are in the warm-up: give larger --sizes.')
  return {'ms': 1000 * wall / number, 'cpu_ms': 1000 * processor / number}


def _evaluate(data_dir: str, run_dir: str) -> dict:
  """A ranked user of the test split, reading included."""
  from ncf_tfdata import api
  from ncf_tfdata import dataset as dataset_lib
  from ncf_tfdata.data import records
  from ncf_tfdata.evaluation import metrics, ranking

  run = api.open_run(run_dir, data_dir)
  items = run.dataset.num_items
  batches = records.evaluation_batches(
    run.dataset, dataset_lib.TEST, ranking.batch_rows(items)
  )

  def ranked() -> Iterator[int]:
    left = _USERS.value
    for number, batch in enumerate(batches):
      ranking.rank_full(run.model, [batch], items, metrics.KS)
      yield len(batch.user)
      left -= len(batch.user) if number else 0
      if left < 0:
        return

  return _ms_each(ranked())


def _recommend(data_dir: str, run_dir: str) -> dict:
  """A list, of users from all over the dataset, histories read before."""
  from ncf_tfdata import api
  from ncf_tfdata import dataset as dataset_lib
  from ncf_tfdata.serving import requests

  run = api.open_run(run_dir, data_dir)
  keys = run.dataset.vocabulary(dataset_lib.USERS).keys
  # A warm-up as large as a part of the others, so that no shape is new.
  everyone = requests.Request.of_users(run.dataset, keys)
  first = next(everyone.parts(run.dataset.num_items)).stop
  rest = keys[first:]
  asked = [*keys[:first], *rest[:: max(1, len(rest) // _USERS.value)]]
  request = requests.Request.of_users(run.dataset, asked)
  return _ms_each(len(lists.user) for lists in run.lists(request, _LIST))


_PARTS: dict[str, Callable[[str, str], dict]] = {
  'train_adam': functools.partial(_train, optimizer='adam'),
  'train_lazy_adam': functools.partial(_train, optimizer='lazy_adam'),
  'evaluate': _evaluate,
  'recommend': _recommend,
}


def _whole(run: side_by_side.Run) -> dict:
  """Time and memory of a whole process."""
  return {
    'ms': 1000 * run.seconds,
    'seconds': run.seconds,
    'cpu_seconds': run.cpu_seconds,
    'peak_mib': round(run.peak_mib),
  }


def _size(ratings: int, folder: pathlib.Path) -> dict:
  log, data, run_dir = folder / 'ratings.dat', folder / 'data', folder / 'run'
  made = sample_logs.log(ratings, log)
  prepared = sample_logs.dataset(log, data)
  log.unlink()
  size = sum(path.stat().st_size for path in data.rglob('*') if path.is_file())
  found: dict = {
    'ratings': ratings,
    'sample_seconds': made.seconds,
    'dataset_mib': round(size / 2**20),
    'prepare': _whole(prepared),
  }
  options = (f'--steps={_STEPS.value}', f'--users={_USERS.value}')
  for name in _PARTS:
    measure = f'--measure={name},{data},{run_dir}'
    run = side_by_side.run([sys.executable, __file__, measure, *options])
    measured = json.loads(run.output.strip().split('\n')[-1])
    # Milliseconds are of a step, a user or a list.
    found[name] = _whole(run) | measured
  one = [sys.executable, '-m', 'ncf_tfdata.recommend', f'--run_dir={run_dir}']
  found['recommend_one'] = _whole(side_by_side.run([*one, '--users=1']))
  print(json.dumps(found), flush=True)
  return found


def main(_):
  if _MEASURE.value:
    os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
    name, *where = _MEASURE.value
    print(json.dumps(_PARTS[name](*where)))
    return
  if not _REDRAW.value:
    if _WORK_DIR.value:
      pathlib.Path(_WORK_DIR.value).mkdir(parents=True, exist_ok=True)
    if len(_SIZES.value) < 2:
      raise app.UsageError('--sizes needs two or more: an exponent is between two.')
    sizes: list[dict] = []
    for ratings in sorted(map(int, _SIZES.value)):
      with tempfile.TemporaryDirectory(dir=_WORK_DIR.value) as folder:
        sizes.append(_size(ratings, pathlib.Path(folder)))
    what = 'from a log to lists, of the built-in sample; history model of one network'
    result = curves.result(what, sizes, 'ratings', _LABELS)
    side_by_side.save('log_size', result)
  curves.redraw('log_size', 'ratings', _LABELS)


if __name__ == '__main__':
  app.run(main)
