"""Speed of every way to an answer, of a trained run, and the size of its export.

    python benchmarks/answers.py --run_dir=runs/ml-1m --name=ml-1m

Users/s of `recommend --all`, of Beam's RunInference on one worker and of the export in
a fresh process, whole processes; p50 and p99 of the signature `recommend` there, and of
the explore page's answer with one title added, in milliseconds a request.
"""

import json
import pathlib
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
import urllib.request

import numpy as np
import side_by_side
from absl import app, flags

from ncf_tfdata import dataset as dataset_lib
from ncf_tfdata import run as run_lib
from ncf_tfdata.models import saved
from ncf_tfdata.serving import explore_server, explorer

_RUN_DIR = flags.DEFINE_string('run_dir', None, 'A trained run.', required=True)
_NAME = flags.DEFINE_string('name', None, 'Of the result.', required=True)
_RUNS = flags.DEFINE_integer('runs', 3, 'Whole processes of each way.')
_REQUESTS = flags.DEFINE_integer('requests', 300, 'Requests of each size.')
_SIZES = flags.DEFINE_list('sizes', ['1', '32'], 'Users a request.')

_K = 10
# Runs where nothing of ours is imported, as a server would: directory of the model and
# lists of users in, seconds of each request out.
_CLIENT = """
import json, sys, time
import tensorflow as tf

recommend = tf.saved_model.load(sys.argv[1]).signatures['recommend']
k = tf.constant(int(sys.argv[2]))
seconds = []
for users in json.load(sys.stdin):
  begin = time.perf_counter()
  recommend(user=tf.constant(users), k=k)['items'].numpy()
  seconds.append(time.perf_counter() - begin)
print(json.dumps(seconds))
"""


def _requests(users: tuple[str, ...], size: int, count: int) -> list[list[str]]:
  """Users drawn anew for each request."""
  drawn = np.random.default_rng(0).integers(len(users), size=(count, size))
  return [[users[user] for user in row] for row in drawn]


def _served(model: str, requests: list[list[str]]) -> list[float]:
  """Seconds of each request."""
  done = subprocess.run(
    [sys.executable, '-c', _CLIENT, model, str(_K)],
    input=json.dumps(requests),
    stdout=subprocess.PIPE,
    text=True,
    check=True,
  )
  return json.loads(done.stdout)


def _latency(seconds: list[float]) -> dict[str, float]:
  """Without the first requests, which trace the graph."""
  found = np.percentile(seconds[len(seconds) // 10 :], [50, 99]) * 1e3
  return {'p50_ms': round(found[0], 2), 'p99_ms': round(found[1], 2)}


def _page(users: tuple[str, ...]) -> list[float]:
  """Seconds of each answer of the page, to one who asks after another."""
  run, dataset = run_lib.open_with_dataset(_RUN_DIR.value, None)
  model = saved.load_finished(run, dataset)
  item = dataset.vocabulary(dataset_lib.ITEMS).keys[0]
  seconds = []
  with explore_server.serve(explorer.Explorer(model, dataset)) as server:
    threading.Thread(target=server.serve_forever, daemon=True).start()
    for (user,) in _requests(users, 1, _REQUESTS.value):
      query = urllib.parse.urlencode({'user': user, 'item': item})
      url = f'http://127.0.0.1:{server.server_port}/api/answer?{query}'
      begin = time.perf_counter()
      urllib.request.urlopen(url).read()
      seconds.append(time.perf_counter() - begin)
    server.shutdown()
  return seconds


def _rates(users: int, runs: list[float]) -> dict:
  return {'seconds': runs, 'users_per_second': round(users / min(runs))}


def main(_):
  data_dir = run_lib.Run(_RUN_DIR.value).data_dir()
  users = dataset_lib.Dataset(data_dir).vocabulary(dataset_lib.USERS).keys
  command, pipeline, served = [], [], []
  with tempfile.TemporaryDirectory() as folder:
    model = f'{folder}/served/1'
    side_by_side.module(
      'ncf_tfdata.export', f'--run_dir={_RUN_DIR.value}', f'--output={model}'
    )
    size = sum(p.stat().st_size for p in pathlib.Path(model).rglob('*') if p.is_file())
    # A thousand users a request, as a batch job would ask.
    everyone = [
      list(users[start : start + 1000]) for start in range(0, len(users), 1000)
    ]
    for run in range(_RUNS.value):
      command.append(
        side_by_side.module(
          'ncf_tfdata.recommend',
          f'--run_dir={_RUN_DIR.value}',
          '--all',
          f'--output={folder}/command-{run}.parquet',
        )
      )
      pipeline.append(
        side_by_side.module(
          'beam_pipelines.recommend',
          f'--saved_model={model}',
          f'--data_dir={data_dir}',
          f'--output={folder}/beam-{run}.parquet',
        )
      )
      begin = time.perf_counter()
      _served(model, everyone)
      served.append(time.perf_counter() - begin)
    latency = {
      f'{size}_users': _latency(
        _served(model, _requests(users, int(size), _REQUESTS.value))
      )
      for size in _SIZES.value
    }
  side_by_side.save(
    f'answers-{_NAME.value}',
    {
      'what': f'top {_K} of {len(users)} users of {data_dir}: whole processes, imports '
      'included, in turn; users_per_second of the fastest',
      'recommend': _rates(len(users), command),
      'beam': _rates(len(users), pipeline),
      'export': _rates(len(users), served),
      'export_bytes': size,
      'served_signature': latency,
      'page': _latency(_page(users)),
    },
  )


if __name__ == '__main__':
  app.run(main)
