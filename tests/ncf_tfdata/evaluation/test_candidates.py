"""Who is ranked among whom in a log cut by time, against plain Python."""

import math

import numpy as np
import prepared
import pytest

from ncf_tfdata import dataset as dataset_lib
from ncf_tfdata.data import records
from ncf_tfdata.dataset import TEST
from ncf_tfdata.errors import UserError
from ncf_tfdata.evaluation import candidates, ranking, segments, summary

CUT = 1_000


def make_log() -> list[tuple[str, str, int, int]]:
  """Old items up to the cut; a new one every ten steps after it, and old ones."""
  generator = np.random.default_rng(0)
  log = []
  for user in range(25):
    for step, item in enumerate(generator.permutation(30)[:12]):
      log.append((f'u{user}', f'old{item}', 1, 50 * step + user))
    for step in range(4):
      time = CUT + 1 + 40 * step + user
      new = step % 2 == user % 2
      item = f'new{time // 10}' if new else f'old{generator.integers(30)}'
      log.append((f'u{user}', item, 1, time))
  return log


@pytest.fixture(scope='module')
def dataset(tmp_path_factory):
  directory = tmp_path_factory.mktemp('cut')
  log = prepared.write_log(directory / 'log.dat', make_log())
  return prepared.prepare_here(
    log, directory / 'data', '--split=time', f'--time_at={CUT}', '--holdout=1',
    '--targets=successive', '--min_item_count=1', '--eval_negatives=5',
  )  # fmt: skip


class ByName:
  """Scores an item by its dense id, whoever asks; ties in threes."""

  reads_history = False

  def score_candidates(self, batch, items):
    return (items // 3).astype(np.float32)

  def score_all(self, batch):
    return np.tile((self.all_items // 3).astype(np.float32), (len(batch.user), 1))

  def __init__(self, num_items):
    self.all_items = np.arange(num_items)


def expect(dataset, which: str, learnt: bool) -> list[tuple[float, float]]:
  """The rank of each test row among sampled candidates, and among all."""
  log = make_log()
  first = {}
  for _, item, _, time in log:
    first[item] = min(time, first.get(item, time))
  when = {}
  for user, item, _, time in log:
    when.setdefault((user, item), time)
  counts = dataset.vocabulary(dataset_lib.ITEMS)
  train = dict(zip(counts.keys, counts.counts.tolist(), strict=True))
  score = {key: number // 3 for number, key in enumerate(counts.keys)}
  found = []
  for row in prepared.rows(dataset, TEST):
    now = when[row.user, row.item]

    def there(item, now=now):
      return which == 'all' or first[item] < now

    def rank(items, row=row, there=there):
      if not there(row.item) or (learnt and not train[row.item]):
        return math.inf
      others = [score[item] for item in items if there(item)]
      mine = score[row.item]
      return sum(o > mine for o in others) + sum(o == mine for o in others) / 2

    rest = [item for item in score if item not in row.history and item != row.item]
    found.append((rank(row.negatives), rank(rest)))
  return found


@pytest.mark.parametrize('learnt', [False, True])
@pytest.mark.parametrize('which', candidates.CHOICES)
def test_ranks(dataset, which, learnt):
  counts = dataset.vocabulary(dataset_lib.ITEMS).counts
  chosen = candidates.of(dataset, counts if learnt else None, which)
  scorer = ByName(dataset.num_items)
  expected = expect(dataset, which, learnt)
  for max_rows in (3, 1000):
    batches = records.evaluation_batches(dataset, TEST, max_rows)
    ranks = ranking.rank_full(scorer, batches, dataset.num_items, (5,), chosen)
    assert list(zip(ranks.sampled, ranks.full, strict=True)) == expected
  batches = records.evaluation_batches(dataset, TEST, 7)
  sampled = ranking.rank_sampled(scorer, batches, chosen).sampled
  assert sampled.tolist() == [sampled for sampled, _ in expected]
  misses = sum(math.isinf(full) for _, full in expected)
  assert (misses > 0) == (learnt or which == candidates.SEEN_BEFORE)


def test_what_was_not_there_is_not_recommended(dataset):
  chosen = candidates.of(dataset, None, candidates.SEEN_BEFORE)
  first = dataset.vocabulary(dataset_lib.ITEMS).first_times
  for batch in records.evaluation_batches(dataset, TEST, 4):
    scores = ByName(dataset.num_items).score_all(batch)
    chosen.hide(scores, batch)
    hidden = np.isneginf(scores)
    np.testing.assert_array_equal(hidden, first[None] >= batch.time[:, None])
    assert hidden.any() and not hidden.all()


def test_ranks_among_other_candidates_cannot_be_compared(dataset):
  scorer = ByName(dataset.num_items)
  everything, known = (
    ranking.rank_split(
      scorer, dataset, TEST, (5,), candidates=candidates.of(dataset, None, which)
    )
    for which in candidates.CHOICES
  )
  with pytest.raises(UserError, match='not evaluated on the same'):
    summary.compare(everything, known, 5)
  assert summary.compare(everything, everything, 5)['full']['users'] == 25


def test_cold_targets_are_a_segment(dataset):
  counts = dataset.vocabulary(dataset_lib.ITEMS).counts
  chosen = candidates.of(dataset, counts)
  ranks = ranking.rank_split(
    ByName(dataset.num_items), dataset, TEST, (5,), candidates=chosen
  )
  cold, *warm = segments.by_train_rows(ranks, counts)
  assert cold.name == '0 train rows'
  np.testing.assert_array_equal(cold.member, counts[ranks.positive] == 0)
  assert np.isinf(ranks.full[cold.member]).all()
  assert sum(part.member.sum() for part in warm) == (~cold.member).sum()
  found = summary.summarize(ranks, (5,), counts, dataset.num_users)
  assert (found['users'], found['targets']) == (25, len(ranks.user))


def test_leave_last_out_has_no_candidates_to_leave_out(sample_dataset):
  count = np.zeros(sample_dataset.num_items, int)
  assert candidates.of(sample_dataset, count) is None
  with pytest.raises(UserError, match='--candidates=seen_before needs times'):
    candidates.of(sample_dataset, count, candidates.SEEN_BEFORE)
