"""Work in a thread beside the caller's."""

import threading

import pytest

from ncf_tfdata import side_thread


def test_results_come_in_order_from_one_thread():
  workers = set()

  def squared(number, times):
    workers.add(threading.current_thread())
    return number**2 * times

  made = ((number, 2) for number in range(50))
  assert list(side_thread.behind(squared, made)) == [2 * n**2 for n in range(50)]
  assert len(workers) == 1
  assert threading.current_thread() not in workers
  assert list(side_thread.behind(squared, ())) == []


def test_the_next_is_made_while_one_is_worked_on():
  made = threading.Event()

  def numbers():
    yield (0,)
    made.set()
    yield (1,)

  def work(number):
    assert number or made.wait(10)
    return number

  assert list(side_thread.behind(work, numbers())) == [0, 1]


def test_no_more_than_two_are_in_memory():
  done, ahead = [], []

  def numbers():
    for number in range(20):
      ahead.append(number - len(done))
      yield (number,)

  for number in side_thread.behind(lambda number: number, numbers()):
    done.append(number)
  assert max(ahead) <= 2


def test_errors_reach_the_caller():
  def numbers():
    yield (1,)
    yield (0,)
    yield (2,)

  with pytest.raises(ZeroDivisionError):
    list(side_thread.behind(lambda number: 1 / number, numbers()))

  def broken():
    yield (1,)
    raise OSError('the disk')

  with pytest.raises(OSError, match='the disk'):
    list(side_thread.behind(lambda number: number, broken()))


def test_both_work_at_once():
  meet = threading.Barrier(2, timeout=10)

  def first():
    meet.wait()
    return 'thread', threading.current_thread()

  def second():
    meet.wait()
    return 'caller', threading.current_thread()

  (one, worker), (other, caller) = side_thread.both(first, second)
  assert (one, other) == ('thread', 'caller')
  assert worker is not caller is threading.current_thread()
  with pytest.raises(ZeroDivisionError):
    side_thread.both(lambda: 1 / 0, lambda: 1)
