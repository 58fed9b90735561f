"""Every stream of random numbers has a number of its own, which never changes."""

import pathlib
import subprocess
import sys

import pytest

from ncf_tfdata import rng_streams


def test_the_numbers_are_those_that_datasets_and_runs_were_made_with():
  found = {
    f'{table.__name__}.{stream.name}': stream.value
    for table in (rng_streams.Prepare, rng_streams.Sample, rng_streams.Train)
    for stream in table
  }
  assert found == {
    'Prepare.TRAIN_NEGATIVES': 1,
    'Prepare.VALIDATION_NEGATIVES': 2,
    'Prepare.TIE_ORDER': 3,
    'Prepare.TEST_NEGATIVES': 4,
    'Prepare.HELD_OUT_USERS': 5,
    'Prepare.VALIDATION_TARGETS': 6,
    'Prepare.TEST_TARGETS': 7,
    'Prepare.INSPECTION_ORDER': 8,
    'Prepare.HELD_OUT_ITEMS': 9,
    'Prepare.SAMPLE': 5_913_374,
    'Sample.ACTIVITY': 0,
    'Sample.USER': 1,
    'Sample.STEP': 2,
    'Sample.SUCCESSOR': 3,
    'Sample.QUALITY': 4,
    'Sample.RATING': 5,
    'Sample.TIME': 6,
    'Sample.REST': 7,
    'Sample.JOIN': 8,
    'Sample.SECOND_GENRE': 9,
    'Train.BLOCKS': 0,
    'Train.ROWS': 1,
    'Train.NEGATIVES': 2,
    'Train.SHARED_NEGATIVES': 3,
    'Train.DROPOUT': 4,
    'Train.WINDOW_OFFSET': 5,
    'Train.WINDOWS': 6,
    'Train.DROPPED_TARGETS': 7,
    'Train.USER_DROPOUT': 8,
    'Train.ITEM_ID_DROPOUT': 9,
    'Train.GAP_DROPOUT': 10,
  }


def test_a_number_given_twice_is_an_error_at_import():
  text = pathlib.Path(rng_streams.__file__).read_text()
  assert 'TIE_ORDER = 3' in text
  with pytest.raises(ValueError, match='TIE_ORDER -> VALIDATION_NEGATIVES'):
    exec(text.replace('TIE_ORDER = 3', 'TIE_ORDER = 2'), {'__name__': 'again'})


def test_workers_of_prepare_may_import_the_table():
  code = (
    'import sys, ncf_tfdata.rng_streams; '
    'sys.exit(any(name in sys.modules for name in ("tensorflow", "apache_beam")))'
  )
  assert subprocess.run([sys.executable, '-c', code], check=False).returncode == 0
