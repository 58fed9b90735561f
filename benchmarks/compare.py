"""Compares the results here with those of a git revision: what has become slower?

    python benchmarks/compare.py --against=HEAD --tolerance=.1

Every time, rate and ratio of `benchmarks/results/*.json` that changed by more than the
tolerance has a line; `measures.py` says which those are and which way is better. Times
and rates of two machines are not compared, nor where a file does not tell its CPU;
ratios are. Other programs' figures are told and never judged. Exit code 1: something is
slower; 2: there is nothing to compare with.
"""

import dataclasses
import json
import pathlib
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import measures
import record
from absl import app, flags

_AGAINST = flags.DEFINE_string('against', 'HEAD', 'Git revision to compare with.')
_TOLERANCE = flags.DEFINE_float(
  'tolerance', 0.1, 'Changes up to this share are not told.', lower_bound=0
)

_FOLDER = 'benchmarks/results'
_HEADER = ('number', 'before', 'now', 'change', '')
# These decide the speed; memory varies by some MB from one boot to the next.
_MACHINE = ('cpu', 'vectors', 'cores', 'architecture')

_Results = dict[str, dict[str, Any]]


@dataclasses.dataclass(frozen=True)
class Change:
  """A number that is not what it was.

  Attributes:
    path: See `measures.py`.
    before: In the revision.
    now: In the working tree.
  """

  path: str
  before: float
  now: float

  @property
  def cost(self) -> float:
    """How many times as much is needed now, whichever way the number is better."""
    ratio = self.now / self.before
    return 1 / ratio if measures.of(self.path).rising else ratio

  def verdict(self, tolerance: float) -> str:
    """`slower`, `faster` and so on; empty within the tolerance."""
    measure = measures.of(self.path)
    if 1 / (1 + tolerance) <= self.cost <= 1 + tolerance:
      return ''
    worse, better = (
      ('worse', 'better')
      if measure.kind is measures.Kind.RATIO
      else ('slower', 'faster')
    )
    word = worse if self.cost > 1 else better
    return f'{word}, but not ours' if measure.theirs else word


def of_revision(root: pathlib.Path, revision: str) -> _Results:
  """Results in a commit of the repository at root, by name.

  Raises:
    ValueError: There is no such revision, or a file of it is not JSON.
  """
  try:
    commit = record.git(root, 'rev-parse', '--verify', f'{revision}^{{commit}}').strip()
    names = record.git(root, 'ls-tree', '--name-only', commit, f'{_FOLDER}/')
    return {
      pathlib.PurePath(name).stem: _read(
        record.git(root, 'show', f'{commit}:./{name}'), f'{name} of {revision}'
      )
      for name in names.splitlines()
      if name.endswith('.json')
    }
  except (OSError, subprocess.CalledProcessError) as error:
    said = getattr(error, 'stderr', None) or str(error)
    raise ValueError(
      f'--against: git knows no commit {revision!r} here '
      f'({said.strip().splitlines()[-1]}); `git log -- {_FOLDER}` lists some.'
    ) from error


def of_tree(root: pathlib.Path) -> _Results:
  """Results in the working tree at root, by name.

  Raises:
    ValueError: A file is not JSON.
  """
  return {
    path.stem: _read(path.read_text(), f'{_FOLDER}/{path.name}')
    for path in sorted((root / _FOLDER).glob('*.json'))
  }


def _read(text: str, name: str) -> dict[str, Any]:
  try:
    result = json.loads(text)
  except ValueError as error:
    raise ValueError(f'{name} is not JSON: {error}; measure it again.') from error
  if not isinstance(result, dict):
    raise ValueError(f'{name} holds no JSON object; measure it again.')
  return result


def changes(name: str, before: dict, now: dict) -> tuple[list[Change], list[str]]:
  """What two results have in common, and remarks on what they have not.

  Of different or unknown machines only ratios are taken.
  """
  old, new = measures.numbers(name, before), measures.numbers(name, now)
  remarks = _remarks(before.get('record'), now.get('record'))
  machines = _machines(before, now)
  if machines:
    remarks.insert(0, f'{machines}: only ratios are compared')
  for paths, where in ((old.keys() - new.keys(), 'before'), (new.keys() - old, 'now')):
    if paths:
      remarks.append(f'{len(paths)} numbers only {where}, as {min(paths)}')
  both = [
    Change(path, old[path], new[path])
    for path in old
    # Of nothing there is no share.
    if path in new and old[path] > 0 and new[path] > 0
    if not machines or measures.of(path).kind is measures.Kind.RATIO
  ]
  return both, remarks


def _machines(before: dict, now: dict) -> str:
  """How the machines of two results differ; empty if they do not."""
  told = []
  for result in (before, now):
    machine = result.get('record', {}).get('machine', {})
    if not machine.get('cpu'):
      when = 'before' if result is before else 'now'
      return f'the CPU {when} is not recorded'
    told.append(' '.join(str(machine.get(name)) for name in _MACHINE))
  return '' if told[0] == told[1] else f'machines differ, {told[0]} and {told[1]}'


def _remarks(before: dict | None, now: dict | None) -> list[str]:
  """How versions and flags differ, and what was not committed."""
  remarks = []
  if before and now:
    for what in ('versions', 'flags'):
      old, new = before[what], now[what]
      remarks += [
        f'{what}: {name} {old.get(name, "default")} → {new.get(name, "default")}'
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name)
      ]
  for when, record_of in (('before', before), ('now', now)):
    if record_of and record_of['clean'] is False:
      remarks.append(f'{when} measured with changes that were not committed')
  return remarks


def _number(value: float) -> str:
  return f'{value:,.0f}' if value >= 1000 else f'{value:.4g}'


def _row(change: Change, verdict: str) -> tuple[str, ...]:
  share = (change.now / change.before - 1) * 100
  numbers = (_number(change.before), _number(change.now))
  return (change.path, *numbers, f'{share:+,.0f} %', verdict)


def _table(rows: Sequence[tuple[str, ...]]) -> str:
  widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
  return '\n'.join(
    '  '.join(
      cell.rjust(width) if 0 < place < 4 else cell.ljust(width)
      for place, (cell, width) in enumerate(zip(row, widths, strict=True))
    ).rstrip()
    for row in rows
  )


def report(root: pathlib.Path, revision: str, tolerance: float) -> bool:
  """Prints what changed between a revision and the working tree at root.

  Returns:
    Whether something of ours has become slower, or a ratio worse.

  Raises:
    ValueError: See `of_revision` and `of_tree`.
  """
  before, now = of_revision(root, revision), of_tree(root)
  both = sorted(before.keys() & now.keys())
  found: list[Change] = []
  for name in both:
    if before[name] != now[name]:
      more, remarks = changes(name, before[name], now[name])
      found += more
      for remark in remarks:
        print(f'{name}: {remark}')
  for names, where in ((before.keys() - now, revision), (now.keys() - before, 'here')):
    if names:
      print(f'only {where}: {", ".join(sorted(names))}')
  rows = [(change, change.verdict(tolerance)) for change in found]
  told = [_row(change, verdict) for change, verdict in rows if verdict]
  if told:
    print(f'\n{_table([_HEADER, *told])}\n')
  worse = sum(verdict in ('slower', 'worse') for _, verdict in rows)
  same = sum(before[name] == now[name] for name in both)
  print(
    f'against {revision}: {same} results are the same; {len(found)} numbers of '
    f'{len(both) - same} others compared, {worse} slower or worse by more than '
    f'{tolerance * 100:.3g} %'
  )
  return worse > 0


def main(_: list[str]) -> int:
  try:
    return int(report(record.ROOT, _AGAINST.value, _TOLERANCE.value))
  except ValueError as error:
    print(error, file=sys.stderr)
    return 2


if __name__ == '__main__':
  app.run(main)
