"""Configuration classes: the one home of names, types, defaults, bounds and help.

A configuration is a frozen dataclass whose fields are made by `setting`:

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class HistoryConfig(config.Config):
      dim: int = config.setting(64, 'Width of vectors.', minimum=1, flag='history_dim')

It checks itself when it is made. From the same fields come absl flags (`define`,
`read`), the lines of a flagfile (`lines`, `parse`) and reference pages (`describe`).
A field may hold another configuration, whose settings then count as its own.

Types are bool, int, float, str, tuple[int, ...] and tuple[str, ...], each also | None.
A tuple's flag takes values between commas; a `repeated` one is given once for each.
"""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Self, TypeVar

from absl import flags

from ncf_tfdata.errors import ArgumentError, UserError

# Flags belong to the module that asks for them: absl then shows them in its --help.
flags.disclaim_key_flags()

_KEY = 'setting'


@dataclasses.dataclass(frozen=True)
class Setting:
  """What is known of a field beside its name, type and default.

  Attributes:
    help: What it is for, a sentence or two.
    minimum: Least value; of a tuple, least value of each number.
    maximum: Largest value.
    choices: The only values, or a function that gives those there are by then.
    flag: Name of its flag, where it is not the field's.
    repeated: Of a tuple of texts: whether its flag stands once for each value, which
      may hold commas.
  """

  help: str
  minimum: float | None = None
  maximum: float | None = None
  choices: tuple[str, ...] | Callable[[], Sequence[str]] | None = None
  flag: str | None = None
  repeated: bool = False

  def values(self) -> tuple[str, ...]:
    """The choices there are; none where any value is taken."""
    return tuple(self.choices() if callable(self.choices) else self.choices or ())

  def range(self) -> str:
    """The values that are taken, in words; empty where any is."""
    if self.choices:
      return f'one of {", ".join(self.values())}'
    if self.minimum is None:
      return '' if self.maximum is None else f'at most {self.maximum:g}'
    if self.maximum is None:
      return f'at least {self.minimum:g}'
    return f'from {self.minimum:g} to {self.maximum:g}'

  def holds(self, value: Any) -> bool:
    """Whether a value, of the right type, is within the range; no NaN is."""
    if isinstance(value, tuple):
      return all(self.holds(each) for each in value)
    if self.choices and value not in self.values():
      return False
    if isinstance(value, float) and math.isnan(value):
      return False
    if self.minimum is not None and value < self.minimum:
      return False
    return self.maximum is None or value <= self.maximum


def setting(
  default: Any,
  help: str,
  *,
  minimum: float | None = None,
  maximum: float | None = None,
  choices: Sequence[str] | Callable[[], Sequence[str]] | None = None,
  flag: str | None = None,
  repeated: bool = False,
) -> Any:
  """Makes a field of a configuration; see `Setting`."""
  if choices is not None and not callable(choices):
    choices = tuple(choices)
  found = Setting(help, minimum, maximum, choices, flag, repeated)
  return dataclasses.field(default=default, metadata={_KEY: found})


class _Field(NamedTuple):
  """A setting in its class: its flag's name, and its type with | None taken off."""

  name: str
  flag: str
  kind: Any
  optional: bool
  default: Any
  setting: Setting


def _kind(hint: Any) -> tuple[Any, bool]:
  """The type without None, and whether None was part of it."""
  if typing.get_origin(hint) not in (typing.Union, types.UnionType):
    return hint, False
  (kind,) = (part for part in typing.get_args(hint) if part is not type(None))
  return kind, True


def _fields(config: type[Config]) -> tuple[_Field, ...]:
  """The settings of a class, without those of configurations in its fields."""
  hints = typing.get_type_hints(config)
  return tuple(
    _Field(
      field.name,
      field.metadata[_KEY].flag or field.name,
      *_kind(hints[field.name]),
      field.default,
      field.metadata[_KEY],
    )
    for field in dataclasses.fields(config)
    if _KEY in field.metadata
  )


def _parts(config: type[Config]) -> Mapping[str, type[Config]]:
  """The configurations in the fields of a class, by name of the field."""
  hints = typing.get_type_hints(config)
  return {
    field.name: hints[field.name]
    for field in dataclasses.fields(config)
    if _KEY not in field.metadata
  }


def _all_fields(config: type[Config]) -> Iterator[_Field]:
  for part in _parts(config).values():
    yield from _all_fields(part)
  yield from _fields(config)


def flag_names(*configs: type[Config]) -> dict[str, str]:
  """Flags by name of the setting, those in parts included."""
  return {field.name: field.flag for config in configs for field in _all_fields(config)}


# By type: what one value and what several are called.
_CALLED: Mapping[type, tuple[str, str]] = {
  bool: ('true or false', 'true or false each'),
  int: ('a whole number', 'a list of whole numbers'),
  float: ('a number', 'a list of numbers'),
  str: ('a text', 'a list of texts'),
}


def _scalar(kind: type, value: Any, from_text: bool = False) -> Any:
  """The value as one of `kind`.

  Raises:
    TypeError: It is of another type, or a text that says none.
  """
  if hasattr(value, 'item') and not isinstance(value, str):
    value = value.item()  # of numpy
  if from_text and isinstance(value, str) and kind is not str:
    try:
      return kind(value)
    except ValueError as error:
      raise TypeError from error
  taken = (int, float) if kind is float else kind
  if not isinstance(value, taken) or (isinstance(value, bool) and kind is not bool):
    raise TypeError
  return kind(value)


def _checked(field: _Field, value: Any) -> Any:
  """The value in the type of its field.

  Raises:
    ArgumentError: It is of another type, or out of range.
  """
  if value is None and field.optional:
    return None
  is_tuple = typing.get_origin(field.kind) is tuple
  kind = typing.get_args(field.kind)[0] if is_tuple else field.kind
  expected = _CALLED[kind][is_tuple]
  try:
    if not is_tuple:
      value = _scalar(kind, value)
    elif isinstance(value, str):
      raise TypeError
    else:
      value = tuple(_scalar(kind, each, from_text=True) for each in value)
  except TypeError as error:
    raise ArgumentError(
      f'`{field.name}` must be {expected}.', **{field.name: value}
    ) from error
  if not field.setting.holds(value):
    raise ArgumentError(
      f'`{field.name}` must be {field.setting.range() or expected}.',
      **{field.name: value},
    )
  return value


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
  """Base of all configurations, which are frozen dataclasses of keyword arguments.

  Raises:
    ArgumentError: A value is of another type or out of range, or `check` refuses.
  """

  def __post_init__(self) -> None:
    try:
      for field in _fields(type(self)):
        value = _checked(field, getattr(self, field.name))
        object.__setattr__(self, field.name, value)
      for name, part in _parts(type(self)).items():
        if not isinstance(getattr(self, name), part):
          raise ArgumentError(
            f'`{name}` must be of {part.__name__}.', **{name: getattr(self, name)}
          )
      self.check()
    except ArgumentError as error:
      error.flags = flag_names(type(self)) | error.flags
      raise

  def check(self) -> None:
    """Refuses values that contradict each other.

    Raises:
      ArgumentError: They do.
    """

  def invalid(self, expected: str, *names: str) -> ArgumentError:
    """An error that names settings and what was received for them.

    Args:
      expected: A sentence; settings stand between backticks.
      *names: Settings of this configuration.
    """
    received = {name: getattr(self, name) for name in names}
    return ArgumentError(expected, flag_names(type(self)), **received)

  def replace(self, **values: Any) -> Self:
    """A copy with other values of some settings, checked like any."""
    return dataclasses.replace(self, **values)


ConfigType = TypeVar('ConfigType', bound=Config)


def define(*configs: type[Config], flag_values: flags.FlagValues = flags.FLAGS) -> None:
  """Defines the absl flags of some classes; one that they share is defined once.

  Raises:
    ValueError: Two classes mean different things by one flag.
  """
  found: dict[str, _Field] = {}
  for config in configs:
    for field in _all_fields(config):
      known = found.setdefault(field.flag, field)
      if known is field:
        _define(field, flag_values)
      elif known[2:] != field[2:]:
        raise ValueError(f'two settings of different meaning share --{field.flag}')


def _define(field: _Field, flag_values: flags.FlagValues) -> None:
  setting = field.setting
  names: dict[str, Any] = {
    'name': field.flag,
    'default': _flag_value(field.default),
    'help': setting.help,
    'flag_values': flag_values,
  }
  bounds: dict[str, Any] = {
    'lower_bound': setting.minimum,
    'upper_bound': setting.maximum,
  }
  if setting.choices:
    flags.DEFINE_enum(enum_values=setting.values(), **names)
  elif setting.repeated:
    flags.DEFINE_multi_string(**names)
  elif typing.get_origin(field.kind) is tuple:
    flags.DEFINE_list(**names)
  elif field.kind is bool:
    flags.DEFINE_bool(**names)
  elif field.kind is int:
    flags.DEFINE_integer(**names, **bounds)
  elif field.kind is float:
    flags.DEFINE_float(**names, **bounds)
  else:
    flags.DEFINE_string(**names)


def _flag_value(value: Any) -> Any:
  """A setting's value as its flag holds it."""
  return [str(each) for each in value] if isinstance(value, tuple) else value


def read(
  config: type[ConfigType], flag_values: flags.FlagValues = flags.FLAGS
) -> ConfigType:
  """Makes a configuration of flags that were defined from it.

  Raises:
    ArgumentError: They contradict each other, or are not what is expected.
  """
  values = {field.name: flag_values[field.flag].value for field in _fields(config)}
  parts = {name: read(part, flag_values) for name, part in _parts(config).items()}
  return config(**values, **parts)


def values(config: Config) -> dict[str, Any]:
  """Values by name of the flag, as absl holds them, those of parts included."""
  found: dict[str, Any] = {}
  for part in _parts(type(config)):
    found |= values(getattr(config, part))
  for field in _fields(type(config)):
    found[field.flag] = _flag_value(getattr(config, field.name))
  return found


def lines(*configs: Config) -> dict[str, str]:
  """A flagfile's line by name of the flag, without those of value None.

  A repeated flag has a line for each of its values.
  """
  flag_values = flags.FlagValues()
  define(*map(type, configs), flag_values=flag_values)
  for config in configs:
    for name, value in values(config).items():
      flag_values[name].value = value
  return {
    name: line
    for name in flag_values
    if flag_values[name].value is not None and (line := flag_values[name].serialize())
  }


def parse(text: Sequence[str], *configs: type[Config]) -> flags.FlagValues:
  """Takes a flagfile's lines for the flags of some classes; `read` makes them of it.

  Raises:
    UserError: There is no such flag, or its value is not what is expected.
  """
  flag_values = flags.FlagValues()
  define(*configs, flag_values=flag_values)
  try:
    flag_values(['', *(line for lines in text for line in lines.split('\n'))])
  except flags.Error as error:
    raise UserError(f'{error}.') from error
  return flag_values


class Row(NamedTuple):
  """A line of a reference page."""

  name: str
  flag: str
  type: str
  default: str
  range: str
  help: str


def describe(config: type[Config]) -> Iterator[Row]:
  """A row for each setting of a class, those in its parts included, in their order."""
  for field in _all_fields(config):
    kind = field.kind.__name__ if isinstance(field.kind, type) else str(field.kind)
    if typing.get_origin(field.kind) is tuple:
      kind = str(field.kind)
    yield Row(
      field.name,
      field.flag,
      f'{kind} | None' if field.optional else kind,
      repr(field.default),
      field.setting.range(),
      field.setting.help,
    )
