import hashlib
import os
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_pipelines import sample
from ncf_tfdata.errors import UserError

ROOT = pathlib.Path(__file__).parents[2]
DEFAULT_SHA256 = 'b87aac2b90293c4dfd8ce6f67530f3a08b96a6915c54903487cb339b8f1d3b34'
LARGE_BLOCK_SHA256 = '040f45510e37ad7bf1d56a2cb47d0694c18c3655113a40ce91174d38cdbef5ca'
LINE = re.compile(rb'[1-9]\d*::[1-9]\d*::[1-5]::[1-9]\d{8,9}')


def text(spec):
  return b''.join(sample.block(spec, index) for index in range(sample.num_blocks(spec)))


def rows(content):
  """int64 [rows, 4]: user, item, rating, timestamp."""
  fields = content.replace(b'::', b' ').split()
  return np.array(fields, np.int64).reshape(-1, 4)


@pytest.fixture(scope='module')
def default():
  return rows(text(sample.Spec()))


def by_time(log):
  """The log in protocol order: user, time, position in the file."""
  return log[np.lexsort((np.arange(len(log)), log[:, 3], log[:, 0]))]


def test_known_bytes():
  assert hashlib.sha256(text(sample.Spec())).hexdigest() == DEFAULT_SHA256
  large = sample.block(sample.Spec(ratings=10**9, seed=7), 5000)
  assert hashlib.sha256(large).hexdigest() == LARGE_BLOCK_SHA256


def test_command_writes_the_known_bytes_in_another_process(tmp_path):
  path = tmp_path / 'new' / 'ratings.dat'
  subprocess.run(
    [sys.executable, '-m', 'beam_pipelines.sample', f'--output={path}'],
    cwd=ROOT,
    env={**os.environ, 'PYTHONHASHSEED': '123'},
    check=True,
  )
  assert hashlib.sha256(path.read_bytes()).hexdigest() == DEFAULT_SHA256
  assert os.listdir(path.parent) == ['ratings.dat']


def test_command_refuses_what_it_does_not_know(tmp_path):
  for flag in ('--rating=1000', 'stray', '--ratings=999'):
    result = subprocess.run(
      [sys.executable, '-m', 'beam_pipelines.sample', '--output=x', flag],
      cwd=ROOT,
      capture_output=True,
    )
    assert result.returncode != 0
  assert not (ROOT / 'x').exists()


def test_a_failed_write_leaves_the_old_file_and_nothing_else(monkeypatch, tmp_path):
  path = tmp_path / 'ratings.dat'
  path.write_bytes(b'old')
  original = sample.block

  def fail_later(spec, index):
    if index:
      raise OSError('disk full')
    return original(spec, index)

  monkeypatch.setattr(sample, 'block', fail_later)
  with pytest.raises(OSError, match='disk full'):
    sample.write(str(path), sample.Spec())
  assert path.read_bytes() == b'old'
  assert os.listdir(tmp_path) == ['ratings.dat']


@settings(max_examples=25, deadline=None)
@given(st.integers(1_000, 30_000), st.integers(0, 2**64 - 1))
def test_every_size_and_seed_keeps_the_promises(ratings, seed):
  spec = sample.Spec(ratings, seed)
  content = text(spec)
  assert content.endswith(b'\n')
  assert all(LINE.fullmatch(line) for line in content[:-1].split(b'\n'))
  log = rows(content)
  assert len(log) == ratings
  user, item = log[:, 0], log[:, 1]
  assert (np.diff(user) >= 0).all()
  users, counts = np.unique(user, return_counts=True)
  np.testing.assert_array_equal(users, np.arange(1, spec.num_users + 1))
  assert counts.min() >= sample.MIN_USER_RATINGS
  assert len(np.unique(log[:, :2], axis=0)) == ratings
  assert len(np.unique(item)) <= spec.num_items


@pytest.mark.slow
@settings(max_examples=10, deadline=None)
@given(st.integers(1_000, 1_000_000_000))
def test_blocks_share_out_any_size(ratings):
  spec = sample.Spec(ratings)
  assert ratings / spec.num_users > sample.MIN_USER_RATINGS
  blocks = {0, sample.num_blocks(spec) // 2, sample.num_blocks(spec) - 1}
  logs = [rows(sample.block(spec, index)) for index in sorted(blocks)]
  assert logs[0][0, 0] == 1
  assert logs[-1][-1, 0] == spec.num_users
  for log in logs:
    assert len(log) < 200_000
    assert len(np.unique(log[:, :2], axis=0)) == len(log)
    # Nobody has had most of the catalogue: negatives remain to be drawn.
    assert np.unique(log[:, 0], return_counts=True)[1].max() < 0.6 * spec.num_items


def test_a_block_does_not_depend_on_the_others():
  spec = sample.Spec(ratings=200_000)
  count = sample.num_blocks(spec)
  assert count > 2
  backwards = [sample.block(spec, index) for index in reversed(range(count))]
  assert b''.join(reversed(backwards)) == text(spec)


def test_seeds_differ():
  texts = {text(sample.Spec(2_000, seed)) for seed in (0, 1, 2**63, -1)}
  assert len(texts) == 4


@pytest.mark.parametrize('ratings', [0, 999, 1_000_000_001])
def test_refuses_sizes_out_of_range(ratings):
  with pytest.raises(UserError, match='expected 1,000 to 1,000,000,000'):
    sample.Spec(ratings)


def test_sizes_are_those_of_movielens():
  one_million = sample.Spec(1_000_209)
  assert one_million.num_users == 6_040
  assert one_million.num_items == pytest.approx(3_706, rel=0.01)
  large = sample.Spec(25_000_095)
  assert large.num_users == 162_541
  assert large.num_items == pytest.approx(59_047, rel=0.01)


def test_users_who_would_run_dry_get_their_rows(monkeypatch):
  # Here every user wants the same single item, again and again.
  monkeypatch.setattr(sample, '_steps', lambda *arguments: np.zeros_like(arguments[2]))
  spec = sample.Spec(5_000)
  log = rows(text(spec))
  assert len(log) == 5_000
  assert len(np.unique(log[:, :2], axis=0)) == 5_000


def test_popularity_and_activity_have_long_tails(default):
  for column, top in ((0, 0.3), (1, 0.4)):
    counts = np.sort(np.unique(default[:, column], return_counts=True)[1])[::-1]
    assert counts[: len(counts) // 10].sum() > top * len(default)
    assert counts.mean() > 1.3 * np.median(counts)


def test_traps_of_movielens_are_there(default):
  user, item, rating, timestamp = default.T
  assert 0.2 < (timestamp < 10**9).mean() < 0.8
  assert item.max() > len(np.unique(item))
  np.testing.assert_array_equal(np.unique(rating), [1, 2, 3, 4, 5])
  same_user = np.diff(user) == 0
  assert (np.diff(timestamp)[same_user] < 0).any()
  _, moment, sharing = np.unique(
    default[:, [0, 3]], axis=0, return_inverse=True, return_counts=True
  )
  assert 0.6 < (sharing[moment] > 1).mean() < 0.9


def test_what_a_model_knows_pays(default):
  """HR@10 of the last row among 100 unseen items: each kind of knowledge adds."""
  log = by_time(default)
  user = log[:, 0] - 1
  items, item = np.unique(log[:, 1], return_inverse=True)
  last = np.flatnonzero(np.diff(user, append=-1))
  train = np.ones(len(log), bool)
  train[last] = False
  seen = np.zeros((len(last), len(items)))
  seen[user, item] = 1
  generator = np.random.default_rng(0)
  order = np.argsort(generator.random(seen.shape) + 2 * seen, axis=1)
  candidates = np.concatenate([item[last, None], order[:, :100]], axis=1)

  def hit_rate(scores):
    of = np.take_along_axis(scores, candidates, axis=1)
    higher = (of[:, 1:] > of[:, :1]).sum(axis=1)
    equal = (of[:, 1:] == of[:, :1]).sum(axis=1)
    return (higher + equal / 2 < 10).mean()

  history = seen.copy()
  history[user[last], item[last]] = 0
  popularity = history.sum(axis=0)
  # EASE (Steck, WWW 2019).
  inverse = np.linalg.inv(history.T @ history + 500 * np.eye(len(items)))
  weights = inverse / -np.diag(inverse)
  np.fill_diagonal(weights, 0)
  # What followed what, one step apart.
  follows = np.zeros((len(items), len(items)))
  pairs = np.flatnonzero(train[1:] & train[:-1] & (np.diff(user) == 0))
  np.add.at(follows, (item[pairs], item[pairs + 1]), 1)
  before = item[last - 1]
  counts = hit_rate(np.tile(popularity, (len(last), 1)))
  taste = hit_rate(history @ weights)
  lift = follows[before] / np.sqrt(popularity + 1)
  memory = hit_rate(history @ weights + lift)
  assert 0.4 < counts < 0.5
  assert taste > counts + 0.12
  assert memory > taste + 0.08
