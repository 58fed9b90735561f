"""Whether every way to ask a run gives its users the same lists.

    python benchmarks/same_lists.py --run_dir=runs/mine

Asks for the top 10 of all users by `recommend --all`, by the Beam job, by the export in
a process where nothing of ours is imported, and by the explore page's server. Prints
for each how many lists are those of `recommend`, item by item; fails where one is not.
"""

import json
import pathlib
import subprocess
import sys
import tempfile
import threading
import urllib.parse
import urllib.request
from collections.abc import Iterator

import side_by_side
from absl import app, flags

from ncf_tfdata import dataset as dataset_lib
from ncf_tfdata import run as run_lib
from ncf_tfdata.models import saved
from ncf_tfdata.serving import explore_server, explorer

_RUN_DIR = flags.DEFINE_string('run_dir', None, 'A trained run.', required=True)

_K = 10
# Directory of the model and lists of users in, lists out.
_CLIENT = """
import json, sys
import tensorflow as tf

recommend = tf.saved_model.load(sys.argv[1]).signatures['recommend']
k = tf.constant(int(sys.argv[2]))
for users in json.load(sys.stdin):
  found = recommend(user=tf.constant(users), k=k)['items'].numpy()
  for user, items in zip(users, found):
    print(json.dumps([user, [item.decode() for item in items if item]]))
"""


def _lines(path: pathlib.Path) -> dict[str, list[str]]:
  lines = map(json.loads, path.read_text().splitlines())
  return {line['user']: line['items'] for line in lines}


def _exported(model: str, users: list[str]) -> dict[str, list[str]]:
  parts = [users[start : start + 500] for start in range(0, len(users), 500)]
  done = subprocess.run(
    [sys.executable, '-c', _CLIENT, model, str(_K)],
    input=json.dumps(parts),
    stdout=subprocess.PIPE,
    text=True,
    check=True,
  )
  return dict(map(json.loads, done.stdout.splitlines()))


def _page(users: list[str]) -> Iterator[tuple[str, list[str]]]:
  run, dataset = run_lib.open_with_dataset(_RUN_DIR.value, None)
  shown = explorer.Explorer(saved.load_finished(run, dataset), dataset, k=_K)
  with explore_server.serve(shown) as server:
    threading.Thread(target=server.serve_forever, daemon=True).start()
    for user in users:
      query = urllib.parse.urlencode({'user': user})
      url = f'http://127.0.0.1:{server.server_port}/api/answer?{query}'
      found = json.load(urllib.request.urlopen(url))['answers']
      yield user, [row['item'] for row in found]
    server.shutdown()


def main(_):
  data_dir = run_lib.Run(_RUN_DIR.value).data_dir()
  users = list(dataset_lib.Dataset(data_dir).vocabulary(dataset_lib.USERS).ids())
  run = f'--run_dir={_RUN_DIR.value}'
  with tempfile.TemporaryDirectory() as folder:
    model = f'{folder}/served/1'
    side_by_side.module('ncf_tfdata.export', run, f'--output={model}')
    path = f'{folder}/all.jsonl'
    side_by_side.module('ncf_tfdata.recommend', run, '--all', f'--output={path}')
    expected = _lines(pathlib.Path(path))
    side_by_side.module(
      'beam_pipelines.recommend',
      f'--saved_model={model}',
      f'--data_dir={data_dir}',
      f'--output={folder}/beam.jsonl',
    )
    beam: dict[str, list[str]] = {}
    for shard in pathlib.Path(folder).glob('beam-*.jsonl'):
      beam |= _lines(shard)
    others = {'export': _exported(model, users), 'beam': beam}
  others['page'] = dict(_page(users))
  assert len(expected) == len(users)
  print(f'recommend: {len(users):,} users of {data_dir}')
  different = 0
  for name, found in others.items():
    same = sum(found.get(user) == expected[user] for user in users)
    different += len(users) - same
    print(f'{name}: {same:,} of {len(users):,} lists are the same')
  sys.exit(different > 0)


if __name__ == '__main__':
  app.run(main)
