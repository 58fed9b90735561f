"""What the items of the built-in sample are called, and their genres.

`beam_pipelines.sample` numbers items by popularity, and an item's genre is its number
modulo 10. A title tells the genre by its noun: who likes a Harbour is offered an
Island.

This module imports neither TensorFlow nor Beam.
"""

from __future__ import annotations

import numpy as np

from ncf_tfdata import dataset as dataset_lib

# sha256 of the sample of 100,000 ratings and seed 0, as a manifest has it; its number
# of items, and what makes ids of their numbers: a factor, modulo a bound.
SHA256 = 'e314319431a1dfa577edd584d248d756b68993f3ea5dcca73e0a46d42d47ab91'
ITEMS, FACTOR, BOUND = 1700, 1133, 1814

_ADJECTIVES = [
  'Golden',
  'Lost',
  'Quiet',
  'Crimson',
  'Distant',
  'Winter',
  'Paper',
  'Burning',
  'Silver',
  'Hidden',
  'Broken',
  'Electric',
  'Gentle',
  'Midnight',
  'Wandering',
  'Last',
  'Secret',
]
GENRES = (
  'Adventure', 'Romance', 'Crime', 'Science Fiction', 'Comedy',
  'Horror', 'Western', 'War', 'Fantasy', 'Drama',
)  # fmt: skip
# A genre each.
_NOUNS = [
  line.split(',')
  for line in (
    'Harbour,Island,Voyage,Captain,Compass,Lagoon,Sailor,Lighthouse,Tide,Reef',
    'Letter,Kiss,Wedding,Garden,Promise,Valentine,Waltz,Serenade,Heart,Bouquet',
    'Witness,Alibi,Verdict,Detective,Fingerprint,Motive,Suspect,Cipher,Clue,Inspector',
    'Galaxy,Robot,Orbit,Android,Comet,Signal,Starship,Planet,Machine,Reactor',
    'Clown,Holiday,Neighbour,Prank,Parade,Uncle,Circus,Picnic,Landlord,Tourist',
    'Cellar,Shadow,Graveyard,Scream,Mansion,Ghost,Asylum,Coffin,Crypt,Curse',
    'Frontier,Saddle,Canyon,Sheriff,Stampede,Desert,Outlaw,Ranch,Saloon,Rodeo',
    'Regiment,Trench,Bunker,General,Armistice,Convoy,Sniper,Siege,Medal,Deserter',
    'Dragon,Wizard,Kingdom,Sword,Prophecy,Goblin,Castle,Crown,Oracle,Enchantress',
    'Orchard,Family,Homestead,Teacher,Village,Orphan,Mother,Schoolyard,River,Bakery',
  )
]


def of(dataset: dataset_lib.Dataset) -> dict[str, str] | None:
  """Titles by item of a dataset that was made of the built-in sample, or None."""
  if [source.sha256 for source in dataset.manifest.sources] != [SHA256]:
    return None
  items = dataset.vocabulary(dataset_lib.ITEMS).ids()
  keys = [key for key, item in items.items() if item < dataset.own_items]
  ids = np.array(list(map(int, keys)), np.int64)
  numbers = (ids - 1) * pow(FACTOR, -1, BOUND) % BOUND
  return dict(zip(keys, titles(numbers), strict=True))


def titles(numbers: np.ndarray) -> list[str]:
  """The titles of items, by their numbers; no two of the first 1,700 have the same.

  Args:
    numbers: int64 [n], from 0.
  """
  return [_title(number) for number in numbers.tolist()]


def _title(number: int) -> str:
  rank, genre = divmod(number, len(GENRES))
  noun, adjective = divmod(rank, len(_ADJECTIVES))
  nouns = _NOUNS[genre]
  year = 1931 + number * 37 % 89
  return f'The {_ADJECTIVES[adjective]} {nouns[noun % len(nouns)]} ({year})'
