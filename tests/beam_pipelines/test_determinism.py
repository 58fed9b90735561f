"""The same input, flags and seed give the same bytes, whoever does the work."""

import sys

import prepared
import pytest

from ncf_tfdata import dataset as dataset_lib

pytestmark = pytest.mark.slow

_WORKER = 'apache_beam.runners.worker.sdk_worker_main'
_PORTABLE = (
  '--runner=PortableRunner',
  '--job_endpoint=embed',
  '--environment_type=beam:env:harness_subprocess_python:v1',
  f'--environment_config={sys.executable} -m {_WORKER}',
)


@pytest.mark.parametrize(
  'flags',
  [
    ('--runner=DirectRunner', '--direct_num_workers=1'),
    ('--direct_num_workers=2', '--direct_running_mode=multi_threading'),
    ('--direct_num_workers=2', '--direct_running_mode=multi_processing'),
    _PORTABLE,
  ],
  ids=['in_memory', 'multi_threading', 'multi_processing', 'portable'],
)
def test_every_runner_writes_the_same_bytes(
  tmp_path, sample_log, sample_dataset, flags
):
  # Hash seeds differ from process to process, and must not matter.
  prepared.prepare(sample_log, tmp_path / 'out', *flags, PYTHONHASHSEED='12345')
  assert prepared.digests(tmp_path / 'out') == prepared.digests(
    sample_dataset.directory
  )


def test_files_and_ranges_may_be_cut_anywhere(tmp_path, sample_log, sample_dataset):
  content = sample_log.read_bytes()
  folder = tmp_path / 'log'
  folder.mkdir()
  lines = content.splitlines(keepends=True)
  for number, start in enumerate(range(0, len(lines), 1500)):
    part = b''.join(lines[start : start + 1500])
    (folder / f'part-{number:02d}').write_bytes(part)
  cut = prepared.prepare(folder, tmp_path / 'out')
  assert cut.manifest.files == sample_dataset.manifest.files
  assert cut.manifest.counts == sample_dataset.manifest.counts
  assert len(cut.manifest.sources) > 1


@pytest.mark.parametrize('num_shards', [1, 13])
def test_the_number_of_shards_changes_no_row(
  tmp_path, sample_log, sample_dataset, num_shards
):
  other = prepared.prepare(sample_log, tmp_path / 'out', f'--num_shards={num_shards}')
  # Dense ids of users, and with them the negatives, follow the shards.
  for split in dataset_lib.SPLITS:
    assert len(other.shards(split)) == num_shards
    found, expected = (
      sorted((row.user, row.item, row.history or ()) for row in prepared.rows(d, split))
      for d in (other, sample_dataset)
    )
    assert found == expected
  assert other.manifest.counts == sample_dataset.manifest.counts
  assert other.vocabulary(dataset_lib.ITEMS).keys == (
    sample_dataset.vocabulary(dataset_lib.ITEMS).keys
  )


def test_users_are_numbered_in_the_order_of_the_shards(sample_dataset):
  for split in dataset_lib.SPLITS:
    users = [
      user
      for path in sample_dataset.shards(split)
      for block in prepared.blocks(path)
      for user in block['user']
    ]
    assert users == sorted(users)
