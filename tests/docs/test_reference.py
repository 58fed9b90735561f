"""The reference pages say what the commands and the contracts say of themselves."""

import subprocess
import sys

import prepared


def test_the_pages_of_flags_are_up_to_date():
  done = subprocess.run(
    [sys.executable, str(prepared.ROOT / 'scripts' / 'write_reference.py'), '--check'],
    cwd=prepared.ROOT,
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 0, done.stderr[-2000:]
