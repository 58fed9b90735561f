"""The words of texts, and their places in a table of a fixed size.

A place is a hash of the word, so that a word that nobody has seen has one too, and no
vocabulary needs to be kept. Source: Weinberger et al., Feature hashing for large scale
multitask learning (ICML 2009).

This module imports no TensorFlow.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Sequence

import numpy as np

_WORD = re.compile(r'\w+')


def words(text: bytes) -> list[str]:
  """The distinct words of a text in UTF-8, in the order in which they first stand.

  Letters and digits that stand together are a word, whatever their case or width.
  """
  plain = unicodedata.normalize('NFKC', text.decode('utf-8', 'replace')).casefold()
  return list(dict.fromkeys(_WORD.findall(plain)))


def place(word: str, buckets: int) -> int:
  """The place of a word among `buckets`: the same on every machine."""
  digest = hashlib.blake2b(word.encode(), digest_size=8).digest()
  return int.from_bytes(digest, 'little') % buckets


def hashed(texts: Sequence[bytes], buckets: int) -> tuple[np.ndarray, np.ndarray]:
  """The places of the words of texts.

  Args:
    texts: In UTF-8.
    buckets: Places that there are.

  Returns:
    int32 [sum of lengths], text after text, and lengths int32 [n].
  """
  known: dict[str, int] = {}
  values, lengths = [], np.zeros(len(texts), np.int32)
  for number, text in enumerate(texts):
    found = words(text)
    for word in found:
      if word not in known:
        known[word] = place(word, buckets)
      values.append(known[word])
    lengths[number] = len(found)
  return np.array(values, np.int32), lengths
