"""Products of interactions and weights of items."""

import numpy as np
import pytest
import scipy.sparse as sp

from ncf_tfdata.data import interactions


@pytest.fixture(params=[np.float32, np.float64])
def sides(request):
  """Histories of 90 users over 20 items, and weights: few are zero."""
  generator = np.random.default_rng(0)
  x = sp.random(90, 20, 0.3, 'csr', request.param, generator)
  x.sort_indices()
  return x, generator.normal(size=(20, 33)).astype(request.param)


@pytest.mark.parametrize('narrowest', [1, 5, 64])
def test_a_product_by_strips_is_the_product(sides, narrowest, monkeypatch):
  monkeypatch.setattr(interactions, '_CACHED_BYTES', 0)
  monkeypatch.setattr(interactions, '_NARROWEST', narrowest)
  x, weights = sides
  found = interactions.product(x, weights)
  assert found.dtype == np.float32
  np.testing.assert_allclose(found, x.toarray() @ weights, rtol=1e-4, atol=1e-5)
  np.testing.assert_array_equal(interactions.product(x, sp.csc_matrix(weights)), found)


def test_a_row_has_the_same_product_in_any_company(sides):
  x, weights = sides
  together = interactions.product(x, weights)
  assert interactions.is_worth_copies(x)
  for row in range(x.shape[0]):
    assert not interactions.is_worth_copies(x[row])
    alone = interactions.product(x[row], weights)
    np.testing.assert_array_equal(alone, together[[row]])
