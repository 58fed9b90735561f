"""Pages are found and their links lead somewhere, in a repository as on the site."""

import pathlib
import re
import shutil
import subprocess
import sys
import tomllib

import browser
import doc_blocks
import prepared
import pytest

PAGES = [*sorted(prepared.ROOT.glob('*.md')), *sorted(doc_blocks.DOCS.rglob('*.md'))]

_FENCE = re.compile(r'^```.*?^```$', re.MULTILINE | re.DOTALL)
_LINK = re.compile(r'\[[^\]]*\]\(([^)\s]+)\)')


def prose(page: pathlib.Path) -> str:
  return _FENCE.sub('', page.read_text())


def anchors(page: pathlib.Path) -> set[str]:
  """Names of a page's headings, as GitHub and the site make them."""
  found = set()
  for heading in re.findall(r'^#+ (.+)$', prose(page), re.MULTILINE):
    plain = re.sub(r'\[([^\]]*)\]\([^)]*\)', r'\1', heading).strip('` ')
    found.add(re.sub(r'\s', '-', re.sub(r'[^\w\s-]', '', plain).strip().lower()))
  return found


@pytest.mark.parametrize(
  'page', PAGES, ids=lambda page: str(page.relative_to(prepared.ROOT))
)
def test_links_lead_to_files_and_headings(page):
  for target in _LINK.findall(prose(page)):
    if target.startswith(('http://', 'https://', 'mailto:')):
      continue
    path, _, anchor = target.partition('#')
    linked = (page.parent / path).resolve() if path else page
    assert linked.exists(), target
    if anchor:
      assert anchor in anchors(linked), target
    # The site holds docs/ alone.
    if doc_blocks.DOCS in page.parents:
      assert doc_blocks.DOCS in linked.parents, target


def test_a_dead_anchor_is_seen(tmp_path):
  page = tmp_path / 'page.md'
  page.write_text('# One `--two`\n\n```text\n# three\n```\n')
  assert anchors(page) == {'one---two'}


def test_every_page_is_in_the_navigation():
  def files(entry) -> list[str]:
    if isinstance(entry, str):
      return [entry]
    values = entry.values() if isinstance(entry, dict) else entry
    return [name for value in values for name in files(value)]

  config = tomllib.loads((prepared.ROOT / 'zensical.toml').read_text())
  written = [
    p.relative_to(doc_blocks.DOCS).as_posix()
    for p in PAGES
    if doc_blocks.DOCS in p.parents
  ]
  assert sorted(files(config['project']['nav'])) == sorted(written)


def test_the_build_notes_list_every_design_page():
  listed = _LINK.findall((prepared.ROOT / 'BUILD_NOTES.md').read_text())
  written = (doc_blocks.DOCS / 'design').glob('*.md')
  assert sorted(listed) == sorted(str(p.relative_to(prepared.ROOT)) for p in written)


def test_the_readme_is_short():
  assert len(doc_blocks.README.read_text().splitlines()) <= 200


@pytest.fixture(scope='module')
def site(tmp_path_factory) -> pathlib.Path:
  """The built site; the build fails at a warning, such as a dead link."""
  zensical = shutil.which('zensical', path=pathlib.Path(sys.executable).parent)
  if zensical is None:
    pytest.skip("no zensical: pip install -e '.[docs]'")
  # A copy, so that the repository's own build stays as it is.
  directory = tmp_path_factory.mktemp('site')
  shutil.copy(prepared.ROOT / 'zensical.toml', directory)
  for name in ('docs', 'ncf_tfdata', 'beam_pipelines'):
    shutil.copytree(prepared.ROOT / name, directory / name)
  done = subprocess.run(
    [zensical, 'build', '--clean', '--strict'],
    cwd=directory,
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 0, done.stdout + done.stderr
  return directory / 'build' / 'site'


@pytest.mark.slow
def test_the_site_has_every_page(site):
  for page in PAGES:
    if doc_blocks.DOCS in page.parents:
      path = page.relative_to(doc_blocks.DOCS).with_suffix('.html')
      assert (site / path).exists(), path


@pytest.mark.slow
@pytest.mark.engine
def test_pages_fit_a_phone_and_load_nothing_from_elsewhere(site):
  asked = []
  with browser.page((site / 'index.html').as_uri()) as page:
    page.set_viewport_size({'width': 390, 'height': 844})
    page.on('request', lambda request: asked.append(request.url))
    for path in sorted(site.rglob('*.html')):
      page.goto(path.as_uri())
      assert page.evaluate('document.documentElement.scrollWidth') <= 390, path
  elsewhere = [url for url in asked if not url.startswith(('file:', 'data:', 'blob:'))]
  assert elsewhere == []
