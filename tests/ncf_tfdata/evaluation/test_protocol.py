"""The card of what stands behind the numbers."""

import dataclasses
import hashlib

import pytest
import toy_dataset
import toy_run

from ncf_tfdata import dataset as dataset_lib
from ncf_tfdata import inspection
from ncf_tfdata.evaluation import protocol
from ncf_tfdata.manifest import CUT_SCHEMA, Cuts
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


def _with_manifest(dataset, **values):
  made = dataset_lib.Dataset(str(dataset.directory))
  made.manifest = dataclasses.replace(made.manifest, **values)
  return made


def test_what_was_measured_of_the_log_is_shown(dataset):
  cuts = Cuts(first=0, last=10**9, test=86_400 * 365, validation=None)
  counts = {'rows': 1200, 'tied_rows': 30}
  measured = _with_manifest(
    dataset, cuts=cuts, inspection=inspection.Inspection(counts, {}, {})
  )
  card = protocol.card(measured, 'test', {})
  assert card['cuts'] == {
    'first': '0 1970-01-01 00:00:00',
    'last': '1000000000 2001-09-09 01:46:40',
    'test': '31536000 1971-01-01 00:00:00',
  }
  assert 'tied rows 30' in markup.protocol_card(card)
  assert 'rows 1,200' in markup.protocol_card(card)
  assert protocol.card(dataset, 'test', {}).keys().isdisjoint({'cuts', 'inspection'})


def test_the_sentence_of_a_cut_says_what_is_asked_for(dataset):
  cuts = Cuts(first=0, last=99, test=70, validation=50)
  cut = _with_manifest(
    _with_flags(dataset, split='time', targets='successive'),
    cuts=cuts, schema_version=CUT_SCHEMA,
  )  # fmt: skip
  flags = {**cut.manifest.flags, 'split': 'time', 'targets': 'successive'}
  cut.manifest = dataclasses.replace(cut.manifest, flags=flags)
  said = protocol.describe(cut, 'test', 'seen_before')
  assert said.startswith('Every row of each user after the time 70 is held out')
  assert 'items that nobody had before the held-out row are left out' in said
  assert 'after the time 50 and up to 70' in protocol.describe(cut, 'validation')
  cut.manifest = dataclasses.replace(
    cut.manifest, flags={**flags, 'split': 'ratio', 'targets': 'first'}
  )
  said = protocol.describe(cut, 'test')
  assert said.startswith('The first row of each user in the last share of their rows')
