"""A search space: which settings of a recipe are searched, and where.

    learning_rate=0.0005..0.01:log,dropout=0..0.5,members=1,2

A setting goes by the name of its flag. Its values are a range, or a few that stand
between commas; the numbers of a list are joined by +. The same lines in a file may hold
empty lines and remarks, which begin with #.
"""

from __future__ import annotations

import dataclasses
import difflib
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from absl import flags

from ncf_tfdata import config
from ncf_tfdata.errors import ArgumentError, UserError
from ncf_tfdata.models import registry
from ncf_tfdata.training import recipe
from ncf_tfdata.training.config import OPERATIONAL, TrainConfig

Value = bool | int | float | str

# What a trial is measured by or run on; two trials that differ in it do not compare.
_FIXED = OPERATIONAL | {
  'full_validation',
  'jit_compile',
  'logical_cpus',
  'monitor',
  'seed',
  'strategy',
  'train_since',
  'warm_start',
  'warm_start_data_dir',
}

# `.0005..01` would be read in two ways: a digit stands before the point.
_NUMBER = r'-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][-+]?\d+)?'
_RANGE = re.compile(rf'({_NUMBER})\.\.({_NUMBER})(:log)?')

# Digits of a suggestion; more would be noise.
_DIGITS = 4


@dataclasses.dataclass(frozen=True)
class Range:
  """Numbers from `low` to `high`, both included.

  Attributes:
    low: Least number.
    high: Largest number.
    log: Whether equal ratios count alike, and not equal differences.
    whole: Whether they are whole numbers.
  """

  low: float
  high: float
  log: bool = False
  whole: bool = False

  def ends(self) -> tuple[Value, ...]:
    return (self.value(self.low), self.value(self.high))

  def value(self, suggested: Any) -> Value:
    """A suggestion as it is tried: rounded, and still within the range."""
    if self.whole:
      return int(suggested)
    return min(max(float(f'{suggested:.{_DIGITS}g}'), self.low), self.high)

  def holds(self, value: Any) -> bool:
    numeric = isinstance(value, int | float) and not isinstance(value, bool)
    return numeric and self.low <= value <= self.high

  def parse(self, text: str) -> Value:
    return int(text) if self.whole else float(text)

  def __str__(self) -> str:
    low, high = map(as_text, self.ends())
    return f'{low}..{high}{":log" * self.log}'


@dataclasses.dataclass(frozen=True)
class Choice:
  """One of some values, as texts of the flag."""

  values: tuple[str, ...]

  def ends(self) -> tuple[Value, ...]:
    return self.values

  def value(self, suggested: Any) -> Value:
    return str(suggested)

  def holds(self, value: Any) -> bool:
    return value in self.values

  def parse(self, text: str) -> Value:
    return text

  def __str__(self) -> str:
    return ','.join(value.replace(',', '+') for value in self.values)


Space = Mapping[str, Range | Choice]


def as_text(value: Any) -> str:
  """A value as its flag takes it."""
  if isinstance(value, bool):
    return str(value).lower()
  if isinstance(value, tuple | list):
    return ','.join(map(as_text, value))
  return repr(value).removesuffix('.0') if isinstance(value, float) else str(value)


def of_mapping(space: Mapping[str, str | Sequence[Any]]) -> str:
  """The text of a space that is given as a mapping.

  Args:
    space: By name of the flag: a range, as text, or a sequence of values.
  """
  entries = [
    f'{name}={values}'
    if isinstance(values, str)
    else f'{name}={",".join(as_text(value).replace(",", "+") for value in values)}'
    for name, values in space.items()
  ]
  return ','.join(entries)


def parse(text: str | None, base: Sequence[str]) -> Space:
  """The space of a text, or of the file that it names, for a recipe.

  Args:
    text: None for the model's own.
    base: The recipe's lines of a flagfile.

  Raises:
    ArgumentError: A setting is none of the recipe's, or a value is none of its.
    UserError: There is no such file.
  """
  values = config.parse(base, *recipe.configs())
  model = registry.by_name(config.read(recipe.RunConfig, values).model).config
  known = sorted(config.flag_names(TrainConfig, model).values())
  if text is None:
    text = model.searched
  elif '=' not in text:
    text = _read(text)
  found: dict[str, Range | Choice] = {}
  for name, pieces in _entries(text):
    entry = f'{name}={",".join(pieces)}'
    _check_name(name, known, entry)
    if name in found:
      raise _invalid(f'`search` must name {name} once.', entry)
    found[name] = _dimension(values[name], pieces, entry)
    for end in found[name].ends():
      _check_value([*base], name, end, entry)
  if not found:
    raise _invalid('`search` must name a setting, such as dropout=0..0.5.', text)
  return found


def _invalid(expected: str, received: str) -> ArgumentError:
  return ArgumentError(expected, search=received)


def _read(path: str) -> str:
  try:
    lines = pathlib.Path(path).read_text(encoding='utf8').splitlines()
  except OSError as error:
    raise UserError(
      f'--search={path} is neither a setting with its values, such as dropout=0..0.5, '
      f'nor a file that can be read ({error.strerror}).'
    ) from error
  return ','.join(
    part.strip() for line in lines if (part := line.partition('#')[0].strip())
  )


def _entries(text: str) -> list[tuple[str, list[str]]]:
  """Names with the pieces between commas; one without = belongs to the one before."""
  entries: list[tuple[str, list[str]]] = []
  for piece in (piece.strip() for piece in text.split(',')):
    name, is_named, values = piece.partition('=')
    if is_named:
      entries.append((name.strip().lstrip('-'), [values.strip()]))
    elif not entries:
      raise _invalid('`search` must begin with NAME=VALUES.', text)
    else:
      entries[-1][1].append(piece)
  return entries


def _check_name(name: str, known: Sequence[str], entry: str) -> None:
  if name in _FIXED:
    raise _invalid(
      f'`search` must not name {name}: trials that differ in it do not compare.', entry
    )
  if name not in known:
    close = difflib.get_close_matches(name, known, 1)
    meant = f'did you mean {close[0]}?' if close else f'{", ".join(known)}.'
    raise _invalid(
      f"`search` must name settings of the recipe's training and model: {meant}", entry
    )


def _dimension(
  flag: flags.Flag[Any], pieces: Sequence[str], entry: str
) -> Range | Choice:
  kind = flag.flag_type()
  if len(pieces) > 1 or '..' not in pieces[0]:
    if '' in pieces or len(set(pieces)) < len(pieces):
      raise _invalid('`search` must give values, each once.', entry)
    is_list = kind.startswith('comma')
    return Choice(tuple(p.replace('+', ',') if is_list else p for p in pieces))
  if kind not in ('int', 'float'):
    raise _invalid(f'`search` must give values: {flag.name} is no number.', entry)
  match = _RANGE.fullmatch(pieces[0])
  if match is None:
    raise _invalid(
      '`search` must give a range such as 0.0005..0.01 or 0.0005..0.01:log, with a '
      'digit before each point.',
      entry,
    )
  low, high = float(match[1]), float(match[2])
  found = Range(low, high, log=bool(match[3]), whole=kind == 'int')
  if not low < high or (found.log and low <= 0):
    above = ', above 0 for a logarithm' if found.log else ''
    raise _invalid(f'`search` must give the lower end first{above}.', entry)
  if found.whole and not (low.is_integer() and high.is_integer()):
    raise _invalid(f'`search` must give whole numbers for {flag.name}.', entry)
  return found


def _check_value(base: Sequence[str], name: str, value: Value, entry: str) -> None:
  """Refuses what the flag, or a list's numbers, cannot be."""
  try:
    line = f'--{name}={as_text(value)}'
    config.parse([*base, line], *recipe.configs())
  except UserError as error:
    raise _invalid(f'`search` must give what the flag takes: {error}', entry) from error


def lines(base: Sequence[str], values: Mapping[str, Value]) -> list[str]:
  """A flagfile's lines of a recipe with other values of some settings."""
  return [*base, *(f'--{name}={as_text(value)}' for name, value in values.items())]
