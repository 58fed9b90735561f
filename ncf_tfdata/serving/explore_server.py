"""The explore page's server: one page, and JSON for what it asks.

The standard library's, with a thread for each request: one user, one page and seven
questions need no framework, and so no dependency.
"""

from __future__ import annotations

import http.server
import json
import pathlib
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

    def do_GET(self) -> None:
      url = urllib.parse.urlsplit(self.path)
      if not _is_ours(self.headers.get('Host', '')):
        self._send(403, 'text/plain', b'ask for localhost or 127.0.0.1\n')
      elif url.path == '/':
        self._send(200, 'text/html; charset=utf-8', _PAGE.read_bytes())
      elif url.path in paths:
        try:
          found = paths[url.path](urllib.parse.parse_qs(url.query))
        except UnknownSystemError:
          self._send(404, 'text/plain', b'there is no such system\n')
          return
        except ArgumentError as error:
          self._send(400, 'text/plain; charset=utf-8', f'{error}\n'.encode())
          return
        content = json.dumps(found, ensure_ascii=False, allow_nan=False).encode()
        self._send(200, 'application/json', content)
      else:
        self._send(404, 'text/plain', b'nothing here\n')

    def _send(self, status: int, kind: str, content: bytes) -> None:
      self.send_response(status)
      self.send_header('Content-Type', kind)
      self.send_header('Content-Length', str(len(content)))
      self.send_header('Cache-Control', 'no-store')
      self.end_headers()
      self.wfile.write(content)

    def log_message(self, format: str, *arguments: Any) -> None:
      """Says nothing: the terminal is for the address."""

  return http.server.ThreadingHTTPServer((HOST, port), Handler)
