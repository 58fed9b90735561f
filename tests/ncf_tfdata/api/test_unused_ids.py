"""Ids that are kept without interactions: never ranked, drawn or recommended."""

import growing
import numpy as np
import prepared
import pytest
import tensorflow as tf

import ncf_tfdata as ncf
from ncf_tfdata import dataset as dataset_lib
from ncf_tfdata.data import sampling
from ncf_tfdata.evaluation import candidates, ranking, segments, summary
from ncf_tfdata.models import history, history_objective
from ncf_tfdata.serving import explorer, recommender, requests, saved_model
from ncf_tfdata.vocabulary import UNKNOWN

pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def dataset(forgetful_day):
  """Some of whose users and items vanished, and two are forgotten."""
  return forgetful_day


@pytest.fixture(scope='module')
def unused(dataset) -> np.ndarray:
  found = np.zeros(dataset.num_items, bool)
  found[sorted(growing.unused(dataset, dataset_lib.ITEMS))] = True
  assert 2 < found.sum() < dataset.num_items / 2
  return found


@pytest.fixture(scope='module')
def run(dataset, tmp_path_factory):
  """Trained for an epoch, on the whole catalogue."""
  training = ncf.TrainConfig(
    objective=ncf.ObjectiveConfig(shared_negatives=0),
    optimizer=ncf.OptimizerConfig(learning_rate=0.01),
    batch_size=128,
    epochs=1,
    steps_per_call=1,
    jit_compile=False,
  )
  model = ncf.HistoryConfig(length=5, dim=8, heads=2, user_embedding=True)
  directory = tmp_path_factory.mktemp('run') / 'run'
  return ncf.train(dataset, model, training, run_dir=directory, progress=False)


def test_the_dataset_tells_ids_from_items(dataset, unused):
  assert dataset.unused_items().tolist() == unused.tolist()
  assert dataset.catalogue_size == dataset.num_items - unused.sum()
  users = dataset.vocabulary(dataset_lib.USERS)
  assert dataset.active_users == np.count_nonzero(users.rows) < dataset.num_users
  assert users.keys.count('') == 1


class _Reversed:
  """Scores an item by its id, the lowest best, so that old ones come first."""

  reads_history = False

  def __init__(self, num_items):
    self._scores = -np.arange(num_items, dtype=np.float32)

  def score_candidates(self, batch, items):
    return self._scores[items]

  def score_all(self, batch):
    return np.tile(self._scores, (len(batch.user), 1))


def test_ranks_are_those_among_items_with_interactions(dataset, unused):
  found = ranking.rank_split(
    _Reversed(dataset.num_items),
    dataset,
    'test',
    (3,),
    candidates=candidates.of_train(dataset),
  )
  keys = growing.keys(dataset, dataset_lib.ITEMS)
  expected = []
  for row in prepared.rows(dataset, 'test'):
    number, seen = keys.index(row.item), {keys.index(one) for one in row.history}
    expected.append(sum(not unused[i] and i not in seen for i in range(number)))
  assert found.full.tolist() == expected
  assert not found.recommended[0][unused].any()
  total = summary.summarize(
    found, (3,), np.ones(dataset.num_items), 9, samples=10, unused=unused
  )
  share = np.mean(found.recommended[0][~unused] > 0)
  assert total['full']['coverage@3'] == pytest.approx(share)


def test_segments_count_items_with_interactions(dataset, unused):
  ranks = ranking.rank_split(_Reversed(dataset.num_items), dataset, 'test', (3,))
  count = dataset.vocabulary(dataset_lib.ITEMS).counts
  names = [part.name for part in segments.by_popularity(ranks, count, unused)]
  numbers = [int(name.split()[1].replace(',', '')) for name in names]
  assert sum(numbers) == dataset.catalogue_size


@pytest.mark.parametrize('popular', [False, True])
def test_draws_are_of_items_with_interactions(dataset, unused, popular):
  counts = dataset.vocabulary(dataset_lib.ITEMS).counts if popular else None
  sampler = sampling.Sampler(dataset.num_items, counts, 1.0, unused)
  weight = np.where(unused, 0.0, 1.0 if counts is None else np.maximum(counts, 1))
  expected = weight / weight.sum()
  np.testing.assert_allclose(np.exp(sampler.log_probability), expected, rtol=1e-5)
  drawn = sampler.draw(sampling.bits(5, tf.range(50_000))).numpy()
  share = np.bincount(drawn, minlength=len(unused)) / len(drawn)
  assert not share[unused].any()
  np.testing.assert_allclose(share, expected, atol=0.01)
  own = np.flatnonzero(~unused)[::2]
  user = tf.constant(np.repeat([3, 7], [len(own), 1]))
  item = tf.constant(np.append(own, own[0]))
  negatives, there = sampling.draw_unseen(sampler, user, item, 2000, 1)
  assert there.numpy().all()
  for who, seen in ((3, own), (7, own[:1])):
    mine = set(negatives.numpy()[user.numpy() == who].ravel().tolist())
    assert mine == set(range(len(unused))) - set(np.flatnonzero(unused)) - set(seen)


def test_a_user_of_every_item_has_no_negatives(unused):
  sampler = sampling.Sampler(len(unused), None, 1.0, unused)
  own = tf.constant(np.flatnonzero(~unused))
  _, there = sampling.draw_unseen(sampler, tf.zeros_like(own), own, 2, 1)
  assert not there.numpy().any()


def test_the_softmax_is_over_items_with_interactions(unused):
  num_items = len(unused)
  model = history.History(2, num_items, history_length=2, dim=4, heads=1, hidden=4)
  objective = history_objective.HistoryObjective(
    model,
    rows_per_step=1,
    seed=0,
    sampler=sampling.Sampler(num_items, None, 1.0, unused),
    shared_negatives=0,
  )
  first, second = np.flatnonzero(~unused)[:2].tolist()
  batch = {
    'tokens': tf.constant([[[num_items, first, second]]]),
    'row': tf.constant([[0]]),
    'user': tf.constant([[0]]),
    'weight': tf.constant([[1.0]]),
  }
  zero = tf.constant(0, tf.int64)
  with tf.GradientTape() as tape:
    loss = objective(objective.complete(batch, zero, zero))
  table = model.networks[0].item_bias.value
  bias = tape.gradient(loss, table).numpy()
  assert np.isfinite(loss)
  assert not bias[unused].any()
  assert (bias[~unused] != 0).all()


def test_a_trained_model_is_judged_and_asked(run, dataset, unused):
  items = set(np.array(growing.keys(dataset, dataset_lib.ITEMS))[~unused])
  made = run.evaluate(baselines=['popularity', 'ease'], progress=False)
  assert set(made.systems) == {'history', 'popularity', 'ease'}
  assert f'the whole catalogue of {len(items):,} items' in str(made.table())
  ranks = summary.load_ranks(summary.ranks_path(run.directory, 'test', 'model'))
  assert ranks.recommended.sum() and not ranks.recommended[:, unused].any()
  assert 'drift' in run.metrics['protocol']['test']
  assert 'popularity shift' in made.report.read_text()


def test_lists_in_numpy_and_in_a_graph(run, dataset, unused):
  k = dataset.num_items
  users = [key for key in growing.keys(dataset, dataset_lib.USERS) if key]
  request = requests.Request.of_everyone(dataset)
  assert list(request.key) == users
  # Who vanished and who was never there get what is popular.
  asked = [*users, growing.USER, 'stranger', '']
  request = requests.Request.of_users(dataset, asked)
  assert request.user[-3:].tolist() == [UNKNOWN] * 3
  histories = recommender.read_histories(dataset)
  found = recommender.Recommender(run.model, dataset).recommend(
    request.user, *histories.of(request.user), k
  )
  server = saved_model.Server(run.model, dataset)
  in_graph = server.recommend(tf.constant(asked), tf.constant(k))['items'].numpy()
  keys = np.array([*growing.keys(dataset, dataset_lib.ITEMS), ''])
  for row, graph_row, length in zip(
    found.item, in_graph, histories.of(request.user)[1], strict=True
  ):
    listed = row[row >= 0]
    assert not unused[listed].any()
    assert len(listed) == dataset.catalogue_size - length
    assert sorted(one.decode() for one in graph_row if one) == sorted(keys[listed])


def test_rules_cannot_allow_them(run, dataset, unused):
  keys = np.array(growing.keys(dataset, dataset_lib.ITEMS))[unused]
  server = saved_model.Server(run.model, dataset)
  found = server.recommend_by_rules(
    tf.constant(['stranger', '']), tf.constant(5), allow=tf.constant([keys])
  )
  assert found['count'].numpy().tolist() == [0, 0]
  assert not any(each.items for each in run.recommend(['stranger'], allow=keys))


def test_the_explorer_knows_nobody_who_was_forgotten(run, dataset, unused):
  page = explorer.Explorer(run.model, dataset)
  assert page.about()['items'] == dataset.catalogue_size
  assert page.about()['users'] == dataset.num_users - 1
  assert '' not in [row['user'] for row in page.users()]
  shown = {row['item'] for row in page.items()}
  assert shown <= set(np.array(growing.keys(dataset, dataset_lib.ITEMS))[~unused])
  assert page.answer('')['known'] is False


def test_a_file_cannot_name_whom_was_forgotten(dataset, tmp_path):
  user = prepared.rows(dataset, 'test')[0].user
  path = tmp_path / 'lists.tsv'
  path.write_text(f'user\titem\n{user}\ti0\n{user}\t\n\ti0\n')
  made = ncf.evaluate(dataset, predictions={'x': path}, progress=False)
  assert made.systems['x']['counts']['unknown_items'] == 1
  assert made.systems['x']['counts']['unknown_users'] == 1
