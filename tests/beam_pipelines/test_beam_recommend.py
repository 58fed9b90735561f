"""Beam's answers against those of `ncf_tfdata.recommend`, from the same model."""

import csv
import subprocess
import sys

import beam_lists
import commands
import prepared
import pytest
import toy_answers
import toy_run

from beam_pipelines import exported_model, recommend_pipeline
from ncf_tfdata import dataset as dataset_lib
from ncf_tfdata.errors import UserError

pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def model(made, dataset, tmp_path_factory):
  return beam_lists.export(made, dataset, tmp_path_factory.mktemp('served') / '1')


def _command(*flags: object) -> subprocess.CompletedProcess:
  return commands.run('beam_pipelines.recommend', *flags)


def test_tables_hold_the_rows_of_the_other_command(made, model, dataset, tmp_path):
  beam_lists.events(tmp_path / 'events.csv', dataset)
  keys = dataset.vocabulary(dataset_lib.ITEMS).keys[1:]
  names = ''.join(f'{key}::Amélie, "{key}"::x\n' for key in keys)
  (tmp_path / 'movies.dat').write_text(names, encoding='latin-1')
  flags = [
    f'--history_file={tmp_path / "events.csv"}',
    f'--item_names={tmp_path / "movies.dat"}',
    '--k=4',
  ]
  one = tmp_path / 'one.csv'
  done = commands.run(
    'ncf_tfdata.recommend', f'--run_dir={made.directory}', *flags, f'--output={one}'
  )
  assert done.returncode == 0, done.stderr
  output = tmp_path / 'out' / 'all.csv'
  done = _command(
    *flags, f'--saved_model={model}', '--num_shards=2', f'--output={output}'
  )
  assert done.returncode == 0, done.stdout + done.stderr
  assert 'top 4 of 5 users' in done.stdout

  def rows(*paths):
    found = []
    for path in paths:
      with path.open(newline='') as stream:
        found += csv.DictReader(stream)
    scores = [float(row.pop('score')) for row in found]
    order = sorted(range(len(found)), key=lambda i: list(found[i].values()))
    return [found[i] for i in order], [scores[i] for i in order]

  expected, scores = rows(one)
  found, close = rows(
    *(output.with_name(f'all-0000{shard}-of-00002.csv') for shard in range(2))
  )
  assert found == expected
  assert close == pytest.approx(scores, rel=1e-5, abs=1e-5)
  assert {row['user'] for row in found if row['source'] == 'popularity'} == {'10'}


def test_users_are_answered_once_and_in_order(model, made, dataset, tmp_path):
  users = ['u7', 'u10', 'nobody', 'u7', 'u9']
  (tmp_path / 'users').write_text('\n'.join(users))
  job = beam_lists.job_of(model, tmp_path / 'users', tmp_path, num_shards=1, k=45)
  found = beam_lists.answers(job)
  assert list(found) == ['nobody', 'u10', 'u7', 'u9']
  taken = toy_answers.histories(dataset)
  people = [(user, taken[user]) for user in ('u10', 'u7', 'u9')]
  for (user, history), (items, _) in zip(
    people, toy_answers.model_lists(made, dataset, people, k=40), strict=True
  ):
    # A list ends where no item is left.
    assert found[user]['items'] == items[: 40 - len(history)]
  assert found['nobody']['source'] == 'popularity'
  assert found['nobody']['items'] == toy_answers.popular(dataset, k=40)


def test_every_runner_writes_the_same_bytes(model, dataset, tmp_path):
  beam_lists.events(tmp_path / 'events.csv', dataset)
  job = beam_lists.job_of(
    model, tmp_path / 'events.csv', tmp_path, mark=b',', events=True
  )
  beam_lists.answers(job)
  expected = prepared.digests(tmp_path / 'out')
  threads = ('--direct_num_workers=2', '--direct_running_mode=multi_threading')
  beam_lists.answers(job, *threads)
  assert prepared.digests(tmp_path / 'out') == expected


def test_batches_and_files_may_be_cut_anywhere(model, dataset, tmp_path, monkeypatch):
  lines = beam_lists.events(tmp_path / 'events.csv', dataset)
  whole = beam_lists.answers(
    beam_lists.job_of(model, tmp_path / 'events.csv', tmp_path, mark=b',', events=True)
  )
  folder = tmp_path / 'parts'
  folder.mkdir()
  for number, (user, item) in enumerate(lines):
    (folder / f'{number:02}').write_text(f'{user},{item}\n')
  monkeypatch.setattr(recommend_pipeline, '_BATCH_CELLS', 3)
  cut = beam_lists.answers(
    beam_lists.job_of(model, folder, tmp_path, 7, mark=b',', events=True)
  )
  assert cut.keys() == whole.keys() == {user for user, _ in lines}
  for user, line in cut.items():
    assert line['items'] == whole[user]['items']
    assert line['scores'] == pytest.approx(whole[user]['scores'], rel=1e-5, abs=1e-5)
  # Seven files, some of them without a user; and none of the three from before.
  names = sorted(path.name for path in (tmp_path / 'out').iterdir())
  assert names == [f'all-{shard:05}-of-00007.jsonl' for shard in range(7)]


def test_cuts_bound_a_batch(monkeypatch):
  monkeypatch.setattr(recommend_pipeline, '_BATCH_USERS', 3)
  monkeypatch.setattr(recommend_pipeline, '_BATCH_CELLS', 10)
  later = [[''] * width for width in (1, 1, 1, 1, 5, 5, 6, 40, 0, 0)]
  cuts = [(cut.start, cut.stop) for cut in recommend_pipeline._cuts(len(later), later)]
  assert cuts == [(0, 3), (3, 5), (5, 6), (6, 7), (7, 8), (8, 10)]
  assert [(cut.start, cut.stop) for cut in recommend_pipeline._cuts(4, None)] == [
    (0, 3),
    (3, 4),
  ]
  assert not list(recommend_pipeline._cuts(0, None))


def test_shards_are_whole_or_not_there(tmp_path):
  output = recommend_pipeline.Output(
    str(tmp_path), 'a.b', '.csv', 2, str(tmp_path / 'staging'), overwrite=True
  )
  (tmp_path / 'staging').mkdir()
  (tmp_path / 'a.b-00000-of-00003.csv').write_text('old')
  (tmp_path / 'a.b-00000-of-00003.jsonl').write_text('of something else')
  for shard in range(2):
    (tmp_path / 'staging' / output.name(shard)).write_text('new')
  names = [output.name(shard) for shard in range(2)]
  # Twice: a runner may try again.
  for _ in range(2):
    recommend_pipeline._publish((0, names), output)
    assert output.existing() == names
  assert (tmp_path / 'a.b-00000-of-00003.jsonl').exists()


def _output(tmp_path, overwrite=False):
  """The place of two shards, which are staged."""
  staged = tmp_path / 'all.csv.incomplete'
  staged.mkdir(exist_ok=True)
  output = recommend_pipeline.Output(
    str(tmp_path), 'all', '.csv', 2, str(staged), overwrite
  )
  for shard in range(2):
    (staged / output.name(shard)).write_text('new')
  return output


@pytest.mark.parametrize('shards', [2, 3])
def test_what_another_job_wrote_meanwhile_is_not_replaced(tmp_path, shards):
  theirs = tmp_path / f'all-00001-of-0000{shards}.csv'
  theirs.write_text('theirs')
  output = _output(tmp_path)
  names = [output.name(shard) for shard in range(2)]
  with pytest.raises(UserError, match=f'holds {theirs.name}'):
    recommend_pipeline._publish((0, names), output)
  assert output.existing() == [theirs.name]
  assert theirs.read_text() == 'theirs'
  recommend_pipeline._publish((0, names), _output(tmp_path, overwrite=True))
  assert output.existing() == names


@pytest.mark.parametrize('kind', ['folder', 'link'])
def test_only_plain_files_are_replaced(tmp_path, kind):
  mine, elsewhere = tmp_path / 'all-00000-of-00002.csv', tmp_path / 'mine'
  elsewhere.mkdir()
  (elsewhere / 'part-0').write_text('mine')
  elsewhere.rename(mine) if kind == 'folder' else mine.symlink_to(elsewhere)
  output = _output(tmp_path, overwrite=True)
  names = [output.name(shard) for shard in range(2)]
  with pytest.raises(UserError, match='is a folder or a link'):
    recommend_pipeline._publish((0, names), output)
  assert (mine / 'part-0').read_text() == 'mine'


def test_the_input_is_never_replaced(model, tmp_path):
  mine = tmp_path / 'all-00000-of-00001.csv'
  mine.write_text('u1\n')
  link = tmp_path / 'users'
  link.symlink_to(mine)
  for name in (mine, link):
    flags = (f'--users_file={name}', f'--output={tmp_path / "all.csv"}', '--overwrite')
    done = _command(f'--saved_model={model}', *flags)
    assert 'where it would be lost' in prepared.error_line(done)
    assert mine.read_text() == 'u1\n'


def test_a_model_that_reads_no_history_is_not_given_any(dataset, tmp_path):
  made = toy_run.write(tmp_path / 'run', dataset)
  model = beam_lists.export(made, dataset, tmp_path / 'served')
  options = exported_model.ListOptions(k=3)
  handler = exported_model.SavedModelHandler(str(model), options)
  people = exported_model.People(0, 0, ('u1',), (('i1',),))
  with pytest.raises(Exception, match='reads no history'):
    list(handler.run_inference([people], handler.load_model()))


@pytest.mark.parametrize(
  ('flags', 'said'),
  [
    (['--saved_model=nowhere', '--output=a.csv'], '--users_file'),
    (['--saved_model=nowhere', '--users_file=x', '--output=a.csv'], 'no SavedModel'),
    (
      ['--saved_model=MODEL', '--users_file=DATA/users.tsv', '--output=/'],
      'is the root',
    ),
    (
      ['--saved_model=MODEL', '--users_file=x', '--output=a.csv'],
      'nothing to read at x',
    ),
    (['--saved_model=MODEL', '--data_dir=DATA', '--output=OUT/all.csv'], '--overwrite'),
  ],
)
def test_what_cannot_be_answered_is_told_in_a_line(
  model, dataset, tmp_path, flags, said
):
  (tmp_path / 'all-00000-of-00001.csv').write_text('mine')
  for name, path in (('MODEL', model), ('DATA', dataset.directory), ('OUT', tmp_path)):
    flags = [flag.replace(name, str(path)) for flag in flags]
  assert said in prepared.error_line(_command(*flags))


def test_the_graph_is_built_without_tensorflow():
  code = (
    'import sys; from beam_pipelines import exported_model, recommend_pipeline; '
    'options = exported_model.ListOptions(); '
    "exported_model.SavedModelHandler('x', options); "
    "print([m for m in ('tensorflow', 'keras') if m in sys.modules])"
  )
  done = subprocess.run(
    [sys.executable, '-c', code], cwd=prepared.ROOT, capture_output=True, text=True
  )
  assert done.stdout == '[]\n', done.stderr
