"""Rules of lists, by every way to ask: all scores, filtered and sorted in Python."""

import json
import math
from typing import NamedTuple

import commands
import numpy as np
import prepared
import pytest
import tensorflow as tf
import toy_answers
import toy_categories
import toy_run
from tensorflow.core.protobuf import saved_model_pb2

import ncf_tfdata as ncf
from ncf_tfdata import dataset as dataset_lib
from ncf_tfdata.data import records
from ncf_tfdata.models import saved
from ncf_tfdata.serving import export

pytestmark = pytest.mark.slow

_STRANGER = 'stranger'


class Asked(NamedTuple):
  """An export that is loaded again, its run, and whom it is asked about."""

  made: object
  dataset: dataset_lib.Dataset
  model: object
  histories: dict[str, list[str]]
  directory: object
  signatures: object

  def __call__(self, name='recommend_by_rules', **inputs):
    """Answers as lists; rules that are not given are those that rule nothing out."""
    types = {'k': tf.int32, 'min_score': tf.float32}
    given = {'exclude': [['']], 'allow': [['']], 'only': [['']]} | inputs
    given.setdefault('min_score', -math.inf)
    if not name.endswith('_by_rules'):
      given = inputs
    tensors = {
      key: tf.constant(value, types.get(key, tf.string)) for key, value in given.items()
    }
    found = self.signatures[name](**tensors)
    answer = {key: value.numpy() for key, value in found.items()}
    answer['items'] = [[key.decode() for key in row] for row in answer['items']]
    return answer

  @property
  def keys(self):
    return self.dataset.vocabulary(dataset_lib.ITEMS).keys

  def unseen(self, user: str, later=()) -> dict[str, float]:
    """Scores of all items that are not seen, best first; of equal ones the lower id."""
    taken = [*self.histories.get(user, []), *filter(self.keys.count, later)]
    history = np.array([self.keys.index(item) for item in taken], np.int64)
    if user == _STRANGER and not (self.model.reads_history and taken):
      scores = self.dataset.vocabulary(dataset_lib.ITEMS).counts
    else:
      users = self.dataset.vocabulary(dataset_lib.USERS).keys
      dense = np.array([users.index(user) if user in users else -1])
      nothing = np.zeros((1, 0), np.int64)
      (scores,) = self.model.score_all(
        records.EvaluationBatch(
          dense, np.array([-1]), nothing, history, np.array([len(taken)])
        )
      )
    ranked = sorted(zip(-np.array(scores), range(len(self.keys)), strict=True))
    return {
      self.keys[item]: float(-negated)
      for negated, item in ranked
      if self.keys[item] not in taken
    }


@pytest.fixture(scope='module')
def dataset(dataset):
  return toy_categories.add_to(dataset)


@pytest.fixture(scope='module', params=['neumf', 'history'])
def asked(request, dataset, tmp_path_factory):
  root = tmp_path_factory.mktemp(request.param)
  directory = root / request.param
  if request.param == 'neumf':
    made = toy_run.write(directory, dataset)
  else:
    made = toy_answers.history_run(directory, dataset, weight=0.0)
  output = root / 'served'
  model = saved.load(made, dataset)
  export.save(model, dataset, output)
  histories = toy_answers.histories(dataset)
  signatures = tf.saved_model.load(str(output)).signatures
  return Asked(made, dataset, model, histories, output, signatures)


def _filtered(unseen, exclude, allow, min_score, only, k):
  named = [item for item in allow if item]
  return [
    (item, score)
    for item, score in unseen.items()
    if item not in exclude and (not named or item in named) and score >= min_score
    if toy_categories.has(int(item[1:]), only)
  ][:k]


def _between(unseen, place):
  """A threshold that lets `place` items through, and no rounding decides on."""
  scores = list(unseen.values())
  while math.isclose(scores[place - 1], scores[place], abs_tol=1e-3):
    place += 1
  return (scores[place - 1] + scores[place]) / 2


def _rules(asked, unseen, generator, widths=(12, 25)):
  """Rules of a row, filled up: some name unknown ids, or the same id twice."""
  rows = []
  for width in widths:
    ids = generator.choice([*asked.keys, 'nothing', 'no such'], width - 4).tolist()
    row = ['', *ids, ids[0], '', '']
    rows.append(row if generator.random() < 0.7 else [''] * width)
  threshold = _between(unseen, int(generator.integers(1, 18)))
  return (
    *rows,
    threshold if generator.random() < 0.6 else -math.inf,
    _only(generator),
  )


def _only(generator, width=6):
  """Categories of a row, filled up; where the first is none of a column, all of it."""
  if generator.random() < 0.5:
    return [''] * width
  texts = generator.choice(toy_categories.all_pairs(), width - 3).tolist()
  odd = generator.choice(['', '', 'genres:Comedy', 'shelf:s9', 'no:thing', 'genres'])
  return [str(odd), '', *texts, '']


def _unknown(asked, exclude, allow, only, later):
  ids = [key for row in (exclude, allow, later) for key in row if key]
  known = toy_categories.all_pairs()
  return sum(key not in asked.keys for key in ids) + sum(
    bool(text) and text not in known for text in only
  )


def _inputs(rules):
  names = ('exclude', 'allow', 'min_score', 'only')
  return dict(zip(names, map(list, zip(*rules, strict=True)), strict=True))


def _assert_answers(asked, answer, people, rules, k, later=None):
  """Each list is what is left of all scores; the rest of its row is filled up."""
  later = later or [[] for _ in people]
  for row, (user, rule, more) in enumerate(zip(people, rules, later, strict=True)):
    expected = _filtered(asked.unseen(user, more), *rule, k)
    count, items = answer['count'][row], answer['items'][row]
    assert items[:count] == [item for item, _ in expected]
    scores = [score for _, score in expected]
    np.testing.assert_allclose(answer['scores'][row][:count], scores, rtol=1e-4)
    assert len(items) == min(k, len(asked.keys))
    assert not any(items[count:]) and not answer['scores'][row][count:].any()
    exclude, allow, _, only = rule
    assert answer['ignored'][row] == _unknown(asked, exclude, allow, only, more)


@pytest.mark.parametrize('k', [1, 5, 40, 2**30])
def test_lists_are_all_scores_filtered_and_sorted(asked, k):
  generator = np.random.default_rng(k)
  people = [*list(asked.histories)[:20], _STRANGER, _STRANGER]
  rules = [_rules(asked, asked.unseen(user), generator) for user in people]
  answer = asked(user=people, k=k, **_inputs(rules))
  _assert_answers(asked, answer, people, rules, k)
  assert answer['known'].tolist() == [True] * 20 + [False] * 2
  # The draw has lists as long as asked for, and shorter ones.
  if k == 5:
    assert {1, 5} < set(answer['count'].tolist())


def test_a_rule_of_one_row_is_for_all(asked):
  people = [*list(asked.histories)[:3], _STRANGER]
  allow = ['i3', *(f'i{item}' for item in range(20))]
  rule = (['i3', 'nothing'], allow, -1.5, ['genres:Drama, of old', 'genres:Comedy'])
  exclude, allow, least, only = rule
  answer = asked(
    user=people, k=4, exclude=[exclude], allow=[allow], min_score=least, only=[only]
  )
  _assert_answers(asked, answer, people, [rule] * 4, 4)


def test_without_rules_the_lists_are_those_of_recommend(asked):
  people = [*list(asked.histories)[:5], _STRANGER]
  plain = asked('recommend', user=people, k=7)
  for nothing in ([['']], [['', '']] * 6, np.zeros((6, 0), object)):
    ruled = asked(user=people, k=7, exclude=nothing, allow=nothing, only=nothing)
    assert ruled['items'] == plain['items']
    assert ruled['scores'].tolist() == plain['scores'].tolist()
    assert ruled['count'].tolist() == [7] * 6
    assert ruled['ignored'].tolist() == [0] * 6


def test_what_is_allowed_and_unknown_allows_nothing(asked):
  for name, row in (
    ('allow', ['nothing', '', 'no such']),
    ('only', ['genres:none', '', 'no:such']),
    # A value that no item has is none, though another column has one.
    ('only', ['genres:none', 'shelf:s1', 'no:such']),
  ):
    answer = asked(user=['u1', _STRANGER], k=3, **{name: [row]})
    assert answer['count'].tolist() == [0, 0]
    assert answer['ignored'].tolist() == [2, 2]
    assert answer['items'] == [['', '', '']] * 2


def test_histories_have_rules_too(asked):
  if not asked.model.reads_history:
    assert not [name for name in asked.signatures if 'hist' in name or 'after' in name]
    return
  later = [['i7', 'nothing', ''], ['', 'i2', 'i9'], ['', '', '']]
  rules = [(['i1', 'x'], ['i4', 'i5'], -9.0, ['', 'shelf:s0'])]
  rules.append((['', ''], ['', ''], 0.0, ['genres:sci:fi', 'shelf:s2']))
  rules.append((['i0', ''], ['', ''], 30.0, ['', '']))
  given = {**_inputs(rules), 'k': 6}
  answer = asked('recommend_history_by_rules', history=later, **given)
  _assert_answers(asked, answer, [_STRANGER] * 3, rules, 6, later)
  assert answer['known'].tolist() == [True, True, False]
  people = ['u4', _STRANGER, _STRANGER]
  answer = asked('recommend_after_by_rules', user=people, later=later, **given)
  _assert_answers(asked, answer, people, rules, 6, later)


@pytest.mark.parametrize(
  ('inputs', 'said'),
  [
    ({'k': 0}, 'k must be at least 1'),
    ({'k': -1}, 'k must be at least 1'),
    ({'min_score': math.nan}, 'min_score must be no NaN'),
    ({'min_score': [1, 2, 3]}, 'min_score must be one for all users'),
    ({'min_score': [[1]]}, 'min_score must be one for all users'),
    ({'exclude': [['a']] * 3}, 'exclude must be one for all users'),
    ({'allow': np.zeros((0, 2), object)}, 'allow must be one for all users'),
    ({'only': [['shelf:s1']] * 3}, 'only must be one for all users'),
  ],
)
def test_what_is_no_rule_is_refused(asked, inputs, said):
  with pytest.raises(tf.errors.InvalidArgumentError, match=said):
    asked(**{'user': ['u0', 'u1'], 'k': 3, **inputs})


def test_old_signatures_are_as_they_were_and_rules_have_defaults(asked):
  proto = saved_model_pb2.SavedModel()
  proto.ParseFromString((asked.directory / 'saved_model.pb').read_bytes())
  signatures = proto.meta_graphs[0].signature_def
  before = {
    'score': (['item', 'user'], ['known', 'score']),
    'recommend': (['k', 'user'], ['items', 'known', 'scores']),
    'recommend_history': (['history', 'k'], ['items', 'known', 'scores']),
    'recommend_after': (['k', 'later', 'user'], ['items', 'known', 'scores']),
  }
  for name in before.keys() & signatures.keys():
    found = signatures[name]
    assert (sorted(found.inputs), sorted(found.outputs)) == before[name]
    assert not found.defaults
  rules = [name for name in signatures if name.endswith('_by_rules')]
  assert len(rules) == (3 if asked.model.reads_history else 1)
  for name in rules:
    defaults = signatures[name].defaults
    assert set(defaults) == {'exclude', 'allow', 'min_score', 'only'}
    assert tf.make_ndarray(defaults['allow']).tolist() == [[b'']]
    assert tf.make_ndarray(defaults['only']).tolist() == [[b'']]
    assert tf.make_ndarray(defaults['min_score']) == -math.inf


def test_the_command_and_the_library_give_the_exports_lists(asked, tmp_path):
  people = [*list(asked.histories)[:10], _STRANGER]
  exclude = ['i1', 'nothing']
  allow = ['no such', 'i0', *(f'i{item}' for item in range(1, 40, 2)), 'i1']
  least = _between(asked.unseen(people[0]), 9)
  only = {'genres': ['Drama, of old', 'sci:fi', 'Comedy'], 'shelf': ['s0', 's1', 's3']}
  pairs = [f'{name}:{value}' for name, values in only.items() for value in values]
  rules = {'exclude': exclude, 'allow': allow, 'min_score': least, 'only': only}
  served = asked(
    user=people, k=5, exclude=[exclude], allow=[allow], min_score=least, only=[pairs]
  )
  expected = [[item for item in row if item] for row in served['items']]
  assert len({len(row) for row in expected}) > 1
  run = ncf.Run.load(asked.made.directory)
  with pytest.warns(UserWarning, match='2 ids'):
    lists = run.recommend(people, k=5, **rules)
  assert [each.items for each in lists] == expected
  # A list of nothing allows nothing; a flag of nothing is a mistake.
  assert not any(each.items for each in run.recommend(people, allow=[]))
  for wrong in ({'min_score': math.nan}, {'allow': 'i1'}, {'exclude': 'i1'}):
    with pytest.raises(ValueError, match=next(iter(wrong))):
      run.recommend(people, **wrong)
  if asked.model.reads_history:
    return  # The command asks the library, whatever the model.
  path = tmp_path / 'lists.jsonl'
  flags = (f'--run_dir={asked.made.directory}', f'--users={",".join(people)}', '--k=5')
  done = commands.run(
    'ncf_tfdata.recommend',
    *flags,
    f'--exclude={",".join(exclude)}',
    f'--allow={",".join(allow)}',
    f'--min_score={least!r}',
    # As in CSV: quotes around what holds a comma.
    '--only=' + ','.join(f'"{pair}"' if ',' in pair else pair for pair in pairs),
    f'--output={path}',
  )
  assert done.returncode == 0, done.stderr
  assert '2 ids to exclude or to allow' in done.stderr
  lines = [json.loads(line) for line in path.read_text().splitlines()]
  assert [(line['user'], line['items']) for line in lines] == list(
    zip(people, expected, strict=True)
  )
  done = commands.run('ncf_tfdata.recommend', *flags, '--allow=')
  assert 'name an item' in prepared.error_line(done)
