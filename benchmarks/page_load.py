"""The explore page's server under load, of a trained run: good and bad requests mixed.

    python benchmarks/page_load.py --run_dir=runs/sample --name=sample

Requests/s and p50 and p99 in milliseconds by how many ask at once, each by a connection
of its own: lists with a title added and without, reasons, similar items, searches, and
one bad request in eight. And the memory of the server, a process by itself, before and
after. The clients share the machine.
"""

import collections
import concurrent.futures
import http.client
import pathlib
import subprocess
import sys
import time
import urllib.parse

import numpy as np
import side_by_side
from absl import app, flags

from ncf_tfdata import dataset as dataset_lib
from ncf_tfdata import run as run_lib

_RUN_DIR = flags.DEFINE_string('run_dir', None, 'A trained run.', required=True)
_NAME = flags.DEFINE_string('name', None, 'Of the result.', required=True)
_THREADS = flags.DEFINE_list('threads', ['1', '8', '32'], 'How many ask at once.')
_REQUESTS = flags.DEFINE_integer('requests', 800, 'Requests of each.')


def _api(path: str, **query: object) -> tuple[str, str]:
  return path, f'/api/{path}?{urllib.parse.urlencode(query, doseq=True)}'


def _asked(users: tuple[str, ...], items: tuple[str, ...], count: int) -> list:
  """What is asked for, a name and a path each, in a seeded order."""
  generator = np.random.default_rng(0)
  found = []
  for number in range(count):
    user, item = str(generator.choice(users)), str(generator.choice(items))
    of = generator.choice(items, 10).tolist()
    kinds = (
      _api('answer', user=user, item=item),
      _api('why', user=user, of=of),
      _api('answer', user=user),
      _api('similar', item=item),
      _api('items', q=item),
      _api('users', q=user[:1]),
      _api('answer', user='nobody at all', item=[item, 'unheard of']),
    )
    bad = (
      ('bad', '/api/answer?only=nothing'),
      ('bad', '/api/answer?system=none'),
      ('bad', '/api/segment?of=none'),
      ('bad', f'/api/users?index={"9" * 5000}'),
      ('bad', '/nothing'),
    )
    found.append(kinds[number % 8] if number % 8 < len(kinds) else bad[number // 8 % 5])
  return [found[place] for place in generator.permutation(count)]


def _ask(port: int, path: str) -> tuple[int, float]:
  """Status and seconds."""
  begin = time.perf_counter()
  connection = http.client.HTTPConnection('127.0.0.1', port, timeout=60)
  connection.request('GET', path)
  response = connection.getresponse()
  response.read()
  connection.close()
  return response.status, time.perf_counter() - begin


def _memory(process: int) -> dict[str, int]:
  """MiB that a process has, and has had at most."""
  text = pathlib.Path(f'/proc/{process}/status').read_text()
  fields = dict(line.split(':', 1) for line in text.splitlines())
  return {
    name: round(int(fields[field].split()[0]) / 1024)
    for name, field in (('mib', 'VmRSS'), ('peak_mib', 'VmHWM'))
  }


def _load(port: int, asked: list, threads: int) -> dict:
  begin = time.perf_counter()
  with concurrent.futures.ThreadPoolExecutor(threads) as pool:
    answers = list(pool.map(lambda each: _ask(port, each[1]), asked))
  wall = time.perf_counter() - begin
  by_kind = collections.defaultdict(list)
  for (kind, _), (_, seconds) in zip(asked, answers, strict=True):
    by_kind[kind].append(seconds)
  statuses = collections.Counter(str(status) for status, _ in answers)
  return {
    'requests_per_second': round(len(asked) / wall, 1),
    **_latency([seconds for _, seconds in answers]),
    'by_kind': {kind: _latency(seconds) for kind, seconds in by_kind.items()},
    'statuses': dict(sorted(statuses.items())),
  }


def _latency(seconds: list[float]) -> dict[str, float]:
  p50, p99 = np.percentile(seconds, [50, 99]) * 1e3
  return {'p50_ms': round(p50, 1), 'p99_ms': round(p99, 1)}


def main(_):
  data_dir = run_lib.Run(_RUN_DIR.value).data_dir()
  dataset = dataset_lib.Dataset(data_dir)
  users = dataset.vocabulary(dataset_lib.USERS).keys
  items = dataset.vocabulary(dataset_lib.ITEMS).keys
  command = ['-m', 'ncf_tfdata.explore', f'--run_dir={_RUN_DIR.value}', '--port=0']
  process = subprocess.Popen(
    [sys.executable, *command], stdout=subprocess.PIPE, text=True
  )
  try:
    address = process.stdout.readline().split()[0]
    port = urllib.parse.urlsplit(address).port
    # The first of each kind traces its graph.
    for _, path in _asked(users, items, 64):
      _ask(port, path)
    memory = {'before': _memory(process.pid)}
    loads = {
      f'{threads}_at_once': _load(
        port, _asked(users, items, _REQUESTS.value), int(threads)
      )
      for threads in _THREADS.value
    }
    memory['after'] = _memory(process.pid)
  finally:
    process.terminate()
    process.wait()
  side_by_side.save(
    f'page_load-{_NAME.value}',
    {
      'what': f'the page of a run on {len(users)} users and {len(items)} items; '
      f'{_REQUESTS.value} requests of each load, one in eight bad; clients share the '
      'machine',
      'loads': loads,
      'memory_of_the_server': memory,
    },
  )


if __name__ == '__main__':
  app.run(main)
