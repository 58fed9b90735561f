"""The record of a result, which numbers are judged, and what is said of a change."""

import json
import subprocess
import sys

import prepared
import pytest
from absl import flags

BENCHMARKS = prepared.ROOT / 'benchmarks'
FILES = sorted((BENCHMARKS / 'results').glob('*.json'))
MACHINE = {'cpu': 'Toy 1', 'vectors': 'avx2', 'cores': 2, 'architecture': 'x86_64'}


@pytest.fixture
def modules(monkeypatch):
  """The benchmarks' own modules, which import each other by name as scripts do."""
  monkeypatch.syspath_prepend(str(BENCHMARKS))
  import compare
  import measures
  import record
  import side_by_side

  return {
    'compare': compare, 'measures': measures, 'record': record, 'save': side_by_side,
  }  # fmt: skip


def record_of(**changed):
  """A record of the toy machine; `flags` and `clean` may differ, and its machine."""
  kept = {'commit': 'c', 'clean': True, 'versions': {'numpy': '1'}, 'flags': {}}
  machine = MACHINE | {name: changed.pop(name) for name in MACHINE if name in changed}
  return {**kept, 'machine': machine, **changed}


@pytest.fixture
def compared(modules, tmp_path, capsys):
  """Commits results, puts others in their place, and gives what `report` says."""

  def git(*arguments):
    who = ('-c', 'user.name=t', '-c', 'user.email=t@example.org')
    command = ['git', *who, '-c', 'commit.gpgsign=false', *arguments]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)

  def write(results):
    folder = tmp_path / 'benchmarks' / 'results'
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir():
      path.unlink()
    for name, result in results.items():
      (folder / f'{name}.json').write_text(json.dumps(result))

  def both(before, now, tolerance=0.1, revision='HEAD'):
    write(before)
    git('init', '--quiet')
    git('add', '--all')
    git('commit', '--quiet', '--allow-empty', '--message=before')
    write(now)
    slower = modules['compare'].report(tmp_path, revision, tolerance)
    return slower, capsys.readouterr().out

  return both


@pytest.mark.parametrize(
  ('path', 'kind', 'rising', 'theirs'),
  [
    ('preparation:ours[]', 'time', False, False),
    ('preparation:seed[]', 'time', False, True),
    ('preparation:median_ratio', 'ratio', False, False),
    ('preparation_peer:cpu_seconds[][0]', 'time', False, False),
    ('preparation_peer:cpu_seconds[][1]', 'time', False, True),
    ('preparation_peer:median_cpu_ratio', 'ratio', False, False),
    ('scale:sizes[ratings=1].seconds_a_million', 'time', False, False),
    ('scale:last_to_first_a_rating', 'ratio', False, False),
    ('input_pipeline:ways.windows.rows_a_cpu_second', 'rate', True, False),
    ('input_pipeline:ways.tfds.rows_a_second', 'rate', True, True),
    ('input_pipeline:steps[flags=a.cfg].ms_a_step_real[]', 'time', False, False),
    ('answers-ml-1m:page.p99_ms', 'time', False, False),
    ('answers-ml-1m:beam.users_per_second', 'rate', True, False),
    (
      'full_ranking:results[model=gmf,way=predict].ratio_of_rank_full',
      'ratio',
      True,
      0,
    ),
    ('full_ranking:results[way=rank_full,users=2].ratio_of_rank_full', 'ratio', 0, 0),
    ('full_ranking:results[way=predict_large].pairs_a_second[]', 'rate', True, True),
    ('vocabulary:results[users=1].cpu_seconds_a_step_to_smallest', 'ratio', 0, False),
    ('recbole_neumf:recbole[][0].wall_seconds', 'time', False, True),
    ('recbole_neumf:wall_seconds_ratio', 'ratio', False, False),
    ('warm_start:steps[cut=1].systems.warm, 5 at .001.seconds_of_steps', 'time', 0, 0),
  ],
)
def test_times_rates_and_ratios_are_known_by_name(modules, path, kind, rising, theirs):
  measure = modules['measures'].of(path)
  assert (measure.kind.value, measure.rising, measure.theirs) == (kind, rising, theirs)


@pytest.mark.parametrize(
  'path',
  ['scale:sizes[0].ratings', 'scale:sizes[0].peak_mib', 'scale:sizes[0].user_groups',
   'accuracy_over_time:recipes.NeuMF[0].full_ndcg@10', 'time_to_accuracy:ours.epoch',
   'time_to_hr:bpr.regularization', 'time_to_hr:bpr.learning_rate',
   'answers-ml-1m:export_bytes', 'preparation_peer:negatives_a_row.train'],
)  # fmt: skip
def test_other_numbers_are_not_judged(modules, path):
  assert modules['measures'].of(path) is None


def test_turns_are_medians_and_objects_stand_by_name(modules):
  result = {
    'machine': {'boot_seconds': 1},
    'record': {'flags': {'max_seconds': 1}},
    'seconds': [3, 1, 8],
    'pairs': {'seconds': [[1, 10], [3, 30], [2, 20]]},
    'sizes': [{'ratings': 5, 'seconds': 7}, {'ratings': 6, 'seconds': None}],
    'epochs': [[{'seconds': 1.0}, {'seconds': 2}], [{'seconds': 3.0}]],
    'nothing': {'seconds': float('nan')},
    'done_seconds': True,
  }
  assert modules['measures'].numbers('toy', result) == {
    'toy:seconds[]': 3,
    'toy:pairs.seconds[][0]': 2,
    'toy:pairs.seconds[][1]': 20,
    'toy:sizes[ratings=5].seconds': 7,
    'toy:epochs[][0].seconds': 2,
    'toy:epochs[][1].seconds': 2,
  }


@pytest.mark.parametrize('path', FILES, ids=lambda path: path.stem)
def test_every_result_is_read(modules, path):
  found = modules['measures'].numbers(path.stem, json.loads(path.read_text()))
  # Kills and losses, or accuracy alone.
  assert bool(found) != path.stem.startswith(('elastic', 'cold_items'))
  assert all(value >= 0 for value in found.values())


def test_what_is_slower_fails_in_its_own_direction(compared):
  before = {'record': record_of(), 'seconds': 10, 'users_per_second': 100, 'ratio': 0.5}
  now = {'record': record_of(), 'seconds': 11.1, 'users_per_second': 120, 'ratio': 0.4}
  slower, text = compared({'toy': before}, {'toy': now})
  assert slower
  assert [line.split() for line in text.splitlines() if line.startswith('toy:')] == [
    ['toy:seconds', '10', '11.1', '+11', '%', 'slower'],
    ['toy:users_per_second', '100', '120', '+20', '%', 'faster'],
    ['toy:ratio', '0.5', '0.4', '-20', '%', 'better'],
  ]
  assert '3 numbers of 1 others compared, 1 slower or worse by more than 10 %' in text


@pytest.mark.parametrize(
  ('name', 'before', 'now', 'slower'),
  [
    ('seconds', 10, 10.9, False),
    ('seconds', 10, 11.1, True),
    ('seconds', 10, 8, False),
    ('users_per_second', 110, 101, False),
    ('users_per_second', 110, 99, True),
    ('ratio', 0.1, 0.12, True),
    ('seconds', 0, 1, False),
    ('hr@10', 0.5, 0.1, False),
  ],
)
def test_ten_percent_are_tolerated(compared, name, before, now, slower):
  old, new = ({'record': record_of(), name: value} for value in (before, now))
  assert compared({'toy': old}, {'toy': new})[0] == slower


def test_tolerance_is_a_flag(compared):
  old, new = ({'record': record_of(), 'seconds': value} for value in (10, 10.9))
  assert compared({'toy': old}, {'toy': new}, tolerance=0.05)[0]


@pytest.mark.parametrize(
  ('machine', 'said'),
  [
    ({'cpu': 'Toy 2'}, 'machines differ, Toy 1 avx2 2 x86_64 and Toy 2 avx2 2 x86_64'),
    ({'vectors': 'avx512f'}, 'machines differ'),
    ({'cpu': None}, 'the CPU now is not recorded'),
  ],
)
def test_of_two_machines_only_ratios_are_compared(compared, machine, said):
  before = {'record': record_of(), 'seconds': 1, 'ratio': 1}
  now = {'record': record_of(**machine), 'seconds': 9, 'ratio': 1.05}
  slower, text = compared({'toy': before}, {'toy': now})
  assert not slower
  assert f'toy: {said}' in text
  assert 'only ratios are compared' in text
  assert '1 numbers of 1 others' in text
  assert compared({'toy': before}, {'toy': {**now, 'ratio': 1.2}})[0]


def test_a_result_without_a_record_is_of_no_known_machine(compared):
  before = {'machine': {'cores': 2}, 'seconds': 1, 'ratio': 1}
  now = {'record': record_of(), 'seconds': 9, 'ratio': 2}
  slower, text = compared({'toy': before}, {'toy': now})
  assert slower
  assert 'toy: the CPU before is not recorded: only ratios are compared' in text
  assert 'toy:seconds' not in text
  assert 'toy:ratio' in text


def test_another_program_is_told_and_not_judged(compared):
  before = {'record': record_of(), 'ours': [1], 'seed': [1]}
  slower, text = compared(
    {'preparation': before}, {'preparation': {**before, 'seed': [2]}}
  )
  assert not slower
  assert 'slower, but not ours' in text


def test_remarks_say_what_cannot_be_compared(compared):
  before = {'record': record_of(), 'seconds': 1, 'old_seconds': 1}
  changed = record_of(flags={'runs': 1}, versions={'numpy': '2'}, clean=False)
  now = {'record': changed, 'seconds': 1, 'new_ms': 1}
  same = {'seconds': 1}
  _, text = compared(
    {'toy': before, 'gone': same, 'same': same},
    {'toy': now, 'more': same, 'same': same},
  )
  for line in (
    'toy: versions: numpy 1 → 2',
    'toy: flags: runs default → 1',
    'toy: now measured with changes that were not committed',
    'toy: 1 numbers only before, as toy:old_seconds',
    'toy: 1 numbers only now, as toy:new_ms',
    'only HEAD: gone',
    'only here: more',
  ):
    assert line in text.splitlines()
  assert 'against HEAD: 1 results are the same' in text


def test_what_is_not_json_is_named(compared, tmp_path):
  with pytest.raises(ValueError, match=r'results/toy.json holds no JSON object'):
    compared({}, {'toy': [1]})


def test_an_unknown_revision_is_one_line():
  done = subprocess.run(
    [sys.executable, str(BENCHMARKS / 'compare.py'), '--against=no-such-thing'],
    capture_output=True, text=True,
  )  # fmt: skip
  assert done.returncode == 2
  assert done.stdout == ''
  assert done.stderr.startswith("--against: git knows no commit 'no-such-thing' here")
  assert done.stderr.count('\n') == 1


def test_save_adds_the_record(modules, tmp_path, monkeypatch, capsys):
  monkeypatch.setattr(modules['save'], 'RESULTS', tmp_path / 'results')
  modules['save'].save('toy', {'seconds': 1})
  saved = json.loads((tmp_path / 'results' / 'toy.json').read_text())
  assert json.loads(capsys.readouterr().out) == saved
  assert saved['seconds'] == 1
  kept = saved['record']
  assert kept['versions']['python'] == '.'.join(map(str, sys.version_info[:3]))
  assert kept['versions']['numpy']
  assert kept['machine']['cores'] >= 1
  assert set(kept) == {'commit', 'clean', 'machine', 'versions', 'flags'}


@pytest.mark.parametrize(
  'path', sorted(BENCHMARKS.glob('*.py')), ids=lambda path: path.stem
)
def test_benchmarks_write_results_by_save_alone(path):
  text = path.read_text()
  if 'Writes results/' in text:
    assert 'side_by_side.save(' in text
  if path.stem != 'side_by_side':
    places = [line for line in text.splitlines() if 'RESULTS /' in line]
    assert not [line for line in places if 'write' in line or '.open(' in line]


def test_clean_is_whether_all_but_results_is_committed(modules, compared, tmp_path):
  compared({'toy': {'seconds': 1}}, {'toy': {'seconds': 2}})
  found = modules['record'].commit_of(tmp_path)
  assert found['clean'] is True
  assert len(found['commit']) == 40
  (tmp_path / 'code.py').write_text('')
  assert modules['record'].commit_of(tmp_path)['clean'] is False


def test_outside_of_git_there_is_no_commit(modules, tmp_path, monkeypatch):
  monkeypatch.setenv('GIT_CEILING_DIRECTORIES', str(tmp_path.parent))
  assert modules['record'].commit_of(tmp_path) == {'commit': None, 'clean': None}


def test_flags_are_those_that_are_not_default_and_name_no_folder(modules):
  values = flags.FlagValues()
  flags.DEFINE_integer('runs', 3, '', short_name='r', flag_values=values)
  flags.DEFINE_integer('seconds', 3, '', flag_values=values)
  flags.DEFINE_integer('verbosity', -1, '', flag_values=values)
  flags.DEFINE_list('more', [], '', flag_values=values)
  flags.DEFINE_string('ratings', None, '', flag_values=values)
  flags.DEFINE_string('recipe', None, '', flag_values=values)
  given = modules['record'].flags_given
  assert given(values) == {}
  more = '--more=--input=/home/me/log.dat,--seed=1'
  values(
    ['x', '-r', '2', '--seconds=3', more, '--ratings=~/x/r.dat', '--recipe=a/b.cfg']
  )
  assert given(values) == {
    'runs': 2,
    'more': ['--input=log.dat', '--seed=1'],
    'ratings': 'r.dat',
    'recipe': 'a/b.cfg',
  }


@pytest.mark.parametrize(
  ('text', 'name', 'vectors'),
  [
    ('model name\t: Toy  CPU \nflags\t\t: sse avx avx2\n', 'Toy  CPU', 'avx2'),
    ('flags\t: avx2 avx512f avx\nmodel name\t: A\nmodel name\t: B\n', 'A', 'avx512f'),
    ('processor\t: 0\nFeatures\t: fp asimd\n', None, 'asimd'),
    ('', None, None),
  ],
)
def test_the_cpu_is_told_by_proc_cpuinfo(modules, text, name, vectors):
  assert modules['record'].cpu(text) == {'cpu': name, 'vectors': vectors}
