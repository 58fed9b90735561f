import functools
import hashlib
import http.server
import io
import os
import pathlib
import socket
import subprocess
import sys
import threading
import zipfile

import pytest

from beam_pipelines import known_datasets, schema
from ncf_tfdata.errors import UserError

pytestmark = pytest.mark.slow

pytest.importorskip('tensorflow_datasets')

NAME = 'movielens/1m-ratings'
RATINGS = b'1::1193::5::978300760\n1::661::3::978302109\n'


def archive(content=RATINGS, member='ml-1m/ratings.dat'):
  buffer = io.BytesIO()
  with zipfile.ZipFile(buffer, 'w', zipfile.ZIP_DEFLATED) as opened:
    opened.writestr('ml-1m/README', 'not this one')
    opened.writestr(member, content)
  return buffer.getvalue()


class Server:
  """A web server on the loopback address that counts what it is asked for."""

  def __init__(self, directory):
    self.directory = directory
    self.requests = []
    outer = self

    class Handler(http.server.SimpleHTTPRequestHandler):
      def do_GET(self):
        outer.requests.append(self.path)
        super().do_GET()

      def log_message(self, *arguments):
        pass

    self._server = http.server.ThreadingHTTPServer(
      ('127.0.0.1', 0), functools.partial(Handler, directory=directory)
    )
    self.url = f'http://127.0.0.1:{self._server.server_port}/ml-1m.zip'
    threading.Thread(target=self._server.serve_forever, daemon=True).start()

  def serve(self, content):
    pathlib.Path(self.directory, 'ml-1m.zip').write_bytes(content)

  def close(self):
    self._server.shutdown()
    self._server.server_close()


@pytest.fixture
def server(tmp_path):
  directory = tmp_path / 'site'
  directory.mkdir()
  server = Server(directory)
  yield server
  server.close()


def register(monkeypatch, url, content):
  from tensorflow_datasets.core.download import checksums

  info = checksums.UrlInfo(
    size=len(content),
    checksum=hashlib.sha256(content).hexdigest(),
    filename='ml-1m.zip',
  )
  known = known_datasets.KnownDataset(url, 'ml-1m/ratings.dat', 'movielens')
  monkeypatch.setitem(known_datasets.DATASETS, NAME, known)
  monkeypatch.setattr(known_datasets, '_registered', {url: info}.__getitem__)


def files(directory):
  return sorted(
    os.path.relpath(os.path.join(folder, name), directory)
    for folder, _, names in os.walk(directory)
    for name in names
  )


@pytest.mark.parametrize('name', known_datasets.DATASETS)
def test_tfds_knows_the_archive_under_its_name(name):
  known = known_datasets.DATASETS[name]
  registered = known_datasets._registered(known.url)
  size = name.removeprefix('movielens/').removesuffix('-ratings')
  assert registered.filename == f'ml-{size}.zip'
  assert len(registered.checksum) == 64
  assert known.member.startswith(f'ml-{size}/')
  assert known.format in schema.FORMATS


def test_fetches_and_keeps_only_the_archive_and_the_ratings(
  monkeypatch, tmp_path, server
):
  content = archive()
  server.serve(content)
  register(monkeypatch, server.url, content)
  cache = tmp_path / 'cache'
  path = known_datasets.fetch(NAME, str(cache))
  assert pathlib.Path(path).read_bytes() == RATINGS
  assert files(cache) == ['ml-1m.zip', 'ml-1m/ratings.dat']


def test_does_not_download_or_unpack_again(monkeypatch, tmp_path, server):
  content = archive()
  server.serve(content)
  register(monkeypatch, server.url, content)
  path = known_datasets.fetch(NAME, str(tmp_path))
  before = os.stat(path).st_mtime_ns
  requests = len(server.requests)
  assert known_datasets.fetch(NAME, str(tmp_path)) == path
  assert len(server.requests) == requests
  assert os.stat(path).st_mtime_ns == before


def test_an_archive_put_there_by_hand_serves(monkeypatch, tmp_path):
  content = archive()
  register(monkeypatch, 'http://127.0.0.1:9/ml-1m.zip', content)
  (tmp_path / 'ml-1m.zip').write_bytes(content)
  path = known_datasets.fetch(NAME, str(tmp_path))
  assert pathlib.Path(path).read_bytes() == RATINGS


@pytest.mark.parametrize('name', ['ml-1m.zip', 'ml-1m/ratings.dat'])
@pytest.mark.parametrize('kind', ['file', 'folder', 'link'])
def test_what_is_not_ours_in_the_cache_is_not_replaced(
  monkeypatch, tmp_path, server, name, kind
):
  content = archive()
  server.serve(content)
  register(monkeypatch, server.url, content)
  cache = tmp_path / 'cache'
  mine = cache / name
  mine.parent.mkdir(parents=True)
  if kind == 'file':
    mine.write_text('mine')
  elif kind == 'folder':
    mine.mkdir()
  else:
    mine.symlink_to('nowhere')
  with pytest.raises(UserError, match=r'Move it away, or choose another --cache_dir'):
    known_datasets.fetch(NAME, str(cache))
  assert (
    mine.read_text() == 'mine' if kind == 'file' else mine.is_dir() or mine.is_symlink()
  )
  mine.rename(tmp_path / 'away')
  assert pathlib.Path(known_datasets.fetch(NAME, str(cache))).read_bytes() == RATINGS


def test_refuses_another_file_than_the_registered_one(monkeypatch, tmp_path, server):
  register(monkeypatch, server.url, archive())
  server.serve(archive(b'1::1::1::1\n'))
  with pytest.raises(UserError, match='sha256') as raised:
    known_datasets.fetch(NAME, str(tmp_path / 'cache'))
  assert '\n' not in str(raised.value)
  assert server.url in str(raised.value)
  assert files(tmp_path / 'cache') == []


def assert_one_line_of_help(url, cache):
  with pytest.raises(UserError) as raised:
    known_datasets.fetch(NAME, str(cache))
  message = str(raised.value)
  assert '\n' not in message
  assert url in message
  assert '--input=' in message
  assert files(cache) == []


def test_says_what_to_do_where_nothing_listens(monkeypatch, tmp_path):
  with socket.create_server(('127.0.0.1', 0)) as once:
    url = f'http://127.0.0.1:{once.getsockname()[1]}/ml-1m.zip'
  register(monkeypatch, url, archive())
  assert_one_line_of_help(url, tmp_path / 'cache')


def test_says_what_to_do_where_the_file_is_gone(monkeypatch, tmp_path, server):
  register(monkeypatch, server.url, archive())
  assert_one_line_of_help(server.url, tmp_path / 'cache')


def test_gives_up_on_a_silent_host(monkeypatch, tmp_path):
  monkeypatch.setattr(known_datasets, '_PROBE_SECONDS', 0.2)
  # It takes connections and never answers: without a limit this test would hang.
  with socket.create_server(('127.0.0.1', 0)) as silent:
    url = f'http://127.0.0.1:{silent.getsockname()[1]}/ml-1m.zip'
    register(monkeypatch, url, archive())
    assert_one_line_of_help(url, tmp_path / 'cache')


def test_unknown_name(tmp_path):
  with pytest.raises(UserError, match='movielens/20m-ratings'):
    known_datasets.fetch('movielens/2m-ratings', str(tmp_path))


FETCH = """
import sys

class Without:
  def __init__(self, finder):
    self._finder = finder

  def find_spec(self, name, *arguments):
    if name.partition('.')[0] in sys.argv[3:]:
      return None
    return self._finder.find_spec(name, *arguments)

sys.meta_path[:] = [Without(finder) for finder in sys.meta_path]
from beam_pipelines import known_datasets
from ncf_tfdata.errors import UserError
known = known_datasets.DATASETS['movielens/1m-ratings']
known_datasets.DATASETS['movielens/1m-ratings'] = known_datasets.KnownDataset(
    sys.argv[2], known.member, known.format)
if 'tensorflow_datasets' not in sys.argv[3:]:
  from tensorflow_datasets.core.download import checksums
  known_datasets._registered = lambda url: checksums.UrlInfo(
      size=int(sys.argv[1].split(':')[0]), checksum=sys.argv[1].split(':')[1],
      filename='ml-1m.zip')
try:
  print(known_datasets.fetch('movielens/1m-ratings', 'cache'))
except UserError as error:
  print(error)
assert 'tensorflow' not in sys.modules
"""


def run_without(modules, url, content, directory):
  info = f'{len(content)}:{hashlib.sha256(content).hexdigest()}'
  return subprocess.run(
    [sys.executable, '-c', FETCH, info, url, *modules],
    cwd=directory,
    env={**os.environ, 'PYTHONPATH': str(pathlib.Path(__file__).parents[2])},
    capture_output=True,
    text=True,
    check=True,
  ).stdout.strip()


@pytest.mark.parametrize('modules', [[], ['tensorflow', 'importlib_resources']])
def test_needs_no_tensorflow(tmp_path, server, modules):
  content = archive()
  server.serve(content)
  output = run_without(modules, server.url, content, tmp_path)
  assert (tmp_path / output).read_bytes() == RATINGS


def test_says_what_to_do_without_tfds(tmp_path):
  output = run_without(['tensorflow_datasets'], 'http://x/ml-1m.zip', b'', tmp_path)
  assert 'pip install' in output
  assert 'http://x/ml-1m.zip' in output
  assert '\n' not in output
