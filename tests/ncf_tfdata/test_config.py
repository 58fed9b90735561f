"""Configuration classes: checks, flags, flagfiles and reference rows, of one source."""

import dataclasses

import numpy as np
import pytest
from absl import flags
from hypothesis import given
from hypothesis import strategies as st

from ncf_tfdata import config
from ncf_tfdata.errors import ArgumentError, UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inner(config.Config):
  kind: str = config.setting('a', 'Which.', choices=('a', 'b'), flag='inner_kind')
  share: float = config.setting(0.5, 'How much.', minimum=0, maximum=1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outer(config.Config):
  dim: int = config.setting(8, 'Width.', minimum=1, flag='outer_dim')
  heads: int = config.setting(2, 'Heads.', minimum=1)
  bias: bool = config.setting(False, 'Learns a bias.')
  known: bool | None = config.setting(None, 'Whether, by what is known.')
  path: str | None = config.setting(None, 'Where.')
  layers: tuple[int, ...] = config.setting((4, 2), 'Units.', minimum=1)
  names: tuple[str, ...] = config.setting((), 'Names.')
  files: tuple[str, ...] = config.setting((), 'Files.', repeated=True)
  inner: Inner = Inner()

  def check(self):
    if self.dim % self.heads:
      raise self.invalid('`heads` must divide `dim`.', 'heads', 'dim')


def _parsed(*words: str) -> Outer:
  values = flags.FlagValues()
  config.define(Outer, flag_values=values)
  values(['', *words])
  return config.read(Outer, values)


def test_flags_have_the_defaults_of_the_class():
  assert _parsed() == Outer()


def test_flags_become_the_configuration():
  found = _parsed(
    '--outer_dim=6',
    '--heads=3',
    '--bias',
    '--noknown',
    '--layers=16,8,4',
    '--names=x,y',
    '--files=one, two',
    '--files=three',
    '--inner_kind=b',
    '--share=0.25',
  )
  assert found == Outer(
    dim=6,
    heads=3,
    bias=True,
    known=False,
    layers=(16, 8, 4),
    names=('x', 'y'),
    files=('one, two', 'three'),
    inner=Inner(kind='b', share=0.25),
  )


def test_lines_are_those_that_absl_writes():
  values = flags.FlagValues()
  config.define(Outer, flag_values=values)
  values([''])
  wanted = {name: values[name].serialize() for name in values}
  found = config.lines(Outer())
  assert found == {name: line for name, line in wanted.items() if line}
  assert found['bias'] == '--nobias'
  assert found['layers'] == '--layers=4,2'
  assert 'path' not in found


_TEXT = st.text(st.characters(codec='utf-8', exclude_characters='\0\n\r'), min_size=1)


@given(
  st.builds(
    Outer,
    dim=st.integers(1, 2**40).map(lambda n: 2 * n),
    bias=st.booleans(),
    known=st.none() | st.booleans(),
    path=st.none() | _TEXT,
    layers=st.lists(st.integers(1, 99), min_size=1).map(tuple),
    files=st.lists(_TEXT).map(tuple),
    inner=st.builds(Inner, share=st.floats(0, 1), kind=st.sampled_from('ab')),
  )
)
def test_a_flagfile_reads_back_as_what_it_was_written_of(made):
  lines = list(config.lines(made).values())
  assert config.read(Outer, config.parse(lines, Outer)) == made


@pytest.mark.parametrize('line', ['--nothing=1', '--heads=two', '--heads=0', '--heads'])
def test_a_flagfile_that_is_none_is_told_in_one_line(line):
  with pytest.raises(UserError) as raised:
    config.parse([line], Outer)
  assert '\n' not in str(raised.value)
  assert line[2:9].partition('=')[0] in str(raised.value)


@pytest.mark.parametrize(
  ('wrong', 'told'),
  [
    ({'heads': 3}, '`heads` must divide `dim`. Received: heads=3, dim=8'),
    ({'dim': 0}, '`dim` must be at least 1. Received: dim=0'),
    ({'dim': 2.5}, '`dim` must be a whole number. Received: dim=2.5'),
    ({'dim': True}, '`dim` must be a whole number. Received: dim=True'),
    ({'bias': 1}, '`bias` must be true or false. Received: bias=1'),
    ({'dim': None}, '`dim` must be a whole number. Received: dim=None'),
    ({'layers': (4, 0)}, '`layers` must be at least 1. Received: layers=(4, 0)'),
    ({'layers': ('4', 'x')}, '`layers` must be a list of whole numbers.'),
    ({'names': 'abc'}, "`names` must be a list of texts. Received: names='abc'"),
    ({'inner': None}, '`inner` must be of Inner. Received: inner=None'),
  ],
)
def test_an_error_names_the_argument(wrong, told):
  with pytest.raises(ValueError) as raised:
    Outer(**wrong)
  assert told in str(raised.value)


@pytest.mark.parametrize(
  ('wrong', 'told'),
  [
    ({'kind': 'c'}, "`kind` must be one of a, b. Received: kind='c'"),
    ({'share': 1.5}, '`share` must be from 0 to 1. Received: share=1.5'),
    ({'share': float('nan')}, '`share` must be from 0 to 1. Received: share=nan'),
  ],
)
def test_ranges_are_kept(wrong, told):
  with pytest.raises(ValueError, match=told.replace('.', r'\.')):
    Inner(**wrong)


def test_a_command_names_flags():
  with pytest.raises(ArgumentError) as raised:
    _parsed('--heads=3')
  told = raised.value.as_flags()
  assert told == 'received --heads=3 --outer_dim=8: --heads must divide --outer_dim.'
  with pytest.raises(ArgumentError) as raised:
    _parsed('--layers=4,x')
  assert raised.value.as_flags().startswith('received --layers=4,x: --layers must be')


def test_numbers_take_the_type_of_their_setting():
  made = Outer(dim=np.int64(4), inner=Inner(share=1), layers=[np.int32(3)])
  assert type(made.dim) is int
  assert type(made.inner.share) is float
  assert made.layers == (3,)


def test_a_copy_is_checked_too():
  assert Outer().replace(dim=4).dim == 4
  with pytest.raises(ValueError, match='divide'):
    Outer().replace(heads=3)


def test_classes_may_share_a_flag_of_one_meaning_only():
  @dataclasses.dataclass(frozen=True, kw_only=True)
  class Same(config.Config):
    heads: int = config.setting(2, 'Heads.', minimum=1)

  @dataclasses.dataclass(frozen=True, kw_only=True)
  class Other(config.Config):
    heads: int = config.setting(3, 'Heads.', minimum=1)

  config.define(Outer, Same, flag_values=flags.FlagValues())
  with pytest.raises(ValueError, match='--heads'):
    config.define(Outer, Other, flag_values=flags.FlagValues())


def test_reference_rows_say_what_the_class_says():
  rows = {row.name: row for row in config.describe(Outer)}
  assert rows['dim'] == config.Row(
    'dim', 'outer_dim', 'int', '8', 'at least 1', 'Width.'
  )
  assert rows['kind'].range == 'one of a, b'
  assert rows['known'].type == 'bool | None'
  assert rows['layers'].type == 'tuple[int, ...]'
