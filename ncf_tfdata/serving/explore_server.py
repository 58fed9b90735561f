"""The explore page's server: one page, and JSON for what it asks.

The standard library's, with a thread for each request: one user, one page and seven
questions need no framework, and so no dependency.
"""

from __future__ import annotations

import http.server
import json
import pathlib
import sys
import traceback
import urllib.parse
from collections.abc import Callable
from typing import Any

from ncf_tfdata.errors import ArgumentError
from ncf_tfdata.serving import item_categories
from ncf_tfdata.serving.explorer import Explorer, UnknownSystemError

HOST = '127.0.0.1'
# What a browser on this machine calls us, by any port: a tunnel may change it.
_OUR_NAMES = (HOST, 'localhost')
_PAGE = pathlib.Path(__file__).with_name('explore.html')


def _is_ours(host: str) -> bool:
  """Whether a Host header names this machine's own page.

  A foreign site can make its name point here (DNS rebinding), and would then read our
  answers; but its name stays in the header.
  """
  return host.rpartition(':')[0] in _OUR_NAMES or host in _OUR_NAMES


def _number(query: dict[str, list[str]], name: str) -> int | None:
  """A whole number of a query; None where it is none."""
  text = query.get(name, [''])[0]
  # Python refuses to read thousands of digits.
  return int(text) if text.isdecimal() and len(text) < 19 else None


def serve(explorer: Explorer, port: int = 0) -> http.server.ThreadingHTTPServer:
  """A server of the page and of what it asks for; run its `serve_forever`.

  Raises:
    OSError: The port is taken.
  """

  def answer(query: dict[str, list[str]]) -> Any:
    return explorer.answer(
      query.get('user', [''])[0],
      query.get('item', []),
      query.get('system', [''])[0],
      item_categories.parsed(query.get('only', [])),
    )

  def why(query: dict[str, list[str]]) -> Any:
    return explorer.why(
      query.get('user', [''])[0],
      query.get('item', []),
      query.get('of', []),
      query.get('system', [''])[0],
    )

  def users(query: dict[str, list[str]]) -> Any:
    return explorer.users(query.get('q', [''])[0], _number(query, 'index'))

  def segment(query: dict[str, list[str]]) -> Any:
    name, _, value = query.get('of', [''])[0].partition(':')
    return explorer.segment(name, value, _number(query, 'from') or 0)

  paths: dict[str, Callable[[dict[str, list[str]]], Any]] = {
    '/api/about': lambda query: explorer.about(),
    '/api/users': users,
    '/api/segment': segment,
    '/api/items': lambda query: explorer.items(query.get('q', [''])[0]),
    '/api/answer': answer,
    '/api/why': why,
    '/api/similar': lambda query: explorer.similar(query.get('item', [''])[0]),
  }

  class Handler(http.server.BaseHTTPRequestHandler):
    """GET of the page, and of JSON."""

    protocol_version = 'HTTP/1.1'
    # Seconds after which a silent connection ends, and its thread with it.
    timeout = 60

    def do_GET(self) -> None:
      try:
        url = urllib.parse.urlsplit(self.path)
      except ValueError:
        self._send(400, _TEXT, b'this is no address\n')
        return
      if not _is_ours(self.headers.get('Host', '')):
        self._send(403, _TEXT, b'ask for localhost or 127.0.0.1\n')
      elif url.path == '/':
        self._send(200, 'text/html; charset=utf-8', _PAGE.read_bytes())
      elif url.path in paths:
        self._send(*_answered(paths[url.path], url.query))
      else:
        self._send(404, _TEXT, b'nothing here\n')

    def send_error(
      self, code: int, message: str | None = None, explain: str | None = None
    ) -> None:
      """Refuses what is no request; a method that the page has not is not its fault."""
      if code != http.HTTPStatus.NOT_IMPLEMENTED:
        super().send_error(code, message, explain)
        return
      # A body is not read, and no next request can be told from it.
      self.close_connection = True
      self._send(405, _TEXT, b'the page asks by GET\n', ('Allow', 'GET'))

    def _send(
      self, status: int, kind: str, content: bytes, *headers: tuple[str, str]
    ) -> None:
      self.send_response(status)
      self.send_header('Content-Type', kind)
      self.send_header('Content-Length', str(len(content)))
      self.send_header('Cache-Control', 'no-store')
      for name, value in headers:
        self.send_header(name, value)
      if self.close_connection:
        self.send_header('Connection', 'close')
      self.end_headers()
      if self.command != 'HEAD':
        self.wfile.write(content)

    def log_message(self, format: str, *arguments: Any) -> None:
      """Says nothing: the terminal is for the address."""

  return _Server((HOST, port), Handler)


_TEXT = 'text/plain; charset=utf-8'


def _answered(ask: Callable[[dict[str, list[str]]], Any], query: str) -> Any:
  """Status, kind and content of an answer in JSON, or of why there is none."""
  try:
    found = ask(urllib.parse.parse_qs(query))
  except UnknownSystemError:
    return 404, _TEXT, b'there is no such system\n'
  except ArgumentError as error:
    return 400, _TEXT, f'{error}\n'.encode()
  except Exception:
    # A defect of ours: told at the terminal, and no silence for who asks.
    traceback.print_exc()
    return 500, _TEXT, b'the server failed; its terminal says why\n'
  content = json.dumps(found, ensure_ascii=False, allow_nan=False).encode()
  return 200, 'application/json', content


class _Server(http.server.ThreadingHTTPServer):
  """With room for a crowd, and no traceback of someone who went away."""

  # Of connections that wait to be taken: with five, others wait a second and more.
  request_queue_size = 128

  def handle_error(self, request: Any, client_address: Any) -> None:
    if not isinstance(sys.exception(), ConnectionError | TimeoutError):
      super().handle_error(request, client_address)
