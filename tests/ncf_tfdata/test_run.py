"""The run directory: what is damaged or not the run's is told in one line."""

import json
import shutil

import commands
import pytest
import toy_dataset
import toy_run

from ncf_tfdata import run as run_lib
from ncf_tfdata.errors import UserError
from ncf_tfdata.models import saved


@pytest.fixture(scope='module')
def finished(dataset, tmp_path_factory):
  """A finished run, as `train` writes it, of which tests take copies."""
  run = toy_run.write(tmp_path_factory.mktemp('finished') / 'run', dataset)
  run.write_metrics(
    {
      **(run.metrics() or {}),
      'model': 'neumf',
      'checkpoint_sha256': run.checkpoint_sha256(),
      'model_sha256': run.model_sha256(),
    }
  )
  return run


@pytest.fixture
def run(finished, tmp_path):
  return run_lib.Run(shutil.copytree(finished.directory, tmp_path / 'run'))


def _one_line(action, match: str) -> None:
  with pytest.raises(UserError, match=match) as caught:
    action()
  assert '\n' not in str(caught.value)


def _flip(path, bit: int) -> None:
  content = bytearray(path.read_bytes())
  content[bit // 8] ^= 1 << bit % 8
  path.write_bytes(content)


def test_single_flipped_bits_of_the_weights_are_told(run, dataset):
  bits = 8 * run.best_weights.stat().st_size
  saved.load_finished(run, dataset)
  # Positions all over the file: its tables, its names and its numbers.
  for bit in range(3, bits, bits // 40):
    _flip(run.best_weights, bit)
    _one_line(lambda: saved.load(run, dataset), r'best\.weights\.h5 is corrupt')
    _flip(run.best_weights, bit)
  saved.load_finished(run, dataset)


def test_single_flipped_bits_of_the_model_are_told(run, dataset):
  path = run.directory / 'model.json'
  for bit in range(5, 8 * path.stat().st_size, 97):
    _flip(path, bit)
    _one_line(lambda: run.model(dataset), r'model\.json is (corrupt|damaged)')
    _flip(path, bit)
  run.model(dataset)


def test_a_run_of_an_earlier_version_has_no_digest_of_its_model(run, dataset):
  metrics = run.metrics()
  del metrics['model_sha256'], metrics['checkpoint_sha256']
  run.write_metrics(metrics)
  saved.load_finished(run, dataset)


@pytest.mark.parametrize('content', [b'', b'{', b'\xff', b'[]', b'{}', b'{"a": 1'])
@pytest.mark.parametrize('digest', [True, False])
def test_a_damaged_model_is_told(run, dataset, content, digest):
  if not digest:
    run.write_metrics({'best_epoch': 1})
  (run.directory / 'model.json').write_bytes(content)
  _one_line(lambda: saved.load(run, dataset), r'model\.json is')


@pytest.mark.parametrize(
  'model',
  [
    None,
    7,
    {},
    {'class_name': 'NeuMF'},
    {'module': 'os', 'class_name': 'system', 'config': {}, 'registered_name': 'x>y'},
    {
      'module': 'ncf_tfdata.models.neumf',
      'class_name': 'NeuMF',
      'config': {'num_users': 'many'},
      'registered_name': 'ncf_tfdata>NeuMF',
    },
  ],
)
def test_what_describes_no_model_is_told(run, dataset, model):
  run.write_metrics({'best_epoch': 1})
  note = {'dataset_sha256': dataset.sha256, 'model': model}
  (run.directory / 'model.json').write_text(json.dumps(note))
  _one_line(lambda: saved.load(run, dataset), r'model\.json does not describe a model')


@pytest.mark.parametrize('content', [b'', b'{"test": {', b'\xff\xfe', b'3', b'null'])
def test_damaged_metrics_are_told(run, content):
  (run.directory / 'metrics.json').write_bytes(content)
  _one_line(run.metrics, r'metrics\.json is damaged')


@pytest.mark.parametrize(
  'content', [b'epoch,loss\n1,abc\n', b'epoch,loss\n1\n', b'epoch\n1,2\n', b'\xff\n1\n']
)
def test_damaged_epochs_are_told(run, content):
  run.epochs.write_bytes(content)
  _one_line(run.history, r'epochs\.csv is damaged')


@pytest.mark.parametrize('content', [b'lag,head 1\n1,x\n', b'\xff'])
def test_damaged_lags_are_told(run, content):
  (run.directory / 'lags.csv').write_bytes(content)
  _one_line(run.lags, r'lags\.csv is damaged')


def test_damaged_flags_are_told(run):
  path = run.directory / 'flags.cfg'
  path.write_bytes(b'--data_dir=\xff\xfe\n')
  _one_line(run.data_dir, r'flags\.cfg is damaged')
  path.write_text('--seed=1\n')
  _one_line(run.data_dir, r'names no --data_dir')
  path.unlink()
  _one_line(run.data_dir, 'no run at')


@pytest.mark.parametrize(
  ('name', 'action'),
  [
    ('flags.cfg', lambda run, dataset: run.data_dir()),
    ('metrics.json', lambda run, dataset: run.metrics()),
    ('epochs.csv', lambda run, dataset: run.history()),
    ('lags.csv', lambda run, dataset: run.lags()),
    ('model.json', lambda run, dataset: run.model(dataset)),
    ('checkpoints/best.weights.h5', lambda run, dataset: run.check_weights()),
  ],
)
def test_what_cannot_be_read_is_told(run, dataset, name, action):
  path = run.directory / name
  path.unlink(missing_ok=True)
  path.mkdir()  # What even root cannot read as a file.
  _one_line(lambda: action(run, dataset), f'cannot read .*{name}: Is a directory')


def test_what_was_not_finished_leaves_no_file(run, monkeypatch):
  before = sorted(path.name for path in run.directory.rglob('*'))
  with pytest.raises(TypeError):
    run.write_metrics({'a': object()})
  monkeypatch.setattr('os.replace', lambda *paths: pytest.fail('out of room'))
  with pytest.raises(pytest.fail.Exception):
    run.write_history([{'epoch': 1}])
  assert sorted(path.name for path in run.directory.rglob('*')) == before


@pytest.mark.parametrize(
  ('name', 'content'),
  [
    ('model.json', '{"dataset_sha'),
    ('flags.cfg', b'--data_dir=\xff'),
    ('metrics.json', '{'),
  ],
)
def test_commands_tell_a_damaged_file_in_one_line(run, dataset, name, content):
  path = run.directory / name
  path.write_bytes(content if isinstance(content, bytes) else content.encode())
  done = commands.run('ncf_tfdata.recommend', f'--run_dir={run.directory}', '--users=1')
  assert done.returncode == 1
  assert 'Traceback' not in done.stderr
  (line,) = (line for line in done.stderr.splitlines() if line.startswith('error: '))
  assert str(path) in line


def test_a_dataset_of_another_sha256_is_refused(run, dataset, tmp_path):
  other = toy_dataset.write(
    tmp_path / 'other', toy_dataset.tastes(seed=9), num_items=40
  )
  _one_line(lambda: run.model(other), f'trained on dataset {dataset.sha256[:12]}')
