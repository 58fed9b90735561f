"""Columns as lines of a TSV file, block by block."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ncf_tfdata import vocabulary


def escaped(texts: pa.Array) -> pa.Array:
  """What `vocabulary.escape_key` makes of each text."""
  for character, escape in vocabulary.ESCAPES.items():
    texts = pc.replace_substring(texts, character, escape)
  return texts


def numbers(values: np.ndarray) -> pa.Array:
  """Whole numbers as text."""
  return pa.array(values).cast(pa.string())


def lines(*columns: pa.Array | pa.Scalar) -> bytes:
  """Joins columns of text, of which some may be one value for all lines."""
  rows = pc.binary_join_element_wise(*columns, '\t')
  text = pc.binary_join_element_wise(rows, '', '\n')
  size = pc.sum(pc.binary_length(text)).as_py() or 0
  return text.buffers()[2].slice(0, size).to_pybytes() if size else b''
