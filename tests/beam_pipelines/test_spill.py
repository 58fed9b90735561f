"""Values that lie on a disk while Beam's streams carry where."""

import pickle

import numpy as np
import pytest

from beam_pipelines import spill
from ncf_tfdata.errors import UserError


def test_values_come_back_from_the_file_and_the_streams_stay_small(tmp_path):
  store = spill.Store(str(tmp_path))
  values = [np.arange(10_000), {'a': None}, 'text']
  kept = [store.put(value) for value in values]
  # At once, for the next step may run before the bundle has ended.
  assert kept[0].get().tolist() == values[0].tolist()
  store.close()
  again = pickle.loads(pickle.dumps(kept))
  assert [one.get() for one in again[1:]] == values[1:]
  assert len(pickle.dumps(kept[0])) < 300
  assert len(list(tmp_path.iterdir())) == 1


def test_without_a_scratch_directory_values_stay_in_the_streams(tmp_path):
  store = spill.Store(None)
  assert store.put('value').get() == 'value'
  store.close()


def test_a_store_that_was_closed_goes_on_in_another_file(tmp_path):
  store = spill.Store(str(tmp_path))
  first = store.put(1)
  store.close()
  second = store.put(2)
  assert (first.get(), second.get()) == (1, 2)
  assert first.path != second.path


def test_a_file_that_is_gone_is_one_line(tmp_path):
  kept = spill.Store(str(tmp_path)).put('value')
  for path in tmp_path.iterdir():
    path.unlink()
  with pytest.raises(UserError, match=r'cannot read .*spilled-.* Let nothing else'):
    kept.get()


def test_a_directory_that_is_gone_is_one_line(tmp_path):
  with pytest.raises(UserError, match=r'cannot write .*spilled-.* Free some room'):
    spill.Store(str(tmp_path / 'none')).put('value')
