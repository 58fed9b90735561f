"""What `prepare --ids_from` says of how a log has changed, against plain counts."""

import os

import growing
import numpy as np
import prepared
import pytest

from beam_pipelines import drift, gate, summary
from beam_pipelines.config import GrowthConfig
from ncf_tfdata.dataset import ITEMS, USERS
from ncf_tfdata.drift import Drift
from ncf_tfdata.errors import ArgumentError, UserError
from ncf_tfdata.manifest import Base


@pytest.mark.parametrize('seed', range(5))
def test_popularity_shift_is_half_the_sum_of_differences(seed):
  draw = np.random.default_rng(seed)
  before, now = draw.integers(0, 50, (2, 40))
  before[30:] = 0  # new ones
  now[:4] = 0
  parts = [
    drift.of_items(now[30:], now[30:], None),
    drift.of_items(now[:10], now[:10], before[:10]),
    drift.of_items(now[10:30], now[10:30], before[10:30]),
  ]
  found = drift.total(parts, Base('', 0, 30))
  expected = np.abs(now / now.sum() - before / before.sum()).sum() / 2
  assert found.popularity_shift == pytest.approx(expected, abs=1e-12)
  assert found.counts['unused_items'] == np.count_nonzero(now[:30] == 0)


@pytest.mark.slow
def test_counts_are_those_of_the_log(first_day, second_day):
  found, base = second_day.manifest.drift, second_day.manifest.base
  assert base.sha256 == first_day.sha256
  assert (base.users, base.items) == (first_day.num_users, first_day.num_items)
  users, items = second_day.vocabulary(USERS), second_day.vocabulary(ITEMS)
  old_users, old_items = first_day.num_users, first_day.num_items
  assert found.counts['rows'] == users.rows.sum() == items.rows.sum()
  assert found.counts['new_user_rows'] == users.rows[old_users:].sum()
  assert found.counts['new_item_rows'] == items.rows[old_items:].sum()
  assert found.counts['new_users'] == len(users) - old_users
  assert found.counts['new_items'] == len(items) - old_items
  assert found.counts['users'] == np.count_nonzero(users.rows)
  assert found.counts['items'] == np.count_nonzero(items.rows)
  assert found.counts['unused_users'] == len(growing.unused(second_day, USERS)) > 0
  assert found.counts['unused_items'] == len(growing.unused(second_day, ITEMS)) > 0
  before = np.pad(first_day.vocabulary(ITEMS).counts, (0, len(items) - old_items))
  shares = items.counts / items.counts.sum(), before / before.sum()
  shift = np.abs(shares[0] - shares[1]).sum() / 2
  assert found.popularity_shift == pytest.approx(shift, abs=1e-12)


def test_the_summary_says_it(second_day):
  text = '\n'.join(summary.lines(second_day.manifest, 'data', 1.0, ''))
  found = second_day.manifest.drift
  assert f'{found.counts["new_items"]:,}\n  share of all rows' in text
  assert f'{100 * found.popularity_shift:.3g} %' in text


def test_a_threshold_is_one_line_and_nothing_is_written(tmp_path, first_day):
  log = growing.write(tmp_path, 2)
  line = prepared.refused(
    f'--input={log}', f'--output={tmp_path / "out"}', *growing.FLAGS,
    f'--ids_from={first_day.directory}', '--max_popularity_shift=.01',
  )  # fmt: skip
  assert 'of the train rows lie on other items than in the earlier dataset' in line
  assert 'more than --max_popularity_shift=0.01 allows' in line
  assert sorted(os.listdir(tmp_path)) == ['log2']


@pytest.mark.parametrize(
  'flag', ['max_new_item_rows', 'max_new_user_rows', 'max_popularity_shift']
)
def test_thresholds(second_day, flag):
  found = second_day.manifest.drift
  share = getattr(found, flag.removeprefix('max_'))
  assert 0 < share < 1
  for limit, passes in ((share, True), (share - 1e-9, False)):
    limits = GrowthConfig(ids_from='x', **{flag: limit})
    if passes:
      gate.check(limits, drift.questions(found))
    else:
      with pytest.raises(UserError, match=f'more than --{flag}='):
        gate.check(limits, drift.questions(found))


def test_a_share_of_nothing_cannot_be_checked():
  names = (*('rows', 'new_item_rows'), *('train_rows', 'risen_rows'))
  found = Drift(dict.fromkeys((*names, 'base_train_rows', 'risen_base_rows'), 0))
  with pytest.raises(UserError, match='cannot be checked: one of the two has no'):
    gate.check(
      GrowthConfig(ids_from='x', max_popularity_shift=0.5),
      drift.questions(Drift({**found.counts, 'new_user_rows': 0})),
    )


def test_a_threshold_needs_an_earlier_dataset():
  with pytest.raises(ArgumentError, match='`max_new_item_rows` needs `ids_from`'):
    GrowthConfig(max_new_item_rows=0.1)
