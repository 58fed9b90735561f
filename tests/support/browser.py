"""A real browser, where this machine has one."""

import contextlib
import shutil
from collections.abc import Iterator

import pytest

_NAMES = ('chromium', 'chromium-browser', 'google-chrome', 'chrome')


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
