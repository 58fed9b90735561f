"""The card of what stands behind the numbers."""

import dataclasses
import hashlib

import pytest
import toy_dataset
import toy_run

from ncf_tfdata import dataset as dataset_lib
from ncf_tfdata.evaluation import protocol
from ncf_tfdata.reporting import markup

_SYSTEMS = {
  'ease': {'fit_on': 'train'},
  'sasrec': {'file': 'lists.csv', 'sha256': 'abc', 'counts': {'rows': 1}},
}


def _with_flags(dataset, **flags):
  made = dataset_lib.Dataset(str(dataset.directory))
  manifest = made.manifest
  made.manifest = dataclasses.replace(manifest, flags={**manifest.flags, **flags})
  return made


def test_flags_that_come_later_are_shown_as_well(dataset):
  later = {'split': 'time', 'time_quantile': 0.9, 'targets': 'last', 'core': 5000}
  card = protocol.card(_with_flags(dataset, **later, columns=[]), 'test', _SYSTEMS)
  assert card['split']['rule'] == 'time'
  assert card['prepared_with'].items() >= later.items()
  assert 'columns' not in card['prepared_with']
  assert card['dataset']['train'] == dataset.rows('train')
  page = markup.protocol_card(card)
  for text in (
    '--time_quantile=0.9',
    '--core=5000',
    'rule: time',
    'train 1,080',
    '<code>abc</code>',
  ):
    assert text in page


def test_what_was_chosen_where_is_said_as_far_as_it_is_known(dataset, tmp_path):
  run = toy_run.write(tmp_path / 'run', dataset)
  chosen = protocol.card(dataset, 'test', _SYSTEMS, run)['chosen']
  assert chosen['epoch'] == '2 of 3, by ndcg@10 of validation rows'
  assert chosen['baselines'].startswith('fitted on train rows')
  assert chosen['predictions'].startswith('sasrec: judged by file')
  run.epochs.write_text('epoch,loss\n1,0.6\n2,0.5\n')
  chosen = protocol.card(dataset, 'test', {}, run)['chosen']
  assert chosen == {'epoch': 'the last of 2: the dataset has no validation rows'}
  run.epochs.unlink()
  assert 'not known' in protocol.card(dataset, 'test', {}, run)['chosen']['epoch']
  assert protocol.card(dataset, 'test', {})['chosen'] == {}


@pytest.mark.parametrize('split', ['validation', 'test'])
def test_hashes_are_of_what_was_judged(dataset, split, tmp_path):
  run = toy_run.write(tmp_path / 'run', dataset)
  card = protocol.card(dataset, split, _SYSTEMS, run)
  paths = sorted(dataset.directory.glob(f'ncf-{split}.tfrecord-*'))
  # As `sha256sum ncf-test.* | sha256sum` says.
  lines = ''.join(
    f'{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n' for path in paths
  )
  assert card['sha256'] == {
    'dataset': dataset.sha256,
    'sources': hashlib.sha256(b'').hexdigest(),
    f'{split}_shards': hashlib.sha256(lines.encode()).hexdigest(),
    'weights': run.checkpoint_sha256(),
    'predictions_of_sasrec': 'abc',
  }


def test_another_seed_of_the_negatives_is_another_hash(dataset, tmp_path):
  other = toy_dataset.write(tmp_path, toy_dataset.tastes(), num_items=40, seed=1)
  first, second = (
    protocol.card(each, 'test', {})['sha256']['test_shards']
    for each in (dataset, other)
  )
  assert first != second
