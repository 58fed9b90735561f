"""Exponents of curves, and a mean that leaves the warm-up out."""

import itertools
import time

import prepared
import pytest


@pytest.fixture
def curves(monkeypatch):
  """The benchmarks' module, which imports others by name as scripts do."""
  monkeypatch.syspath_prepend(str(prepared.ROOT / 'benchmarks'))
  import curves

  return curves


def sizes_of(*points):
  return [{'ratings': size, 'part': {'ms': ms}} for size, ms in points]


@pytest.mark.parametrize(
  'points, expected',
  [
    (((10, 3.0), (100, 30.0)), 1.0),
    (((10, 3.0), (100, 3.0)), 0.0),
    # Of the last decade, not of the last two points or of all.
    (((1, 1.0), (10, 2.0), (30, 50.0), (100, 200.0)), 2.0),
    # A decade that no two sizes span.
    (((10, 2.0), (30, 6.0)), 1.0),
  ],
)
def test_exponent_is_of_the_last_decade(curves, points, expected):
  sizes = sizes_of(*points)
  assert curves.exponent(sizes, 'ratings', 'part') == pytest.approx(expected)


def test_a_curve_is_drawn_with_its_memory(curves, tmp_path, monkeypatch):
  monkeypatch.setattr(curves.side_by_side, 'IMAGES', tmp_path)
  sizes = sizes_of((10, 3.0), (100, 30.0))
  for size in sizes:
    size['part']['peak_mib'] = 2048
  curves.draw('toy.png', sizes, 'ratings', {'part': 'a part'})
  assert (tmp_path / 'toy.png').read_bytes()[1:4] == b'PNG'


def test_the_warm_up_is_not_in_the_mean(curves, monkeypatch):
  import log_size

  clock = itertools.count()
  monkeypatch.setattr(time, 'perf_counter', lambda: next(clock))
  monkeypatch.setattr(time, 'process_time', lambda: 0.0)
  # A second from the end of the warm-up to the end of the rest.
  assert log_size._ms_each(iter([1000, 5, 5])) == {'ms': 100.0, 'cpu_ms': 0.0}


def test_a_warm_up_that_is_all_is_refused(curves):
  import log_size

  with pytest.raises(ValueError, match='larger --sizes'):
    log_size._ms_each(iter([1000]))
