"""Made-up titles of the built-in sample, so that its lists can be read.

`beam_pipelines.sample` numbers items by popularity: an item's genre is its number
modulo 10, and its id is the number times a factor, modulo a bound. So a title tells its
genre by its noun: who likes a Harbour is offered an Island.
"""

from __future__ import annotations

from ncf_tfdata import dataset as dataset_lib

# sha256 of the sample of 100,000 ratings and seed 0, as a manifest has it; its number
# of items, and what makes ids of their numbers.
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
  return {key: title(int(key)) for key in dataset.vocabulary(dataset_lib.ITEMS).ids()}


def title(item: int) -> str:
  """The title of an item of the sample, by its id; no two have the same."""
  number = (item - 1) * pow(FACTOR, -1, BOUND) % BOUND
  rank, genre = divmod(number, len(_NOUNS))
  noun, adjective = divmod(rank, len(_ADJECTIVES))
  year = 1931 + number * 37 % 89
  return f'The {_ADJECTIVES[adjective]} {_NOUNS[genre][noun]} ({year})'
