"""Leave-last-out with times: read as ever, and by what needs times."""

import itertools

import commands
import numpy as np
import prepared
import pytest

from ncf_tfdata import dataset as dataset_lib
from ncf_tfdata.data import records, row_batches, sampling, train_part
from ncf_tfdata.dataset import ITEMS, TEST, TRAIN, VALIDATION
from ncf_tfdata.evaluation import candidates, protocol
from ncf_tfdata.models import history_defaults
from ncf_tfdata.training import warm_start


@pytest.fixture(scope='module')
def kept(sample_log, tmp_path_factory):
  """`sample_dataset` with times."""
  output = tmp_path_factory.mktemp('kept') / 'data'
  return prepared.prepare_here(sample_log, output, '--keep_times')


def _when(kept, sample_log):
  """The time of each (user, item) of the log, by dense ids."""
  users, items = (kept.vocabulary(n).ids() for n in (dataset_lib.USERS, ITEMS))
  found = {}
  for line in sample_log.read_text().splitlines():
    user, item, _, time = line.split('::')
    if user in users and item in items:
      found[users[user], items[item]] = int(time) - kept.manifest.cuts.first
  return found


@pytest.mark.parametrize('split', [VALIDATION, TEST])
def test_batches_hold_times(kept, sample_dataset, sample_log, split):
  when = _when(kept, sample_log)
  batches, plain = (
    records.evaluation_batches(dataset, split, 100)
    for dataset in (kept, sample_dataset)
  )
  for batch, other in zip(batches, plain, strict=True):
    assert other.time is None and other.history_time is None
    for name in ('user', 'positive', 'negatives', 'history', 'history_length', 'gap'):
      np.testing.assert_array_equal(getattr(batch, name), getattr(other, name))
    pairs = zip(batch.user.tolist(), batch.positive.tolist(), strict=True)
    assert batch.time.tolist() == [when[pair] for pair in pairs]
    owner = np.repeat(batch.user, batch.history_length).tolist()
    pairs = zip(owner, batch.history.tolist(), strict=True)
    assert batch.history_time.tolist() == [when[pair] for pair in pairs]


def test_train_rows_hold_times(kept, sample_log):
  when = _when(kept, sample_log)
  user, item = (column.tolist() for column in records.train_rows(kept))
  found = records.row_times(kept, TRAIN).tolist()
  assert found == [when[pair] for pair in zip(user, item, strict=True)]


def test_a_training_is_fed_the_same(kept, sample_dataset):
  streams = [
    row_batches.train_batches(
      dataset, batch_size=64, seed=3, num_negatives=2, negatives='static',
      sampler=sampling.Sampler(dataset.num_items),
    ).as_numpy_iterator()
    for dataset in (kept, sample_dataset)
  ]  # fmt: skip
  for ours, others in itertools.islice(zip(*streams, strict=True), 9):
    assert ours.keys() == others.keys()
    for name, column in ours.items():
      np.testing.assert_array_equal(column, others[name])


def test_it_is_judged_as_leave_last_out(kept, sample_dataset):
  assert protocol.describe(kept, TEST) == protocol.describe(sample_dataset, TEST)
  card, plain = (protocol.card(each, TEST, {}) for each in (kept, sample_dataset))
  assert card['cuts'].keys() == {'first', 'last'}
  assert card['prepared_with'].pop('keep_times') is True
  for group in ('split', 'prepared_with', 'dataset', 'ranking', 'chosen'):
    assert card[group] == plain[group]
  # An item without train rows is ranked by chance, and is no miss.
  assert candidates.of_train(kept) is None
  defaults = history_defaults.of_dataset(sample_dataset)
  # A history model reads the gaps between its times.
  assert history_defaults.of_dataset(kept) == defaults._replace(gaps=True)


def test_what_needs_times_finds_them(kept):
  first = kept.vocabulary(ITEMS).first_times
  chosen = candidates.of(kept, None, candidates.SEEN_BEFORE)
  (batch, *_) = records.evaluation_batches(kept, TEST, 10_000)
  scores = np.zeros((len(batch.user), kept.num_items))
  chosen.hide(scores, batch)
  np.testing.assert_array_equal(np.isneginf(scores), first >= batch.time[:, None])
  times = records.row_times(kept, TRAIN)
  moment = int(np.quantile(times, 0.9))
  part = train_part.since(kept, str(kept.manifest.cuts.first + moment))
  assert part.rows == (times > moment).sum() > 0


def test_baselines_that_look_at_times_are_judged(kept):
  done = commands.run(
    'ncf_tfdata.evaluate', f'--data_dir={kept.directory}', '--candidates=seen_before',
    '--baselines=recent-popularity:days=3,item-knn-decay:half_life=9',
  )  # fmt: skip
  assert done.returncode == 0, done.stderr
  assert '\nrecent-popularity:days=3 ' in done.stdout


def test_no_moment_tells_up_to_when_it_was_trained(kept, cut):
  """So a warm start is judged as it is of a base without times."""
  base = warm_start.Base(None, kept, None, {})
  base.check_days(cut)
  part = train_part.since(cut, str(cut.manifest.cuts.first))
  assert base.passed_over(cut, part) == ''
  warm_start.Base(None, cut, None, {}).check_days(kept)
