"""What the items of the built-in sample are: lines of item::title::genres.

In the shape of MovieLens's movies.dat. An item's first genre is the one by which
`sample` has users like it, its title has a word of that genre, and some have a second
genre, of the item that most often follows. So features tell what interactions tell.

As with the log, a size and a seed mean the same bytes on every machine.
"""

import os
import uuid

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from beam_pipelines import sample
from ncf_tfdata.rng_streams import Sample

_GENRES = (
  'Drama', 'Comedy', 'Action', 'Thriller', 'Romance',
  'Horror', 'Adventure', 'Fantasy', 'Crime', 'War',
)  # fmt: skip
# Four words a genre, in the order of the genres.
_NOUNS = (
  'Letters', 'Winter', 'Daughter', 'Promise',
  'Neighbours', 'Wedding', 'Butler', 'Holiday',
  'Chase', 'Convoy', 'Strike', 'Outlaw',
  'Witness', 'Cipher', 'Alibi', 'Signal',
  'Kiss', 'Serenade', 'Summer', 'Waltz',
  'Cellar', 'Scream', 'Crypt', 'Hollow',
  'Voyage', 'Canyon', 'Compass', 'Island',
  'Dragon', 'Enchantress', 'Sword', 'Oracle',
  'Heist', 'Informer', 'Verdict', 'Alley',
  'Regiment', 'Front', 'Armistice', 'Trench',
)  # fmt: skip
_ADJECTIVES = (
  'Silent', 'Golden', 'Last', 'Broken', 'Distant', 'Hidden', 'Crimson', 'Endless',
  'Restless', 'Second', 'Burning', 'Forgotten', 'Northern', 'Lonely', 'Brave', 'Paper',
)  # fmt: skip
_FIRST_YEAR, _YEARS = 1950, 51
_SECOND_GENRE = 26_000  # in 65,536


def content(spec: sample.Spec) -> bytes:
  """The lines of all items, by id."""
  item = np.arange(spec.num_items)
  genre = item % len(_GENRES)
  bits = sample.draw(spec, Sample.TITLE, item)
  words = len(_NOUNS) // len(_GENRES)
  noun = genre * words + sample.digits(bits, 0) * words // 65_536
  adjective = sample.digits(bits, 1) * len(_ADJECTIVES) // 65_536
  year = _FIRST_YEAR + sample.digits(bits, 2) * _YEARS // 65_536
  second = sample.successor(spec, item, np.zeros_like(item)) % len(_GENRES)
  has_second = (sample.digits(bits, 3) < _SECOND_GENRE) & (second != genre)
  names = pa.array(_GENRES)
  genres = pc.if_else(
    pa.array(has_second),
    pc.binary_join_element_wise(names.take(second), names.take(genre), '|'),
    names.take(genre),
  )
  titles = pc.binary_join_element_wise(
    pa.array(_ADJECTIVES).take(adjective), pa.array(_NOUNS).take(noun), ' '
  )
  years = pc.binary_join_element_wise('(', pa.array(year).cast(pa.string()), ')', '')
  ids = sample.item_ids(spec, item)
  order = np.argsort(ids, kind='stable')
  return sample.text_lines(
    *(
      column.take(pa.array(order))
      for column in (
        pa.array(ids).cast(pa.string()),
        pc.binary_join_element_wise(titles, years, ' '),
        genres,
      )
    )
  )


def write(path: str, spec: sample.Spec) -> None:
  """Writes them to a local file, which appears whole or not at all."""
  os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
  temporary = f'{path}.{uuid.uuid4().hex}.tmp'
  try:
    with open(temporary, 'wb') as stream:
      stream.write(content(spec))
    os.replace(temporary, path)
  finally:
    if os.path.exists(temporary):
      os.remove(temporary)
