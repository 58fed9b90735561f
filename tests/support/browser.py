"""The page of `explore` as it is served, and a real browser where there is one."""

import contextlib
import shutil
import threading
from collections.abc import Iterator

import pytest

from ncf_tfdata.serving import explore_server
from ncf_tfdata.serving.explorer import Explorer

_NAMES = ('chromium', 'chromium-browser', 'google-chrome', 'chrome')


@contextlib.contextmanager
def served(explorer: Explorer) -> Iterator[str]:
  """Serves what an explorer answers; its address."""
  with explore_server.serve(explorer) as server:
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f'http://127.0.0.1:{server.server_port}'
    server.shutdown()


@contextlib.contextmanager
def page(url: str) -> Iterator:
  """Opens a page in Chromium; fails where the page itself reports an error."""
  sync_api = pytest.importorskip('playwright.sync_api', reason='no playwright')
  path = next(filter(None, map(shutil.which, _NAMES)), None)
  if path is None:
    pytest.skip(f'no browser: none of {", ".join(_NAMES)} is on the PATH')
  errors = []
  with sync_api.sync_playwright() as started:
    # Tests run as root in containers, where Chromium has no sandbox.
    browser = started.chromium.launch(executable_path=path, args=['--no-sandbox'])
    opened = browser.new_page()
    opened.on('pageerror', lambda error: errors.append(str(error)))
    opened.goto(url)
    yield opened
    browser.close()
  assert not errors
