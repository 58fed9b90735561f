"""Private parts of others: in one module, and as they are expected to be."""

import ast
import threading

import keras
import numpy as np
import prepared
import pytest
import tensorflow as tf
from tensorflow.python.distribute import collective_all_reduce_strategy

from ncf_tfdata import _compat
from ncf_tfdata.training import optimizers

# What `typing.NamedTuple` and Python's own classes give to all.
_PUBLIC = {'_replace', '_fields', '_asdict', '_make', '_field_defaults'}


def _private(name: str) -> bool:
  return name.startswith('_') and not name.startswith('__') and name not in _PUBLIC


def _uses(text: str) -> tuple[set[str], set[str]]:
  """Private names of attributes that are used in a module, and that it defines."""
  used, own = set(), set()
  for node in ast.walk(ast.parse(text)):
    if isinstance(node, ast.Attribute) and _private(node.attr):
      stored = isinstance(node.ctx, ast.Store)
      on_self = isinstance(node.value, ast.Name) and node.value.id in ('self', 'cls')
      (own if stored and on_self else used).add(node.attr)
    elif isinstance(node, ast.FunctionDef | ast.ClassDef):
      own.add(node.name)
    elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
      own.add(node.id)
    elif isinstance(node, ast.ImportFrom) and not str(node.module).startswith('__'):
      parts = [*str(node.module).split('.'), *(alias.name for alias in node.names)]
      used |= {part for part in parts if _private(part) and part != '_compat'}
      used |= {'keras.src'} & {str(node.module)[:9]}
  return used, own


def test_no_other_module_uses_what_is_private_to_others():
  found = {}
  defined = set()
  for path in sorted((prepared.ROOT / 'ncf_tfdata').rglob('*.py')):
    used, own = _uses(path.read_text())
    if path.name != '_compat.py':
      defined |= own
      found[path.name] = used
  assert len(found) > 40
  assert {name: used - defined for name, used in found.items() if used - defined} == {}


def test_a_private_use_is_seen():
  used, own = _uses('class A(B):\n  def f(self):\n    self._x = self._y + other._z\n')
  assert used - own == {'_y', '_z'}
  assert _uses('from keras.src import ops')[0] == {'keras.src'}


@pytest.fixture
def extended():
  made = object.__new__(collective_all_reduce_strategy.CollectiveAllReduceExtended)
  made._check_health_thread_should_stop = threading.Event()
  made._check_health_thread = threading.Thread(target=lambda: None)
  return made


def test_a_strategy_ends_without_its_health_check(extended):
  # The thread was not started: TensorFlow's own end, which joins it, fails.
  with pytest.raises(RuntimeError, match='join'):
    extended._stop_check_health_thread()

  class Strategy:
    pass

  Strategy.extended = extended
  _compat.drop_health_check(Strategy)
  extended._stop_check_health_thread()
  assert not hasattr(extended, '_check_health_thread') or (
    extended._check_health_thread is None
  )
  del extended._check_health_thread
  with pytest.raises(AttributeError):
    _compat.drop_health_check(Strategy)
  # The coordination service takes the check's place: then there is no thread.
  extended._enable_check_health = False
  _compat.drop_health_check(Strategy)


def test_the_moments_are_those_of_the_variable():
  shapes = [(2, 3), (4,), (5, 1)]
  weights = [keras.Variable(np.zeros(shape, np.float32)) for shape in shapes]
  optimizer = keras.optimizers.Adam(0.1, beta_1=0.75, beta_2=0.5)
  optimizer.build(weights)
  gradients = [tf.constant(n + np.ones(s), tf.float32) for n, s in enumerate(shapes)]
  optimizer.apply(gradients, weights)
  for weight, gradient in zip(weights, gradients, strict=True):
    first, second = _compat.adam_moments(optimizer, weight)
    np.testing.assert_allclose(first, 0.25 * gradient)
    np.testing.assert_allclose(second, 0.5 * gradient**2)


@pytest.mark.parametrize(
  ('name', 'slots'),
  [
    ('adam', ['momentum', 'velocity']),
    ('lazy_adam', ['momentum', 'velocity']),
    ('adagrad', ['accumulator']),
    ('rmsprop', ['velocity']),
    ('sgd', []),
  ],
)
@pytest.mark.parametrize('average', [0.0, 0.9])
def test_slots_are_all_that_an_optimizer_keeps_of_each_weight(name, slots, average):
  weights = [keras.Variable(np.zeros(shape, np.float32)) for shape in ((2, 3), (4,))]
  optimizer = optimizers.create(
    name,
    optimizers.LearningRate(0.1, steps_per_epoch=1),
    beta_2=0.999,
    average=average,
  )
  optimizer.build(weights)
  found = _compat.optimizer_slots(optimizer)
  assert list(found) == slots + (['average'] if average else [])
  for kept in found.values():
    assert [each.shape for each in kept] == [each.shape for each in weights]
  # The first of its variables counts steps; the averages come next.
  kept = {id(each) for variables in found.values() for each in variables}
  assert kept == {id(each) for each in optimizer.variables[1:]}
  if average:
    places = [
      [id(v) for v in optimizer.variables].index(id(each)) for each in found['average']
    ]
    assert places == [1, 2]
