"""What is reported and kept of a ranking."""

import dataclasses
import itertools

import numpy as np
import pytest

from ncf_tfdata.errors import UserError
from ncf_tfdata.evaluation import metrics, ranking, segments, summary

_COUNT = np.array([60, 30, 25, 20, 15, 12, 10, 5, 3, 0])


@pytest.fixture
def ranks():
  generator = np.random.default_rng(0)
  users = 300
  return ranking.Ranks(
    user=generator.permutation(users),
    positive=generator.integers(0, 10, users),
    history_length=generator.integers(1, 200, users),
    candidates=generator.integers(0, 2**63, users).astype(np.uint64),
    sampled=generator.integers(0, 60, users) / 2,
    full=generator.integers(0, 400, users) / 2,
    ks=(5, 10),
    recommended=generator.integers(0, 9, (2, 10)),
    gap=generator.choice([0, 0, 30, 86_400, 1_000_000], users),
  )


def test_summary_holds_metrics_intervals_and_segments(ranks):
  found = summary.summarize(ranks, (5, 10), _COUNT, num_users=300)
  assert found['users'] == 300
  for name, rank in (('sampled', ranks.sampled), ('full', ranks.full)):
    values = metrics.means(rank, (5, 10))
    assert values.items() <= found[name].items()
    for metric, value in values.items():
      lower, upper = found['intervals'][name][metric]
      assert lower <= value <= upper
    for parts in found['segments'].values():
      weighted = sum(p['users'] * p['metrics']['ndcg@10'] for p in parts[name])
      assert weighted / 300 == pytest.approx(values['ndcg@10'])
  assert {'coverage@5', 'gini@10', 'novelty@10'} <= found['full'].keys()


def test_summary_of_sampled_ranks_alone(ranks):
  sampled = dataclasses.replace(ranks, full=None, ks=(), recommended=None)
  found = summary.summarize(sampled, (5,), _COUNT, num_users=300)
  assert 'full' not in found
  assert found['intervals'].keys() == {'sampled'}
  assert 'ndcg@5' in found['segments']['activity']['sampled'][0]['metrics']


def test_activity_is_cut_into_quarters(ranks):
  parts = segments.by_activity(ranks)
  assert len(parts) == 4
  np.testing.assert_array_equal(sum(part.member.astype(int) for part in parts), 1)
  for part, following in itertools.pairwise(parts):
    longest = ranks.history_length[part.member].max()
    assert longest < ranks.history_length[following.member].min()
    assert part.member.sum() == pytest.approx(75, abs=10)


def test_activity_of_equal_users_is_one_segment(ranks):
  equal = dataclasses.replace(ranks, history_length=np.full(300, 7))
  assert [part.name for part in segments.by_activity(equal)] == ['7 rows']


def test_time_since_the_row_before_is_cut_where_it_is_known(ranks):
  parts = segments.by_gap(ranks)
  assert [part.name for part in parts] == ['0', '30', '86,400', '1,000,000']
  np.testing.assert_array_equal(parts[0].member, ranks.gap == 0)
  without = dataclasses.replace(ranks, gap=None)
  assert segments.by_gap(without) == []
  found = summary.summarize(without, (10,), _COUNT, num_users=300)
  assert found['segments'].keys() == {'activity', 'popularity', 'train_rows'}


def test_popularity_is_cut_by_thirds_of_the_rows(ranks):
  head, middle, tail = segments.by_popularity(ranks, _COUNT)
  assert head.name == 'head, 1 items, 60 rows each'
  assert middle.name.startswith('middle, 3 items')
  assert tail.name.startswith('tail, 6 items, 0–15')
  np.testing.assert_array_equal(head.member, ranks.positive == 0)
  np.testing.assert_array_equal(tail.member, ranks.positive >= 4)


def test_ranks_are_kept_and_the_same_bytes_each_time(ranks, tmp_path):
  paths = [
    summary.ranks_path(tmp_path, split, 'successors:reverse=0.5')
    for split in ('test', 'validation')
  ]
  for path in paths:
    summary.save_ranks(path, ranks)
  assert paths[0].read_bytes() == paths[1].read_bytes()
  loaded = summary.load_ranks(paths[0])
  for field in dataclasses.fields(ranks):
    np.testing.assert_array_equal(
      getattr(loaded, field.name), getattr(ranks, field.name)
    )


def test_ranks_of_sampled_ranking_alone_are_kept(ranks, tmp_path):
  sampled = dataclasses.replace(ranks, full=None, ks=(), recommended=None)
  summary.save_ranks(tmp_path / 'a.npz', sampled)
  assert summary.load_ranks(tmp_path / 'a.npz').full is None


def test_ranks_that_are_missing_or_broken_are_told(tmp_path):
  path = summary.ranks_path(tmp_path, 'test', 'model')
  with pytest.raises(UserError, match='python -m ncf_tfdata'):
    summary.load_ranks(path)
  path.parent.mkdir(parents=True)
  path.write_bytes(b'PK not really')
  with pytest.raises(UserError, match='does not hold ranks'):
    summary.load_ranks(path)


def _shuffled(ranks, seed=1):
  order = np.random.default_rng(seed).permutation(len(ranks.user))
  return dataclasses.replace(
    ranks, **{name: getattr(ranks, name)[order] for name in summary.ROW_FIELDS}
  )


def test_comparison_pairs_users_whatever_their_order(ranks):
  same = summary.compare(ranks, _shuffled(ranks), k=10)
  for ranking_name in ('sampled', 'full'):
    assert same[ranking_name]['difference'] == 0
    assert same[ranking_name]['p_value'] == 1
    assert same[ranking_name]['metric'] == 'ndcg@10'


def test_comparison_favours_the_better(ranks):
  worse = _shuffled(dataclasses.replace(ranks, sampled=ranks.sampled + 3))
  found = summary.compare(ranks, worse, k=10)['sampled']
  assert found['difference'] > 0
  assert 0 < found['lower'] < found['upper']
  assert found['p_value'] < 0.01


@pytest.mark.parametrize('name', ['user', 'positive', 'candidates'])
def test_other_candidates_cannot_be_compared(ranks, name):
  column = getattr(ranks, name).copy()
  column[0] += 1
  other = dataclasses.replace(ranks, **{name: column})
  with pytest.raises(UserError, match='same users'):
    summary.compare(ranks, other, k=10)


def test_p_values_are_adjusted_over_systems_and_rankings():
  raw = {
    'ease': {'sampled': {'p_value': 0.01}, 'full': {'p_value': 0.04}},
    'file': {'full': {'p_value': 0.015}},
  }
  found = summary.with_holm(raw)
  assert found['ease']['sampled'] == {'p_value': 0.01, 'p_holm': 0.03, 'family': 3}
  assert found['file']['full']['p_holm'] == pytest.approx(0.03)
  assert found['ease']['full']['p_holm'] == pytest.approx(0.04)
  assert summary.family(found) == 3
  assert summary.with_holm(found) == found
  assert summary.family({}) == 0
