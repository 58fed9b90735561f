"""`prepare` writes the bytes that it wrote before.

A manifest holds the sha256 of every file, so its own sha256 stands for the dataset. A
change of these numbers makes every user's dataset another one, and every run that was
trained on it a stranger to it: that needs a new flag, or a new schema version.
"""

import prepared
import pytest

_FLAGS = {
  'default': (),
  'holdout': ('--holdout=1',),
  'successors': ('--successors=50',),
  'random_ties': ('--tie_order=random',),
  'held_out_users': ('--held_out_users=.2',),
  'keep_times': ('--keep_times',),
  'filters': (
    '--duplicates=last',
    '--max_user_history=40',
    '--min_item_count=12',
    '--min_rating=3',
    '--min_user_count=15',
    '--num_shards=3',
    '--seed=7',
    '--train_negatives=1',
  ),
}
_SAMPLE = {
  'default': '64959eaae67abde56f12aff38e4c5b140ce3bb1eccbbbc6919a903003b36935d',
  'holdout': '64e4026739817211d9cfd53924d0cafd2a305cfca16593ed56ea8cb8d21ab743',
  'successors': '19731f743c69ecb41fb4e572bcc5b128d78c9aed93afb97bff262f1556b11ad5',
  'random_ties': '9066d1a6399d90e68a659204d08da4f401535a9d849569641ee4054a66135215',
  'held_out_users': '082c7e8eb8d5f75d302029360e850d8e1ba470f08d8b346e010c3a8ed0eed4d6',
  'keep_times': 'ccc9c6fc6fee8a7eb32d7e06cd34eb04bf9833279949d54278882976cf8c05aa',
  'filters': '2479391e7dc62070ca4d5a66e0ae4735c99a89548624930ef9044f69364c83aa',
}
_MOVIELENS_100K = {
  'default': 'd3ae6f52f4dea116d982940c52ac6cda0f1806e20bee4aabd970fa11c5cb9bd5',
  'holdout': 'a4be6b53263a1cba5a7f3f8a9c7105adfc9023983c3acdf32eab71a493bb994b',
  'successors': 'c2d820893d84cb2ecabcc63ff899d181c932768194444ea21566ef19655f658c',
  'random_ties': '0e4835789fa70235096560b090f65d33b2327f224aa76896fd23cd6e727aa8d1',
  'held_out_users': 'e0244d063ae864dcbe7b8dc37fee2369f6a741a1f7009e669adf53688d5bd6ea',
  'keep_times': '00505ce531c798b89283ba51cdc40c6398f9ccaecca41580bea16dcf9c1e68d6',
  'filters': 'ad3921c395cfc2fe6c77b3e0e6b38a46f85be361501b12b44e59d675d407a2fc',
}


def _prepared(log, output, name: str) -> str:
  """The sha256 of the dataset, whose files are what the manifest says."""
  dataset = prepared.prepare(log, output, *_FLAGS[name])
  dataset.verify()
  return dataset.sha256


@pytest.mark.slow
@pytest.mark.parametrize('name', _FLAGS)
def test_sample(tmp_path, sample_log, name):
  assert _prepared(sample_log, tmp_path / 'out', name) == _SAMPLE[name]


@pytest.mark.parametrize('name', _FLAGS)
def test_movielens_100k(tmp_path, shared_data, name):
  log = shared_data / 'ml-100k' / 'u.data'
  assert _prepared(log, tmp_path / 'out', name) == _MOVIELENS_100K[name]
