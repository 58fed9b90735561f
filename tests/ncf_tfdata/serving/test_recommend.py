"""Recommend, as a user runs it, against scores worked out record by record."""

import csv
import json
import subprocess

import commands
import numpy as np
import prepared
import pyarrow.parquet as pq
import pytest
import toy_answers
import toy_run

from ncf_tfdata import dataset as dataset_lib
from ncf_tfdata import errors
from ncf_tfdata.serving import list_files, recommendation_files, recommender
from ncf_tfdata.vocabulary import UNKNOWN

pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def apart(sample_log, tmp_path_factory):
  """The sample with some users kept out of train, and successors."""
  return prepared.prepare(
    sample_log,
    tmp_path_factory.mktemp('apart') / 'data',
    '--held_out_users=0.4',
    '--successors=100',
  )


@pytest.fixture(scope='module')
def history_run(apart, tmp_path_factory):
  return toy_answers.history_run(tmp_path_factory.mktemp('history') / 'run', apart)


@pytest.fixture(scope='module')
def neumf_run(sample_dataset, tmp_path_factory):
  return toy_run.write(tmp_path_factory.mktemp('neumf') / 'run', sample_dataset)


def _run(*flags: object) -> subprocess.CompletedProcess:
  return commands.run('ncf_tfdata.recommend', *flags)


def _recommend(made, *flags: object) -> subprocess.CompletedProcess:
  done = _run(f'--run_dir={made.directory}', *flags)
  assert done.returncode == 0, done.stdout + done.stderr
  return done


def _lines(path) -> list[dict]:
  return [json.loads(line) for line in path.read_text().splitlines()]


def _names(path, dataset) -> dict[str, str]:
  """A file of titles for all items but the last, as MovieLens writes them."""
  keys = dataset.vocabulary(dataset_lib.ITEMS).keys[:-1]
  names = {key: f'Amélie, "{key}" (2001)' for key in keys}
  text = ''.join(f'{key}::{name}::Comedy|Romance\n' for key, name in names.items())
  path.write_bytes(text.encode('latin-1'))
  return names


def test_lists_of_everyone_are_the_evaluators(history_run, apart, tmp_path):
  path = tmp_path / 'new' / 'all.jsonl'
  done = _recommend(history_run, '--all', f'--output={path}')
  assert 'users/s' in done.stdout
  people = list(toy_answers.histories(apart).items())
  lines = _lines(path)
  assert [line['user'] for line in lines] == [user for user, _ in people]
  expected = toy_answers.model_lists(history_run, apart, people)
  assert [line['items'] for line in lines] == [items for items, _ in expected]
  for line, (_, scores) in zip(lines, expected, strict=True):
    assert line['source'] == 'model'
    np.testing.assert_allclose(line['scores'], scores, rtol=1e-5, atol=1e-5)
  assert [entry.name for entry in path.parent.iterdir()] == ['all.jsonl']


def test_tables_hold_a_row_for_each_item(neumf_run, sample_dataset, tmp_path):
  names = _names(tmp_path / 'movies.dat', sample_dataset)
  people = list(toy_answers.histories(sample_dataset).items())
  expected = toy_answers.model_lists(neumf_run, sample_dataset, people, k=5)
  rows = [
    (user, rank, item, names.get(item, ''))
    for (user, _), (items, _) in zip(people, expected, strict=True)
    for rank, item in enumerate(items, 1)
  ]
  scores = [score for _, scores in expected for score in scores]
  flags = ('--all', '--k=5', f'--item_names={tmp_path / "movies.dat"}')
  _recommend(neumf_run, *flags, f'--output={tmp_path / "all.csv"}')
  _recommend(neumf_run, *flags, f'--output={tmp_path / "all.parquet"}')
  with (tmp_path / 'all.csv').open(newline='') as stream:
    found = list(csv.DictReader(stream))
  table = pq.read_table(tmp_path / 'all.parquet')
  assert table.column_names == list(found[0])
  for line in found:
    line.update(rank=int(line['rank']), score=float(line['score']))
  for lines in (found, table.to_pylist()):
    columns = ('user', 'rank', 'item', 'name')
    assert [tuple(line[name] for name in columns) for line in lines] == rows
    np.testing.assert_allclose(
      [line['score'] for line in lines], scores, rtol=1e-5, atol=1e-5
    )
    assert {line['source'] for line in lines} == {'model'}


def test_a_person_reads_names(neumf_run, sample_dataset, tmp_path):
  names = _names(tmp_path / 'movies.dat', sample_dataset)
  user = sample_dataset.vocabulary(dataset_lib.USERS).keys[3]
  done = _recommend(
    neumf_run,
    f'--users={user},nobody',
    '--k=3',
    f'--item_names={tmp_path / "movies.dat"}',
  )
  lines = done.stdout.splitlines()
  assert lines[0] == f'user {user}, by model'
  assert lines[4] == 'user nobody, by popularity'
  for line, item in zip(lines[5:], toy_answers.popular(sample_dataset), strict=False):
    assert f' {item} ' in line
    assert names[item] in line


def _events(path, apart):
  """Of two users of the dataset, two new ones, and one with nothing that is known."""
  items = apart.vocabulary(dataset_lib.ITEMS).keys
  users = apart.vocabulary(dataset_lib.USERS)
  trained = users.keys[int(np.flatnonzero(users.counts)[0])]
  held_out = users.keys[int(np.flatnonzero(users.counts == 0)[0])]
  events = [
    ('new', items[4]),
    (held_out, items[7]),
    ('newer', items[9]),
    ('lost', 'no such item'),
    ('new', items[2]),
    (trained, items[5]),
    ('new', 'no such item'),
    ('new', items[30]),
  ]
  path.write_text(''.join(f'{user}\t{item}\n' for user, item in events))
  known = toy_answers.histories(apart)
  return [
    ('new', [items[4], items[2], items[30]]),
    (held_out, [*known[held_out], items[7]]),
    ('newer', [items[9]]),
    ('lost', []),
    (trained, [*known[trained], items[5]]),
  ]


def test_events_since_the_training_count(history_run, apart, tmp_path):
  people = _events(tmp_path / 'events.tsv', apart)
  path = tmp_path / 'new.jsonl'
  done = _recommend(
    history_run, f'--history_file={tmp_path / "events.tsv"}', f'--output={path}'
  )
  assert '2 of 8 events' in done.stderr
  lines = {line['user']: line for line in _lines(path)}
  assert list(lines) == [user for user, _ in people]
  lost = lines.pop('lost')
  assert (lost['items'], lost['source']) == (toy_answers.popular(apart), 'popularity')
  answered = [person for person in people if person[0] in lines]
  expected = toy_answers.model_lists(history_run, apart, answered)
  assert [line['items'] for line in lines.values()] == [items for items, _ in expected]
  assert {line['source'] for line in lines.values()} == {'model'}


def test_neumf_leaves_events_out_and_knows_no_strangers(
  neumf_run, sample_dataset, tmp_path
):
  user, history = next(iter(toy_answers.histories(sample_dataset).items()))
  (best, *rest), _ = toy_answers.model_lists(
    neumf_run, sample_dataset, [(user, history)], k=11
  )[0]
  favourite = toy_answers.popular(sample_dataset)[0]
  (tmp_path / 'events.csv').write_text(f'{user},"{best}"\nstranger,{favourite}\n')
  path = tmp_path / 'new.jsonl'
  done = _recommend(
    neumf_run, f'--history_file={tmp_path / "events.csv"}', f'--output={path}'
  )
  assert 'reads no history' in done.stderr
  known, stranger = _lines(path)
  assert (known['items'], known['source']) == (rest, 'model')
  assert stranger['source'] == 'popularity'
  assert stranger['items'] == toy_answers.popular(sample_dataset, [favourite])


@pytest.mark.parametrize(
  ('flags', 'said'),
  [
    (['--run_dir=RUN'], '--history_file'),
    (['--run_dir=RUN', '--users=1', '--all'], 'one of'),
    (['--users=1'], '--run_dir'),
    (['--run_dir=nowhere', '--users=1'], 'no run at nowhere'),
    (['--run_dir=RUN', '--all', '--output=all.txt'], '.parquet'),
    (['--run_dir=RUN', '--all', '--item_names=nowhere.dat'], 'nowhere.dat'),
  ],
)
def test_what_cannot_be_answered_is_told_in_a_line(neumf_run, flags, said):
  flags = [flag.replace('RUN', str(neumf_run.directory)) for flag in flags]
  assert said in prepared.error_line(_run(*flags))


def test_histories_are_taken_and_extended_row_by_row():
  histories = recommender.Histories(np.array([5, 6, 7, 8]), np.array([0, 1, 1, 4]))
  user = np.array([2, UNKNOWN, 0, 1])
  item, length = histories.of(user)
  assert item.tolist() == [6, 7, 8, 5]
  assert length.tolist() == [3, 0, 1, 0]
  later = np.array([1, 2, 3]), np.array([1, 2, 0, 0])
  item, length = recommender.extended((item, length), later)
  assert item.tolist() == [6, 7, 8, 1, 2, 3, 5]
  assert length.tolist() == [4, 2, 1, 0]


@pytest.mark.parametrize(
  ('text', 'rows'),
  [
    ('', []),
    ('1,"a, b",x\n2,c,y\n', [('1', 'a, b'), ('2', 'c')]),
    ('1,"a, b"\n2,c\n', [('1', 'a, b'), ('2', 'c')]),
    ('1,a::b\n2,c\n', [('1', 'a::b'), ('2', 'c')]),
    ('1::a,b\t"c::x\n007::NA::y\n', [('1', 'a,b\t"c'), ('007', 'NA')]),
    ('\ufeffé\tü', [('é', 'ü')]),
  ],
)
def test_first_two_columns_are_read(tmp_path, text, rows):
  path = tmp_path / 'file'
  path.write_text(text)
  assert list(zip(*recommendation_files.read_columns(path), strict=True)) == rows


@pytest.mark.parametrize('text', ['one\n', '1,2\n3\n', '1\t2\t3\n1\t2\n'])
def test_a_file_without_two_columns_is_refused(tmp_path, text):
  (tmp_path / 'file').write_text(text)
  with pytest.raises(errors.UserError, match='file'):
    recommendation_files.read_columns(tmp_path / 'file')


def test_a_file_that_breaks_off_is_not_there(tmp_path):
  path = tmp_path / 'all.jsonl'
  with (
    pytest.raises(KeyboardInterrupt),
    list_files.create(str(path), recommendation_files.types()),
  ):
    raise KeyboardInterrupt
  assert not list(tmp_path.iterdir())
