"""The code blocks of README and docs, and what is said of them in a comment above.

<!-- not run: REASON -->   the block is not run
<!-- slow: REASON -->      it is run among the slow tests only
<!-- setup: COMMAND -->    a shell command that is run before the block
"""

import dataclasses
import pathlib
import re

import prepared

README = prepared.ROOT / 'README.md'
DOCS = prepared.ROOT / 'docs'
LANGUAGES = ('bash', 'sh', 'python')

_FENCE = re.compile(r'^```(\w*)\n(.*?)^```$', re.MULTILINE | re.DOTALL)
_MARK = re.compile(r'<!-- (not run|slow|setup): (.+?) -->')


@dataclasses.dataclass(frozen=True)
class Block:
  """A fenced block of code."""

  page: pathlib.Path
  line: int
  language: str
  text: str
  marks: dict[str, str]

  @property
  def where(self) -> str:
    return f'{self.page.relative_to(prepared.ROOT)}:{self.line}'


def pages() -> list[pathlib.Path]:
  """README, and the pages that a person wrote."""
  written = (p for p in sorted(DOCS.rglob('*.md')) if p.parent.name != 'commands')
  return [README, *written]


def blocks(page: pathlib.Path) -> list[Block]:
  """The blocks of a page in their order."""
  text = page.read_text()
  found = []
  end = 0
  for match in _FENCE.finditer(text):
    # Marks stand between what came before the block and its fence.
    above = text[end : match.start()].rstrip().split('\n\n')[-1]
    marks = dict(_MARK.findall(above))
    line = text.count('\n', 0, match.start()) + 1
    found.append(Block(page, line, match[1], match[2], marks))
    end = match.end()
  return found


def commands(text: str) -> list[str]:
  """The commands of a shell block, each with its continued lines."""
  joined = re.sub(r'\\\n\s*', '', text)
  return [line for line in joined.split('\n') if line and not line.startswith('#')]
