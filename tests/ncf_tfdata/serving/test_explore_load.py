"""The page's server under load: many at once, good and bad requests mixed."""

import concurrent.futures
import http.client
import json
import os
import pathlib
import socket
import threading
import time
import urllib.parse

import browser
import numpy as np
import pytest
import toy_categories

from ncf_tfdata.data import records
from ncf_tfdata.evaluation import baselines
from ncf_tfdata.models import saved
from ncf_tfdata.serving import explore_server
from ncf_tfdata.serving.explorer import Explorer

_THREADS, _REPEATS = 32, 8
_FOREIGN = {'Host': 'foreign.example'}
_HUGE = '9' * 5000


@pytest.fixture(scope='module')
def dataset(dataset):
  return toy_categories.add_to(dataset)


@pytest.fixture(scope='module')
def server(made, dataset):
  """The port of a server."""
  user, item = records.train_rows(dataset)
  popular = baselines.Popularity(user, item, dataset.num_users, dataset.num_items)
  model = saved.load(made, dataset)
  with browser.served(Explorer(model, dataset, others={'popularity': popular})) as url:
    yield urllib.parse.urlsplit(url).port


def _api(path, **query):
  return f'/api/{path}?{urllib.parse.urlencode(query, doseq=True)}'


# What is asked: method, path, headers and body; and the status that is right.
_GOOD = [
  *(_api('answer', user=f'u{user}', item=['i1', 'i2']) for user in range(8)),
  *(_api('answer', user=f'u{user}', only='genres:Comedy') for user in range(4)),
  _api('answer', user='u3', system='popularity'),
  _api('answer', user='nobody'),
  _api('answer', user='nobody', item=['i4', 'unheard of']),
  _api('answer', user='u1', k='9' * 30),
  _api('answer', user='u1', item=['i1'] * 2000),
  _api('why', user='u3', of=['i1', 'i2', 'i3']),
  _api('why', user='u4', of=['i1', 'unheard of']),
  _api('similar', item='i7'),
  _api('similar', item='unheard of'),
  _api('users', q='u1'),
  _api('users', index='64'),
  _api('users', index=_HUGE),
  _api('users', index='-1'),
  _api('items', q='i1'),
  '/api/about',
  '/api/answer?user=%ff%00&item=%',
  '/',
]
_ASKED = [
  *(('GET', path, {}, None, 200) for path in _GOOD),
  ('GET', _api('answer', user='u1', only='no such'), {}, None, 400),
  ('GET', _api('answer', user='u1', only='genres:none'), {}, None, 400),
  ('GET', _api('segment', of='none:none'), {}, None, 400),
  # More than a list holds.
  ('GET', _api('why', user='u4', of=['i5'] * 3000), {}, None, 400),
  ('GET', _api('answer', user='u1', system='none'), {}, None, 404),
  ('GET', '/api/nothing', {}, None, 404),
  ('GET', '/../../etc/passwd', {}, None, 404),
  ('GET', 'http://[', {}, None, 400),
  ('GET', '/api/items?q=' + 'x' * 70_000, {}, None, 414),
  ('GET', _api('answer', user='u1'), _FOREIGN, None, 403),
  ('GET', '/', _FOREIGN, None, 403),
  ('POST', '/api/answer', {}, b'{"user": ', 405),
  ('PUT', '/api/answer', {}, b'[' * 100_000, 405),
  ('DELETE', '/', {}, None, 405),
  ('OPTIONS', '/', _FOREIGN, None, 405),
]


def _ask(port, asked) -> tuple[int, bytes]:
  """Status and content."""
  method, path, headers, body, _ = asked
  connection = http.client.HTTPConnection('127.0.0.1', port, timeout=60)
  try:
    connection.putrequest(method, '/', skip_host=True)
    # The client refuses to send what the server must refuse to take.
    connection._buffer[0] = f'{method} {path} HTTP/1.1'.encode()
    for name, value in {'Host': 'localhost', **headers}.items():
      connection.putheader(name, value)
    if body is not None:
      connection.putheader('Content-Length', str(len(body)))
    connection.endheaders(body)
    response = connection.getresponse()
    return response.status, response.read()
  finally:
    connection.close()


def _leave(port, asked) -> None:
  """Asks, and is gone before the answer."""
  _, path, *_ = asked
  with socket.create_connection(('127.0.0.1', port)) as opened:
    opened.sendall(f'GET {path} HTTP/1.1\r\nHost: localhost\r\n'.encode())
    if len(path) % 2:
      opened.sendall(b'\r\n')


def _memory() -> int:
  """Bytes of this process, in which the server is."""
  pages = int(pathlib.Path('/proc/self/statm').read_text().split()[1])
  return pages * os.sysconf('SC_PAGE_SIZE')


@pytest.mark.slow
def test_answers_under_load_are_those_of_one_alone(server, capfd):
  alone = [_ask(server, asked) for asked in _ASKED]
  assert [status for status, _ in alone] == [asked[-1] for asked in _ASKED]
  memory, threads = _memory(), threading.active_count()
  places = np.random.default_rng(0).permutation(np.tile(range(len(_ASKED)), _REPEATS))
  with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
    gone = [pool.submit(_leave, server, _ASKED[place]) for place in places[:40]]
    found = list(pool.map(lambda place: _ask(server, _ASKED[place]), places))
    assert [each.result() for each in gone] == [None] * 40
  wrong = [
    (_ASKED[place][:2], answer[0])
    for place, answer in zip(places, found, strict=True)
    if answer != alone[place]
  ]
  assert not wrong
  assert _memory() - memory < 100 << 20
  # Their threads end with them.
  deadline = time.monotonic() + 10
  while threading.active_count() > threads and time.monotonic() < deadline:
    time.sleep(0.05)
  assert threading.active_count() <= threads
  assert _ask(server, _ASKED[0]) == alone[0]
  assert json.loads(alone[0][1])['answers']
  # The terminal is for the address.
  assert 'Traceback' not in capfd.readouterr().err


def test_a_body_that_is_not_read_is_no_next_request(server):
  with socket.create_connection(('127.0.0.1', server), timeout=60) as opened:
    inside = b'GET /api/about HTTP/1.1\r\nHost: localhost\r\n\r\n'
    head = f'POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(inside)}'
    opened.sendall(head.encode() + b'\r\n\r\n' + inside)
    said = b''.join(iter(lambda: opened.recv(1 << 16), b''))
  assert said.startswith(b'HTTP/1.1 405 ') and b'Allow: GET' in said
  assert said.count(b'HTTP/1.1') == 1


def test_a_defect_is_told_to_both_and_ends_nothing(made, dataset, capfd):
  explorer = Explorer(saved.load(made, dataset), dataset)
  explorer.items = lambda text: 1 / 0
  with browser.served(explorer) as url:
    port = urllib.parse.urlsplit(url).port
    status, content = _ask(port, ('GET', '/api/items', {}, None, 500))
    assert (status, b'its terminal says why' in content) == (500, True)
    assert _ask(port, ('GET', '/api/about', {}, None, 200))[0] == 200
  assert 'ZeroDivisionError' in capfd.readouterr().err


def test_a_silent_connection_ends(made, dataset, capfd):
  explorer = Explorer(saved.load(made, dataset), dataset)
  with explore_server.serve(explorer) as server:
    assert server.RequestHandlerClass.timeout <= 60
    server.RequestHandlerClass.timeout = 0.1
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with socket.create_connection(('127.0.0.1', server.server_port), timeout=30) as one:
      one.sendall(b'GET /api/about HTTP/1.1\r\n')
      assert one.recv(1) == b''
    server.shutdown()
  assert 'Traceback' not in capfd.readouterr().err
