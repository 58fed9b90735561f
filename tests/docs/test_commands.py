"""Commands and programs in README and docs are run as they stand, on small data.

But for `--nojit_compile`: compiling takes longer than these trainings.

All pages share one directory, as a reader has one. A command that a page before has run
is not run again: its files are there.
"""

import os
import pathlib
import re
import shlex
import subprocess
import sys

import commands
import doc_blocks
import prepared
import pytest

from beam_pipelines import sample, sample_items

PAGES = [
  page
  for page in doc_blocks.pages()
  if any(block.language in doc_blocks.LANGUAGES for block in doc_blocks.blocks(page))
]


def runnable(page: pathlib.Path) -> list[doc_blocks.Block]:
  return [
    block
    for block in doc_blocks.blocks(page)
    if block.language in doc_blocks.LANGUAGES and 'not run' not in block.marks
  ]


class Desk:
  """A directory with a log of the reader's own, and what commands left there."""

  def __init__(self, directory: pathlib.Path):
    self.directory = directory
    self._done: set[str] = set()
    (directory / 'configs').symlink_to(prepared.ROOT / 'configs')
    (directory / 'my').mkdir()
    (directory / 'ml-1m').mkdir()
    ratings = directory / 'ml-1m' / 'ratings.dat'
    sample.write(str(ratings), sample.Spec(ratings=6000, seed=0))
    movies = directory / 'ml-1m' / 'movies.dat'
    sample_items.write(str(movies), sample.Spec(ratings=6000, seed=0))
    lines = ratings.read_text().replace('::', ',')
    (directory / 'my' / 'log.csv').write_text(f'user,item,rating,timestamp\n{lines}')

  def run(self, block: doc_blocks.Block) -> None:
    if setup := block.marks.get('setup'):
      self._once(['bash', '-c', setup], block)
    if block.language == 'python':
      self._once(['-c', block.text], block)
      return
    for command in doc_blocks.commands(block.text):
      self._once(['bash', '-ec', command], block)

  def _once(self, words: list[str], block: doc_blocks.Block) -> None:
    if words[-1] in self._done:
      return
    if words[0] == '-c':
      done = commands.run_code(words[1], directory=self.directory)
    else:
      done = self._run(words)
    assert done.returncode == 0, (
      f'{block.where}: {words[-1]}\n{done.stdout[-2000:]}{done.stderr[-2000:]}'
    )
    self._done.add(words[-1])

  def _run(self, words: list[str]) -> subprocess.CompletedProcess:
    typed = shlex.split(words[-1])
    if typed[:2] == ['python', '-m'] and not set(words[-1]) & set('|<>;&$*?'):
      if typed[2] in ('ncf_tfdata.train', 'ncf_tfdata.launch'):
        typed.append('--nojit_compile')
      return commands.run(
        *typed[2:], directory=self.directory, PYTHONPATH=str(prepared.ROOT)
      )
    return subprocess.run(
      words,
      cwd=self.directory,
      env={
        **os.environ,
        # `python` is the one that runs the tests.
        'PATH': os.pathsep.join((os.path.dirname(sys.executable), os.environ['PATH'])),
        'PYTHONPATH': str(prepared.ROOT),
        'TF_CPP_MIN_LOG_LEVEL': '3',
      },
      capture_output=True,
      text=True,
      check=False,
    )


@pytest.fixture(scope='module')
def desk(tmp_path_factory) -> Desk:
  """Where README's commands have been run, which the guides build on."""
  made = Desk(tmp_path_factory.mktemp('desk'))
  for block in runnable(doc_blocks.README):
    made.run(block)
  return made


@pytest.mark.parametrize(
  'page', PAGES, ids=lambda page: str(page.relative_to(prepared.ROOT))
)
def test_every_command_of_a_page_succeeds(desk, page):
  for block in runnable(page):
    if 'slow' not in block.marks:
      desk.run(block)


@pytest.mark.slow
@pytest.mark.parametrize(
  'page',
  [page for page in PAGES if any('slow' in block.marks for block in runnable(page))],
  ids=lambda page: str(page.relative_to(prepared.ROOT)),
)
def test_every_slow_command_of_a_page_succeeds(desk, page):
  for block in runnable(page):
    desk.run(block)


@pytest.mark.parametrize(
  ('directory', 'page'),
  [('data/mine', 'dataset-directory.md'), ('runs/mine', 'run-directory.md')],
)
def test_the_reference_names_every_file_of_a_directory(desk, directory, page):
  table = (doc_blocks.DOCS / 'reference' / page).read_text()
  cells = ' '.join(re.findall(r'^\| (.*?) \|', table, re.MULTILINE))
  named = [
    name.strip('/').replace('SPLIT', '(train|validation|test)').replace('SSSSS', r'\d+')
    for name in re.findall(r'`([^`]+)`', cells)
  ]
  patterns = [re.compile(name.replace('NNNNN', r'\d+')) for name in named]
  found = sorted(os.listdir(desk.directory / directory))
  assert [f for f in found if not any(p.fullmatch(f) for p in patterns)] == []
  assert [p.pattern for p in patterns if not any(map(p.fullmatch, found))] == []


@pytest.mark.parametrize(
  'page', PAGES, ids=lambda page: str(page.relative_to(prepared.ROOT))
)
def test_a_block_is_run_or_says_why_not(page):
  for block in doc_blocks.blocks(page):
    assert block.language, f'{block.where}: a fence without a language'
    if block.language not in doc_blocks.LANGUAGES:
      # Commands stand in blocks that are run.
      shown = block.text.lstrip('$ ')
      assert not shown.startswith(('python -m', 'make ')), block.where


def test_marks_are_seen():
  marked = {
    mark for page in PAGES for block in doc_blocks.blocks(page) for mark in block.marks
  }
  assert marked == {'not run', 'slow', 'setup'}
