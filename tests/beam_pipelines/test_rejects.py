"""Rejects are written a line each."""

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from beam_pipelines.rejects import Rejects
from ncf_tfdata import vocabulary

_TEXTS = st.lists(
  st.sampled_from(['a', '\\', '\t', '\r', '\n', 'ключ', '\0', '\\n', "'"]), max_size=5
).map(''.join)


@given(st.lists(st.tuples(st.integers(0, 2**40), _TEXTS, _TEXTS), max_size=9), _TEXTS)
def test_a_line_of_the_file_a_reject(rows, name):
  offset, reason, line = zip(*rows, strict=True) if rows else ((), (), ())
  found = Rejects(
    np.array(offset, np.int64),
    pa.array(reason, pa.string()),
    pa.array(line, pa.string()),
  )
  expected = [[name, str(row[0]), *row[1:]] for row in rows]
  assert found.tsv(name).decode() == ''.join(
    '\t'.join(map(vocabulary.escape_key, row)) + '\n' for row in expected
  )
