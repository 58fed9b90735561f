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
from ncf_tfdata import sample_titles
from ncf_tfdata.rng_streams import Sample

_SECOND_GENRE = 26_000  # in 65,536


def content(spec: sample.Spec) -> bytes:
  """The lines of all items, by id."""
  item = np.arange(spec.num_items)
  names = pa.array(sample_titles.GENRES)
  genre = item % len(names)
  bits = sample.draw(spec, Sample.SECOND_GENRE, item)
  second = sample.successor(spec, item, np.zeros_like(item)) % len(names)
  has_second = (sample.digits(bits, 0) < _SECOND_GENRE) & (second != genre)
  genres = pc.if_else(
    pa.array(has_second),
    pc.binary_join_element_wise(names.take(second), names.take(genre), '|'),
    names.take(genre),
  )
  ids = sample.item_ids(spec, item)
  order = np.argsort(ids, kind='stable')
  return sample.text_lines(
    *(
      column.take(pa.array(order))
      for column in (
        pa.array(ids).cast(pa.string()),
        pa.array(sample_titles.titles(item)),
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
