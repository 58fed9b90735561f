"""Rules and reasons of Beam's recommendations against those of the other command."""

import subprocess

import beam_lists
import commands
import prepared
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
import toy_categories
import toy_run

import ncf_tfdata as ncf
from beam_pipelines import exported_model
from ncf_tfdata.errors import UserError
from ncf_tfdata.serving import item_categories

pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def dataset(dataset):
  return toy_categories.add_to(dataset)


@pytest.fixture(scope='module')
def model(made, dataset, tmp_path_factory):
  return beam_lists.export(made, dataset, tmp_path_factory.mktemp('served') / '1')


def _command(*flags: object) -> subprocess.CompletedProcess:
  return commands.run('beam_pipelines.recommend', *flags)


# Rules that leave some lists short.
_RULES = {
  'exclude': ('i1', 'nothing'),
  'allow': ('no such', 'i1', *(f'i{number}' for number in range(36))),
  'only': ('genres:Drama, of old', 'genres:Comedy', 'shelf:s0', 'shelf:s2'),
  'min_score': -5.0,
}


def _by_library(made, dataset, lines, **options):
  """Lists by user, by the call that `ncf_tfdata.recommend` makes."""
  histories = {}
  for user, item in lines:
    histories.setdefault(user, []).append(item)
  with pytest.warns(UserWarning, match='ignored'):
    found = ncf.Run(made, dataset).recommend(histories=histories, **options)
  return {each.user: each for each in found}


def _by_handler(model, users, **options):
  """What a worker answers users, as lines."""
  wanted = exported_model.ListOptions(**options)
  handler = exported_model.SavedModelHandler(str(model), wanted)
  people = exported_model.People(0, 0, users, None)
  ((_, (_, lists)),) = handler.run_inference([people], handler.load_model())
  return list(lists.lines())


def _same_list(line, expected):
  assert line['items'] == expected.items
  assert line['scores'] == pytest.approx(expected.scores, rel=1e-5, abs=1e-5)
  assert line['source'] == expected.source


def test_rules_and_reasons_are_those_of_the_library(model, made, dataset, tmp_path):
  lines = beam_lists.events(tmp_path / 'events.csv', dataset)
  job = beam_lists.job_of(
    model,
    tmp_path / 'events.csv',
    tmp_path,
    mark=b',',
    events=True,
    k=12,
    explain=True,
    **_RULES,
  )
  only = item_categories.parsed(_RULES['only'])
  rules = {**_RULES, 'only': only}
  expected = _by_library(made, dataset, lines, k=12, explain=True, **rules)
  found = beam_lists.answers(job)
  assert found.keys() == expected.keys()
  lengths, told = set(), 0
  for user, line in found.items():
    _same_list(line, expected[user])
    lengths.add(len(line['items']))
    for item, reasons, others in zip(
      line['items'], line['reasons'], expected[user].reasons, strict=True
    ):
      assert item in _RULES['allow'] and item != 'i1'
      assert toy_categories.has(int(item[1:]), _RULES['only'])
      # Below that, rounding decides what is a reason.
      strong = [reason for reason in reasons if reason['effect'] > 1e-4]
      others = [one for one in others if one.effect > 1e-4]
      assert [reason['item'] for reason in strong] == [one.item for one in others]
      for reason, one in zip(strong, others, strict=True):
        assert reason['effect'] == pytest.approx(one.effect, rel=1e-3, abs=1e-4)
        parts = {name: reason[name] for name in reason.keys() - {'item', 'effect'}}
        assert parts == pytest.approx(one.parts, rel=1e-3, abs=1e-4)
        told += 1
  assert len(lengths) > 1 and told > 10
  # Popular items have no reasons.
  assert found['10']['source'] == 'popularity' and not any(found['10']['reasons'])


@pytest.mark.parametrize('rule', ['exclude', 'allow', 'only', 'min_score'])
def test_each_rule_stands_by_itself(model, made, dataset, rule):
  users = ('u3', 'u7', 'nobody')
  run = ncf.Run(made, dataset)
  plain = [each.items for each in run.recommend(users, k=12)]
  # What each rule takes from a list.
  value = {
    'exclude': tuple(plain[0][:2]),
    'allow': tuple(plain[1][1:9]),
    'only': ('shelf:s1',),
    'min_score': 1.0,
  }[rule]
  given = item_categories.parsed(value) if rule == 'only' else value
  expected = list(run.recommend(users, k=12, **{rule: given}))
  found = _by_handler(model, users, k=12, **{rule: value})
  for line, each in zip(found, expected, strict=True):
    _same_list(line, each)
    assert 'reasons' not in line
  assert any(line['items'] != items for line, items in zip(found, plain, strict=True))


def test_a_model_of_ids_has_rules_and_no_reasons(dataset, tmp_path):
  made = toy_run.write(tmp_path / 'run', dataset)
  model = beam_lists.export(made, dataset, tmp_path / 'served')
  users = ('u1', 'nobody')
  found = _by_handler(model, users, k=4, exclude=('i3',), explain=True)
  expected = ncf.Run(made, dataset).recommend(users, k=4, exclude=['i3'])
  for line, each in zip(found, expected, strict=True):
    _same_list(line, each)
    assert line['reasons'] == [[]] * 4


def test_commands_with_rules_write_the_same_columns(made, model, dataset, tmp_path):
  names = ''.join(f'{key},Film {key}\n' for key in ('i0', 'i2', 'i6'))
  (tmp_path / 'names.csv').write_text(names)
  pairs = ','.join(f'"{one}"' if ',' in one else one for one in _RULES['only'])
  flags = [
    f'--item_names={tmp_path / "names.csv"}',
    f'--exclude={",".join(_RULES["exclude"])}',
    f'--allow={",".join(_RULES["allow"])}',
    f'--only={pairs}',
    f'--min_score={_RULES["min_score"]}',
    '--explain',
    '--k=3',
  ]
  one = tmp_path / 'one.parquet'
  run_flags = (f'--run_dir={made.directory}', '--all', f'--output={one}')
  done = commands.run('ncf_tfdata.recommend', *run_flags, *flags)
  assert done.returncode == 0, done.stderr
  output = tmp_path / 'out' / 'all.parquet'
  where = (f'--data_dir={dataset.directory}', f'--output={output}', '--num_shards=1')
  done = _command(f'--saved_model={model}', *where, *flags)
  assert done.returncode == 0, done.stdout + done.stderr
  # As the other command says it.
  assert '2 ids to exclude or to allow are of no item' in done.stderr
  expected = pq.read_table(one)
  found = pq.read_table(output.with_name('all-00000-of-00001.parquet'))
  assert found.schema == expected.schema
  order = [('user', 'ascending'), ('rank', 'ascending')]
  found, expected = found.sort_by(order), expected.sort_by(order)
  for column in ('user', 'rank', 'item', 'source', 'name'):
    assert found[column].equals(expected[column])
  for one, other in zip(found['reasons'], expected['reasons'], strict=True):
    strong = [
      [told for told in each.as_py() if told['effect'] > 1e-4] for each in (one, other)
    ]
    assert [(told['item'], told['name']) for told in strong[0]] == [
      (told['item'], told['name']) for told in strong[1]
    ]


def test_a_category_that_no_item_has_is_refused(model, tmp_path):
  (tmp_path / 'users').write_text('u1\n')
  output = tmp_path / 'out' / 'all.csv'
  flags = (f'--users_file={tmp_path / "users"}', f'--output={output}')
  done = _command(f'--saved_model={model}', *flags, '--only=shelf:s1,genres:Comdey')
  said = prepared.error_line(done)
  assert said.startswith('error: received --only=genres:Comdey, expected a category')
  assert not list(output.parent.glob('all*'))
  for wrong, what in (('--only=genres', 'genres:Comedy'), ('--allow=', 'name an item')):
    done = _command(f'--saved_model={model}', *flags, wrong)
    assert what in prepared.error_line(done)


def test_an_export_from_before_there_were_categories_is_refused(tmp_path):
  class Old(tf.Module):
    """What such an export has of what is asked."""

    batch_rows = tf.Variable(9, dtype=tf.int64)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, 'user')])
    def recommend_by_rules(self, user):
      return {'items': user}

  old = Old()
  signatures = {'recommend_by_rules': old.recommend_by_rules}
  tf.saved_model.save(old, str(tmp_path), signatures=signatures)
  options = exported_model.ListOptions(exclude=('i1',))
  handler = exported_model.SavedModelHandler(str(tmp_path), options)
  with pytest.raises(UserError, match='Export it again'):
    handler.load_model()
