"""Files that are either whole or not there."""

import contextlib
import os
import pathlib
from collections.abc import Iterator


@contextlib.contextmanager
def replaced(path: str | os.PathLike[str]) -> Iterator[pathlib.Path]:
  """Writes a file beside `path`, and moves it there once it is whole.

  Yields:
    Where to write: in the folder of `path`, which must exist, with its suffixes. If the
    block raises, that file is removed and `path` stays as it was.
  """
  path = pathlib.Path(path)
  temporary = path.with_name(f'tmp.{path.name}')
  try:
    yield temporary
    os.replace(temporary, path)
  finally:
    temporary.unlink(missing_ok=True)


def write_text(path: str | os.PathLike[str], text: str) -> None:
  """Replaces the content of a file, UTF-8."""
  with replaced(path) as temporary:
    temporary.write_text(text, encoding='utf8')
